"""A comparison asked again on fresh seeds, beside the study that prompted it: runs of equal seed, by kind of
processor. Exploratory: no verdict rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .. import paper, provenance
from ..studies.study import Study
from . import frames
from .plan import BUDGETS, Comparison
from .plan import read as read_plan
from .quantities import quantity
from .sentences import gain, joined, per_cent, with_interval
from .statistics import contrast, half_width

ALPHA = 0.05


def endpoints(study: Study, c: Comparison) -> pd.DataFrame:
    """The endpoint of Table 1's runs by the study's plan, for a comparison's score: a line a seed that the
    reference row has, a column a row that has all of those seeds; and the kind of `processor` of its runs.
    """
    plan, records = read_plan(study), frames.records(study, paper.TABLE1)
    lines: dict[int, dict] = {seed: {} for row, seed in records if row == paper.TABLE1.reference}
    kinds: dict[int, set[str]] = {seed: set() for seed in lines}
    for (row, seed), record in records.items():
        if seed in lines:
            lines[seed][row] = quantity(record, c, plan, study, BUDGETS[0], c.metric)
            kinds[seed].update(map(str, provenance.made_by(record)["processor"]))
            lines[seed]["processor"] = " and ".join(sorted(kinds[seed]))
    return pd.DataFrame.from_dict(lines, orient="index").dropna(axis="columns")


def gains(frame: pd.DataFrame, c: Comparison) -> np.ndarray:
    """What a comparison gains from each seed, in the claim's direction."""
    return frame[list(c.gain)].to_numpy() @ list(c.gain.values())


def correlation(frame: pd.DataFrame) -> float:
    """The intraclass correlation of runs of equal seed, each row's mean taken off (Shrout and Fleiss 1979,
    their form 3,1).
    """
    values = frame.drop(columns="processor").to_numpy()
    values = values - values.mean(0)
    seeds, rows = values.shape
    between = rows * values.mean(1).var(ddof=1)
    within = ((values - values.mean(1, keepdims=True)) ** 2).sum() / ((seeds - 1) * (rows - 1))
    return float((between - within) / (between + (rows - 1) * within))


def show_by_processor(studies: Sequence[Study], c: Comparison) -> pd.DataFrame:
    """For a reader, a line a study and kind of processor: what each row gains over the reference row from
    runs of equal seed with a 95 % interval, the reference row's geometric mean of FID, and `correlation`.
    """
    reference, lines = paper.TABLE1.reference, []
    labels = {row.name: row.label for row in paper.TABLE1.rows}
    for study in studies:
        for kind, own in endpoints(study, c).groupby("processor"):
            seeds = _seeds(own.index + study.preset.seed_offset)
            line = {"study": f"`{study.preset.name}`", "processor": kind, "seeds": seeds}
            for row in own.columns.drop(["processor", reference]):
                line[labels[row]] = _with_interval((own[reference] - own[row]).to_numpy())
            line[f"FID, {labels[reference]}"] = f"{math.exp(own[reference].mean()):.0f}"
            some = min(own.shape) > 1 and own.shape[1] > 2  # seeds, and rows beside the processor
            line["correlation"] = f"{correlation(own):.2f}" if some else "–"
            lines.append(line)
    return pd.DataFrame(lines).fillna("–")


def in_words(first: Study, again: Study, c: Comparison, known: int) -> list[str]:
    """How far the two studies differ, and within the first its known seeds and its kinds of processor.

    known: seeds of the first study below it were known before its plan.
    """
    from scipy import stats

    of = endpoints(first, c)
    earlier, later = pd.Series(gains(of, c), of.index), gains(endpoints(again, c), c)
    apart = stats.ttest_ind(earlier, later, equal_var=False)
    ends = apart.confidence_interval(1 - ALPHA)
    text = [
        f"**The two studies.** `{first.preset.name}` gains {_with_interval(earlier)} and"
        f" `{again.preset.name}` {_with_interval(later)}. The first less the second is"
        f" {with_interval(earlier.mean() - later.mean(), *ends)}; Welch's test, p = {apart.pvalue:.3f}.",
        f"**Seeds that were known.** Seeds below {known} of `{first.preset.name}` were known before its plan."
        f" They gain {per_cent(earlier[earlier.index < known].mean())} %, the others"
        f" {_with_interval(earlier[earlier.index >= known])}.",
    ]
    groups = {kind: earlier[own.index] for kind, own in of.groupby("processor")}
    if len(groups) != 2:
        return text
    ranges = [
        f"{per_cent(group.min())} to {per_cent(group.max())} % on {kind} ({len(group)} seeds)"
        for kind, group in groups.items()
    ]
    p = stats.mannwhitneyu(*groups.values(), method="exact").pvalue
    return [
        *text,
        f"**Kinds of processor.** Single seeds of `{first.preset.name}` gain {joined(ranges)}; exact rank"
        f" test, p = {p:.3f}.",
    ]


def _seeds(seeds: pd.Index) -> str:
    whole = len(seeds) > 1 and len(seeds) == seeds.max() - seeds.min() + 1
    return f"{seeds.min()} to {seeds.max()}" if whole else ", ".join(map(str, seeds))


def _with_interval(values: np.ndarray | pd.Series) -> str:
    """The mean gain of some pairs with Student's interval for a single look."""
    if len(values) < 2:
        return gain(float(values.mean()))
    estimate, *spread = contrast(np.asarray(values)[None], [1.0])
    half = half_width(*spread, ALPHA)
    return with_interval(*map(float, (estimate, estimate - half, estimate + half)))
