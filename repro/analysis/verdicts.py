"""A verdict on each claim of the paper, and the sentences, tables and numbers that say it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pandas as pd

from .. import claims, paper, runs
from ..studies.study import Study, rows
from . import frames
from .comparisons import INERT, NOT_DECLINED, TOO_SHORT, UNSTABLE, Judged, judge
from .plan import Plan
from .plan import read as read_plan
from .statistics import CONTRADICTED, DEPENDS, NO_DIFFERENCE, OPEN, SUPPORTED, Look, any_false, share

NO_PLAN, NOT_TRIED, MIXED = "no plan", "not tried here", "mixed"
JUDGED = (SUPPORTED, CONTRADICTED, NO_DIFFERENCE, DEPENDS, OPEN, MIXED)
COLUMNS = ("claim", "statement", "verdict", "finding")
FACTOR_FROM = 0.5  # of a difference of logarithms


def of_claim(outcomes: Sequence[str]) -> str:
    """The verdict on a claim from the outcomes of its comparisons: contradicted by one, supported and "no
    difference" by all.
    """
    for one in (CONTRADICTED, UNSTABLE, TOO_SHORT):
        if one in outcomes:
            return one
    if len(set(outcomes)) == 1:
        return outcomes[0]
    return next((one for one in (OPEN, INERT) if one in outcomes), MIXED)


def verdicts(study: Study, *names: str) -> pd.DataFrame:
    """The verdicts on the named claims, or on all: claim, statement, verdict, finding (sentences)."""
    plan, judged = read_plan(study), judge(study)
    lines = []
    for claim in claims.CLAIMS:
        if names and claim.name not in names:
            continue
        own = [j for j in judged if j.comparison.claim == claim.name]
        if plan is None:
            verdict, finding = NO_PLAN, "Nothing was declared before this study's runs, so nothing is judged."
        elif not own:
            verdict, finding = NOT_TRIED, "The study's plan has no comparison for it."
        else:
            verdict, finding = of_claim([j.outcome for j in own]), _finding(own, plan, study)
            if own[0].comparison.analogue:
                finding = f"Tried on an analogue: {own[0].comparison.analogue}. {finding}"
        lines.append((claim.name, claim.statement, verdict, finding))
    return pd.DataFrame(lines, columns=COLUMNS)


def _finding(own: list[Judged], plan: Plan, study: Study) -> str:
    """The sentences of a claim's comparisons; one for all where none has been looked at yet."""
    waiting = {
        j.remark for j in own if j.comparison.measure != "collapses" and j.outcome == OPEN and not j.looks
    }
    if len(waiting) == 1 and len(own) > 1 and all(not j.looks for j in own):
        (remark,) = waiting
        return f"{remark[0].upper()}{remark[1:]}."
    return " ".join(sentence(j, plan, study) for j in own)


def in_words(study: Study) -> str:
    """What the verdicts rest on, in a few sentences: the plan, what changed in it, the chance of a false one,
    mixed code.
    """
    plan = read_plan(study)
    if plan is None:
        return (
            f"No plan was declared for preset `{study.preset.name}` before its runs, so no claim is judged. "
            + (
                "This study shows that everything runs."
                if study.preset.dataset == "symmetric_shapes"
                else "`repro plan` writes one."
            )
        )
    found = verdicts(study)
    tested = [
        len(plan.of(claim))
        for claim, verdict in zip(found["claim"], found["verdict"], strict=True)
        if verdict in JUDGED
    ]
    text = [
        f"The plan was declared on {plan.declared}: the endpoint is the mean of ln"
        f" {frames.METRICS[plan.metric][0]} over the last {plan.scores} scores up to step {plan.step:,},"
        f" differences below {_percent(plan.margin, 0)} per cent do not count, and looks are taken from"
        f" {plan.first_look} to at most {plan.most_seeds} seeds."
    ]
    for change in plan.changes:
        text.append(
            f"**Exploratory**: the plan changed on {change['date']} after {change['after_seeds']} seeds had"
            f" run ({', '.join(change['fields'])})."
        )
    if tested:
        text.append(
            f"{len(tested)} claim{'s are' if len(tested) > 1 else ' is'} judged, each at {plan.alpha:.0%}: up"
            f" to about {any_false(tested, plan.alpha):.0%} that any verdict is false if nothing is true."
        )
    code = sorted(
        {
            runs.revision(r)
            for row in plan.rows
            for seed in range(plan.most_seeds)
            if (r := study.run(row, seed).read()) and r["status"] in runs.FINISHED
        }
    )
    if len(code) > 1:
        text.append(f"The runs are of {len(code)} revisions of the code ({', '.join(code)}).")
    return " ".join(text)


