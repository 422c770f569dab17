"""Figures: scores by row, curves, Figure 3 over the paper's, sample sheets."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .. import paper, runs
from ..analysis import frames, labels, setting
from ..presets import Preset
from ..studies.study import Study, rows, run_name

sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")


def save(figure: Figure, path: Path) -> None:
    """A PNG without the writing program's version in it, so that equal figures are equal files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    runs.write_atomically(path, buffer.getvalue())


def _finished(figure: Figure) -> Figure:
    """Laid out, and closed for pyplot: a notebook shows it once, as the value of its cell."""
    figure.tight_layout()
    plt.close(figure)
    return figure


def _labelled(table: paper.Table, frame: pd.DataFrame) -> pd.DataFrame:
    labels = {row.name: row.label for row in table.rows}
    return frame.assign(row=frame["row"].map(labels))


def _shown_metrics(tidy: pd.DataFrame) -> list[str]:
    return [
        m for m in ("fid", "is", "consistency_mirrored", "consistency_turned") if m in set(tidy["metric"])
    ]


def _axis_label(metric: str, study: Study) -> str:
    better = "higher" if labels.METRICS[metric][1] else "lower"
    return f"{labels.heading(metric, study.preset)}\n{better} is better"


def _palette(table: paper.Table) -> dict[str, tuple]:
    return dict(
        zip([row.label for row in table.rows], sns.color_palette("colorblind", len(table.rows)), strict=True)
    )


def _empty(message: str) -> Figure:
    figure, axis = plt.subplots(figsize=(6, 1.5))
    axis.text(0.5, 0.5, message, ha="center", va="center")
    axis.axis("off")
    return _finished(figure)


def final_scores(study: Study, table: paper.Table) -> Figure:
    """Final scores by row: the mean over seeds as a bar, every seed as a point."""
    tidy = frames.scores(study, table)
    final = _labelled(table, tidy[tidy["final"]])
    if final.empty:
        return _empty("no scored runs")
    metrics = _shown_metrics(final)
    order = [row.label for row in table.rows if row.label in set(final["row"])]
    figure, axes = plt.subplots(
        1,
        len(metrics),
        figsize=(3.6 * len(metrics) + 1, max(2.6, 1.2 + 0.42 * len(order))),
        squeeze=False,
        sharey=True,
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        chosen = final[final["metric"] == metric]
        sns.barplot(
            chosen,
            x="value",
            y="row",
            order=order,
            hue="row",
            palette=_palette(table),
            errorbar=None,
            ax=axis,
            alpha=0.75,
        )
        sns.stripplot(chosen, x="value", y="row", order=order, color="black", size=4, jitter=False, ax=axis)
        axis.set(xlabel=_axis_label(metric, study), ylabel="")
    figure.suptitle(f"{table.title}\n{study.preset.name}: {setting.definition(study)}", fontsize=11)
    return _finished(figure)


def score_curves(study: Study, table: paper.Table) -> Figure:
    """Scores over training steps, a line a seed and row."""
    tidy = _labelled(table, frames.scores(study, table))
    if tidy.empty:
        return _empty("no scored runs")
    metrics = _shown_metrics(tidy)
    figure, axes = plt.subplots(1, len(metrics), figsize=(3.9 * len(metrics) + 1, 3.4), squeeze=False)
    for i, (axis, metric) in enumerate(zip(axes[0], metrics, strict=True)):
        chosen = tidy[tidy["metric"] == metric]
        sns.lineplot(
            chosen,
            x="step",
            y="value",
            hue="row",
            units="seed",
            estimator=None,
            marker="o",
            palette=_palette(table),
            hue_order=[r.label for r in table.rows if r.label in set(tidy["row"])],
            ax=axis,
            legend=i == len(metrics) - 1,
        )
        axis.set(xlabel="generator updates", ylabel=_axis_label(metric, study), xlim=(0, None))
    sns.move_legend(axes[0][-1], "center left", bbox_to_anchor=(1.02, 0.5), title="", frameon=False)
    return _finished(figure)


def training_curves(study: Study, table: paper.Table) -> Figure:
    """Hinge losses of both networks and, where a block is gated, gamma over training (each line one run,
    lightly smoothed).
    """
    frame = frames.history(study, table)
    if frame.empty:
        return _empty("no runs")
    frame = _labelled(table, frame)
    gamma = [c for c in frame if c.startswith("gamma")]
    panels = [("loss_d", "loss of D"), ("loss_g", "loss of G")] + (
        [("gamma", "gamma (G solid, D dashed)")] if gamma else []
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 3.4), squeeze=False)
    palette = _palette(table)
    for axis, (name, label) in zip(axes[0], panels, strict=True):
        for (row, _), run in frame.groupby(["row", "seed"], sort=False):
            if name == "gamma":
                for column in (c for c in gamma if run[c].notna().any()):
                    axis.plot(
                        run["step"],
                        run[column],
                        color=palette[row],
                        linestyle="-" if " G " in column else "--",
                    )
            else:
                axis.plot(run["step"], run[name].rolling(3, min_periods=1).mean(), color=palette[row])
        axis.set(xlabel="generator updates", ylabel=label)
    present = [row.label for row in table.rows if row.label in set(frame["row"])]
    lines = [plt.Line2D([], [], color=palette[label]) for label in present]
    axes[0][-1].legend(lines, present, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return _finished(figure)


def figure3(study: Study) -> Figure:
    """Our curves below the paper's digitised ones, each on its own axes: the scores are not the same
    metric.
    """
    table = paper.FIGURE3
    published = paper.figure3_curves()
    ours = frames.scores(study, table)
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.6))
    palette = _palette(table)
    for column, metric in enumerate(("fid", "is")):
        for row in table.rows:
            theirs = published[(published["setting"] == row.name) & (published["metric"] == metric)]
            axes[0, column].plot(
                theirs["iteration_k"], theirs["value"], color=palette[row.label], label=row.label
            )
            mine = ours[(ours["row"] == row.name) & (ours["metric"] == metric)]
            for _, run in mine.groupby("seed"):
                axes[1, column].plot(
                    run["step"], run["value"], color=palette[row.label], marker="o", label=row.label
                )
        ours_label = labels.heading(metric, study.preset)
        axes[0, column].set(
            xlabel="iterations (thousands)",
            ylabel=f"{labels.METRICS[metric][0]} (Inception)",
            title=f"paper: {paper.SETTING} (digitised)",
        )
        axes[1, column].set(
            xlabel="generator updates", ylabel=ours_label, title=f"ours: {study.preset.name}", xlim=(0, None)
        )
    axes[0, 0].legend(frameon=True)
    return _finished(figure)


