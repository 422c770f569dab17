"""Tables for a reader: strings throughout."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from .. import paper
from ..studies.study import Study
from .frames import attention, records, scores, summary, unavailable
from .labels import ATTENTION, METRICS, PIXELS, heading
from .setting import paper_heading

SHOWN = (
    "fid",
    "is",
    "intra_fid",
    "consistency",
    "consistency_mirrored",
    "consistency_turned",
)  # in the tables; `all_scores` has the rest


def present_attention(study: Study, table: paper.Table) -> pd.DataFrame:
    """`attention` at the last scored step for a reader: a line per row and block, means over seeds; strings
    throughout.
    """
    frame = attention(study, table)
    if frame.empty:
        return pd.DataFrame(columns=["", "block", *ATTENTION.values()])
    last = frame[frame["step"] == frame.groupby(["row", "seed"])["step"].transform("max")]
    # the gate's sign is arbitrary: values of either sign can be learned
    last = last.assign(gamma=last["gamma"].abs())
    means = last.groupby(["row", "block"], sort=False).mean(numeric_only=True).reset_index()
    labels = {row.name: row.label for row in table.rows}
    shown = {
        "": means["row"].map(labels),
        "block": means["block"],
        "size of gamma": means["gamma"].map("{:.3f}".format),
    }
    shown |= {
        text: means[quantity].map(("{:.1f}" if "colour" in quantity else "{:.3f}").format)
        for quantity, text in ATTENTION.items()
        if means[quantity].notna().any()
    }
    return pd.DataFrame(shown)


def neighbours(study: Study, table: paper.Table) -> pd.DataFrame:
    """How near samples come to training images in feature space, and how near other training images do: a
    line a row; strings.
    """
    lines, runs_of_table = [], records(study, table).items()
    for row in table.rows:
        found = [
            r["neighbours"] for (name, _), r in runs_of_table if name == row.name and r.get("neighbours")
        ]
        if found:
            of_real = [n["real"] for n in found if "real" in n]
            mean = lambda values: f"{sum(values) / len(values):.2f}" if values else "–"
            lines.append(
                {
                    "": row.label,
                    "samples": mean([n["samples"] for n in found]),
                    "other training images": mean(of_real),
                }
            )
    return pd.DataFrame(lines)


def _of_rows_here(study: Study, table: paper.Table) -> pd.DataFrame:
    """`frames.summary` of the rows that the study can have."""
    numbers = summary(study, table)
    here = [unavailable(row, study.preset) is None for row in table.rows]
    return numbers[here].reset_index(drop=True)


def left_out(study: Study, table: paper.Table) -> str:
    """The rows that the study cannot have, with the reason; or "" where it has all."""
    reasons = {}
    for row in table.rows:
        if reason := unavailable(row, study.preset):
            reasons.setdefault(reason, []).append(row.label)
    parts = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
    return f"Left out: {'; '.join(parts)}." if parts else ""


def present(study: Study, table: paper.Table) -> pd.DataFrame:
    """The table for a reader: paper | ours (seeds, standard deviation) | difference Δ to the reference row,
    but where rows are one model with other seeds; strings throughout. Rows that the study cannot have are in
    `left_out`.
    """
    numbers = _of_rows_here(study, table)
    one_model = any(row.pinned for row in table.rows)
    shown = pd.DataFrame({"": numbers["label"]})
    for metric in ("fid", "is", "intra_fid"):
        if numbers[f"paper_{metric}"].notna().any():
            shown[f"{paper_heading(study)}: {METRICS[metric][0]}"] = [
                _paper_cell(v, c)
                for v, c in zip(numbers[f"paper_{metric}"], numbers[f"paper_{metric}_certainty"], strict=True)
            ]
    for metric, (name, _, digits) in METRICS.items():
        if f"{metric}_mean" not in numbers or metric not in SHOWN:
            continue
        shown[f"ours: {heading(metric, study.preset)}"] = _cells(numbers, metric, digits)
        if metric not in PIXELS and not one_model:
            shown[f"Δ {name}"] = [
                "reference" if row == table.reference else _number(v, digits, sign=True)
                for row, v in zip(numbers["row"], numbers[f"{metric}_difference"], strict=True)
            ]
        if metric == "fid":
            shown["best FID"] = [_number(v, digits) for v in numbers["fid_best_mean"]]
    shown["seeds"] = numbers["seeds"].astype(str)
    if not (numbers["status"] == "complete").all():
        shown["status"] = numbers["status"]
    return shown


def all_scores(study: Study, table: paper.Table) -> pd.DataFrame:
    """Every kind of score that the runs recorded, ours only: a line per row, mean and spread over seeds;
    strings throughout.
    """
    numbers = _of_rows_here(study, table)
    shown = pd.DataFrame({"": numbers["label"]})
    for metric, (_, _, digits) in METRICS.items():
        if f"{metric}_mean" in numbers:
            shown[heading(metric, study.preset)] = _cells(numbers, metric, digits)
    return shown


def averaged(study: Study, table: paper.Table) -> pd.DataFrame:
    """Scores of the last step by the raw generator, and by an average of its weights that training never saw,
    with batch-norm statistics of its own samples: a line a row, means over the seeds that have both; strings
    throughout.
    """
    lines, runs_of_table = [], records(study, table).items()
    for row in table.rows:
        both = [
            (r["final"], r["shadow"])
            for (name, _), r in runs_of_table
            if name == row.name and r.get("shadow")
        ]
        if both:
            line = {"": row.label}
            for metric in ("fid", "is", "kid"):
                raw, average = (sum(of[k][metric] for of in both) / len(both) for k in (0, 1))
                digits = METRICS[metric][2]
                line |= {
                    f"{heading(metric, study.preset)}, raw": f"{raw:.{digits}f}",
                    f"{heading(metric, study.preset)}, averaged weights": f"{average:.{digits}f}",
                }
            lines.append(
                line
                | {
                    "average over the last": f"{1 / (1 - both[0][1]['decay']):,.0f} updates",
                    "seeds": str(len(both)),
                }
            )
    return pd.DataFrame(lines)


def extractors_agree(study: Study, table: paper.Table) -> pd.DataFrame:
    """Whether the order of rows depends on the extractor: final scores by the preset's extractor beside the
    second one's, means over the seeds that have both. A line a score; strings: rank correlations over rows,
    how many pairs of rows have the same order, and the pairs that change it. No line where no run was scored
    by both.
    """
    tidy = scores(study, table)
    labels = {row.name: row.label for row in table.rows}
    lines = []
    for metric in ("fid", "kid", "is"):
        both = [metric, f"{metric}_lite2"]
        final = tidy[tidy["final"] & tidy["metric"].isin(both)].pivot(
            index=["row", "seed"], columns="metric", values="value"
        )
        if set(both) - set(final):
            continue
        means = final.dropna().groupby("row").mean()
        pairs = list(itertools.combinations([name for name in labels if name in means.index], 2))
        changed = [pair for pair in pairs if np.prod(means.loc[pair[0], both] - means.loc[pair[1], both]) < 0]
        rank = lambda method, means=means, both=both: _number(
            means[both[0]].corr(means[both[1]], method=method), 2
        )
        lines.append(
            {
                "": " against ".join(heading(name, study.preset) for name in both),
                "rows": str(len(means)),
                "Spearman": rank("spearman"),
                "Kendall": rank("kendall"),
                "pairs in the same order": f"{len(pairs) - len(changed)} of {len(pairs)}",
                "pairs that change their order": (
                    "; ".join(f"{labels[a]} and {labels[b]}" for a, b in changed) or "none"
                ),
            }
        )
    return pd.DataFrame(
        lines,
        columns=[
            "",
            "rows",
            "Spearman",
            "Kendall",
            "pairs in the same order",
            "pairs that change their order",
        ],
    )


def _paper_cell(value: float, certainty: str) -> str:
    if math.isnan(value):
        return "–"
    marks = {
        paper.SECOND_HAND: " (second-hand)",
        paper.OFF_A_PLOT: " (off a plot)",
        paper.UNVERIFIED: " (not verified)",
    }
    return f"{value:g}{marks.get(certainty, '')}"


def _number(value: float, digits: int, sign: bool = False) -> str:
    return "–" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def _cells(numbers: pd.DataFrame, metric: str, digits: int) -> list[str]:
    """Mean and, over two seeds or more, standard deviation, with the seeds where not all have this score;
    where nothing was scored the status (not run, n/a), or a dash.
    """
    cells = []
    for mean, sd, of, seeds, status in numbers[
        [f"{metric}_mean", f"{metric}_sd", f"{metric}_seeds", "seeds", "status"]
    ].itertuples(index=False):
        if math.isnan(mean):
            cells.append("–" if status == "complete" else status)
        else:
            spread = "" if math.isnan(sd) else f" ± {sd:.{digits}f}"
            cells.append(
                f"{mean:.{digits}f}{spread}" + (f" ({of:.0f} of {seeds} seeds)" if of < seeds else "")
            )
    return cells


def to_markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, without its index and with its cells as they are."""
    return table.to_markdown(index=False, disable_numparse=True)


def listed(texts: Iterable[str]) -> str:
    """Texts as a list in Markdown."""
    return "\n".join(f"* {text}" for text in texts)


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers to four digits, as strings, for `show`; "–" for what was not measured."""
    return frame.map(lambda v: str(v) if not isinstance(v, float) else f"{v:.4g}" if v == v else "–")


def show(table: pd.DataFrame):
    """The table as a notebook displays it, with its texts in full."""
    from IPython.display import Markdown

    return Markdown(to_markdown(table))
