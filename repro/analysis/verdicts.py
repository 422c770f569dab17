"""A verdict on each claim of the paper, and the tables and numbers behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from .. import claims, paper, provenance
from ..studies.study import Study, rows
from . import labels
from .comparisons import INERT, TOO_SHORT, UNSTABLE, Judged, judge
from .plan import BUDGETS, Plan
from .plan import read as read_plan
from .sentences import brief, compared, gain, interval, joined, remark, sentence
from .statistics import CONTRADICTED, OPEN, any_false
from .tables import listed

NO_PLAN, NOT_TRIED, MIXED = "no plan", "not tried here", "mixed"
EXPLORATORY = " (exploratory)"  # after a verdict by a plan that changed
MOST_SENTENCES = 2  # comparisons of a claim that are told one by one
COLUMNS = ("claim", "statement", "verdict", "finding")
UNITS = (
    "Gain and interval are 100 times the logarithm of the ratio of two scores, positive in the claim's"
    " direction. Lines that go beyond 50 show the ratio itself; above 1 is the claim's direction. The"
    " findings above are plain per cent. A *look* judges the seeds so far. The intervals of all looks are"
    " right together about 95 times of 100, so those of early looks are wide. Comparisons of scores use the"
    " plan's endpoint; tables show the last score alone, which can differ in sign."
)


def of_claim(outcomes: Sequence[str]) -> str:
    """The verdict on a claim from the outcomes of its comparisons: contradicted by one, supported and "no
    difference" by all.
    """
    if len(set(outcomes)) == 1:
        return outcomes[0]
    return next((one for one in (CONTRADICTED, UNSTABLE, OPEN, TOO_SHORT, INERT) if one in outcomes), MIXED)


def verdicts(study: Study, *names: str) -> pd.DataFrame:
    """The verdicts on the named claims, or on all: claim, statement, verdict, finding (sentences)."""
    lines = [
        (claim.name, claim.statement, verdict, " ".join(found))
        for claim, verdict, found in _on(study, *names)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def _on(study: Study, *names: str) -> Iterator[tuple[claims.Claim, str, list[str]]]:
    """The named claims, or all, each with its verdict and what was found."""
    plan, judged = read_plan(study), judge(study)
    for claim in claims.CLAIMS:
        if names and claim.name not in names:
            continue
        own = [j for j in judged if j.comparison.claim == claim.name]
        if plan is None:
            yield claim, NO_PLAN, ["Nothing was declared before this study's runs, so nothing is judged."]
        elif not own:
            yield claim, NOT_TRIED, ["The study's plan has no comparison for it."]
        else:
            verdict = of_claim([j.outcome for j in own]) + (EXPLORATORY if plan.changes else "")
            yield claim, verdict, [*_analogue(own[0]), *_findings(own, plan, study)]


def by_all_seeds(study: Study) -> dict[str, str]:
    """What the latest looks alone would say on each claim, where that is not its verdict, which stays."""
    out, judged = {}, judge(study)
    for claim in claims.CLAIMS:
        own = [j for j in judged if j.comparison.claim == claim.name]
        latest = of_claim([j.latest or j.outcome for j in own]) if own else ""
        if own and latest != of_claim([j.outcome for j in own]):
            out[claim.name] = latest
    return out


def show_verdicts(study: Study, *names: str) -> list[str]:
    """`verdicts` for a reader, as blocks of Markdown: the claims that the study tries, each with a list of
    what was found, and the names of the others. Nothing of a study without a plan.
    """
    shown, others = [], []
    for claim, verdict, found in _on(study, *names):
        if verdict == NOT_TRIED:
            others.append(claim.name)
        elif verdict != NO_PLAN:
            shown += [f"**{claim.name}, {verdict}.** *{claim.statement}*", listed(found)]
    return shown + ([f"Not tried in this study: {', '.join(others)}."] if others else [])


def _analogue(j: Judged) -> list[str]:
    return [f"Tried on an analogue: {j.comparison.analogue}."] if j.comparison.analogue else []


def _findings(own: list[Judged], plan: Plan, study: Study) -> list[str]:
    """What a claim's comparisons found, one after the other; one text for all where none has been looked at
    yet.
    """
    waiting = [j.waits and not j.looks and j.comparison.measure != "collapses" for j in own]
    remarks = {remark(j) for j in own}
    if len(own) > 1 and all(waiting) and len(remarks) == 1:
        return [remarks.pop().strip()]
    told = own if len(own) <= MOST_SENTENCES else _deciding(own)
    return [*_counts(own), *_by_budget(own, plan, study), *(sentence(j, plan, study) for j in told)]


def _deciding(own: list[Judged]) -> list[Judged]:
    """The few comparisons that decide a verdict against the others; none where all or many do."""
    found = [j for j in own if j.outcome == of_claim([j.outcome for j in own])]
    return found if len(found) <= MOST_SENTENCES else []


def _counts(own: list[Judged]) -> list[str]:
    """How many of many comparisons came out how."""
    if len(own) <= MOST_SENTENCES:
        return []
    outcomes = [j.outcome for j in own]
    if len(set(outcomes)) == 1:
        return [f"All {len(own)} comparisons: {outcomes[0]}."]
    counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes)]
    return [f"{len(own)} comparisons: {', '.join(counts)}."]


def _by_budget(own: list[Judged], plan: Plan, study: Study) -> list[str]:
    """In how many comparisons the estimate is as claimed, at each of several budgets, and by how much FID
    differs.
    """
    budgets = own[0].comparison.budgets
    if len(own) <= MOST_SENTENCES or len(budgets) == 1:
        return []
    ahead = {budget: [float(j.look(budget).estimate) > 0 for j in own if j.looks] for budget in budgets}
    parts = [f"{sum(of)} of {len(of)} at equal {labels.BUDGETS[budget]}" for budget, of in ahead.items()]
    return [
        f"Estimates that agree with the paper: {', '.join(parts)}. A claim has to hold at every budget.",
        *(brief(j, study) + remark(j) for j in own if j.metric == plan.metric),
    ]


def rests_on(study: Study) -> list[str]:
    """What the verdicts rest on, in a few sentences: the plan, what changed in it, the chance of a false one,
    mixed code.
    """
    plan = read_plan(study)
    if plan is None:
        return [
            f"No plan was declared for preset `{study.preset.name}` before its runs, so no claim is judged. "
            + (
                "This study shows that everything runs."
                if study.preset.dataset == "symmetric_shapes"
                else "`repro plan` writes one."
            )
        ]
    tested = [len(own) for claim in claims.CLAIMS if (own := plan.of(claim.name))]
    text = [
        f"The plan was declared on {plan.declared}: the endpoint is the mean of ln"
        f" {labels.METRICS[plan.metric][0]} over the last {plan.scores} scores up to step {plan.step:,},"
        f" “no difference” is an interval within a factor of {math.exp(plan.margin):.2f} either way, and"
        f" {_looks_in_words(plan)}."
    ]
    dear = {row: cost for row, cost in plan.cost.items() if cost > 1}
    if dear and any(BUDGETS[2] in c.budgets for c in plan.comparisons):
        costs = joined([f"{cost:g} times as much for {rows()[row].label}" for row, cost in dear.items()])
        text.append(f"A step is declared to cost {costs} as for the other rows.")
    text += plan.raw.get("notes", ())
    for change in plan.changes:
        text.append(
            f"**Exploratory**: the plan changed on {change['date']} after {change['after_seeds']} seeds had"
            f" run ({', '.join(change['fields'])})."
        )
    text.append(
        (
            f"It names {len(tested)} claims, each tested at {plan.alpha:.0%}. If nothing differs, the chance"
            " that at least one is wrongly supported or contradicted is about"
            f" {any_false(tested, plan.alpha):.0%} where comparisons are independent (a claim of several is"
            " supported only if all of them are), and at most about"
            f" {len(tested) * plan.alpha:.0%} in any case."
        )
        if len(tested) > 1
        else f"It names one claim, tested at {plan.alpha:.0%}."
    )
    return [*text, *_made(study, plan)]


def _looks_in_words(plan: Plan) -> str:
    if plan.first_look == plan.most_seeds:
        return f"one look is taken, at {plan.first_look} seeds"
    return f"looks are taken from {plan.first_look} to at most {plan.most_seeds} seeds"


def _made(study: Study, plan: Plan) -> list[str]:
    """How long the runs took, by which code and on what."""
    records = [r for row in plan.rows for seed in range(plan.most_seeds) if (r := study.finished(row, seed))]
    if not records:
        return []
    on_gpu = records[0]["provenance"]["device"] == "cuda"
    how = "added up, several at a time on one GPU" if on_gpu else "on one core each"
    text = [f"The {len(records)} runs took {_hours(records):.1f} hours, {how}."]
    revisions = sorted({revision for r in records for revision in provenance.revisions(r)})
    count = "one revision" if len(revisions) == 1 else f"{len(revisions)} revisions"
    text.append(f"They are of {count} of the code ({', '.join(revisions)}).")
    kinds: dict[str, set[int]] = {}
    for r in records:
        for processor in provenance.made_by(r)["processor"]:
            kinds.setdefault(processor, set()).add(r["config"]["seed"])
    if len(kinds) == 1 and not on_gpu:
        text.append(f"All ran on one kind of processor ({next(iter(kinds))}).")
    if len(kinds) > 1:
        each = ", ".join(f"{name}: {_of_seeds(seeds)}" for name, seeds in sorted(kinds.items()))
        text.append(
            f"They ran on {len(kinds)} kinds of processor ({each}), and the same seed gives another model on"
            " another kind."
        )
    return text


def _of_seeds(seeds: Iterable[int]) -> str:
    """Seeds as "seeds 0 to 4" where none is left out, else one by one."""
    seeds = sorted(seeds)
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"seeds {seeds[0]} to {seeds[-1]}" if whole else f"seeds {', '.join(map(str, seeds))}"


def _hours(records: Iterable[dict]) -> float:
    return sum(record["provenance"]["wall_seconds"] for record in records) / 3600


def hours_of(study: Study, claim: str) -> float:
    """What the runs behind a claim's comparisons took, each once."""
    behind = {
        (row, seed)
        for j in judge(study)
        if j.comparison.claim == claim
        for row in j.comparison.rows
        for seed in range(j.seeds)
    }
    return _hours(study.run(row, seed).read() for row, seed in behind)


