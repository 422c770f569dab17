"""Who trains a study's missing runs: processes of this machine, or the machines of a Ray cluster. One loop
serves both.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import runs
from ..errors import ReproError
from ..execution import PLAIN, Execution

if TYPE_CHECKING:
    from rich.progress import Progress

    from .study import Study, Task

# glibc keeps freed memory, in huge pages: training at width 16 is 5 % faster when a step's tensors fault in
# no new pages
ALLOCATION = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}


def environment(study: Study) -> dict[str, str]:
    """What a training process has in its environment beside this one's."""
    threads = {name: str(study.preset.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return threads | ALLOCATION | study.environment


def command(
    preset: str,
    row: str,
    seed: int,
    out: Path | str,
    minutes: float,
    data: str | None,
    execution: Execution = PLAIN,
) -> list[str]:
    """The command that trains one run."""
    words = [sys.executable, "-m", "repro", "train", row, "--preset", preset, "--seed", str(seed)]
    words += ["--out", str(out), *(["--max-minutes", str(minutes)] if minutes < math.inf else [])]
    return [*words, *(["--data", str(data)] if data else []), *execution.options]


def last_line(log: Path) -> str:
    """What a training process said last."""
    lines = (
        [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if log.exists()
        else []
    )
    return lines[-1] if lines else f"nothing; see {log}"


class Executor(ABC):
    """Trains runs with one progress display, and resumes what an earlier call left. What differs by place is
    in the subclasses.
    """

    jobs: int  # runs handed out at once

    def __init__(self, study: Study):
        self.study = study

    @abstractmethod
    def start(self, task: Task, minutes: float) -> None:
        """Begin the run, to stop by itself after so many minutes."""

    @abstractmethod
    def ended(self) -> dict[Task, int]:
        """The runs that ended since the last call, with their exit codes."""

    @abstractmethod
    def stop(self) -> None:
        """Ask every run to write its checkpoint and end, and wait until all have."""

    def where(self) -> str:
        """For the display: where runs are running."""
        return ""

    def said(self, task: Task) -> str:
        """The last line of a run's process."""
        return last_line(self.study.run(task.row, task.seed).folder / "train.log")

    def train(self, tasks: list[Task]) -> None:
        """Train all; a failed run does not stop the others, bad input and a full disk do.

        Raises ReproError at the end that names the unfinished runs and repeats what the first failed one
        said, and runs.Interrupted after SIGINT, SIGTERM or the time limit, when every running one has written
        its checkpoint.
        """
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        codes: dict[Task, int] = {}  # of the runs that ended

        def interrupt(*_):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, interrupt)  # a scheduler's notice is handled as Ctrl-C is
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, refresh_per_second=2) as progress:
            try:
                self._hand_out(tasks, codes, progress)
            except KeyboardInterrupt:
                pass
            finally:
                self.stop()
                signal.signal(signal.SIGTERM, before)
        self._raise_for_unfinished(tasks, codes)

    def _hand_out(self, tasks: list[Task], codes: dict[Task, int], progress: Progress) -> None:
        """Start the runs as there is room for them, until all have ended or the time is up; put their exit
        codes into `codes`.
        """
        waiting, running, start = list(tasks), 0, time.monotonic()
        bar = _Bar(
            progress, sum(t.steps for t in tasks), lambda: sum(t.steps * self._share(t) for t in tasks)
        )
        while running or (waiting and time.monotonic() - start < 60 * self.study.max_minutes):
            left = self.study.max_minutes - (time.monotonic() - start) / 60
            while left > 0 and waiting and running < self.jobs:
                self.start(waiting.pop(0), left)
                running += 1
            time.sleep(0.5)
            for task, code in self.ended().items():
                running -= 1
                codes[task] = code
                outcome = self._outcome(task) if code == 0 else f"stopped with exit code {code}"
                progress.console.print(f"  {task.row} seed {task.seed}: {outcome}", highlight=False)
                if code == 2:
                    waiting.clear()  # bad input or a full disk: the others would end the same way
            finished = list(codes.values()).count(0)
            bar.show(f"{finished} of {len(tasks)} runs done{self.where()}")

    def _raise_for_unfinished(self, tasks: list[Task], codes: dict[Task, int]) -> None:
        unfinished = [t for t in tasks if codes.get(t) != 0]
        failed = [t for t, code in codes.items() if code not in (0, runs.INTERRUPTED)]
        if failed:
            names = ", ".join(f"{t.row} seed {t.seed}" for t in unfinished)
            raise ReproError(
                f"{len(unfinished)} of {len(tasks)} runs did not finish ({names}): {self.said(failed[0])}"
            )
        if unfinished:
            raise runs.Interrupted(
                f"Stopped with {len(unfinished)} of {len(tasks)} runs to finish; the same command continues"
                " them."
            )

    def _share(self, task: Task) -> float:
        record = self.study.run(task.row, task.seed).read()
        if record is None:
            return 0.0
        return 1.0 if record["status"] in runs.FINISHED else record["step"] / task.config.preset.steps

    def _outcome(self, task: Task) -> str:
        record = self.study.run(task.row, task.seed).read()
        scores = (
            f", FID ({record['definition']['extractor']}) {record['final']['fid']:.1f}"
            if record.get("final")
            else ""
        )
        return f"{record['status']} at step {record['step']}{scores}"


class _Bar:
    """A progress bar over all steps, with the time that the rest takes at the speed so far.

    done: says how many steps are done. It reads the runs' records, so it is asked a tenth of the time only.
    """

    def __init__(self, progress: Progress, total: int, done: Callable[[], float]):
        self.progress, self.total, self.done = progress, total, done
        self.start, self.look_again, self.to_go = time.monotonic(), 0.0, "starting"
        self.first = done()  # by an earlier call
        self.task = progress.add_task("training", total=total, text="")

    def show(self, text: str) -> None:
        """Set the text beside the bar, and the bar when it is time to look again."""
        now = time.monotonic()
        if now > self.look_again:
            done = self.done()
            self.look_again = 10 * time.monotonic() - 9 * now
            if done > self.first:
                seconds = (self.total - done) * (now - self.start) / (done - self.first)
                self.to_go = f"{seconds / 60:.0f} min left"
            self.progress.update(self.task, completed=done)
        self.progress.update(self.task, text=f"{text}, {self.to_go}")


def gpus() -> int:
    """How many GPUs this process may use."""
    import torch

    return torch.cuda.device_count()


def gpus_of(place: int, devices: int = 1) -> dict[str, str]:
    """The environment in which the run at this place among those at once sees so many GPUs, taken in turns:
    several small runs share one.
    """
    count = gpus()
    if count < 2:
        return {}
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = allowed if len(allowed) >= count else [str(k) for k in range(count)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[(place * devices + k) % count] for k in range(devices))}


