"""How far apart the two sides of a comparison are at every scored step, and by other scores. No verdict rests
on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from .. import paper, runs
from ..presets import PRESETS
from ..studies.study import Study
from . import labels, tables
from .plan import BUDGETS, Comparison, Plan
from .plan import read as read_plan
from .quantities import quantity, worse
from .sentences import gain, sides, with_interval
from .statistics import contrast, half_width

INTERVAL_FROM = 3  # seeds: an interval from two says next to nothing
# fields of a preset that say which runs there are, how long they are and when they are scored: at a step that
# two of them share, runs that differ in nothing else are alike
LENGTH = ("name", "tables", "rows", "seeds", "seed_offset", "steps", "log_every")
LENGTH += ("score_every", "score_from", "resamples")


def compared(study: Study, table: paper.Table) -> list[Comparison]:
    """The comparisons of scores that the study's plan makes between rows of a table; none without a plan."""
    plan, rows = read_plan(study), {row.name for row in table.rows}
    found = plan.comparisons if plan else ()
    return [c for c in found if c.measure == "endpoint" and rows.issuperset(c.rows)]


def over_training(study: Study, c: Comparison) -> pd.DataFrame:
    """The gain in a comparison's score at every step that all of its runs have scored, from three seeds on:
    step, seeds, gain (of logarithms, in the claim's direction), low and high (the 95 % interval for that step
    alone: Welch's, or Student's of the pairs where the plan declares them).
    """
    found, lines = _finished(study, c), []
    if found:
        scored = lambda record: {s["step"]: s for s in record["scores"] if c.metric in s}
        shared = set.intersection(*(set(scored(record)) for of_seed in found for record in of_seed))
        for step in sorted(shared):
            lines.append(
                {"step": step} | _gain(c, found, lambda r, step=step: worse(scored(r)[step], c.metric))
            )
    return pd.DataFrame(lines, columns=["step", "seeds", "gain", "low", "high"])


def _finished(study: Study, c: Comparison) -> list[list[dict]]:
    """For each seed that all rows of a comparison have finished its records; none for too few seeds."""
    of_seeds = [[study.finished(row, seed) for row in c.rows] for seed in range(study.seeds)]
    found = [records for records in of_seeds if all(records)]
    return found if len(found) >= INTERVAL_FROM else []


def _gain(c: Comparison, found: list[list[dict]], value: Callable[[dict], float]) -> dict[str, float]:
    """The gain in a value of a run (a logarithm that grows as a score worsens) with its 95 % interval."""
    values = [list(map(value, of_row)) for of_row in zip(*found, strict=True)]
    weights = list(c.gain.values())
    if c.paired:
        values, weights = np.tensordot(weights, values, 1)[None], [1.0]
    estimate, *spread = contrast(values, weights)
    half = half_width(*spread, 0.05)
    return {"seeds": len(found), "gain": estimate, "low": estimate - half, "high": estimate + half}


def by_other_scores(study: Study) -> pd.DataFrame:
    """The gain of each comparison of the plan's own score, by that score and by others of the same runs, as
    far as they have them: comparison (the sides), score, and as in `over_training` seeds, gain, low, high.
    """
    plan, lines = read_plan(study), []
    for c in plan.comparisons if plan else ():
        if c.measure != "endpoint" or c.metric != plan.metric or len(c.budgets) > 1:
            continue
        for score, value in _scores(study, plan, c).items() if (found := _finished(study, c)) else ():
            try:
                of = _gain(c, found, value)
            except KeyError:  # a run has no such score, or none above 0
                continue
            lines.append({"comparison": sides(c, study.preset), "score": score} | of)
    return pd.DataFrame(lines, columns=["comparison", "score", "seeds", "gain", "low", "high"])


def _scores(study: Study, plan: Plan, c: Comparison) -> dict[str, Callable[[dict], float]]:
    """The scores of a run that a comparison is made by, the plan's own first, by name."""
    name = lambda metric: labels.heading(metric, study.preset)
    last = lambda part, metric: lambda record: worse(record.get(part, {}), metric)
    over = lambda metric: lambda record: quantity(record, c, plan, study, BUDGETS[0], metric)
    return {
        f"{name(metric)}, endpoint": over(metric)
        for metric in dict.fromkeys((plan.metric, "intra_fid", "kid", "is"))
    } | {
        f"{name(plan.metric)}, last score": last("final", plan.metric),
        f"{name('fid_lite2')}, last score": last("final", "fid_lite2"),
        f"{name(plan.metric)} of averaged weights, last score": last("shadow", plan.metric),
    }


