"""Figures of tables: scores by row, curves over training, samples, attention maps."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from .. import paper
from ..analysis import frames, labels, setting
from ..analysis.statistics import contrast, half_width
from ..data.sheets import QUERIES
from ..presets import Preset
from ..studies.study import Study, rows, run_name
from .figures import as_jpeg, axis_label, caption, curve, empty, finished, legend, line, styles

INTERVAL_FROM = 3  # seeds: an interval from two says next to nothing
CONTOUR_FROM = 1.25  # times equal weights at the heaviest position: a contour of a flatter map says nothing


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
        axis.set(xlabel=axis_label(metric, study), yticks=range(len(order)), ylim=(len(order) - 0.4, -0.6))
        axis.set_yticklabels([row.label for row in order])
    how = f"{_seeds(final)} a row: each (small), mean (large)"
    if final.groupby("row")["seed"].nunique().max() >= INTERVAL_FROM:
        how += " with 95 % t interval"
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
        axis.set(xlabel="updates of G", ylabel=axis_label(metric, study), xlim=(0, None))
    caption(figure, study, f"{table.title}: scores over training", _range(tidy))
    legend(figure)
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
        better = "higher" if labels.METRICS[metric][1] else "lower"
        axis.set(
            xlabel="strength of the damage",
            xticks=range(4),
            ylabel=f"{labels.heading(metric, preset)}\n{better} is better",
        )
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


def attention_maps(study: Study, row: str, mean: bool = False, seeds: int = 3, image: int = 0):
    """Attention maps of a row's last blocks, G then D, one sample a seed: for each query point (cross) the
    weight of every position as a multiple of equal weights, over the sample in grey. A contour holds the
    heaviest half of the weight. mean: the mean maps over all measured samples instead.
    """
    name = run_name(rows()[row], study.preset)
    paths = [(seed, study.run(name, seed).maps_path) for seed in range(min(seeds, study.seeds))]
    found = [(seed, np.load(path)) for seed, path in paths if path.exists()]
    if not found:
        return empty("no attention maps were recorded")
    lines = [
        (f"{network}, seed {seed}", maps["images"][image], maps[f"mean {block}" if mean else block])
        for network in "GD"
        for seed, maps in found
        for block in [b for b in maps if b.startswith(f"{network} ")][-1:]
    ]
    columns = len(QUERIES) + (not mean)
    size = (1.4 * columns + 2.0, 1.4 * len(lines) + 1.4)
    figure, axes = plt.subplots(len(lines), columns, figsize=size, squeeze=False, layout="compressed")
    for (label, sample, weights), of_line in zip(lines, axes, strict=True):
        of_line[0].set_ylabel(label, fontsize=9)
        if not mean:
            _sample(of_line[0], sample)
        weights = weights if mean else weights[image]
        for point, of_point, axis in zip(QUERIES, weights, of_line[not mean :], strict=True):
            shown = _map(axis, None if mean else sample, of_point, point)
    bar = figure.colorbar(shown, ax=axes, label="weight (equal weights: 1)", aspect=40)
    bar.set_ticks([-3, -2, -1, 0, 1, 2, 3], labels=["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    title = f"{'Mean attention maps' if mean else 'Attention maps'} of {rows()[row].label}"
    caption(figure, study, title, "not selected; cross: the query; contour: the heaviest half of the weight")
    return as_jpeg(figure)


def _sample(axis: Axes, sample: np.ndarray) -> None:
    """The sample with its query points."""
    side = len(sample)
    axis.imshow(sample, extent=(0, side, side, 0), interpolation="nearest")
    for point in QUERIES:
        _mark(axis, point, side)


def _map(axis: Axes, sample: np.ndarray | None, weights: np.ndarray, point: tuple[float, float]):
    """The map (K,) of one query point, in powers of two of equal weights."""
    keys = math.isqrt(len(weights))
    factors = (weights.astype(float) * len(weights)).reshape(keys, keys)
    side = keys if sample is None else len(sample)
    extent = (0, side, side, 0)
    if sample is not None:
        axis.imshow(sample.mean(-1), cmap="gray", extent=extent)
    shown = axis.imshow(
        np.log2(factors.clip(1 / 8, 8)),
        cmap="RdBu_r",
        vmin=-3,
        vmax=3,
        extent=extent,
        interpolation="bilinear",
        alpha=1 if sample is None else 0.6,
    )
    heaviest = np.sort(factors.ravel())[::-1]
    half = heaviest[np.searchsorted(heaviest.cumsum(), heaviest.sum() / 2)]
    if factors.max() > CONTOUR_FROM:
        centres = (np.arange(keys) + 0.5) * side / keys
        axis.contour(centres, centres, factors, levels=[half], colors="black", linewidths=0.8)
    _mark(axis, point, side)
    return shown


def _mark(axis: Axes, point: tuple[float, float], side: int) -> None:
    """A cross at a query point, and no ticks."""
    outline = [withStroke(linewidth=3, foreground="white")]
    x, y = point[1] * side, point[0] * side
    axis.plot(x, y, "+", color="black", markersize=8, markeredgewidth=1.4, path_effects=outline)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


def picture(study: Study, row: str, name: str, seed: int = 0):
    """One of a run's own pictures (attention, neighbours, interpolations, samples), enlarged; or what makes
    it where there is none.
    """
    from IPython.display import Image, Markdown

    path = study.run(run_name(rows()[row], study.preset), seed).picture(name)
    if not path.exists():
        return Markdown(
            f"*No picture of {name}: these runs were recorded without it; `repro train {row} --preset"
            f" {study.preset.name}` makes it.*"
        )
    return Image(data=path.read_bytes(), alt=f"{name} of {row}, seed {seed}", width=760)


def samples(study: Study, table: paper.Table, seed: int = 0):
    """The sample sheet of each row (a column a class, named where the data's names are known), the real
    images first.
    """
    sheets = [("real images", study.real_path)]
    for row in table.rows:
        if frames.unavailable(row, study.preset) is None:
            sheets.append((row.label, study.run(run_name(row, study.preset), seed).samples_path))
    sheets = [(label, path) for label, path in sheets if path.exists()]
    if not sheets:
        return empty("no samples")
    columns = min(2, len(sheets))
    lines = -(-len(sheets) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(5.6 * columns, 5.0 * lines), squeeze=False, layout="constrained"
    )
    names = labels.CLASS_NAMES.get(setting.data_name(study), ())
    for axis in axes.flat:
        axis.axis("off")
    for axis, (label, path) in zip(axes.flat, sheets, strict=False):
        sheet = plt.imread(path)
        axis.imshow(sheet, interpolation="nearest")
        axis.set_title(label, fontsize=11, pad=8 + 2 * max(map(len, names), default=0))
        for k, name in enumerate(names):
            at = ((k + 0.5) * sheet.shape[1] / len(names), -3)
            axis.annotate(name, at, fontsize=7, rotation=30, ha="left", va="bottom", annotation_clip=False)
    return as_jpeg(figure)
