"""What the Ray executor itself costs: runs that only sleep, as many at once as WORKERS, on a cluster of this machine that claims so many processors."""

import logging
import os
import resource
import tempfile
import time
from pathlib import Path

from repro import runs
from repro.bench import Line
from repro.cluster import RayExecutor
from repro.study import Study

WORKERS, RUNS_EACH, SECONDS = 512, 2, 120
RECORD = runs.PROJECT / "results/smoke/runs/attention_16/seed0/run.json"


def sleep(preset, row, seed, out, *rest):
    """In place of the command that trains: as long as nothing happens, then the record of a finished run."""
    folder = runs.run_folder(out, preset, row, seed)
    return ["sh", "-c", f"sleep {SECONDS} && cp {RECORD} {folder}/run.json"]


class Sleeping(RayExecutor):
    command = staticmethod(sleep)


def measure(repeats: int, peers: list[str]):
    import ray

    os.environ["PYTHONPATH"] = str(runs.PROJECT)  # the workers find this file
    logging.disable(logging.INFO)
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        study = Study("rehearsal", -(-WORKERS * RUNS_EACH // 9), "ray", out=folder)
        tasks = study.tasks(["table1", "table2", "figure3"])[: WORKERS * RUNS_EACH]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        executor = Sleeping(study)
        start = time.perf_counter()
        executor.train(tasks)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = sorted(p.stat().st_mtime for p in Path(folder).rglob("train.log"))
    ray.shutdown()
    logging.disable(logging.NOTSET)
    ideal = RUNS_EACH * SECONDS
    yield Line(f"{len(tasks)} sleeping runs, {WORKERS} at once", "s", wall, "the sleep alone", ideal, ideal / wall)
    yield Line("executor's time a run", "s", (wall - ideal) / len(tasks))
    yield Line("driver's memory a run", "MB", (after - before) / 1024 / len(tasks))
