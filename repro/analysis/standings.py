"""How the rows of tables stand: scores by step, and what a step costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .. import paper, runs
from ..studies.study import Study, configure, run_name
from . import frames
from .plan import read as read_plan


@dataclass(frozen=True)
class Standing:
    """A row among others: its label, records by seed, D updates a step, and what a step costs (the cheapest
    row's is 1), as declared or measured.
    """

    label: str
    records: list[dict]
    d_steps: int
    cost: float = 1.0

    def fid(self, step: float) -> float:
        """The mean FID over seeds at the scored step nearest to `step`, the lower one of two."""
        nearest = [
            min(record["scores"], key=lambda s: (abs(s["step"] - step), s["step"])) for record in self.records
        ]
        return float(np.mean([score["fid"] for score in nearest]))

    @property
    def last_step(self) -> int:
        """The last scored step."""
        return self.records[0]["final"]["step"]


def standings(study: Study, tables: Iterable[paper.Table]) -> list[Standing]:
    """The rows of the tables that have run and did not break down, each run once."""
    rows = {}
    for table in tables:
        found = frames.records(study, table)
        for row in table.rows:
            records = [record for (name, _), record in found.items() if name == row.name]
            if records and not any(map(runs.unstable, records)):
                rows.setdefault(run_name(row, study.preset), (row, records))
    plan = read_plan(study)
    costs = {name: _cost(name, records, plan) for name, (_, records) in rows.items()}
    return [
        Standing(
            row.label, records, configure(row, study.preset).recipe.d_steps, costs[name] / min(costs.values())
        )
        for name, (row, records) in rows.items()
    ]


def broken_down(study: Study, tables: Iterable[paper.Table]) -> list[str]:
    """The rows that `standings` leaves out, by label."""
    found = {}
    for table in tables:
        unstable = {row for (row, _), record in frames.records(study, table).items() if runs.unstable(record)}
        for row in table.rows:
            if row.name in unstable:
                found.setdefault(run_name(row, study.preset), row.label)
    return list(found.values())


def _cost(row: str, records: list[dict], plan) -> float:
    """What a step costs: as the plan declares it, else the seconds that training took."""
    if plan is not None and row in plan.cost:
        return plan.cost[row]
    return seconds_a_step(records)


def seconds_a_step(records: list[dict]) -> float:
    """The median over runs of what training took: they may have shared their machines."""
    seconds = [r["provenance"].get("train_seconds", r["provenance"]["wall_seconds"]) for r in records]
    return float(np.median([s / r["step"] for s, r in zip(seconds, records, strict=True)]))


def times_as_long(row: Standing, than: list[Standing]) -> float:
    """How many times as long a step of a row took as one of the others: the median over seeds, since runs of
    one seed mostly met the same machine and load. NaN where they share none.
    """
    own, *others = (
        {record["config"]["seed"]: seconds_a_step([record]) for record in standing.records}
        for standing in (row, *than)
    )
    beside = {seed: [of[seed] for of in others if seed in of] for seed in own}
    return float(np.median([own[seed] / np.median(of) for seed, of in beside.items() if of] or [math.nan]))