def names(which: Sequence[str]) -> str:
    """Rows by their labels: "attention at 8 and 16"."""
    labels = [rows()[row].label for row in which]
    start = labels[0].rsplit(" ", 1)[0]
    if len(labels) > 1 and all(label.rsplit(" ", 1)[0] == start for label in labels):
        labels[1:] = [label.rsplit(" ", 1)[1] for label in labels[1:]]
    return " and ".join(labels)


def sentence(j: Judged, plan: Plan, study: Study) -> str:
    """What one comparison found, as a person would say it."""
    c = j.comparison
    if c.measure == "collapses":
        return _of_collapses(j)
    if sum(j.broken.values()) and j.outcome == UNSTABLE:
        return (
            f"{_compared(j, study)}: unstable, {sum(j.broken.values())} of {j.seeds * len(j.broken)} runs"
            " broke down, so nothing is concluded."
        )
    if not j.looks:
        return f"{_compared(j, study)}: {_of_outcome(j, plan)}" + (f" ({j.remark})." if j.remark else ".")
    at = {budget: j.look(budget) for budget in j.looks}
    text = f"{_compared(j, study)}: {_of_outcome(j, plan)}. {_changes(j, at)} ({j.at or j.seeds} seeds)."
    if j.outcome == OPEN:
        text += (
            f" About {j.needed} seeds would settle it at the present spread."
            if j.needed
            else _left_open(j, plan)
        )
    if j.at and j.seeds > j.at:
        text += f" With all {j.seeds} seeds: " + _ranges(
            j, {budget: looks[-1] for budget, looks in j.looks.items()}
        )
        text += "." if j.latest == j.outcome else f", which alone would be {_as_outcome(j.latest)}."
    if j.outcome == NO_DIFFERENCE and any(abs(v) > plan.margin for v in j.published.values()):
        text += (
            f" A change as large as the paper's {_percent(max(j.published.values(), key=abs), 0)} per cent is"
            " not seen."
        )
    return text + (f" {j.remark[0].upper()}{j.remark[1:]}." if j.remark else "")


def _compared(j: Judged, study: Study) -> str:
    c = j.comparison
    if c.measure == "attention":
        what = (
            "colours that its maps attend to, against those under another image's map"
            if c.quantity == "colour"
            else "distance that its maps reach, against a map of the nearest 3x3 positions"
        )
        return f"{names(c.rows)[0].upper()}{names(c.rows)[1:]}, {what}"
    metric = frames.heading(j.metric, study.preset)
    what = {
        "decline": f"decline of {metric}",
        "interaction": f"{metric} of structured classes relative to textured ones",
        "structured": f"{metric} of structured classes",
    }.get(c.measure, metric)
    better, worse = names(c.side(better=True)), names(c.side(better=False))
    return f"{better[0].upper()}{better[1:]} against {worse}, {what}"


