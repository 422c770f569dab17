"""How far apart the two sides of a comparison are at every scored step. No verdict rests on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd

from .. import paper, runs
from ..presets import PRESETS
from ..studies.study import Study
from .plan import Comparison
from .plan import read as read_plan
from .quantities import worse
from .statistics import contrast, half_width

INTERVAL_FROM = 3  # seeds: an interval from two says next to nothing
# fields of a preset that say which runs there are, how long they are and when they are scored: at a step that
# two of them share, runs that differ in nothing else are alike
LENGTH = ("name", "tables", "rows", "seeds", "seed_offset", "steps", "log_every")
LENGTH += ("score_every", "score_from", "resamples")


def compared(study: Study, table: paper.Table) -> list[Comparison]:
    """The comparisons of scores that the study's plan makes between rows of a table; none without a plan."""
    plan, rows = read_plan(study), {row.name for row in table.rows}
    found = plan.comparisons if plan else ()
    return [c for c in found if c.measure == "endpoint" and rows.issuperset(c.rows)]


def over_training(study: Study, c: Comparison) -> pd.DataFrame:
    """The gain in a comparison's score at every step that all of its runs have scored, from three seeds on:
    step, seeds, gain (of logarithms, in the claim's direction), low and high (the 95 % interval for that step
    alone: Welch's, or Student's of the pairs where the plan declares them).
    """
    of_seeds = [[study.finished(row, seed) for row in c.rows] for seed in range(study.seeds)]
    found = [records for records in of_seeds if all(records)]
    lines = []
    if len(found) >= INTERVAL_FROM:
        scored = lambda record: {s["step"]: worse(s, c.metric) for s in record["scores"] if c.metric in s}
        at = [list(map(scored, records)) for records in found]
        for step in sorted(set.intersection(*(set(scores) for of_seed in at for scores in of_seed))):
            values = [[scores[step] for scores in of_row] for of_row in zip(*at, strict=True)]
            weights = list(c.gain.values())
            if c.paired:
                values, weights = np.tensordot(weights, values, 1)[None], [1.0]
            gain, *spread = contrast(values, weights)
            half = half_width(*spread, 0.05)
            of = {"step": step, "seeds": len(found), "gain": gain}
            lines.append(of | {"low": gain - half, "high": gain + half})
    return pd.DataFrame(lines, columns=["step", "seeds", "gain", "low", "high"])


def shorter(study: Study, table: paper.Table) -> Iterator[Study]:
    """The table's studies in the same folder whose rows are trained as this study's are, for fewer steps."""
    for name, preset in PRESETS.items():
        as_long = dataclasses.replace(preset, **{field: getattr(study.preset, field) for field in LENGTH})
        alike = preset.steps < study.preset.steps and as_long == study.preset and table.name in preset.tables
        if alike and runs.stored(study.out / name):
            yield Study.in_folder(str(study.out / name))
