"""What comparisons found, as sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import paper
from ..presets import Preset
from ..studies.study import Study, rows, run_name
from . import frames, labels
from .comparisons import INERT, NOT_DECLINED, TOO_SHORT, UNSTABLE, Judged
from .plan import Comparison, Plan, read
from .statistics import CONTRADICTED, DEPENDS, NO_DIFFERENCE, OPEN, SUPPORTED, Look, share

FACTOR_FROM = 0.5  # of a difference of logarithms


def names(comparison: Comparison, which: Sequence[str], preset: Preset) -> str:
    """Rows of a comparison by the labels of the first table that has them all: "attention at 8 and 16"."""
    parts = [_labels(comparison, preset)[row] for row in which]
    start = parts[0].rsplit(" ", 1)[0]
    if len(parts) > 1 and all(label.rsplit(" ", 1)[0] == start for label in parts):
        parts[1:] = [label.rsplit(" ", 1)[1] for label in parts[1:]]
    return " and ".join(parts)


def _labels(comparison: Comparison, preset: Preset) -> dict[str, str]:
    """A row that stands in two tables has one run, by the name of the first, and a label in each."""
    for table in paper.WITH_NOTEBOOK.values():
        here = [row for row in table.rows if frames.unavailable(row, preset) is None]
        found = {run_name(row, preset): row.label for row in here}
        if set(comparison.rows) <= found.keys():
            return found
    return {name: row.label for name, row in rows().items()}


def sentence(j: Judged, plan: Plan, study: Study) -> str:
    """What one comparison found, as a person would say it."""
    c = j.comparison
    if c.measure == "collapses":
        return _of_collapses(j)
    if j.outcome == UNSTABLE:
        return (
            f"{compared(j, study)}: unstable, {sum(j.broken.values())} of {j.seeds * len(j.broken)} runs"
            f" broke down, so nothing is concluded{f' (it {j.remark})' if j.remark else ''}."
        )
    if not j.looks:
        return f"{compared(j, study)}: {_of_outcome(j, plan)}" + (f" ({j.remark})." if j.remark else ".")
    return f"{compared(j, study)}: {_of_outcome(j, plan)}. {_found(j, plan, study)}"


def without_outcome(j: Judged, plan: Plan, study: Study) -> str:
    """The same for a reader who has been told the outcome."""
    if not j.looks or j.outcome == UNSTABLE:
        return sentence(j, plan, study)
    return f"{compared(j, study).rpartition(', ')[0]}: {_found(j, plan, study)}"


def _found(j: Judged, plan: Plan, study: Study) -> str:
    """By how much the sides of a comparison that has looks differ, and what follows from it."""
    at = {budget: j.look(budget) for budget in j.looks}
    text = f"{_changes(j, at, study)} ({_seeds(j)})."
    if j.outcome == OPEN:
        text += (
            f" If the spread stays, the interval is as narrow as the margin (a factor of"
            f" {math.exp(plan.margin):.2f}) at {j.needed} seeds; the plan goes to {plan.most_seeds}."
            if j.needed
            else _left_open(j, plan)
        )
    return text + _beside(j, plan)


def _beside(j: Judged, plan: Plan) -> str:
    """What stands beside the interval of a verdict: that of all seeds, the paper's changes where it claims no
    effect, the interval over pairs, a remark.
    """
    text = ""
    if j.at and j.seeds > j.at:
        last = {budget: looks[-1] for budget, looks in j.looks.items()}
        text += f" With all {next(iter(last.values())).seeds} seeds: {_ranges(j, last)}"
        text += "." if j.latest == j.outcome else f", which alone would be {j.latest}."
    if j.outcome in (NO_DIFFERENCE, OPEN):
        text += papers_change(j, plan)
    return text + _over_pairs(j) + remark(j)


def _over_pairs(j: Judged) -> str:
    """The interval over pairs of runs, beside that of an open comparison that did not declare them; or ""."""
    if j.outcome != OPEN or not j.exploratory or math.isnan(j.exploratory.low):
        return ""
    return (
        " Exploratory, not declared: compared seed by seed,"
        f" {labels.METRICS[j.metric][0]} is {_range(j, j.exploratory)}."
    )


def remark(j: Judged) -> str:
    """What else is to be said of a comparison, or ""."""
    return f" {j.remark[0].upper()}{j.remark[1:]}." if j.remark else ""


def brief(j: Judged, study: Study, outcome: bool = False) -> str:
    """By how much the sides of a comparison differ; on demand with the outcome, else nothing more."""
    if not j.looks or j.outcome == UNSTABLE:
        return f"{compared(j, study)}: {j.outcome}."
    at = {budget: j.look(budget) for budget in j.looks}
    end = f": {_of_outcome(j, read(study))}" if outcome else ""
    return f"{compared(j, study).rpartition(', ')[0]}: {_changes(j, at, study)} ({_seeds(j)}){end}."


def in_short(j: Judged, plan: Plan, study: Study) -> str:
    """What one comparison found, for a list of several studies: without what more seeds would tell."""
    if not j.looks or j.outcome == UNSTABLE:
        return sentence(j, plan, study)
    return brief(j, study, outcome=True) + _beside(j, plan)


def _seeds(j: Judged) -> str:
    """On how many seeds a comparison rests, and whether they pair its runs."""
    return f"{j.at or j.seeds} seeds{', rows compared seed by seed' if j.comparison.paired else ''}"


def compared(j: Judged, study: Study) -> str:
    """What is compared with what, and by which score."""
    c = j.comparison
    if c.measure == "attention":
        what = (
            "colours that its maps attend to, against those under another image's map"
            if c.quantity == "colour"
            else "distance that its maps reach, against a map of the nearest 3x3 positions"
        )
        who = names(c, c.rows, study.preset)
        return f"{c.block}'s {who}, {what}"
    metric = labels.heading(j.metric, study.preset)
    what = {
        "collapses": "share of runs that break down",
        "decline": f"decline of {metric}",
        "interaction": f"{metric} of structured classes relative to textured ones",
        "structured": f"{metric} of structured classes",
    }.get(c.measure, metric)
    return f"{sides(c, study.preset)}, {what}"


def sides(c: Comparison, preset: Preset) -> str:
    """The rows that a comparison sets against one another."""
    better, worse = (names(c, c.side(better=side), preset) for side in (True, False))
    return f"{better[0].upper()}{better[1:]} against {worse}"


def _of_outcome(j: Judged, plan: Plan) -> str:
    """The outcome in the words of its sentence."""
    at = [j.look(budget) for budget in j.looks]
    small = j.outcome in (SUPPORTED, CONTRADICTED) and all(
        max(abs(look.low), abs(look.high)) < plan.margin for look in at
    )
    by = f", by less than {100 * (math.exp(plan.margin) - 1):.0f} per cent" if small else ""
    attends = j.comparison.measure == "attention"
    better, worse = (
        ("nearer in colour", "farther in colour")
        if j.comparison.quantity == "colour"
        else ("not only the nearest", "the nearest")
        if attends
        else ("better", "worse")
    )
    return {
        SUPPORTED: f"{better}{by}",
        CONTRADICTED: f"{worse}{by}",
        NO_DIFFERENCE: no_difference(plan),
        OPEN: "open",
        DEPENDS: "better at one budget and worse at another",
        TOO_SHORT: "too short to rank",
        INERT: f"the map is uniform within {100 * (1 - plan.inert_from):.2g} per cent, so it says nothing",
        NOT_DECLINED: "nothing declined yet",
    }[j.outcome]


def no_difference(plan: Plan) -> str:
    """That outcome with the margin that it is meant by."""
    return f"{NO_DIFFERENCE} of {100 * (math.exp(plan.margin) - 1):.0f} per cent or more"


def _changes(j: Judged, at: dict[str, Look], study: Study) -> str:
    """How the better side's score differs from the worse side's, at one look of each budget."""
    name = labels.METRICS.get(j.metric, (j.metric,))[0]
    if j.comparison.measure == "decline":
        return f"{_declines(j, name, study)} is {_ranges(j, at)}"
    what = {
        "interaction": f"The ratio of {name} of structured classes to that of textured ones",
        "structured": f"{name} of structured classes",
        "attention": "The colour difference" if j.comparison.quantity == "colour" else "The distance",
    }.get(j.comparison.measure, f"{name[0].upper()}{name[1:]}")
    return f"{what} is {_ranges(j, at)}"


def _declines(j: Judged, name: str, study: Study) -> str:
    """How far the row that the claim says to decline does, and the start of how another differs from it."""
    better, worse = (names(j.comparison, j.comparison.side(side), study.preset) for side in (True, False))
    text = f"For {worse}, {name} in the last quarter of training, against the quarter before it, is"
    estimate, low, high = _ends(j.decline)  # of a logarithm that grows as the score worsens
    if labels.METRICS[j.metric][1]:
        estimate, low, high = -estimate, -high, -low
    text += f" {_between(estimate, low, high)}"
    if j.outcome == NOT_DECLINED:
        text += f", so {'there is no decline to remove' if j.decline.high < 0 else 'no decline is shown'}"
    return f"{text}. Against that, the ratio with {better}"


def _ranges(j: Judged, at: dict[str, Look]) -> str:
    """Estimate and interval of a difference, one for each budget."""
    parts = [_range(j, look) for look in at.values()]
    if len(parts) > 1:
        parts = [f"{part} at equal {labels.BUDGETS[budget]}" for part, budget in zip(parts, at, strict=True)]
    return "; ".join(parts)


def _range(j: Judged, look: Look) -> str:
    c = j.comparison
    grows = labels.METRICS[j.metric][1] if c.measure != "attention" else c.quantity != "colour"
    estimate, low, high = _ends(look) if grows else (-v for v in _ends(look))
    return _between(estimate, min(low, high), max(low, high))


def _ends(look: Look) -> tuple[float, float, float]:
    return float(look.estimate), float(look.low), float(look.high)


def _between(estimate: float, low: float, high: float) -> str:
    """A difference of logarithms and its interval; as factors throughout where one end doubles."""
    if high >= math.log(2):
        return (
            f"{math.exp(estimate):.2f} times as large, between {math.exp(low):.2f} and {math.exp(high):.2f}"
        )
    return f"{_differs(estimate)}, between {_differs(low)} and {_differs(high)}"


def _differs(value: float) -> str:
    """A difference of logarithms as how much lower or higher a score is."""
    share = math.expm1(value)
    return f"{100 * abs(share):.1f} % {'higher' if share > 0 else 'lower'}"


def joined(parts: Sequence[str]) -> str:
    """Parts of a sentence: "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def interval(low: float, high: float, unit: str = " per cent") -> str:
    """A difference of logarithms for a reader: in per cent, and as a factor where per cent of a logarithm
    mislead.
    """
    if math.isnan(low):
        return "no interval"
    if max(abs(low), abs(high)) > FACTOR_FROM:
        return f"a factor of {math.exp(low):.2f} to {math.exp(high):.2f}"
    return f"{per_cent(low)} to {per_cent(high)}{unit}"