def _of_outcome(j: Judged, plan: Plan) -> str:
    """The outcome in the words of its sentence."""
    look = j.look()
    small = (
        look is not None
        and j.outcome in (SUPPORTED, CONTRADICTED)
        and max(abs(look.low), abs(look.high)) < plan.margin
    )
    by = f", by less than {100 * (math.exp(plan.margin) - 1):.0f} per cent" if small else ""
    attends = j.comparison.measure == "attention"
    better, worse = (
        ("nearer in colour", "farther in colour")
        if j.comparison.quantity == "colour"
        else ("farther", "less far")
        if attends
        else ("better", "worse")
    )
    return {
        SUPPORTED: f"{better}{by}",
        CONTRADICTED: f"{worse}{by}",
        NO_DIFFERENCE: f"no difference of {100 * (math.exp(plan.margin) - 1):.0f} per cent or more",
        OPEN: "open",
        DEPENDS: "better at one budget and worse at another",
        TOO_SHORT: "too short to rank",
        INERT: "the map is uniform within 1 per cent, so it says nothing",
        NOT_DECLINED: (
            f"{names(j.comparison.side(better=False))} has not declined at this budget, so there is no"
            " decline to remove"
        ),
    }[j.outcome]


def _as_outcome(outcome: str) -> str:
    return {UNSTABLE: "unstable (a later run broke down)"}.get(outcome, outcome)


def _changes(j: Judged, at: dict[str, Look]) -> str:
    """How much the better side changes the score, at one look of each budget."""
    name = {"decline": "The decline", "attention": "The difference"}.get(
        j.comparison.measure, frames.METRICS.get(j.metric, (j.metric,))[0]
    )
    return (
        f"{name[0].upper()}{name[1:]} {'is' if j.comparison.measure == 'attention' else 'changes by'}"
        f" {_ranges(j, at)}"
    )


def _ranges(j: Judged, at: dict[str, Look]) -> str:
    """The change of a score, or of what attention maps measure, as intervals: one for each budget."""
    grows = j.comparison.measure == "attention" or frames.METRICS[j.metric][1]
    parts = [
        interval(*(float(v) for v in ((look.low, look.high) if grows else (-look.high, -look.low))))
        for look in at.values()
    ]
    if len(parts) > 1:
        parts = [f"{part} at equal {budget}" for part, budget in zip(parts, at, strict=True)]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def interval(low: float, high: float, unit: str = " per cent") -> str:
    """A difference of logarithms for a reader: in per cent, and as a factor where per cent of a logarithm
    mislead.
    """
    if math.isnan(low):
        return "no interval"
    if max(abs(low), abs(high)) > FACTOR_FROM:
        return f"a factor of {math.exp(low):.2f} to {math.exp(high):.2f}"
    return f"{_percent(low)} to {_percent(high)}{unit}"


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:+.{digits}f}" if digits else f"{100 * abs(value):.0f}"


def _left_open(j: Judged, plan: Plan) -> str:
    widest = max(float(look[-1].high - look[-1].low) / 2 for look in j.looks.values())
    if j.seeds >= plan.most_seeds:
        return (
            f" It stays open at {plan.most_seeds} seeds, which would have found a difference of"
            f" {_percent(widest, 0)} per cent."
        )
    return f" More than {plan.most_seeds} seeds would be needed at the present spread."


def _of_collapses(j: Judged) -> str:
    (worse,), (better,) = j.comparison.side(better=False), j.comparison.side(better=True)
    counts = [
        f"{rows()[row].label}: {j.broken[row]} of {j.seeds} runs collapse"
        + (" ({:.0%} to {:.0%})".format(*share(j.broken[row], j.seeds)) if j.seeds else "")
        for row in (worse, better)
    ]
    return "; ".join(counts) + (f" ({j.remark})." if j.remark else ".")


