"""What a comparison is made of in one run: from its record to one number."""

from __future__ import annotations

import math

import numpy as np

from ..studies.study import Study, configure, rows
from . import labels
from .plan import BUDGETS, Comparison, Plan


def quantity(record: dict, c: Comparison, plan: Plan, study: Study, budget: str, metric: str) -> float:
    """What a comparison is made of in one run, as a logarithm that grows as the score worsens. Raises
    KeyError naming what is missing.
    """
    if c.measure == "attention":
        return _attended(record, c)
    if c.measure == "decline":
        return decline(record["scores"], plan.step, metric)
    steps = endpoint_steps(record, plan, study, budget, c.rows)
    at = {score["step"]: score for score in record["scores"]}
    if c.measure == "endpoint":
        return float(np.mean([worse(at[step], metric) for step in steps]))
    structured, textured = (
        np.mean([[_of_class(at[step], name) for name in names] for step in steps])
        for names in (c.structured, c.textured)
    )
    return float(structured - textured if c.measure == "interaction" else structured)


def endpoint_steps(
    record: dict, plan: Plan, study: Study, budget: str, compared: tuple[str, ...]
) -> list[int]:
    """The scored steps of the endpoint of one run, at the budget that the rows compared share: the nearest
    scored ones.
    """
    last = [plan.step - i * study.preset.score_every for i in range(plan.scores)]
    if budget != BUDGETS[0]:
        unit = {row: _unit(row, plan, study, budget) for row in compared}
        last = [step * min(unit.values()) / unit[record["row"]] for step in last]
    scored = [score["step"] for score in record["scores"]]
    return [min(scored, key=lambda s: (abs(s - step), s)) for step in last]


def _unit(row: str, plan: Plan, study: Study, budget: str) -> float:
    """What a step of a row costs in D updates, or in the plan's cost."""
    return configure(rows()[row], study.preset).recipe.d_steps if budget == BUDGETS[1] else plan.cost[row]


def worse(score: dict, metric: str) -> float:
    """The logarithm of one score, which grows as the score worsens. Raises KeyError where it is missing."""
    larger_is_better = labels.METRICS[metric][1]
    return (-1 if larger_is_better else 1) * _ln(score, metric)


def _ln(values: dict, name: str) -> float:
    value = values.get(name)
    if value is None or value <= 0:
        raise KeyError(name)
    return math.log(value)


def _of_class(score: dict, name: str) -> float:
    return _ln(score.get("kid_by_class", {}), name)


def decline(scores: list[dict], steps: int, metric: str = "fid") -> float:
    """How much a score worsens late in training: the mean logarithm over the last quarter of the steps less
    that over the third.
    """
    quarter = lambda k: [worse(s, metric) for s in scores if (k - 1) * steps / 4 < s["step"] <= k * steps / 4]
    if not quarter(3) or not quarter(4):
        raise KeyError(f"{metric} in both of the last two quarters")
    return float(np.mean(quarter(4)) - np.mean(quarter(3)))


def _attended(record: dict, c: Comparison) -> float:
    """How far attended colours are nearer than under another image's map, or how much farther a map reaches
    than its nearest 3x3.
    """
    last = (record.get("attention") or [{}])[-1]
    of = lambda name: {
        name: next((v for block, v in last.get(name, {}).items() if block.startswith(f"{c.block} ")), None)
    }
    larger, smaller = ("colour_other", "colour") if c.quantity == "colour" else ("distance", "distance_3x3")
    return _ln(of(larger), larger) - _ln(of(smaller), smaller)
