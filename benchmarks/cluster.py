"""What the Ray executor itself costs with WORKERS runs at once: runs that only sleep, on a cluster of this
machine.

The driver, its actor, the messages and Ray's scheduling are the real ones. Only the workers share processes,
PROCESSES of them with many threads each: one Ray process has 115 MB, and 512 of them would not fit on the
machines this runs on.
"""

import itertools
import logging
import os
import resource
import tempfile
import time

import ray

from repro import provenance, runs
from repro.checks.bench import Line
from repro.studies.cluster import RayExecutor, train_on_node
from repro.studies.study import Study

WORKERS, PROCESSES, RUNS_EACH, SECONDS = 512, 8, 2, 60
RECORD = runs.PROJECT / "results/smoke/runs/attention_16/seed0/run.json"


def sleep(preset, row, seed, out, *rest):
    """In place of the command that trains: for a while nothing, then the record of a finished run."""
    return ["sh", "-c", f"sleep {SECONDS} && cp {RECORD} {runs.run_folder(out, preset, row, seed)}/run.json"]


class Worker:
    def __init__(self):
        provenance.code_revision()  # cached from here on, as in a process of its own

    def train(self, *job):
        return train_on_node(*job)


class Workers:
    """Stands where the executor has its remote function: hands the runs to the processes in turns."""

    def __init__(self):
        make = ray.remote(num_cpus=0, max_concurrency=WORKERS // PROCESSES)(Worker)
        self.turns = itertools.cycle([make.remote() for _ in range(PROCESSES)])

    def options(self, **named):
        return next(self.turns).train.options(**named)


class Sleeping(RayExecutor):
    command = staticmethod(sleep)

    def __init__(self, study):
        super().__init__(study)
        self.remote, self.jobs = Workers(), WORKERS


def measure(repeats: int, peers: list[str]):
    os.environ["PYTHONPATH"] = str(runs.PROJECT)  # the workers find this file
    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        study = Study("rehearsal", -(-WORKERS * RUNS_EACH // 9), "ray", out=folder)
        tasks = study.tasks(["table1", "table2", "figure3"])[: WORKERS * RUNS_EACH]
        before = resource.getrusage(resource.RUSAGE_SELF)
        executor = Sleeping(study)
        start = time.perf_counter()
        executor.train(tasks)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
    logging.disable(logging.NOTSET)
    ray.shutdown()
    ideal = RUNS_EACH * SECONDS
    yield Line(
        f"{len(tasks)} sleeping runs, {WORKERS} at once", "s", wall, "the sleep alone", ideal, ideal / wall
    )
    yield Line(
        "the driver's processor time a run",
        "s",
        (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(tasks),
    )
    yield Line("the driver's memory in all", "MB", after.ru_maxrss / 1024)
    yield Line(f"of it for {len(tasks)} runs", "MB", (after.ru_maxrss - before.ru_maxrss) / 1024)