def gain(value: float, *ends: float) -> str:
    """A difference of logarithms in a table: in per cent, as a factor where it or an end of its interval is
    large, "–" where there is none.
    """
    if math.isnan(value):
        return "–"
    large = any(abs(v) > FACTOR_FROM for v in (value, *ends))
    return f"a factor of {math.exp(value):.2f}" if large else f"{per_cent(value)} %"


def with_interval(value: float, low: float, high: float) -> str:
    """A difference of logarithms in a table, with its interval."""
    return f"{gain(value, low, high)} ({interval(low, high, ' %')})"


def per_cent(value: float, digits: int = 1) -> str:
    """A difference of logarithms in per cent, with its sign; as a plain size where no digits are wanted."""
    return f"{100 * value:+.{digits}f}" if digits else f"{100 * abs(value):.0f}"


def papers_change(j: Judged, plan: Plan) -> str:
    """Says which of the paper's own differences, past the margin, lie outside of the interval, and then which
    lie in it; "" where none lies outside.
    """
    look, grows = j.look(), labels.METRICS[j.metric][1]
    told = {what: f"for {what}, {_differs(v if grows else -v)}," for what, v in j.published.items()}
    inside = [what for what, value in j.published.items() if look.low <= value <= look.high]
    outside = [what for what, value in j.published.items() if abs(value) > plan.margin and what not in inside]
    if not outside:
        return ""
    lies = dict.fromkeys(outside, "outside of") | dict.fromkeys(inside, "in")
    parts = [f"The paper's change {told[what]} lies {where} the interval." for what, where in lies.items()]
    return " " + " ".join(parts)


def _left_open(j: Judged, plan: Plan) -> str:
    widest = max(float(look[-1].high - look[-1].low) / 2 for look in j.looks.values())
    if j.seeds >= plan.most_seeds:
        return (
            f" The study takes no more seeds, so it stays open. With this spread, {plan.most_seeds} seeds"
            f" find a true difference of a factor of {math.exp(widest):.2f} about half of the time."
        )
    return f" More than {plan.most_seeds} seeds would be needed at the present spread."


def _of_collapses(j: Judged) -> str:
    (worse,), (better,) = j.comparison.side(better=False), j.comparison.side(better=True)
    counts = [
        f"{rows()[row].label}: {j.broken[row]} of {j.seeds} run{'s' if j.seeds != 1 else ''} broke down"
        + (" ({:.0%} to {:.0%})".format(*share(j.broken[row], j.seeds)) if j.seeds else "")
        for row in (worse, better)
    ]
    return f"{'; '.join(counts)}.{remark(j)}"
