"""Killed at any moment, a study goes on and ends in the same bits; two at once train nothing twice."""

import collections
import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch

from repro import cli, runs
from repro.presets import PRESETS
from repro.scoring import extraction
from repro.studies import notebooks, study
from repro.training import checkpoint, loop
from tests.training.helpers import steady

ROW = "weight_average"  # every part of a checkpoint: networks, optimisers, average
OPTIONS = ["--preset", "rehearsal"]
MOMENTS = {  # what is under way -> the function that is entered then, and left
    "D's update": (loop, "update_d"),
    "G's update": (loop, "update_g"),
    "sampling": (loop, "sample"),
    "scoring": (extraction, "extract"),
    "packing a checkpoint": (torch, "save"),
    "a file half written": (os, "fsync"),
    "a file taking its name": (os, "replace"),
    "papermill saving": (nbformat, "write"),
}
CLEAN = multiprocessing.get_context("forkserver")
# what every child would import anew
CLEAN.set_forkserver_preload([__name__, "timm", "torch._dynamo", "papermill", "matplotlib.pyplot"])


def train_row(out):
    assert cli.run(["train", ROW, *OPTIONS, "--out", str(out)]) == 0


def execute_report(out):
    of = study.Study("rehearsal", executor="none", out=str(out))
    notebooks.execute_notebooks(["report"], of, of.folder)


def in_child(what, out, note):
    """Run what(out) in a process of its own, and call note(moment, "before" or "after") around every call of
    the functions of MOMENTS. The process is forked from a server that has imported everything and run
    nothing: a fork of this one may wait for ever for a lock that a thread held. Returns the process's exit
    code, or minus its signal.
    """
    child = CLEAN.Process(target=noting, args=(what, out, note))
    child.start()
    child.join(120)
    assert child.exitcode is not None, "the process hangs"
    return child.exitcode


def noting(what, out, note):
    torch.set_num_threads(1)
    # scoring takes most of a rehearsal's time: few samples pass through the same moments
    PRESETS["rehearsal"] = dataclasses.replace(PRESETS["rehearsal"], samples=20)
    for name, (module, function) in MOMENTS.items():
        original = getattr(module, function)

        def wrapped(*args, _name=name, _original=original, **kwargs):
            note(_name, "before")
            result = _original(*args, **kwargs)
            note(_name, "after")
            return result

        setattr(module, function, wrapped)
    what(out)


@dataclasses.dataclass
class Write:
    """Notes the moments in a file."""

    log: Path

    def __call__(self, *moment):
        with self.log.open("a") as f:
            print(*moment, sep="\t", file=f)


@dataclasses.dataclass
class Kill:
    """Kills the process at a moment, by its number; at none without one."""

    at: int | None = None
    seen: int = 0

    def __call__(self, *_):
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1


def ended(out):
    """What a run ended in: its record, every tensor of its checkpoint, the best step kept, its samples."""
    folder = runs.run_folder(out, "rehearsal", ROW, 0)
    state = checkpoint.read_checkpoint(folder / "checkpoint.pt")
    best = checkpoint.read_checkpoint(folder / "best.pt")
    return flat({k: v for k, v in state.items() if k != "record"}), [
        steady(runs.Run(folder).read()),
        json.loads(best["record"])["step"],
        (folder / "samples.jpg").read_bytes(),
    ]


def flat(state):
    if isinstance(state, dict):
        return {f"{k}/{name}": value for k, of in state.items() for name, value in flat(of).items()}
    if isinstance(state, list):
        return flat(dict(enumerate(state)))
    return {"": state}


def assert_same_end(a, b):
    (tensors, rest), (tensors_b, rest_b) = ended(a), ended(b)
    assert rest == rest_b
    assert tensors.keys() == tensors_b.keys() and len(tensors) > 200
    for name, value in tensors.items():
        assert (
            torch.equal(value, tensors_b[name])
            if isinstance(value, torch.Tensor)
            else value == tensors_b[name]
        ), name


