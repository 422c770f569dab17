"""Figures made of images: samples, attention maps over samples, a run's own pictures."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from .. import paper
from ..analysis import frames, labels, setting
from ..data.sheets import QUERIES
from ..studies.study import Study, rows, run_name
from .figures import as_jpeg, caption, empty

CONTOUR_FROM = 1.25  # times equal weights at the heaviest position: a contour of a flatter map says nothing


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
    sheets = [(label, plt.imread(path)) for label, path in sheets if path.exists()]
    if not sheets:
        return empty("no samples")
    names = labels.CLASS_NAMES.get(setting.data_name(study), ())
    columns = min(2, len(sheets))
    lines = -(-len(sheets) // columns)
    tallest = max(len(sheet) / sheet.shape[1] for _, sheet in sheets)
    size = (5.6 * columns, (5.6 * tallest + (0.9 if names else 0.5)) * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (label, sheet) in zip(axes.flat, sheets, strict=False):
        axis.imshow(sheet, interpolation="nearest")
        axis.set_title(label, fontsize=11, pad=8 + 2 * max(map(len, names), default=0))
        for k, name in enumerate(names):
            at = ((k + 0.5) * sheet.shape[1] / len(names), -3)
            axis.annotate(name, at, fontsize=7, rotation=30, ha="left", va="bottom", annotation_clip=False)
    return as_jpeg(figure)


STRIP = ("none", "attention_16", "residual_16")  # rows of `strip`, below the real images


def strip(study: Study, seed: int = 0):
    """The first image of each class: real, without a block, with attention and with a residual block."""
    sheets = [("real", study.real_path)]
    for row in STRIP:
        path = study.run(run_name(rows()[row], study.preset), seed).samples_path
        sheets.append((rows()[row].label, path))
    sheets = [(label, path) for label, path in sheets if path.exists()]
    if not sheets:
        return as_jpeg(empty("no samples"))
    figure, axes = plt.subplots(len(sheets), 1, figsize=(8, 0.8 * len(sheets)), layout="constrained")
    for axis, (label, path) in zip(np.atleast_1d(axes), sheets, strict=True):
        line = plt.imread(path)[: study.preset.resolution]
        axis.imshow(line, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
        axis.grid(False)
    names = labels.CLASS_NAMES.get(setting.data_name(study), ())
    top = np.atleast_1d(axes)[0]
    top.xaxis.tick_top()
    centres = [(k + 0.5) * study.preset.resolution for k in range(len(names))]
    top.set_xticks(centres, [name.replace(" ", "\n") for name in names], fontsize=7)
    return as_jpeg(figure)
