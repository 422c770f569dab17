"""A study's runs as tasks of a Ray cluster. Every node needs this project installed at the same version,
nothing else.

A node that sees the driver's study folder (shared storage) trains in it. Any other trains in a folder of its
own and sends the run's files to the driver, all of them at the end and, while it trains, each new checkpoint;
a run that is retried elsewhere goes on from the last one. Ray places runs by their resources, retries those
whose process or node died, and moves the files.
"""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .. import provenance, runs
from ..errors import ReproError
from ..execution import Execution
from .executors import Executor, command, environment, last_line

if TYPE_CHECKING:
    from .study import Study, Task

log = logging.getLogger(__name__)

RETRIES = 10  # of a run whose worker process or node died
REPORT_SECONDS = 2  # between a run's messages: whether it lives, and whether it should stop
SEND_SECONDS = 60  # between its messages with new files, as training writes its checkpoints
SCRATCH = (  # of a node without the driver's storage: runs that ended early are found there again
    "~/.cache/sagan-repro/cluster"
)
SENT = (
    "run.json",
    "checkpoint.pt",
    "best.pt",
    "train.log",
    "attention.npz",
    *(name + runs.PICTURE for name in runs.PICTURES),
)
GPU_SHARE = {32: 0.25}  # of a GPU, by resolution: small runs share one; others take a whole one


def dies_with_parent() -> None:
    """Have the system send this process SIGTERM when its parent dies (Linux), so that a killed worker leaves
    no training behind.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG


class Board:
    """An actor beside the driver: what runs report, and whether they should stop."""

    def __init__(self):
        self.stopping = False
        self.reports: dict[str, tuple[str, dict[str, bytes]]] = {}  # run -> node, new files
        self.latest: dict[str, dict[str, bytes]] = {}  # run -> all its files, for a retry on another node

    def report(self, run: str, node: str, files: dict[str, bytes]) -> bool:
        """Take a run's new files; says whether it should stop."""
        before = self.reports.get(run, (node, {}))[1]
        self.reports[run] = node, before | files
        self.latest.setdefault(run, {}).update(files)
        return self.stopping

    def files(self, run: str) -> dict[str, bytes]:
        """All files that a run has reported, by name; none for a run that has reported nothing."""
        return self.latest.get(run, {})

    def take(self) -> dict[str, tuple[str, dict[str, bytes]]]:
        """What was reported since the last call."""
        out, self.reports = self.reports, {}
        return out

    def stop(self) -> None:
        """Tell every run to stop when it reports next."""
        self.stopping = True

    def forget(self, run: str) -> None:
        """Drop the files that were kept for a retry of the run."""
        self.latest.pop(run, None)


def train_on_node(board, job: dict, command: Callable[..., list[str]]) -> tuple[int, str]:
    """Train one run in a process of this node, which `command` starts. Returns its exit code and the last
    thing it said.
    """
    import ray

    node = ray.util.get_node_ip_address()
    sources = provenance.code_revision()["sources"]
    if sources != job["sources"]:
        return (
            2,
            (
                f"repro: node {node} has another version of this project ({sources}; the driver has"
                f" {job['sources']}): install the same on every node."
            ),
        )
    shared = Path(job["token"]).exists()
    out = job["out"] if shared else os.path.expandvars(os.path.expanduser(job["scratch"]))
    run = runs.Run(runs.run_folder(out, job["preset"], job["row"], job["seed"]))
    name = f"{job['row']}/seed{job['seed']}"
    run.folder.mkdir(parents=True, exist_ok=True)
    if not shared:
        _take_over(run, job["files"] | ray.get(board.files.remote(name)))
    seen: dict[str, int] = {}

    def news() -> dict[str, bytes]:
        """The files that are new or changed since they were sent."""
        files = {}
        for file in () if shared else SENT:
            with suppress(FileNotFoundError):  # while a checkpoint makes room for the next
                stamp = (run.folder / file).stat().st_mtime_ns
                if seen.get(file) != stamp:
                    files[file], seen[file] = (run.folder / file).read_bytes(), stamp
        return files

    def report(with_files: bool) -> bool:
        """Tell the driver that the run lives, with new files or without; says whether it should stop."""
        return ray.get(board.report.remote(name, node, news() if with_files else {}))

    minutes = (job["deadline"] - time.time()) / 60
    if minutes <= 0:  # it waited for a free node until the time was over
        return runs.INTERRUPTED, "the time was over before it began"
    of_run = (job["preset"], job["row"], job["seed"], out, minutes, job["data"])
    words = command(*of_run, Execution(**job["execution"]))
    with (run.folder / "train.log").open("ab") as f:
        process = subprocess.Popen(
            words, stdout=f, stderr=f, env=os.environ | job["environment"], preexec_fn=dies_with_parent
        )
    try:
        _watch(process, report)
    finally:  # also where the driver is gone
        process.terminate()
        process.wait()
    return process.returncode, last_line(run.folder / "train.log")