def comparisons(study: Study) -> pd.DataFrame:
    """Every comparison behind the verdicts at every budget, in numbers: a line each; gains are in the claim's
    direction, in per cent.

    seeds: of the verdict's look; gain, low, high there; latest_*: at the last look; paper: the paper's own
    for the same rows, paper_relative: for the maps of the same share of the image; hours: what the
    compared runs took.
    """
    lines = []
    for j in judge(study):
        records = [study.run(row, seed).read() for row in j.comparison.rows for seed in range(j.seeds)]
        for budget in j.comparison.budgets:
            look, last = j.look(budget), (j.looks.get(budget) or [None])[-1]
            of = lambda at, name: 100 * float(getattr(at, name)) if at is not None else math.nan
            lines.append(
                {
                    "claim": j.comparison.claim,
                    "comparison": compared(j, study),
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
                    "paper_relative": 100 * j.published.get("maps of the same share of the image", math.nan),
                    "hours": _hours(filter(None, records)),
                }
            )
    ends = ["gain", "low", "high"]
    columns = ["claim", "comparison", "measure", "budget", "outcome", "seeds", *ends, "latest_seeds"]
    columns += [*(f"latest_{end}" for end in ends), "broken", "needed", "paper", "paper_relative", "hours"]
    return pd.DataFrame(lines, columns=columns)


