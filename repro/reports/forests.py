"""Forest plots: differences with their intervals, a line each."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import paper
from ..analysis import labels, plan, setting
from ..analysis.effects import effects as measured_effects
from ..analysis.verdicts import comparisons as measured
from ..studies.study import Study
from .figures import COLOURS, caption, empty, finished, legend

FACTORS_FROM = 50  # per cent: beyond it the axis shows factors, as per cent of a logarithm mislead
HOW = "right of the middle: as the paper claims; intervals hold over all looks of the plan"
ON_ATTENTION = ("C3", "C4", "C5")
REACH = 26.0  # per cent that a panel shows at least on either side
PAPERS = {  # column of `comparisons` -> its marker and label
    "paper": ("D", "the paper's, same rows"),
    "paper_relative": ("s", "the paper's, same share of the image"),
}


def comparisons(study: Study, brief: bool = False) -> Figure:
    """Each comparison behind a verdict: our interval, the margin as a band, the paper's own difference. A
    panel for differences in per cent, one for those at several budgets, one for attention maps; gains are in
    the claim's direction, on a logarithmic axis. brief: those of the plan's own score alone, in a narrow
    figure that a phone shows legibly.
    """
    frame = _of_own_score(study) if brief else _measured(study)
    several = frame.groupby(["claim", "comparison"])["budget"].transform("size") > 1
    maps = frame["measure"] == "attention"
    figure = _panels([frame[~several & ~maps], frame[several], frame[maps]], narrow=brief)
    if len(frame):
        metric = labels.heading(plan.read(study).metric, study.preset)
        what = metric if brief else "the comparisons behind the verdicts"
        caption(figure, study, f"{setting.data_name(study)}, {study.preset.resolution} px: {what}", HOW)
    return finished(figure)


def on_attention(studies: Sequence[Study]) -> Figure:
    """The comparisons of rows with attention with others, of all studies: our interval, the margin as a band,
    the paper's own difference. A panel for each way of scoring, as scores of different data are not compared;
    gains are in the claim's direction, on a logarithmic axis.
    """
    panels = {}
    for study in studies:
        frame = _of_own_score(study)
        frame = frame[frame["claim"].isin(ON_ATTENTION)]
        named = frame.assign(comparison=frame["comparison"] + f" ({study.preset.name})")
        panels.setdefault(f"{setting.data_name(study)}, {setting.definition(study)}", []).append(named)
    panels = {
        scored: pd.concat(parts).sort_values("claim", kind="stable") for scored, parts in panels.items()
    }
    panels = {scored: part for scored, part in panels.items() if len(part)}
    figure = _panels(list(panels.values()), narrow=True)
    for axis, scored in zip(figure.axes, panels, strict=False):
        axis.set_title(textwrap.fill(scored, 80), fontsize=9.5)
    if panels:
        figure.suptitle(textwrap.fill(f"Gain in FID by claim and study; {HOW}", 80), fontsize=10.5)
    return finished(figure)


def _measured(study: Study) -> pd.DataFrame:
    """The comparisons that have an interval, each with the margin of its study."""
    frame = measured(study)
    declared = plan.read(study)
    return frame[frame["low"].notna()].assign(margin=declared.margin if declared else math.nan)


def _of_own_score(study: Study) -> pd.DataFrame:
    """The comparisons in the plan's own score, which their names leave out."""
    frame, declared = _measured(study), plan.read(study)
    if not declared:
        return frame
    own = f", {labels.heading(declared.metric, study.preset)}"
    frame = frame[frame["comparison"].str.endswith(own)]
    return frame.assign(comparison=frame["comparison"].str.removesuffix(own))


def _panels(parts: list[pd.DataFrame], narrow: bool) -> Figure:
    """A panel for each part that has lines; names above the lines where it is narrow."""
    parts = [part.reset_index(drop=True) for part in parts if len(part)]
    if not parts:
        return empty("no comparison has an interval yet")
    figure, axes = plt.subplots(
        len(parts),
        1,
        figsize=(6.6 if narrow else 11, sum(0.9 + 0.46 * len(part) for part in parts) + 1.6),
        squeeze=False,
        height_ratios=[len(part) + 1.2 for part in parts],
        layout="constrained",
    )
    margins = pd.concat(parts)["margin"].unique()
    inside = f"within a factor of {math.exp(margins[0]):.2f}" if len(margins) == 1 else "in the band"
    for axis, part in zip(axes[:, 0], parts, strict=True):
        _forest(axis, part, f"“no difference”: all of the interval {inside}")
        _name(axis, part, above=narrow)
    legend(figure, 1 if narrow else 2)
    return figure


