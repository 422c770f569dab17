"""The paper's own differences, beside those that a comparison measures."""

from __future__ import annotations

import math

import numpy as np

from .. import paper
from ..studies.study import Study, rows
from . import labels
from .plan import Comparison


def published(study: Study, c: Comparison) -> dict[str, float]:
    """The paper's own difference in logarithms: of the rows compared and, for an analogue, of those
    whose maps have the same share of the image at 128 pixels.
    """
    out = {}
    if c.measure != "endpoint":
        return out
    ours = _published(dict(c.gain), c.metric)
    if ours is not None:
        out["the same rows"] = ours
    if c.analogue:
        of = {_at_128(row, study.preset.resolution): weight for row, weight in c.gain.items()}
        if of.keys() <= rows().keys() and (theirs := _published(of, c.metric)) is not None:
            out["maps of the same share of the image"] = theirs
    return out


def _at_128(row: str, resolution: int) -> str:
    """The row whose block is at 128 pixels where this one's is at `resolution`, relative to the image."""
    kind, _, size = row.partition("_")
    return f"{kind}_{int(size) * 128 // resolution}" if kind in ("attention", "residual") else row


def _published(gain: dict[str, float], metric: str) -> float | None:
    """Ln of the worse side's published mean over the better side's, for a score that should be small; None
    where one is missing.
    """
    values = {row: _published_score(row, metric, gain) for row in gain}
    if None in values.values():
        return None
    mean = lambda sign: np.mean([values[row] for row, weight in gain.items() if weight * sign > 0])
    return float((-1 if labels.METRICS[metric][1] else 1) * math.log(mean(1) / mean(-1)))


def _published_score(row: str, metric: str, gain: dict[str, float]) -> float | None:
    """A row's published score; where the run stands for SAGAN beside Table 2's rows, SAGAN's own."""
    beside = {r.name for r in paper.TABLE2.rows} - {"sagan"}
    found = rows()["sagan" if gain.keys() & beside and row not in beside else row].published.get(metric)
    return found.value if found else None
