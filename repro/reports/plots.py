"""Figures of numbers: scores by row, curves over training."""

from __future__ import annotations

import dataclasses
import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from .. import paper, runs
from ..analysis import frames, labels
from ..analysis.gains import INTERVAL_FROM, compared, over_training, shorter
from ..analysis.sentences import sides
from ..analysis.statistics import contrast, half_width
from ..presets import Preset
from ..studies.study import Study
from .figures import COLOURS, axis_label, caption, curve, empty, finished, legend, line, styles


def _metrics(tidy: pd.DataFrame) -> list[str]:
    return [
        m for m in ("fid", "is", "consistency_mirrored", "consistency_turned") if m in set(tidy["metric"])
    ]


def _seeds(frame: pd.DataFrame) -> str:
    """How many seeds a frame's rows have: "4 seeds", "1 to 3 seeds"."""
    counts = frame.groupby("row")["seed"].nunique()
    few, many = counts.min(), counts.max()
    return f"{few} to {many} seeds" if few < many else f"{many} seed{'s' if many > 1 else ''}"


def _range(frame: pd.DataFrame) -> str:
    """What lines and bands are."""
    several = frame.groupby("row")["seed"].nunique().max() > 1
    return f"{_seeds(frame)} a row" + (": mean, and range as a band" if several else "")


def _panels(count: int, width: float, height: float, **shared) -> tuple[Figure, np.ndarray]:
    """A figure of `count` axes, two in a line."""
    columns = min(2, count)
    lines = math.ceil(count / columns)
    size = (width * columns + 0.8, height * lines + 1.2)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained", **shared)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, axes.flat[:count]


def final_scores(study: Study, table: paper.Table) -> Figure:
    """Final scores by row: a small point a seed, the mean with its 95 % t interval from three seeds on, the
    reference row's mean as a dotted line.
    """
    tidy = frames.scores(study, table)
    final = tidy[tidy["final"]]
    if final.empty:
        return empty("no scored runs")
    metrics, style = _metrics(final), styles(table)
    order = [row for row in table.rows if row.name in set(final["row"])]
    figure, axes = _panels(len(metrics), 4.4, 1.0 + 0.42 * len(order), sharey=True)
    for axis, metric in zip(axes, metrics, strict=True):
        for y, row in enumerate(order):
            values = final[(final["row"] == row.name) & (final["metric"] == metric)]["value"].to_numpy()
            if not len(values):
                continue
            looks = {k: style[row.name][k] for k in ("color", "marker")}
            axis.plot(values, np.full(len(values), y), "o", color="0.55", markersize=4, fillstyle="none")
            half = half_width(*contrast(values[None], (1,))[1:], 0.05) if len(values) >= INTERVAL_FROM else 0
            axis.errorbar(values.mean(), y, xerr=half, **looks, markersize=7, capsize=3 if half else 0)
            if row.name == table.reference:
                axis.axvline(values.mean(), color="0.5", linestyle=":", linewidth=1, zorder=0)
        axis.set(
            xlabel=axis_label(metric, study.preset), yticks=range(len(order)), ylim=(len(order) - 0.4, -0.6)
        )
        axis.set_yticklabels([row.label for row in order])
        axis.locator_params(axis="x", nbins=6)
    how = f"{_seeds(final)} a row: each (small), mean (large)"
    if final.groupby("row")["seed"].nunique().max() >= INTERVAL_FROM:
        how += " with its 95 % t interval, of the last step and for one look: not the verdict's"
    caption(figure, study, table.title, how + "; dotted: the reference row")
    return finished(figure)


def score_curves(study: Study, table: paper.Table) -> Figure:
    """Scores over training steps: mean and range over seeds, a line a row."""
    tidy = frames.scores(study, table)
    if tidy.empty:
        return empty("no scored runs")
    metrics, style = _metrics(tidy), styles(table)
    figure, axes = _panels(len(metrics), 4.5, 3.4)
    for axis, metric in zip(axes, metrics, strict=True):
        for row in table.rows:
            of_row = tidy[(tidy["row"] == row.name) & (tidy["metric"] == metric)]
            if len(of_row):
                curve(axis, of_row, "value", style[row.name], row.label)
        axis.set(xlabel="updates of G", ylabel=axis_label(metric, study.preset), xlim=(0, None))
    caption(figure, study, f"{table.title}: scores over training", _range(tidy))
    legend(figure)
    return finished(figure)