def show_comparisons(study: Study) -> pd.DataFrame:
    """`comparisons` for a reader; strings throughout."""
    frame = comparisons(study)
    number = lambda *percents: gain(*(percent / 100 for percent in percents))
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
                "at equal": labels.BUDGETS[line.budget],
                f"paper ({paper.SETTING})": number(line.paper),
                "paper, same share of the image": number(line.paper_relative),
                "seeds": str(line.seeds),
                "gain": number(line.gain, line.low, line.high),
                "interval": between(line.low, line.high),
                "outcome": line.outcome,
                "latest interval": "–" if line.low != line.low else latest,
                "seeds needed": needed,
                "hours of its runs": f"{line.hours:.1f}",
            }
        )
    return pd.DataFrame(lines, columns=None if lines else ["claim", "comparison"]).drop(
        columns=_folded(frame)
    )


def _folded(frame: pd.DataFrame) -> list[str]:
    """Columns that say nothing in this study."""
    one_budget = ["at equal"] if len(frame) and frame["budget"].nunique() == 1 else []
    return one_budget + (
        ["paper, same share of the image"] if len(frame) and frame["paper_relative"].isna().all() else []
    )


def written(study: Study, plan: Plan) -> str:
    """verdicts.json: the verdicts with the plan that they were made by, so that neither changes unnoticed."""
    judged = judge(study)
    outcomes = {
        line.claim: {
            "verdict": line.verdict,
            "comparisons": [
                {"comparison": compared(j, study), "outcome": j.outcome, "at": j.at, "seeds": j.seeds}
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
