"""What all figures share: how a row is drawn, labels of axes, captions, saving."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import paper, runs
from ..analysis import labels, setting
from ..presets import Preset
from ..studies.study import Study

sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
COLOURS = sns.color_palette("colorblind")


def save(figure: Figure, path: Path) -> None:
    """A PNG without the writing program's version in it, so that equal figures are equal files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    runs.write_atomically(path, buffer.getvalue())


def as_jpeg(figure: Figure):
    """A figure made of images as a notebook displays it: a tenth of its PNG."""
    from IPython.display import Image

    buffer = io.BytesIO()
    options = dict(quality=85, optimize=True, progressive=True)
    figure.savefig(buffer, format="jpeg", dpi=100, bbox_inches="tight", pil_kwargs=options)
    plt.close(figure)
    return Image(data=buffer.getvalue(), format="jpeg")


def finished(figure: Figure) -> Figure:
    """Closed for pyplot: a notebook shows it once, as the value of its cell."""
    plt.close(figure)
    return figure


def empty(message: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axis = plt.subplots(figsize=(6, 1.5))
    axis.text(0.5, 0.5, message, ha="center", va="center")
    axis.axis("off")
    return finished(figure)


def styles(table: paper.Table) -> dict[str, dict]:
    """How each row of a table is drawn, by its name: a colour a feature-map size where the rows differ in it,
    else a colour a row; dashed lines and squares for residual blocks.
    """
    size = lambda row: (row.attention_at or row.residual_at or (None,))[0]
    sizes = list(dict.fromkeys(size(row) for row in table.rows if size(row)))
    by_size = len(sizes) > 1
    out = {}
    for i, row in enumerate(table.rows):
        which = sizes.index(size(row)) if by_size and size(row) else i
        out[row.name] = {
            "color": "0.25" if by_size and not size(row) else COLOURS[which % len(COLOURS)],
            "linestyle": "--" if row.residual_at else "-",
            "marker": "s" if row.residual_at else "o",
        }
    return out


def line(style: dict) -> dict:
    """The style of a line without markers."""
    return {name: value for name, value in style.items() if name != "marker"}


def curve(axis: Axes, frame: pd.DataFrame, value: str, style: dict, label: str | None = None) -> None:
    """The mean of a column over seeds by step, and its range as a band."""
    by_step = frame.groupby("step")[value].agg(["mean", "min", "max"])
    axis.plot(by_step.index, by_step["mean"], **style, markersize=4, label=label)
    axis.fill_between(
        by_step.index, by_step["min"], by_step["max"], color=style["color"], alpha=0.15, linewidth=0
    )


def axis_label(metric: str, preset: Preset) -> str:
    """The metric with its extractor, and which way is better."""
    better = "higher" if labels.METRICS[metric][1] else "lower"
    return f"{labels.heading(metric, preset)}\n{better} is better"


def caption(figure: Figure, study: Study, title: str, how: str) -> None:
    """What is shown, of which study, measured how and over how many seeds: above the figure."""
    width = int(figure.get_figwidth() * 13)
    parts = (title, f"{study.preset.name}: {setting.definition(study)}", how)
    figure.suptitle("\n".join(textwrap.fill(part, width) for part in parts), fontsize=10.5)


def legend(figure: Figure, columns: int = 3) -> None:
    """One legend below the figure for all of its axes."""
    handles = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        frameon=False,
    )