def _forest(axis: Axes, frame: pd.DataFrame, band: str) -> None:
    """One panel: a line a comparison and budget, and a band of no difference."""
    ours = frame[["low", "high", "gain"]].abs().max(axis=None)
    of_paper = frame["paper_relative"].abs().max()
    reach = 1.15 * max(REACH, ours, 0 if math.isnan(of_paper) else of_paper)
    margins = 100 * frame["margin"]
    axis.barh(frame.index, 2 * margins, height=1, left=-margins, color="0.87", linewidth=0, label=band)
    axis.axvline(0, color="0.3", linewidth=1)
    _intervals(axis, frame, "gain", 0, "ours, with the interval of this look")
    _papers(axis, frame, reach)
    axis.set(yticks=frame.index, ylim=(len(frame) - 0.4, -0.6), xlim=(-reach, reach))
    if ours > FACTORS_FROM:
        factors = [f for f in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if abs(100 * math.log(f)) < reach]
        axis.set(xticks=[100 * math.log(f) for f in factors], xticklabels=[f"x{f:g}" for f in factors])
        axis.set_xlabel("gain as a factor; right of 1: as claimed", fontsize=10)
    else:
        axis.set_xlabel("gain (100 times the logarithm of the ratio); right of 0: as claimed", fontsize=10)


def _name(axis: Axes, frame: pd.DataFrame, above: bool) -> None:
    """Says what each line compares and what came out: beside the panel, or above each line."""
    budgets = frame["budget"].nunique() > 1
    names = frame["claim"] + ": " + frame["comparison"]
    names += (", at equal " + frame["budget"].map(labels.BUDGETS)) if budgets else ""
    firsts = frame.drop_duplicates("comparison")  # one outcome for all of its budgets
    outcomes = firsts["outcome"] + ", " + firsts["seeds"].astype(str) + " seeds"
    words = dict(xycoords=("axes fraction", "data"), fontsize=9)
    if above:
        words["bbox"] = dict(facecolor="white", alpha=0.7, linewidth=0, pad=1)
        axis.tick_params(labelleft=False)
        axis.set_ylim(len(frame) - 0.5, -0.9)
        for y, name in names.items():
            axis.annotate(f"{name}: {outcomes[y]}" if y in outcomes else name, (0.01, y - 0.32), **words)
    else:
        axis.set_yticklabels([textwrap.fill(name, 64) for name in names], fontsize=9)
        for y, outcome in outcomes.items():
            axis.annotate(outcome, (1.01, y), va="center", **words)


def _intervals(axis: Axes, frame: pd.DataFrame, middle: str, colour: int, label: str) -> None:
    errors = [frame[middle] - frame["low"], frame["high"] - frame[middle]]
    errors = [of.fillna(0) for of in errors]
    axis.errorbar(
        frame[middle], frame.index, xerr=errors, fmt="o", color=COLOURS[colour], capsize=3, label=label
    )


def _papers(axis: Axes, frame: pd.DataFrame, reach: float) -> None:
    """The paper's own differences; an arrow with the number where it lies outside."""
    for column, (marker, label) in PAPERS.items():
        shown = frame[column].abs() <= reach
        if shown.any():
            axis.plot(
                frame[column][shown],
                frame.index[shown],
                marker,
                color=COLOURS[1],
                fillstyle="none",
                markersize=8,
                label=label,
            )
    for y in frame.index[frame["paper"].abs() > reach]:
        value = frame["paper"][y]
        side = math.copysign(1, value)
        arrow = ("", " \N{RIGHTWARDS ARROW}") if side > 0 else ("\N{LEFTWARDS ARROW} ", "")
        axis.annotate(
            f"{arrow[0]}paper: x{math.exp(value / 100):.2f}{arrow[1]}",
            (side * reach, y - 0.12),
            ha="right" if side > 0 else "left",
            va="bottom",
            color=COLOURS[1],
            fontsize=9,
        )


def effects(study: Study, table: paper.Table) -> Figure:
    """Each row's change of FID against the reference with its interval, in per cent, the largest first;
    attention's own in another colour, with its interval as a band behind the others.
    """
    frame = measured_effects(study, table)
    if frame.empty:
        return empty("no scored runs")
    figure, axis = plt.subplots(figsize=(9, 2.0 + 0.36 * len(frame)), layout="constrained")
    axis.axvline(0, color="0.3", linewidth=1)
    own = frame["row"] == "recipe_none"
    if own.any() and frame[own]["low"].notna().all():
        axis.axvspan(frame[own]["low"].item(), frame[own]["high"].item(), color=COLOURS[1], alpha=0.12)
    for which, colour, label in ((~own, 0, "a changed setting"), (own, 1, "attention left out")):
        if which.any():
            _intervals(axis, frame[which], "difference", colour, f"{label}, 95 % interval")
    heading, reference = labels.heading("fid", study.preset), table.reference.removeprefix("recipe_")
    axis.set(
        yticks=frame.index,
        yticklabels=frame["label"],
        xlabel=f"change of {heading} against {reference}, per cent; left of 0: better",
    )
    axis.invert_yaxis()
    fewest, most = frame["seeds"].min(), frame["seeds"].max()
    caption(figure, study, table.title, f"{'up to ' if fewest < most else ''}{most} seeds a row")
    legend(figure, 2)
    return finished(figure)