def _shown(of: dict[str, float]) -> str:
    return with_interval(*(float(of[name]) for name in ("gain", "low", "high")))


def show_by_other_scores(study: Study, heading: str) -> list[str]:
    """`by_other_scores` for a reader, as blocks of Markdown below a heading ("##"): a line a score, a column
    a comparison. Nothing where nothing is compared.
    """
    cells: dict[str, dict[str, str]] = {}
    for line in by_other_scores(study).to_dict("records"):
        of_score = cells.setdefault(line["score"], {"score": line["score"]})
        of_score[f"{line['comparison']} ({line['seeds']} seeds)"] = _shown(line)
    if not cells:
        return []
    return [
        f"{heading} The same comparisons by other scores",
        "Exploratory: no verdict rests on these. Each cell is a gain as above, over all seeds so far, with"
        " the 95 % interval of a single look. The first line is the plan's own score. *Averaged weights* are"
        " an average of G's weights that training never saw.",
        tables.to_markdown(pd.DataFrame(cells.values()).fillna("–")),
    ]


def growth_in_words(study: Study, *claims: str) -> list[str]:
    """For each comparison of scores of the claims how its gain in the second half of training differs from
    that in the first, with the 95 % interval of a single look; nothing for too few seeds, or where no score
    is of the first half.
    """
    of_claims = [c for name in claims for c in read_plan(study).of(name) if c.measure == "endpoint"]
    half = study.preset.steps / 2
    return [
        _growth(study, c, found, half)
        for c in of_claims
        if (found := _finished(study, c))
        and all(r["scores"][0]["step"] <= half < r["scores"][-1]["step"] for of in found for r in of)
    ]


def _growth(study: Study, c: Comparison, found: list[list[dict]], half: float) -> str:
    def mean(record: dict, late: bool) -> float:
        return np.mean([worse(s, c.metric) for s in record["scores"] if (s["step"] > half) == late])

    early, late = (_gain(c, found, lambda r, of=of: mean(r, of)) for of in (False, True))
    grows = _gain(c, found, lambda r: mean(r, True) - mean(r, False))
    return (
        f"{sides(c, study.preset)}: the mean gain is {gain(early['gain'])} over the scores up to step"
        f" {half:,.0f} and {gain(late['gain'])} over those after it. The second less the first is"
        f" {_shown(grows)}, {grows['seeds']} seeds."
    )


def at_costs(study: Study, claim: str, costs: Sequence[float]) -> pd.DataFrame:
    """What each comparison of a claim by the plan's own score gains at equal cost, if a step of the dearer
    rows cost so many times as much as one of the others, with the 95 % interval of a single look: for a
    reader, a line a cost.
    """
    declared, lines = read_plan(study), []
    for cost in costs:
        plan = dataclasses.replace(
            declared, cost={row: cost if of > 1 else of for row, of in declared.cost.items()}
        )
        line = {"cost of a step": f"{cost:g}"}
        for c in plan.of(claim):
            if BUDGETS[2] not in c.budgets or c.metric != plan.metric or not (found := _finished(study, c)):
                continue
            of = _gain(c, found, lambda r, c=c, plan=plan: quantity(r, c, plan, study, BUDGETS[2], c.metric))
            line[f"{sides(c, study.preset)} ({of['seeds']} seeds)"] = _shown(of)
        lines.append(line)
    return pd.DataFrame(lines)


def shorter(study: Study, table: paper.Table) -> Iterator[Study]:
    """The table's studies in the same folder whose rows are trained as this study's are, for fewer steps."""
    for name, preset in PRESETS.items():
        as_long = dataclasses.replace(preset, **{field: getattr(study.preset, field) for field in LENGTH})
        alike = preset.steps < study.preset.steps and as_long == study.preset and table.name in preset.tables
        if alike and runs.stored(study.out / name):
            yield Study.in_folder(str(study.out / name))
