"""A run by its names: what a person meets where the machine does not suffice."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from repro import cli, parallel, runs
from repro.errors import ReproError
from repro.execution import Execution
from repro.studies import executors, study, trainer
from repro.training import loop


def test_a_gpu_without_room_ends_in_one_sentence_and_the_run_goes_on_elsewhere(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    words = ["train", "none", "--preset", "rehearsal", "--out", str(tmp_path)]
    with monkeypatch.context() as planted:
        planted.setattr(loop, "update_g", full)
        assert cli.run(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "GPU's memory does not hold none" in error and "--jobs" in error and "GPU 0 has" not in error
    assert cli.run(words) == 0


def test_cuda_graphs_without_a_gpu_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parallel, "device", lambda: "cpu")
    words = ["train", "none", "--preset", "rehearsal", "--out", str(tmp_path), "--cuda-graphs"]
    assert cli.run(words) == 2 and "--cuda-graphs needs a GPU" in capsys.readouterr().err


def test_runs_at_once_take_the_gpus_in_turns(tmp_path, monkeypatch):
    """Each place keeps its GPU; a place that is free again is taken again. The GPUs are made up, the
    processes too.
    """
    started, alive = [], []

    class Process:
        returncode = 0

        def __init__(self, words, env, **_):
            started.append((env.get("CUDA_VISIBLE_DEVICES"), len(alive)))
            alive.append(self)
            self.looks = 0

        def poll(self):
            self.looks += 1
            if self.looks < 2:
                return None
            alive.remove(self)
            return 0

    monkeypatch.setattr(executors.subprocess, "Popen", Process)
    monkeypatch.setattr(executors.time, "sleep", lambda _: None)
    monkeypatch.setattr(executors, "gpus", lambda: 2)
    monkeypatch.setattr(executors.LocalExecutor, "_outcome", lambda *_: "made up")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    of = study.Study("rehearsal", out=str(tmp_path))
    assert trainer.make(of).jobs == 2  # one a GPU unless told otherwise
    executors.LocalExecutor(of).train(of.tasks(["table1"]))
    assert [gpu for gpu, _ in started] == ["0", "1", "0", "1", "0"] and max(
        count for _, count in started
    ) == 1
    started.clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    shared = study.Study("rehearsal", out=str(tmp_path), jobs=4)
    executors.LocalExecutor(shared).train(shared.tasks(["table1"]))
    assert [gpu for gpu, _ in started] == ["5", "7", "5", "7", "5"] and max(
        count for _, count in started
    ) == 3
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(executors, "gpus", lambda: 5)
    two_each = trainer.make(study.Study("rehearsal", execution=Execution(devices=2)))
    assert two_each.jobs == 2 and [executors.gpus_of(k, 2)["CUDA_VISIBLE_DEVICES"] for k in range(2)] == [
        "0,1",
        "2,3",
    ]
    monkeypatch.setattr(executors, "gpus", lambda: 0)
    assert executors.gpus_of(1) == {} and trainer.make(study.Study("rehearsal")).jobs == max(
        1, os.cpu_count()
    )


def test_runs_of_other_data_are_refused_and_not_taken_for_these(tmp_path):
    """A finished run is the study's only on the data that it was trained with."""
    shutil.copytree(runs.PROJECT / "results/rehearsal/runs/none", tmp_path / "rehearsal/runs/none")
    own = study.Study("rehearsal", out=str(tmp_path))
    finished = [task for task in own.tasks(["table1"]) if task.row == "none"]
    trainer.train(own, finished)  # nothing is missing
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((32, 32, 3), k, np.uint8)).save(tmp_path / "photos" / name / f"{k}.png")
    other = study.Study("rehearsal", out=str(tmp_path), data=str(tmp_path / "photos"))
    with pytest.raises(ReproError, match="data_fingerprint.* choose another folder with --out"):
        trainer.train(other, finished)