class LocalExecutor(Executor):
    """Processes of this machine, each with the preset's number of threads, on all GPUs in turns.

    Two single-thread processes on two cores do more steps a second than one process with two threads.
    """

    def __init__(self, study: Study):
        super().__init__(study)
        self.jobs = study.jobs or max(
            1, (gpus() or (os.cpu_count() or 1) // study.preset.threads) // study.execution.devices
        )
        self.running: dict[Task, tuple[subprocess.Popen, int]] = {}  # with its place among those at once

    def start(self, task: Task, minutes: float) -> None:
        """Begin the run in a process of its own, which adds to train.log in the run's folder."""
        place = min(set(range(self.jobs)) - {place for _, place in self.running.values()})
        folder = self.study.run(task.row, task.seed).folder
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "train.log").open("ab") as f:
            words = command(
                self.study.preset.name,
                task.row,
                task.seed,
                self.study.out,
                minutes,
                self.study.data,
                self.study.execution,
            )
            process = subprocess.Popen(
                words,
                stdout=f,
                stderr=f,
                env=os.environ | environment(self.study) | gpus_of(place, self.study.execution.devices),
            )
        self.running[task] = process, place

    def ended(self) -> dict[Task, int]:
        """The runs that ended since the last call, with their exit codes."""
        codes = {
            task: process.returncode
            for task, (process, _) in self.running.items()
            if process.poll() is not None
        }
        for task in codes:
            del self.running[task]
        return codes

    def stop(self) -> None:
        """Ask every run to write its checkpoint and end, and wait until all have."""
        for process, _ in self.running.values():
            process.terminate()  # each writes a checkpoint at its next step
        for process, _ in self.running.values():
            process.wait()