def validation(frame: pd.DataFrame, generated: pd.DataFrame, preset: Preset) -> Figure:
    """FID, KID and IS of damaged real images by strength, with noise and this study's own final samples as
    levels.
    """
    from ..checks.validation import FAMILIES, family

    noise = frame[frame["set"] == "uniform noise"].iloc[0]
    final = generated[generated["step"] == generated["step"].max()]
    figure, axes = plt.subplots(1, 3, figsize=(14, 4))
    for axis, metric in zip(axes, ("fid", "kid", "is"), strict=True):
        for name in FAMILIES:
            axis.plot(family(frame, name)[metric].to_numpy(), marker="o", label=name)
        axis.axhline(noise[metric], color="0.3", linestyle=":", label="uniform noise")
        if metric in final and len(final):
            axis.axhspan(
                final[metric].min(),
                final[metric].max(),
                color="0.6",
                alpha=0.4,
                label="this study's generators",
            )
        better = "higher" if labels.METRICS[metric][1] else "lower"
        axis.set(
            xlabel="strength of the damage",
            xticks=range(4),
            ylabel=f"{labels.heading(metric, preset)}\n{better} is better",
        )
    figure = _finished(figure)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
    )
    return figure


def comparisons(study: Study) -> Figure:
    """Each comparison behind a verdict: our interval, the margin as a band, the paper's own difference. A
    panel for differences in per cent, one for those at several budgets, one for attention maps; gains are in
    the claim's direction, on a logarithmic axis.
    """
    from ..analysis import plan
    from ..analysis.verdicts import comparisons as measured

    frame, declared = measured(study), plan.read(study)
    frame = frame[frame["low"].notna()]
    if frame.empty:
        return _empty("no comparison has an interval yet")
    several = frame.groupby(["claim", "comparison"])["budget"].transform("size") > 1
    maps = frame["measure"] == "attention"
    panels = [
        part.reset_index(drop=True)
        for part in (frame[~several & ~maps], frame[several], frame[maps])
        if len(part)
    ]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(11, sum(0.9 + 0.42 * len(part) for part in panels) + 0.6),
        squeeze=False,
        height_ratios=[len(part) + 1.2 for part in panels],
    )
    for axis, part in zip(axes[:, 0], panels, strict=True):
        _forest(axis, part, declared.margin)
    handles = {
        label: handle
        for axis in axes[:, 0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=2,
        frameon=False,
    )
    return _finished(figure)


def _forest(axis: plt.Axes, frame: pd.DataFrame, margin: float) -> None:
    """One panel of `comparisons`: a line a comparison and budget."""
    in_factors = frame[["low", "high"]].abs().max(axis=None) > 50
    reach = 1.15 * max(
        26.0,
        frame[["low", "high", "gain"]].abs().max(axis=None),
        frame["paper_relative"].abs().max() if frame["paper_relative"].notna().any() else 0,
    )
    labels = [
        f"{line.claim}: {line.comparison}"
        + (f", at equal {line.budget}" if frame["budget"].nunique() > 1 else "")
        for line in frame.itertuples()
    ]
    axis.axvspan(
        -100 * margin,
        100 * margin,
        color="0.87",
        label=f"differences that do not count ({100 * math.expm1(margin):.0f} %)",
    )
    axis.axvline(0, color="0.3", linewidth=1)
    blue, orange = (sns.color_palette("colorblind")[k] for k in (0, 1))
    errors = [frame["gain"] - frame["low"], frame["high"] - frame["gain"]]
    axis.errorbar(
        frame["gain"],
        frame.index,
        xerr=errors,
        fmt="o",
        color=blue,
        capsize=3,
        label="ours, with its interval",
    )
    for column, marker, label in (
        ("paper", "D", "the paper's, same rows"),
        ("paper_relative", "s", "the paper's, same size relative to the image"),
    ):
        shown = frame[column].abs() <= reach
        if shown.any():
            axis.plot(
                frame[column][shown],
                frame.index[shown],
                marker,
                color=orange,
                fillstyle="none",
                markersize=8,
                label=label,
            )
    for y in frame.index[frame["paper"].abs() > reach]:
        axis.annotate(
            f"paper: {frame['paper'][y]:+.0f} % \N{RIGHTWARDS ARROW}",
            (reach, y - 0.12),
            ha="right",
            va="bottom",
            color=orange,
            fontsize=9,
        )
    for line in frame.itertuples():
        axis.annotate(
            f"{line.outcome}, {line.seeds} seeds",
            (1.01, line.Index),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
    axis.set(yticks=frame.index, ylim=(len(frame) - 0.4, -0.6), xlim=(-reach, reach))
    axis.set_yticklabels([textwrap.fill(label, 60) for label in labels], fontsize=9)
    if in_factors:
        factors = [f for f in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if abs(100 * math.log(f)) < reach]
        axis.set(xticks=[100 * math.log(f) for f in factors], xticklabels=[f"x{f:g}" for f in factors])
    axis.set_xlabel(
        (
            "gain as a factor; right of 1: as claimed"
            if in_factors
            else "gain in per cent; right of 0: as claimed"
        ),
        fontsize=10,
    )


def effects(study: Study, table: paper.Table) -> Figure:
    """Each row's change of FID against the reference with its interval, in per cent, the largest first;
    attention's own in another colour.
    """
    from ..analysis.effects import effects as measured

    frame = measured(study, table)
    if frame.empty:
        return _empty("no scored runs")
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.36 * len(frame)))
    axis.axvline(0, color="0.3", linewidth=1)
    own = frame["row"] == "recipe_none"
    for which, color, label in ((~own, 0, "a changed setting"), (own, 1, "attention left out")):
        part = frame[which]
        if len(part):
            errors = (part["high"] - part["difference"]).fillna(0)
            axis.errorbar(
                part["difference"],
                part.index,
                xerr=errors,
                fmt="o",
                color=sns.color_palette("colorblind")[color],
                capsize=3,
                label=f"{label}, 95 % interval",
            )
    axis.set(
        yticks=frame.index,
        yticklabels=frame["label"],
        xlabel=(
            f"change of {labels.heading('fid', study.preset)} against released_code, per cent (left of 0 is"
            " better)"
        ),
    )
    axis.invert_yaxis()
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)
    return _finished(figure)


