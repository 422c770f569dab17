"""A run by its names: what a person meets where the machine does not suffice."""

import torch

from repro import cli, parallel
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
