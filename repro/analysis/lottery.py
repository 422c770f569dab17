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
SAMPLED = "one generator, sampled again"
COLUMNS = ("source", "seeds", "sd", "sd_low", "sd_high", "share", "share_low", "share_high")


def spreads(study: Study) -> pd.DataFrame:
    """Of ln FID at the last step, in per cent: the standard deviation over training seeds, over seeds of
    which one part changes, and over sampling seeds of one generator; each with its interval, and its variance
    as a share of that over training seeds.

    seeds: how many values stand behind it, of all generators together for the sampling seeds. Intervals take
    ln FID as normal: chi-squared for a standard deviation, F for a share.
    """
    from scipy import stats

    found = {SAMPLED: _resampled(study)}
    for row in paper.STREAM_TABLE.rows:
        values = [
            math.log(record["final"]["fid"])
            for (name, _), record in frames.records(study, paper.STREAM_TABLE).items()
            if name == row.name and record["status"] == "complete"
        ]
        if len(values) > 1:
            found[row.label] = np.var(values, ddof=1), len(values) - 1, len(values)
    whole = found.get(paper.STREAM_TABLE.rows[0].label)
    lines = []
    for source, (variance, dof, count) in found.items():
        if not dof:
            continue
        low, high = (dof / stats.chi2.ppf(p, dof) for p in (1 - ALPHA / 2, ALPHA / 2))
        line = {"source": source, "seeds": count, "sd": variance, "sd_low": low * variance}
        line |= {"sd_high": high * variance}
        line = {k: 100 * math.sqrt(v) if k.startswith("sd") else v for k, v in line.items()}
        if whole and variance is not whole[0]:
            ratio = variance / whole[0]
            bounds = (stats.f.ppf(p, dof, whole[1]) for p in (1 - ALPHA / 2, ALPHA / 2))
            line |= {"share": ratio} | dict(
                zip(("share_low", "share_high"), (ratio / b for b in bounds), strict=True)
            )
        lines.append(line)
    return pd.DataFrame(lines, columns=COLUMNS).iloc[::-1].reset_index(drop=True)


def _resampled(study: Study) -> tuple[float, int, int]:
    """Variance of ln FID over the sampling seeds of one generator, pooled over the generators of Table 1; its
    degrees of freedom, and how many values there are.
    """
    sums, dof, count = 0.0, 0, 0
    for record in frames.records(study, paper.TABLE1).values():
        again = [score["fid"] for score in record.get("resampled", [])]
        if again:
            values = np.log([record["final"]["fid"], *again])
            sums += float(((values - values.mean()) ** 2).sum())
            dof, count = dof + len(again), count + len(values)
    return (sums / dof if dof else math.nan), dof, count


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
            "share of the variance": frame["share"].map(lambda v: f"{v:.2f}" if v == v else "–"),
            "its 95 % interval": [
                between(a, b, "{:.2f}") for a, b in zip(frame["share_low"], frame["share_high"], strict=True)
            ],
        }
    )


def spreads_in_words(study: Study) -> list[str]:
    """How far retraining and resampling move the score, and which part of a seed does."""
    frame = spreads(study).set_index("source")
    whole = paper.STREAM_TABLE.rows[0].label
    if whole not in frame.index:
        return []
    of = lambda source: f"{frame.loc[source, 'sd']:.1f} per cent"
    text = [
        f"**Another training seed moves FID by {of(whole)}** (standard deviation over"
        f" {frame.loc[whole, 'seeds']} seeds)."
    ]
    if SAMPLED in frame.index:
        times = frame.loc[whole, "sd"] / frame.loc[SAMPLED, "sd"]
        text.append(
            f"**Other samples of one generator move it by {of(SAMPLED)}**: retraining moves it"
            f" {times:.1f} times as far. “The FID Lottery” (arXiv 2606.20536) has 3.2 times for another"
            " family of models."
        )
    alone = [row.label for row in paper.STREAM_TABLE.rows[1:] if row.label in frame.index]
    if alone:
        parts = ", ".join(f"{label} {of(label)}" for label in alone)
        text.append(f"**One part of the seed alone**: {parts}. The intervals are wide.")
    return text