def gain_curves(study: Study, table: paper.Table) -> Figure | None:
    """The gain in each of the plan's comparisons of the table over training, with its interval at each step
    alone; beside it those of shorter studies of the table. None where no comparison has three seeds.
    """
    studies = [study, *shorter(study, table)]
    curves = [(c, [(of, over_training(of, c)) for of in studies]) for c in compared(study, table)]
    curves = [
        (c, drawn) for c, found in curves if (drawn := [(of, frame) for of, frame in found if len(frame)])
    ]
    if not curves:
        return None
    figure, axes = _panels(len(curves), 4.5, 3.4)
    for axis, (c, found) in zip(axes, curves, strict=True):
        axis.axhline(0, color="0.3", linewidth=1)
        for colour, (of, frame) in zip(COLOURS, found, strict=False):
            seeds = f"{of.preset.name}, {frame['seeds'].iloc[0]} seeds"
            axis.plot(frame["step"], 100 * frame["gain"], color=colour, marker="o", markersize=4, label=seeds)
            low, high = (100 * frame[end] for end in ("low", "high"))
            axis.fill_between(frame["step"], low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set(title=textwrap.fill(f"{c.claim}: {sides(c, study.preset)}", 44), xlabel="updates of G")
        axis.title.set_fontsize(10)
        axis.set(ylabel="gain (100 times the logarithm)\nabove 0: as claimed", xlim=(0, None))
        axis.legend(fontsize=8)
    how = "band: the 95 % interval of that step alone; no verdict rests on it"
    caption(figure, study, f"{table.title}: gain in FID over training", how)
    return finished(figure)


def training_curves(study: Study, table: paper.Table) -> Figure:
    """Losses of both networks and, where a block is gated, the size of gamma over training: mean and range
    over seeds, losses smoothed over three logged steps.
    """
    frame = frames.history(study, table)
    if frame.empty:
        return empty("no runs")
    for loss in ("loss_d", "loss_g"):
        runs_of = frame.groupby(["row", "seed"], sort=False)[loss]
        frame[loss] = runs_of.transform(lambda of: of.rolling(3, min_periods=1).mean())
    panels = {"loss_d": "loss of D", "loss_g": "loss of G"}
    for network in "DG":  # one block a network and row: the gate's sign is arbitrary
        gates = [c for c in frame if c.startswith(f"gamma {network} ")]
        if gates:
            panels[f"gate {network}"] = f"size of gamma in {network}"
            frame[f"gate {network}"] = frame[gates].abs().max(axis=1)
    figure, axes = _panels(len(panels), 4.5, 3.2)
    style = styles(table)
    for axis, (name, label) in zip(axes, panels.items(), strict=True):
        for row in table.rows:
            of_row = frame[frame["row"] == row.name].dropna(subset=[name])
            if len(of_row):
                curve(axis, of_row, name, line(style[row.name]), row.label)
        axis.set(xlabel="updates of G", ylabel=label, xlim=(0, None))
    caption(figure, study, f"{table.title}: losses and gates", _range(frame))
    legend(figure)
    return finished(figure)


def survival(study: Study, table: paper.Table = paper.STRESS) -> Figure:
    """FID over training under stress: a panel a factor of the learning rates, a line a run, a cross at the
    last score of one that broke down, and how many runs of each setting did not.
    """
    fids, found = frames.scores(study, table).query("metric == 'fid'"), frames.records(study, table)
    if fids.empty:
        return empty("no scored runs")
    noise = [record["noise"]["fid"] for record in found.values() if record.get("noise")]
    figure, axes = plt.subplots(
        1, len(paper.STRESS_TIMES), figsize=(10, 5.2), sharey=True, layout="constrained"
    )
    for axis, times in zip(axes, paper.STRESS_TIMES, strict=True):
        for of, colour in zip(paper.FIGURE3.rows, COLOURS, strict=False):
            name = f"{of.name}_x{times}"
            broken = {seed: runs.unstable(record) for (row, seed), record in found.items() if row == name}
            for seed, broke in broken.items():
                run = fids[(fids["row"] == name) & (fids["seed"] == seed)]
                axis.plot(run["step"], run["value"], color=colour, linewidth=1.2)
                if broke and len(run):
                    axis.plot(*run[["step", "value"]].iloc[-1], "X", color=colour, markersize=9)
            survived = len(broken) - sum(broken.values())
            axis.plot([], [], color=colour, label=f"{of.label}: {survived} of {len(broken)}")
        if noise:
            axis.axhline(min(noise), color="0.4", linestyle=":", label="uniform noise")
        axis.set(title=f"learning rates x{times}", xlabel="updates of G", yscale="log", xlim=(0, None))
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5)))
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_minor_formatter("")
        axis.legend(
            title="runs that did not break down",
            fontsize=9,
            title_fontsize=9,
            ncols=2,
            frameon=False,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
        )
    axes[0].set_ylabel(axis_label("fid", study.preset))
    caption(figure, study, table.title, "a line a run; a cross: it broke down there")
    return finished(figure)


