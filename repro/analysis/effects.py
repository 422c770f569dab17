"""What each changed setting of the recipes moves: intervals and no verdicts, as nothing was declared for
them.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from .. import paper, runs
from ..studies.study import Study
from . import frames, labels
from .statistics import contrast, half_width

ALPHA = 0.05
COLUMNS = ("row", "label", "seeds", "mean", "difference", "low", "high")


def effects(study: Study, table: paper.Table) -> pd.DataFrame:
    """By how many per cent the geometric mean of every row's last FID differs from the reference row's, the
    largest factor first.

    columns: row, label, seeds (that both have), mean (of FID itself), difference, low, high (Welch's interval
    of the logarithms; missing for one seed and where a run broke down).
    """
    found = frames.records(study, table)
    of = lambda row: [found[row, seed] for seed in range(study.seeds) if (row, seed) in found]
    reference = of(table.reference)
    lines = []
    for row in table.rows:
        seeds = min(len(of(row.name)), len(reference))
        pair = of(row.name)[:seeds], reference[:seeds]
        if (
            row.name == table.reference
            or not seeds
            or not all("fid" in r.get("final", {}) for side in pair for r in side)
        ):
            continue
        values = np.log([[r["final"]["fid"] for r in side] for side in pair])
        difference, half = float(values[0].mean() - values[1].mean()), math.nan
        if seeds > 1 and not any(runs.unstable(r) for side in pair for r in side):
            half = float(half_width(*contrast(values, (1, -1))[1:], ALPHA))
        lines.append(
            (
                row.name,
                row.label,
                seeds,
                float(np.exp(values[0]).mean()),
                *(100 * np.expm1([difference, difference - half, difference + half])),
            )
        )
    as_factor = lambda per_cent: np.log1p(per_cent / 100).abs()  # a half ranks with a double
    return pd.DataFrame(lines, columns=COLUMNS).sort_values(
        "difference", key=as_factor, ascending=False, ignore_index=True
    )


def show_effects(study: Study, table: paper.Table) -> pd.DataFrame:
    """`effects` for a reader; strings throughout."""
    frame = effects(study, table)
    return pd.DataFrame(
        {
            "changed": frame["label"],
            labels.heading("fid", study.preset): frame["mean"].map("{:.1f}".format),
            "change of FID": frame["difference"].map("{:+.1f} %".format),
            "95 % interval": [
                f"{low:+.1f} to {high:+.1f} %" if low == low else "–"
                for low, high in zip(frame["low"], frame["high"], strict=True)
            ],
            "seeds": frame["seeds"].astype(str),
        }
    )


def effects_in_words(study: Study, table: paper.Table) -> str:
    """Which recipes and single settings change the score for certain, how much leaving attention out does,
    and whether the reference has learnt enough for its end to be told.
    """
    frame = effects(study, table).set_index("row")
    knobs = frame[frame.index.str.startswith("knob_")]
    if knobs.empty or "recipe_none" not in frame.index:
        return "The rows that this takes have not all run."
    own = frame.loc["recipe_none"]
    recipes = frame[frame.index.str.startswith("recipe_")].drop(index="recipe_none")
    clear = [_clear(part, what) for part, what in ((recipes, "whole recipes"), (knobs, "single settings"))]
    interval = f" ({own['low']:+.1f} to {own['high']:+.1f})" if own["low"] == own["low"] else ""
    references = (r for (row, _), r in frames.records(study, table).items() if row == table.reference)
    found = [r for r in references if "fid" in r.get("final", {})]
    mean, bound = float(np.mean([r["final"]["fid"] for r in found])), frames.half_of_noise(found)
    early = (
        f" FID without a change is {mean:,.0f}, and half of random noise's is {bound:,.0f}: this early,"
        " a change says how fast a model starts, not where it ends."
        if mean >= bound
        else ""
    )
    return (
        f"The 95 % interval of a change in {labels.heading('fid', study.preset)} leaves out 0 for"
        f" {' and for '.join(filter(None, clear))}; one interval in twenty misses by chance."
        f" Leaving attention out changes it by {own['difference']:+.1f} per cent{interval}.{early}"
    )


def _clear(frame: pd.DataFrame, what: str) -> str:
    """How many of some changes have an interval without 0, and by how much those change the score."""
    clear = frame[(frame["low"] > 0) | (frame["high"] < 0)]
    each = [f"{of.label} {of.difference:+.0f} %" for of in clear.itertuples()]
    named = f" ({'; '.join(each)})" if each else ""
    without = int(frame["low"].isna().sum())
    rest = f", {without} of them without an interval" if without else ""
    return f"{len(clear) or 'none'} of {len(frame)} {what}{named}{rest}" if len(frame) else ""
