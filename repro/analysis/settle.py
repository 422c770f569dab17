"""Seed after seed of the rows that an open comparison needs, with a look after each, until nothing is
open.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .. import runs
from ..errors import ReproError
from ..studies.study import Study, Task
from ..studies.trainer import train
from .comparisons import Judged, judge
from .plan import Plan
from .plan import read as read_plan


def until_settled(study: Study, most_seeds: int | None, say: Callable[[str], None]) -> None:
    """Train until no comparison of the plan is open, its most seeds (or fewer: `most_seeds`) have run, or the
    study's minutes are over.

    What comes next follows from the plan and the records alone, so a stopped study goes on as if it had never
    stopped. Raises ReproError where no plan was declared, runs.Interrupted where the time is over.
    """
    plan = read_plan(study)
    if plan is None:
        raise ReproError(
            f"Preset {study.preset.name} has no plan, so nothing says when it is settled: repro plan --preset"
            f" {study.preset.name} writes one."
        )
    most = min(most_seeds or plan.most_seeds, plan.most_seeds)
    end = time.monotonic() + 60 * study.max_minutes
    while True:
        judged = judge(study)
        tasks = next_tasks(study, plan, judged, most)
        for line in progress(study, plan, judged, most):
            say(line)
        if not tasks:
            return
        study.max_minutes = (end - time.monotonic()) / 60
        if study.max_minutes <= 0:
            raise runs.Interrupted(
                f"The time is over with {len(tasks)} runs of the next look to train; the same command"
                " goes on."
            )
        train(study, tasks)


def next_tasks(study: Study, plan: Plan, judged: list[Judged], most: int) -> list[Task]:
    """The runs of one seed, the lowest that an open comparison lacks, of every row that one needs."""
    wanted = {(row, j.seeds) for j in judged if j.waits and j.seeds < most for row in j.comparison.rows}
    if not wanted:
        return []
    seed = min(seed for _, seed in wanted)
    return study.unfinished(task for task in _tasks(study, plan, seed) if (task.row, seed) in wanted)


def progress(study: Study, plan: Plan, judged: list[Judged], most: int) -> list[str]:
    """What a look says: what is settled, what is open, and the hours that remain at most."""
    left = [j for j in judged if j.waits]
    done = [f"{j.comparison.claim} {j.outcome} at {j.at or j.seeds} seeds" for j in judged if not j.waits]
    seeds = sorted({j.seeds for j in judged})
    lines = [
        f"Look at {'-'.join(map(str, seeds[:: max(1, len(seeds) - 1)]))} seeds (at most {most}): {len(done)}"
        f" of {len(judged)} comparisons settled" + (f" ({'; '.join(done)})." if done else ".")
    ]
    if left:
        hours = _hours_left(study, plan, left, most)
        of_claim = {
            claim: dict.fromkeys(
                row for j in left if j.comparison.claim == claim for row in j.comparison.rows
            )
            for claim in dict.fromkeys(j.comparison.claim for j in left)
        }
        lines.append(
            "Open: "
            + "; ".join(f"{claim} ({', '.join(of_rows)})" for claim, of_rows in of_claim.items())
            + (f". At most {hours:.1f} hours of one process remain." if hours else ".")
        )
    return lines


def _tasks(study: Study, plan: Plan, seed: int) -> list[Task]:
    several = Study(study.preset.name, seed + 1, executor="none", out=str(study.out), data=study.data)
    return [
        task for task in several.tasks(several.possible_tables) if task.seed == seed and task.row in plan.rows
    ]


def _hours_left(study: Study, plan: Plan, left: list[Judged], most: int) -> float:
    """Hours of one process if every open comparison takes all its seeds, at the cost that the plan declares
    and the runs so far measured.
    """
    behind = {
        (row, seed)
        for j in left
        for row in j.comparison.rows
        for seed in range(j.seeds, most)
        if not study.finished(row, seed)
    }
    seconds = [
        record["provenance"]["wall_seconds"] / plan.cost[row]
        for row in plan.rows
        for seed in range(most)
        if (record := study.finished(row, seed))
    ]
    if not seconds:
        return 0.0
    return sum(plan.cost[row] for row, _ in behind) * sum(seconds) / len(seconds) / 3600
