"""The comparisons of a study's plan, judged: from records and plan to outcomes, nothing else
(docs/statistics.md).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np

from .. import claims, runs
from ..studies.study import Study, rows
from . import frames, labels
from .plan import BUDGETS, Comparison, Plan
from .plan import read as read_plan
from .published import published
from .quantities import endpoint_steps, quantity
from .statistics import CONTRADICTED, OPEN, SUPPORTED, Look, across, looks, seeds_needed, settled, share

UNSTABLE, TOO_SHORT, INERT, NOT_TESTABLE, NOT_DECLINED = (
    "unstable",
    "too short to rank",
    "inert",
    "not testable",
    "nothing declined yet",
)


@dataclass(frozen=True)
class Judged:
    """A comparison as its runs stand.

    seeds: those that all its rows have. metric: as measured. outcome: the verdict, made at the look `at` (0:
    none), and latest: what the last look alone would say. looks: by budget, lists of equal length; none where
    it is unstable. decline: the look at the worse row's own, of a comparison of declines. remark: what a
    reader has to know beside it. needed: the seeds after which the interval is as narrow as the margin
    at the present spread (None: more than the plan has). broken: runs of `seeds` that broke down, by row.
    published: the paper's own difference in logarithms, by what it is of. exploratory: the last look at the
    differences of runs of equal seed, where the plan does not declare them and one code on one machine made
    both; in no verdict.
    """

    comparison: Comparison
    seeds: int
    metric: str
    broken: dict[str, int]
    published: dict[str, float]
    outcome: str = OPEN
    at: int = 0
    latest: str = ""
    looks: dict[str, list[Look]] = field(default_factory=dict)
    decline: Look | None = None
    remark: str = ""
    needed: int | None = None
    exploratory: Look | None = None

    @property
    def waits(self) -> bool:
        """Whether more seeds can still decide it."""
        return self.outcome == OPEN and not self.at

    def look(self, budget: str = "") -> Look | None:
        """The look at which the verdict was made, the last one where it is open; at the first budget unless
        another is named.
        """
        of = self.looks.get(budget or next(iter(self.looks), ""), [])
        return next((look for look in of if look.seeds == self.at), of[-1] if of else None)


def judge(study: Study) -> list[Judged]:
    """Every comparison of the study's plan; none without a plan. Raises ReproError for runs that were scored
    in different ways or are of another configuration.
    """
    plan = read_plan(study)
    if plan is None:
        return []
    found = {row: _finished(study, plan, row) for row in plan.rows}
    frames.check_scored_alike(study.preset.name, [record for of_row in found.values() for record in of_row])
    return [
        _judge(study, plan, comparison, {row: found[row] for row in comparison.rows})
        for comparison in plan.comparisons
    ]


def _finished(study: Study, plan: Plan, row: str) -> list[dict]:
    """The records of seeds 0, 1, ... of a row up to the first that is not finished."""
    out = []
    for seed in range(plan.most_seeds):
        record = study.finished(row, seed)
        if record is None:
            break
        out.append(record)
    return out


def _judge(study: Study, plan: Plan, c: Comparison, found: dict[str, list[dict]]) -> Judged:
    seeds = min(map(len, found.values()))
    metric = c.metric
    if metric in claims.INSTEAD and not any(
        metric in record.get("final", {}) for records in found.values() for record in records
    ):
        metric = claims.INSTEAD[metric]
    broken = {row: sum(map(runs.unstable, records[:seeds])) for row, records in found.items()}
    beside = published(study, c) if metric == c.metric else {}  # the paper has no such score
    judged = lambda **more: Judged(c, seeds, metric, broken, beside, **more)
    if c.paired:
        frames.check_made_alike(found)
    if c.measure == "collapses":
        return judged(**_collapses(plan, c, seeds, broken))
    if seeds < plan.first_look:
        return judged(remark=f"the first look takes {plan.first_look} seeds, {seeds} so far")
    # seeds before the first broken run
    whole = next(
        (k for k in range(seeds) if any(runs.unstable(records[k]) for records in found.values())), seeds
    )
    too_short, remark = _too_short(plan, c, found) if whole >= plan.first_look else (False, "")
    if c.measure == "attention":
        remark = _beside_simple_maps(found[c.rows[0]][:seeds], c, plan)
    if too_short:
        return judged(outcome=TOO_SHORT, remark=remark)
    try:
        values = {
            b: np.array(
                [
                    [quantity(r, c, plan, study, b, metric) for r in records[:whole]]
                    for records in found.values()
                ]
            )
            for b in c.budgets
        }
    except KeyError as missing:
        return judged(remark=f"{missing.args[0]} is missing or not above 0 in a run, so it has no logarithm")
    weights, declared = list(c.gain.values()), (plan.margin, plan.most_seeds, plan.first_look, plan.alpha)
    pairs = {b: np.tensordot(weights, v, 1)[None] for b, v in values.items()}  # a difference for each seed
    judging = [(v, [1.0]) for v in pairs.values()] if c.paired else [(v, weights) for v in values.values()]
    by_budget = {
        b: looks(*of, *declared, of=len(plan.of(c.claim))) for b, of in zip(values, judging, strict=True)
    }
    outcomes = [across([str(look.outcome) for look in at]) for at in zip(*by_budget.values(), strict=True)]
    decline = []  # of the row that the claim says to decline
    if c.measure == "decline":
        worse = list(found).index(*c.side(better=False))
        decline = looks(values[BUDGETS[0]][[worse]], [1.0], *declared)
        outcomes = [o if own.low > 0 else NOT_DECLINED for o, own in zip(outcomes, decline, strict=True)]
    elif c.measure == "attention":
        inert = [
            _entropy(found[c.rows[0]][: plan.first_look + i], c.block) >= plan.inert_from
            for i in range(len(outcomes))
        ]
        outcomes = [INERT if flat else o for o, flat in zip(outcomes, inert, strict=True)]
    made = settled(outcomes, NOT_DECLINED)
    if whole < seeds:  # an interval without the run that broke down would flatter its row
        was = f"was {outcomes[made]} at {plan.first_look + made} seeds" if made is not None else ""
        return judged(outcome=UNSTABLE, latest=UNSTABLE, remark=was)
    own = decline[-1 if made is None else made] if decline else None
    judged = functools.partial(judged, latest=outcomes[-1], looks=by_budget, decline=own)
    remark = "; ".join(filter(None, (remark, *_few_scores(plan, c, found, study))))
    if made is not None:
        return judged(outcome=outcomes[made], at=plan.first_look + made, remark=remark)
    if outcomes[-1] == OPEN and all(look[-1].low != look[-1].low for look in by_budget.values()):
        return judged(looks={}, remark="all seeds have equal scores, so there is no spread and no interval")
    needed = [seeds_needed(*of, *declared) for of in judging]
    undeclared = c.measure == "endpoint" and not c.paired and len(pairs) == 1
    can_pair = undeclared and not any(frames.made_differently(found))
    exploratory = looks(*pairs.values(), [1.0], *declared)[-1] if can_pair else None
    return judged(
        outcome=outcomes[-1],
        remark=remark,
        exploratory=exploratory,
        needed=None if None in needed or outcomes[-1] != OPEN else max(needed),
    )


def _few_scores(plan: Plan, c: Comparison, found: dict[str, list[dict]], study: Study) -> list[str]:
    """Says where a budget leaves a row a single score as its endpoint, and whether that is clear of noise."""
    out = []
    for budget in c.budgets if c.measure == "endpoint" else ():
        for row, records in found.items():
            steps = set(endpoint_steps(records[0], plan, study, budget, c.rows))
            if len(steps) > 1 or plan.scores == 1:
                continue
            (step,) = steps
            fids = [score["fid"] for r in records for score in r["scores"] if score["step"] == step]
            noisy = float(np.mean(fids)) >= frames.half_of_noise(records)
            out.append(
                f"at equal {labels.BUDGETS[budget]} the endpoint of {rows()[row].label} is one score, at step"
                f" {step:,}{', where FID is above half of what noise gets' if noisy else ''}"
            )
    return out


def _collapses(plan: Plan, c: Comparison, seeds: int, broken: dict[str, int]) -> dict:
    """The shares of runs that collapse: Fisher's exact test once, at the most seeds; before them the outcome
    stands only where no result of the seeds left could make the test significant.
    """
    (worse,), (better,) = c.side(better=False), c.side(better=True)
    left, most = plan.most_seeds - seeds, plan.most_seeds
    found, lowest = OPEN, 1.0
    for row, other, level, outcome in (
        (worse, better, plan.alpha, SUPPORTED),
        (better, worse, plan.alpha / len(plan.of(c.claim)), CONTRADICTED),
    ):
        p = _fisher(broken[row] + left, broken[other], most)  # if all that are left of this row collapse
        lowest = min(lowest, p)
        if p < level and broken[row] + left > broken[other]:
            if left:
                return dict(remark=f"the test is made once, at {most} seeds", needed=most)
            found = outcome
    remark = f"Fisher's exact test, p = {lowest:.3f}"
    if left:
        remark = (
            f"the test cannot become significant: if all {left} runs left of one row broke down and none of"
            f" the other's, Fisher's exact test at {most} seeds would give p = {lowest:.2f}"
        )
    if seeds and not any(broken.values()):
        none = (
            "no run of either row broke down; with so few runs the true share of those that do may still be"
            f" up to {share(0, seeds)[1]:.0%} (95 % interval)"
        )
        found, remark = NOT_TESTABLE, f"{none}; {remark}" if left else none
    return dict(outcome=found, at=seeds, latest=found, remark=remark)


def _fisher(collapsed: int, beside: int, seeds: int) -> float:
    """The p value of Fisher's exact test for two rows of `seeds` runs each, by how many collapsed."""
    from scipy import stats

    return float(stats.fisher_exact([[n, seeds - n] for n in (collapsed, beside)]).pvalue)