def cells(out):
    notebook = nbformat.read(out / "rehearsal" / "report.ipynb", 4)
    return [
        (c.source.replace(str(out), ""), str(c.get("outputs")).replace(str(out), "")) for c in notebook.cells
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An uninterrupted run with a notebook over it, and the moments that both went through."""
    out = tmp_path_factory.mktemp("straight")
    # fills the cache of references: the moments of a run that fills it are others
    assert in_child(train_row, tmp_path_factory.mktemp("first"), Kill()) == 0
    seen = {}
    for part in (train_row, execute_report):
        log = out / part.__name__
        assert in_child(part, out, Write(log)) == 0
        seen[part] = [tuple(line.split("\t")) for line in log.read_text().splitlines()]
    return out, seen


def drawn(chance, seen, count):
    """Numbers of `count` of the moments seen: one of each phase, then one of its other side, the rest at
    random.
    """
    by_kind = collections.defaultdict(list)
    for i, moment in enumerate(seen):
        by_kind[moment].append(i)
    kinds = chance.sample(sorted(by_kind), len(by_kind))
    phases = [phase for phase, _ in kinds]
    kinds = [kinds[i] for i in sorted(range(len(kinds)), key=lambda i: phases[:i].count(phases[i]))]
    first = [chance.choice(by_kind[kind]) for kind in kinds][:count]
    return first + chance.sample([i for i in range(len(seen)) if i not in first], count - len(first))


@pytest.mark.parametrize(
    "of_training, of_a_notebook",
    [(7, 3), pytest.param(16, 4, marks=pytest.mark.slow)],
    ids=["10 kills", "20 kills"],
)
def test_kills_at_random_moments_of_all_phases_change_nothing(straight, tmp_path, of_training, of_a_notebook):
    out, seen = straight
    assert {name for of in seen.values() for name, _ in of} == MOMENTS.keys()
    chance = random.Random(int(os.environ.get("REPRO_KILLS_SEED", "3")))  # other seeds, other moments
    kills = [
        (part, at)
        for part, count in ((train_row, of_training), (execute_report, of_a_notebook))
        for at in drawn(chance, seen[part], count)
    ]
    assert {seen[part][at][0] for part, at in kills} == MOMENTS.keys()
    for trial, (part, at) in enumerate(kills):
        killed = tmp_path / f"{trial}"
        if part is execute_report:
            shutil.copytree(out, killed)
            (killed / "rehearsal" / "report.ipynb").unlink()
        assert in_child(part, killed, Kill(at)) == -signal.SIGKILL, seen[part][at]
        assert in_child(part, killed, Kill()) == 0, seen[part][at]
        assert_same_end(out, killed)
        assert part is train_row or cells(out) == cells(killed)


@pytest.mark.slow
def test_two_studies_on_one_folder_train_nothing_twice(tmp_path):
    words = [
        sys.executable,
        "-m",
        "repro",
        "reproduce",
        *OPTIONS,
        "--tables",
        "figure3",
        "--out",
        str(tmp_path),
    ]
    two = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)
    ]
    texts = [process.communicate(timeout=300)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0], texts
    folders = [path.parent for path in (tmp_path / "rehearsal").glob("runs/*/seed0/run.json")]
    assert len(folders) == 3
    for folder in folders:
        assert runs.Run(folder).read()["status"] == "complete"
        lines = (folder / "train.log").read_text().splitlines()
        assert [sum(f"step {step}/4" in line for line in lines) for step in range(1, 5)] == [
            1
        ] * 4  # each step once
    # sockets of the notebooks' kernels that another call could take for its own
    assert not list(runs.PROJECT.glob("kernel-*"))
    left = [path for path in tmp_path.rglob("*") if path.name.startswith(".part")]
    assert left == []
    for name in ("figure3_stabilization", "report"):
        assert nbformat.read(tmp_path / "rehearsal" / f"{name}.ipynb", 4).cells[-1].outputs


def test_a_dead_owners_claim_is_taken_over_and_a_live_ones_waited_for(tmp_path):
    words = [sys.executable, "-m", "repro", "train", "none", "--preset", "smoke", "--out", str(tmp_path)]
    run = runs.Run(runs.run_folder(tmp_path, "smoke", "none", 0))
    owner = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (run.read() or {"step": 0})["step"] and time.monotonic() < deadline:
        time.sleep(0.1)
    waiting = subprocess.run([*words, "--max-minutes", "0"], capture_output=True, text=True)
    assert waiting.returncode == runs.INTERRUPTED and "being trained by another process" in waiting.stderr
    owner.kill()
    owner.wait()
    taken = subprocess.run([*words, "--max-minutes", "0"], capture_output=True, text=True)
    assert taken.returncode == runs.INTERRUPTED and "same command continues" in taken.stderr
    assert run.read()["status"] == "interrupted"
