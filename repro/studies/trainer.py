"""Trains what a study is missing: checks the data once, then hands the runs to this machine or to a
cluster.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from .. import runs
from ..errors import ReproError
from ..execution import Execution
from .executors import Executor, LocalExecutor
from .study import Study, Task, configure, rows, run_name


def ensure(study: Study, *tables: str) -> None:
    """Train what the tables need and is missing. A notebook's first call; nothing to do where the study has
    run.
    """
    if study.executor != "none":
        train(study, study.tasks(tables))


def train(study: Study, tasks: Iterable[Task]) -> None:
    """Train the tasks that have no finished run. Raises ReproError when runs of other data are there, or when
    the real data do not score as real data should.
    """
    tasks = list(tasks)
    missing = study.unfinished(tasks)
    if not (missing or study.data):
        return
    import torch

    from .. import parallel
    from ..data import images, loading
    from ..scoring.features import SECOND, check_extractor
    from ..scoring.scorer import Scorer

    if missing:
        check_extractor(study.preset.extractor)
        check_extractor(SECOND)
    # once, before several processes ask for it; bad data end here
    loaded = loading.load(study.preset, study.data)
    for task in tasks:
        study.run(task.row, task.seed).check_same(images.with_data(task.config, loaded))
    if not missing:
        return
    study.write_real(loaded)
    torch.set_num_threads(study.preset.threads)  # as where it is computed for a run
    Scorer(missing[0].config, loaded, parallel.device())  # absurd scores of real images end here
    make(study).train(missing)


def make(study: Study) -> Executor:
    """The executor that `study.executor` names."""
    if study.executor == "ray":
        from .cluster import RayExecutor

        return RayExecutor(study)
    return LocalExecutor(study)


def train_row(
    preset: str, row: str, seed: int, out: str, data: str | None, max_minutes: float, execution: Execution
) -> dict:
    """Train and score one run by its names, in one process or on every rank of a process group. Returns its
    record.

    Raises what `loop.train` does; any other failure is recorded in run.json as well.
    """
    import torch

    from .. import parallel
    from ..data import images, loading
    from ..scoring.features import check_extractor
    from ..training.loop import train

    study = Study(preset, seed + 1, out=out, data=data)
    chosen = rows()[row]
    name = run_name(chosen, study.preset)
    check_extractor(study.preset.extractor)
    loaded = loading.load(study.preset, study.data)
    parallel.on_first(lambda: study.write_real(loaded))
    run = study.run(name, seed)
    try:
        return train(
            images.with_data(configure(chosen, study.preset, seed), loaded),
            loaded,
            run,
            name,
            max_minutes,
            execution,
        )
    except (ReproError, runs.Interrupted):
        raise
    except torch.OutOfMemoryError as error:  # of a GPU
        raise ReproError(
            f"The GPU's memory does not hold {name} at preset {preset}"
            f" ({str(error).partition('. ')[0]}): train fewer runs at once (--jobs), pass a batch in"
            " parts (--accumulate), or share each run between GPUs (--devices)."
        ) from error
    except Exception as error:
        record = run.read()
        if record is not None and parallel.rank() == 0 and getattr(error, "errno", None) != errno.ENOSPC:
            run.write(record | {"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