def attention_curves(study: Study, table: paper.Table) -> Figure:
    """Gamma, attended distance, entropy and colours of each block over training: a line a run, G solid and D
    dashed.
    """
    frame = frames.attention(study, table)
    if frame.empty:
        return _empty("no attention was measured")
    frame = _labelled(table, frame).assign(network=frame["block"].str[0])
    frame["distance, of uniform"] = frame["distance"] / frame["distance_uniform"]
    frame["colour, of another map's"] = frame["colour"] / frame["colour_other"]
    panels = ["gamma", "distance, of uniform", "entropy", "colour, of another map's"]
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.4))
    for axis, name in zip(axes, panels, strict=True):
        sns.lineplot(
            frame,
            x="step",
            y=name,
            hue="row",
            style="network",
            style_order=["G", "D"],
            units="seed",
            estimator=None,
            marker="o",
            palette=_palette(table),
            hue_order=[r.label for r in table.rows if r.label in set(frame["row"])],
            ax=axis,
            legend=axis is axes[-1],
        )
        axis.set(xlabel="generator updates", xlim=(0, None))
    sns.move_legend(axes[-1], "center left", bbox_to_anchor=(1.02, 0.5), title="", frameon=False)
    return _finished(figure)


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


def samples(study: Study, table: paper.Table, seed: int = 0) -> Figure:
    """The sample sheet of each row (a column a class), the real images first."""
    sheets = [("real images", study.real_path)]
    for row in table.rows:
        if frames.unavailable(row, study.preset) is None:
            sheets.append((row.label, study.run(run_name(row, study.preset), seed).samples_path))
    sheets = [(label, path) for label, path in sheets if path.exists()]
    if not sheets:
        return _empty("no samples")
    columns = min(3, len(sheets))
    lines = -(-len(sheets) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.6 * columns, 4.0 * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (label, path) in zip(axes.flat, sheets, strict=False):
        axis.imshow(plt.imread(path), interpolation="nearest")
        axis.set_title(label, fontsize=11)
    return _finished(figure)