def comparisons(study: Study) -> pd.DataFrame:
    """Every comparison behind the verdicts at every budget, in numbers: a line each; gains are in the claim's
    direction, in per cent.

    seeds: of the verdict's look; gain, low, high there; latest_*: at the last look; paper: the paper's own
    for the same rows, paper_relative: for the maps of the same size relative to the image.
    """
    lines = []
    for j in judge(study):
        for budget in j.comparison.budgets:
            look, last = j.look(budget), (j.looks.get(budget) or [None])[-1]
            of = lambda at, name: 100 * float(getattr(at, name)) if at is not None else math.nan
            lines.append(
                {
                    "claim": j.comparison.claim,
                    "comparison": _compared(j, study),
                    "measure": j.comparison.measure,
                    "budget": budget,
                    "outcome": j.outcome,
                    "seeds": look.seeds if look else j.seeds,
                    "gain": of(look, "estimate"),
                    "low": of(look, "low"),
                    "high": of(look, "high"),
                    "latest_seeds": last.seeds if last else j.seeds,
                    "latest_gain": of(last, "estimate"),
                    "latest_low": of(last, "low"),
                    "latest_high": of(last, "high"),
                    "broken": sum(j.broken.values()),
                    "needed": j.needed if j.needed else math.nan,
                    "paper": 100 * j.published.get("the same rows", math.nan),
                    "paper_relative": 100 * j.published.get("the same size relative to the image", math.nan),
                }
            )
    columns = [
        "claim",
        "comparison",
        "measure",
        "budget",
        "outcome",
        "seeds",
        "gain",
        "low",
        "high",
        "latest_seeds",
        "latest_gain",
        "latest_low",
        "latest_high",
        "broken",
        "needed",
        "paper",
        "paper_relative",
    ]
    return pd.DataFrame(lines, columns=columns)


def show_comparisons(study: Study) -> pd.DataFrame:
    """`comparisons` for a reader; strings throughout."""
    frame = comparisons(study)
    number = lambda v: (
        "–"
        if v != v
        else f"{v:+.1f} %"
        if abs(v) <= 100 * FACTOR_FROM
        else f"a factor of {math.exp(v / 100):.2f}"
    )
    between = lambda low, high: "–" if low != low else interval(low / 100, high / 100, " %")
    most = read_plan(study).most_seeds if len(frame) else 0
    lines = []
    for line in frame.itertuples():
        latest = "the same" if line.latest_seeds == line.seeds else between(line.latest_low, line.latest_high)
        needed = (
            "–"
            if line.outcome != OPEN or line.low != line.low
            else f"{line.needed:.0f}"
            if line.needed == line.needed
            else f"more than {most}"
        )
        lines.append(
            {
                "claim": line.claim,
                "comparison": line.comparison,
                "at equal": line.budget,
                f"paper ({paper.SETTING})": number(line.paper),
                "paper, same size relative to the image": number(line.paper_relative),
                "seeds": str(line.seeds),
                "gain": number(line.gain),
                "interval": between(line.low, line.high),
                "outcome": line.outcome,
                "latest interval": "–" if line.low != line.low else latest,
                "seeds needed": needed,
            }
        )
    return pd.DataFrame(lines, columns=None if lines else ["claim", "comparison"]).drop(
        columns=_folded(frame)
    )


def _folded(frame: pd.DataFrame) -> list[str]:
    """Columns that say nothing in this study."""
    one_budget = ["at equal"] if len(frame) and frame["budget"].nunique() == 1 else []
    return one_budget + (
        ["paper, same size relative to the image"]
        if len(frame) and frame["paper_relative"].isna().all()
        else []
    )


def written(study: Study, plan: Plan) -> str:
    """verdicts.json: the verdicts with the plan that they were made by, so that neither changes unnoticed."""
    judged = judge(study)
    outcomes = {
        line.claim: {
            "verdict": line.verdict,
            "comparisons": [
                {"comparison": _compared(j, study), "outcome": j.outcome, "at": j.at, "seeds": j.seeds}
                for j in judged
                if j.comparison.claim == line.claim
            ],
        }
        for line in verdicts(study).itertuples()
    }
    return (
        json.dumps({"seeds": max(j.seeds for j in judged), "claims": outcomes, "plan": plan.raw}, indent=1)
        + "\n"
    )