def _beside_simple_maps(records: list[dict], c: Comparison, plan: Plan) -> str:
    """How near in colour, or how far, an untrained map would be; "" where that is not recorded."""
    if c.quantity == "colour":
        local = _share(records, c.block, "colour_3x3", "colour_other")
        how = "higher" if local > 1 else "lower"
        change = f"{100 * abs(local - 1):.1f} % {how}"
        return f"maps of only the nearest 3x3 positions would make it {change}" if local else ""
    reach = _share(records, c.block, "distance", "distance_uniform")
    remark = f"a uniform map would reach {1 / reach:.2f} times as far as {c.block}'s maps" if reach else ""
    if reach and abs(math.log(reach)) < plan.margin:
        remark += f", so this shows only that {c.block}'s are not local"
    return remark


def _share(records: list[dict], block: str, quantity: str, of: str) -> float:
    """A quantity of attention maps as a share of another: the mean over runs; 0 if not recorded."""
    last = [(r.get("attention") or [{}])[-1] for r in records]
    shares = [
        maps[quantity][name] / value
        for maps in last
        for name, value in maps.get(of, {}).items()
        if name.startswith(f"{block} ") and quantity in maps
    ]
    return float(np.mean(shares)) if shares else 0.0


def _entropy(records: list[dict], block: str) -> float:
    """The mean over runs of a map's entropy, as a share of uniform attention's."""
    of_runs = (r["attention"][-1]["entropy"].items() for r in records)
    return float(np.mean([v for of in of_runs for name, v in of if name.startswith(f"{block} ")]))


def _too_short(plan: Plan, c: Comparison, found: dict[str, list[dict]]) -> tuple[bool, str]:
    """Whether neither side is clear of noise at the first look, and what to say: sides by mean FID at the
    last step.
    """
    if c.measure == "attention":
        return False, ""  # of one row, and of no score
    bound = frames.half_of_noise([r for records in found.values() for r in records[: plan.first_look]])
    sides = [
        [r["final"]["fid"] for row in c.side(better) for r in found[row][: plan.first_look] if r.get("final")]
        for better in (True, False)
    ]
    if bound == math.inf or not all(sides):
        return False, ""
    means = [float(np.mean(side)) for side in sides]
    behind = [mean >= bound for mean in means]
    digits = int(round(bound) in map(round, means))  # where whole numbers would tie
    shown = [f"{value:,.{digits}f}" for value in (*means, bound)]
    said = f"mean FID {shown[0]} and {shown[1]} at the last step, where half of noise's is {shown[2]}"
    if any(behind) and not all(behind):
        said = f"only one side is below half of noise's FID: {said}"
    return all(behind), said if any(behind) else ""