def _take_over(run: runs.Run, files: dict[str, bytes]) -> None:
    """Put a run's files where this node trains it, unless it is further here; an unknown one begins anew."""
    step = lambda record: json.loads(record)["step"]
    if "run.json" not in files:
        shutil.rmtree(run.folder)
    elif run.json_path.exists() and step(run.json_path.read_bytes()) > step(files["run.json"]):
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        runs.write_atomically(run.folder / file, content)


def _watch(process: subprocess.Popen, report: Callable[[bool], bool]) -> None:
    """Report until the process has ended, with files each SEND_SECONDS and at the end; ask it to stop when a
    report says so.
    """
    sent_at, reported_at, asked = time.monotonic(), -math.inf, False
    while process.poll() is None:
        now = time.monotonic()
        if now - reported_at > REPORT_SECONDS:
            due, reported_at = now - sent_at > SEND_SECONDS, now
            sent_at = now if due else sent_at
            if report(due) and not asked:
                process.terminate()  # it writes a checkpoint at its next step
                asked = True
        time.sleep(0.2)
    report(True)


class RayExecutor(Executor):
    """Hands every run to a Ray cluster at once; Ray starts as many as it has room for."""

    command = staticmethod(command)  # starts a run on its node

    def __init__(self, study: Study):
        super().__init__(study)
        self.jobs = study.jobs or 10**6
        self.references: dict = {}  # Ray's, of results to come -> task
        self.nodes: dict[str, str] = {}  # run -> the node it was last heard from
        self.words: dict[Task, str] = {}
        self.ray = self._connect()
        self.token = study.folder / f".shared-{secrets.token_hex(8)}"
        runs.write_atomically(self.token, b"a node that sees this file shares the driver's storage\n")
        here = self._on(self.ray.get_runtime_context().get_node_id())  # it lives as long as the driver does
        self.board = self.ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
        gpus = self.ray.cluster_resources().get("GPU", 0)
        devices = study.execution.devices
        share = devices if devices > 1 else GPU_SHARE.get(study.preset.resolution, 1)
        takes = {"CPU": study.preset.threads * devices, "GPU": share if gpus else 0}
        if not any(
            all(node["Resources"].get(k, 0) >= v for k, v in takes.items())
            for node in self.ray.nodes()
            if node["Alive"]
        ):
            log.warning(
                "No node of the cluster has %d processors and %g GPUs, which a run takes: runs wait for one"
                " to join.",
                *takes.values(),
            )
        self.remote = self.ray.remote(num_cpus=takes["CPU"], num_gpus=takes["GPU"], max_retries=RETRIES)(
            train_on_node
        )

    def _connect(self):
        try:
            import ray
        except ImportError:
            raise ReproError(
                'Ray is not installed: pip install "ray" (or this project with its extra: -e ".[cluster]") on'
                " every node."
            ) from None
        address = self.study.address or os.environ.get("RAY_ADDRESS")
        try:
            host, _, port = (address or "").rpartition(":")
            if host:
                socket.create_connection(
                    (host, int(port)), timeout=10
                ).close()  # Ray itself would try for minutes
            ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        except (
            OSError,
            ValueError,
            RuntimeError,
            ray.exceptions.RayError,
        ) as error:  # ConnectionError is an OSError
            raise ReproError(
                f"There is no Ray cluster at {address!r}, or it does not know this user's token"
                f" ({str(error).splitlines()[0]}): start one with ray start --head, copy its machine's"
                " ~/.ray/auth_token here, or leave --address out."
            ) from error
        return ray

    def _on(self, node: str):
        """Ray's way to say that something runs on this node alone."""
        return self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)

    @functools.cached_property
    def storage_is_shared(self) -> bool:
        """Whether every node there is sees the driver's folder: then no checkpoint has to travel with its
        run.
        """
        look = self.ray.remote(num_cpus=0)(os.path.exists)
        nodes = [node["NodeID"] for node in self.ray.nodes() if node["Alive"]]
        return all(
            self.ray.get(
                [look.options(scheduling_strategy=self._on(node)).remote(str(self.token)) for node in nodes]
            )
        )

    def start(self, task: Task, minutes: float) -> None:
        """Hand the run to Ray, to stop by itself after so many minutes."""
        study = self.study
        run = study.run(task.row, task.seed)
        run.folder.mkdir(parents=True, exist_ok=True)
        data = str(Path(study.data).resolve()) if study.data and Path(study.data).exists() else study.data
        job = {
            "preset": study.preset.name,
            "row": task.row,
            "seed": task.seed,
            "data": data,
            "execution": asdict(study.execution),
            "environment": environment(study),
            "out": str(study.out),
            "token": str(self.token),
            "sources": provenance.code_revision()["sources"],
            "scratch": f"{SCRATCH}/{socket.gethostname()}{study.out.resolve()}",  # no other study's
            "deadline": time.time() + 60 * min(minutes, 10**6),
            "files": (
                {}
                if self.storage_is_shared
                else {name: (run.folder / name).read_bytes() for name in SENT if (run.folder / name).exists()}
            ),
        }
        self.references[
            self.remote.options(name=f"{task.row} seed {task.seed}").remote(self.board, job, self.command)
        ] = task

    def ended(self) -> dict[Task, int]:
        """The runs that ended since the last call, with their exit codes: 1 where Ray reports an error."""
        self._take()
        done, _ = (
            self.ray.wait(list(self.references), num_returns=len(self.references), timeout=0)
            if self.references
            else ([], [])
        )
        codes = {}
        for reference in done:
            task = self.references.pop(reference)
            self.board.forget.remote(f"{task.row}/seed{task.seed}")
            try:
                codes[task], self.words[task] = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                codes[task], self.words[task] = (
                    1,
                    f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}",
                )
        if done:
            self._take()  # the last files of those that ended
        return codes

    def _take(self) -> None:
        """Write what other nodes sent into the study's folder; the record last, as it says that the rest is
        there.
        """
        for name, (node, files) in self.ray.get(self.board.take.remote()).items():
            self.nodes[name] = node
            for file in sorted(files, key=lambda f: f == "run.json"):
                runs.write_atomically(self.study.folder / "runs" / name / file, files[file])

    def where(self) -> str:
        """For the display: on how many nodes how many runs are running."""
        running = {f"{t.row}/seed{t.seed}" for t in self.references.values()} & self.nodes.keys()
        return (
            f", {len(running)} running on {len({self.nodes[name] for name in running})} nodes"
            if running
            else ""
        )

    def said(self, task: Task) -> str:
        """The last thing that the run's process said, or Ray's error."""
        return self.words[task]

    def stop(self) -> None:
        """Cancel the runs that wait, ask the others to write a checkpoint and end, and wait for them."""
        self.ray.get(self.board.stop.remote())
        waiting = [
            r
            for r in self.references
            if f"{self.references[r].row}/seed{self.references[r].seed}" not in self.nodes
        ]
        for reference in waiting:
            self.ray.cancel(reference)
        while self.references:
            self.ended()
            time.sleep(0.2)
        self.token.unlink(missing_ok=True)
        self.ray.kill(self.board)
