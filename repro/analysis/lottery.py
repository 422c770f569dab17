"""How much of the spread of a score comes from which part of a training seed, and how much from the samples
that are scored: standard deviations and shares with intervals.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from .. import paper
from ..studies.study import Study
from . import frames, labels

ALPHA = 0.05
POOLED = "all three, pooled over the rows of Table 1"
SAMPLED = "other samples of each generator of Table 1"
COLUMNS = ("source", "seeds", "sd", "sd_low", "sd_high", "share", "share_low", "share_high")


def spreads(study: Study) -> pd.DataFrame:
    """Of ln FID at the last step, in per cent: the standard deviation over training seeds, over seeds of
    which one part changes, and over sampling seeds of one generator; each with its interval, and its variance
    as a share of that over training seeds (of the same row; for sampling seeds of all rows).

    seeds: how many values stand behind it, of all generators together for the sampling seeds. Intervals take
    ln FID as normal: chi-squared for a standard deviation, F for a share.
    """
    from scipy import stats

    of_rows = {row.label: _over_seeds(study, paper.STREAM_TABLE, row.name) for row in paper.STREAM_TABLE.rows}
    whole, pooled = of_rows[paper.STREAM_TABLE.rows[0].label], _over_seeds(study, paper.TABLE1)
    lines = []
    for source, (variance, dof, count), base in (
        *((label, spread, None if spread is whole else whole) for label, spread in of_rows.items()),
        (POOLED, pooled, None),
        (SAMPLED, _resampled(study), pooled),
    ):
        if not dof:
            continue
        low, high = (dof / stats.chi2.ppf(p, dof) for p in (1 - ALPHA / 2, ALPHA / 2))
        spread = {"sd": variance, "sd_low": low * variance, "sd_high": high * variance}
        line = {"source": source, "seeds": count} | {k: 100 * math.sqrt(v) for k, v in spread.items()}
        if base and base[1] and base[0] > 0:
            ratio = variance / base[0]
            bounds = [ratio / stats.f.ppf(p, dof, base[1]) for p in (1 - ALPHA / 2, ALPHA / 2)]
            line |= dict(zip(("share", "share_low", "share_high"), (ratio, *bounds), strict=True))
        lines.append(line)
    return pd.DataFrame(lines, columns=COLUMNS)


def _over_seeds(study: Study, table: paper.Table, *rows: str) -> tuple[float, float, int]:
    """Variance of ln FID over the training seeds of a row of the table, pooled over the rows named or over
    all; its degrees of freedom, and how many runs there are.
    """
    by_row: dict[str, dict[int, float]] = {}
    for (row, seed), record in frames.records(study, table).items():
        # seed 0 of a row of one stream is the run of the row with all three
        pinned = next(of.pinned for of in table.rows if of.name == row)
        if record["status"] == "complete" and (not rows or row in rows) and not (pinned and seed == 0):
            by_row.setdefault(row, {})[seed] = math.log(record["final"]["fid"])
    return _pooled(by_row)


def _resampled(study: Study) -> tuple[float, float, int]:
    """The same over the sampling seeds of one generator, pooled over the generators of Table 1."""
    return _pooled(
        {
            run: dict(enumerate(math.log(score["fid"]) for score in (record["final"], *record["resampled"])))
            for run, record in frames.records(study, paper.TABLE1).items()
            if record.get("resampled")
        }
    )


def _pooled(groups: dict[object, dict[int, float]]) -> tuple[float, float, int]:
    """The pooled variance of groups of values by seed, its degrees of freedom, and how many values there are.

    Groups that share their seeds do not vary apart: of R groups whose values correlate by r on average, the
    variance of the pooled variance is 1 + (R - 1) r^2 times as large, and the degrees of freedom are as many
    times fewer (normal values, all pairs of groups alike).
    """
    frame = pd.DataFrame(groups)
    frame = frame.loc[:, frame.count() > 1]
    dof = int((frame.count() - 1).sum())
    if not dof:
        return math.nan, 0, frame.size
    correlations = frame.corr().to_numpy()[~np.eye(frame.shape[1], dtype=bool)]
    r = float(np.nanmean(correlations)) if np.isfinite(correlations).any() else 0.0
    squares = float(((frame - frame.mean()) ** 2).sum().sum())
    return squares / dof, dof / (1 + (frame.shape[1] - 1) * r**2), int(frame.count().sum())


def show_spreads(study: Study) -> pd.DataFrame:
    """`spreads` for a reader; strings throughout."""
    frame = spreads(study)
    between = lambda low, high, of: f"{of.format(low)} to {of.format(high)}" if low == low else "–"
    return pd.DataFrame(
        {
            "what changes": frame["source"],
            "values": frame["seeds"].astype(str),
            f"spread of {labels.heading('fid', study.preset)}": frame["sd"].map("{:.1f} %".format),
            "95 % interval": [
                between(a, b, "{:.1f}") for a, b in zip(frame["sd_low"], frame["sd_high"], strict=True)
            ],
            "its variance, by that of whole seeds": frame["share"].map(
                lambda v: f"{v:.2f}" if v == v else "–"
            ),
            "its 95 % interval": [
                between(a, b, "{:.2f}") for a, b in zip(frame["share_low"], frame["share_high"], strict=True)
            ],
        }
    )


def spreads_in_words(study: Study) -> list[str]:
    """How far retraining and resampling move the score, and which part of a seed does."""
    frame = spreads(study).set_index("source")
    if POOLED not in frame.index:
        return []
    of = lambda source: f"{frame.loc[source, 'sd']:.1f} per cent"
    between = lambda source: "{sd_low:.1f} to {sd_high:.1f}".format(**frame.loc[source])
    text = [
        f"**Between training seeds FID has a standard deviation of {of(POOLED)}** (pooled over the"
        f" {frame.loc[POOLED, 'seeds']} runs of Table 1; 95 % interval {between(POOLED)})."
    ]
    if SAMPLED in frame.index:
        text.append(
            f"**Between sets of {study.preset.samples:,} samples of one generator it is {of(SAMPLED)}**"
            f" ({between(SAMPLED)})."
        )
    alone = [row.label for row in paper.STREAM_TABLE.rows[1:] if row.label in frame.index]
    if alone:
        parts = ", ".join(f"{label} {of(label)}" for label in alone)
        text.append(f"**One part of the seed alone**, the others at seed 0: {parts}. The intervals are wide.")
    return text