def figure3(study: Study) -> Figure:
    """Our curves below the paper's digitised ones, each on its own axes: the scores are not the same
    metric.
    """
    table = paper.FIGURE3
    published = paper.figure3_curves()
    ours, style = frames.scores(study, table), styles(table)
    if ours.empty:
        return empty("no scored runs of Figure 3's settings")
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.6), layout="constrained")
    for column, metric in enumerate(("fid", "is")):
        for row in table.rows:
            theirs = published[(published["setting"] == row.name) & (published["metric"] == metric)]
            of_paper = line(style[row.name])
            axes[0, column].plot(theirs["iteration_k"], theirs["value"], **of_paper, label=row.label)
            mine = ours[(ours["row"] == row.name) & (ours["metric"] == metric)]
            if len(mine):
                curve(axes[1, column], mine, "value", style[row.name], row.label)
        axes[0, column].set(
            xlabel="iterations (thousands)",
            ylabel=f"{labels.METRICS[metric][0]} (Inception)",
            title=f"paper: {paper.SETTING} (digitised, one run)",
        )
        axes[1, column].set(
            xlabel="updates of G",
            ylabel=labels.heading(metric, study.preset),
            title=f"ours: {study.preset.name}",
            xlim=(0, None),
        )
    caption(figure, study, table.title, _range(ours))
    legend(figure)
    return finished(figure)


def validation(frame: pd.DataFrame, generated: pd.DataFrame, preset: Preset) -> Figure:
    """FID, KID and IS of damaged real images by strength, with noise and this study's own final samples as
    levels.
    """
    from ..checks.validation import FAMILIES, family

    preset = dataclasses.replace(preset, extractor=frame.attrs["extractor"])
    noise = frame[frame["set"] == "uniform noise"].iloc[0]
    final = generated[generated["step"] == generated["step"].max()]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    for axis, metric in zip(axes, ("fid", "kid", "is"), strict=True):
        for name in FAMILIES:
            axis.plot(family(frame, name)[metric].to_numpy(), marker="o", label=name)
        axis.axhline(noise[metric], color="0.3", linestyle=":", label="uniform noise")
        if metric in final and len(final):
            low, high = final[metric].min(), final[metric].max()
            axis.axhspan(low, high, color="0.6", alpha=0.4, label="this study's generators")
        axis.set(xlabel="strength of the damage", xticks=range(4), ylabel=axis_label(metric, preset))
    legend(figure, 4)
    return finished(figure)


def attention_curves(study: Study, table: paper.Table) -> Figure:
    """Size of gamma, attended distance, entropy and colours of each block over training, G above D: mean and
    range over seeds.
    """
    frame = frames.attention(study, table)
    if frame.empty:
        return empty("no attention was measured")
    panels = {
        "size of gamma": frame["gamma"].abs(),
        "distance\n(uniform attention: 1)": frame["distance"] / frame["distance_uniform"],
        "entropy\n(uniform attention: 1)": frame["entropy"],
        "colour difference\n(another image's map: 1)": frame["colour"] / frame["colour_other"],
    }
    frame, style = frame.assign(**panels), styles(table)
    size = (3.3 * len(panels) + 0.6, 6.4)
    figure, axes = plt.subplots(2, len(panels), figsize=size, sharex=True, layout="constrained")
    for network, of_network in zip("GD", axes, strict=True):
        for axis, name in zip(of_network, panels, strict=True):
            for row in table.rows:
                of_row = frame[(frame["row"] == row.name) & (frame["block"].str[0] == network)]
                of_row = of_row.dropna(subset=[name])
                if len(of_row):
                    curve(axis, of_row, name, style[row.name], row.label)
            axis.set(ylabel=f"{network}: {name}", xlim=(0, None))
            axis.ticklabel_format(axis="y", useOffset=False)
    for axis in axes[1]:
        axis.set_xlabel("updates of G")
    caption(figure, study, f"{table.title}: what the blocks attend to", _range(frame))
    legend(figure)
    return finished(figure)
