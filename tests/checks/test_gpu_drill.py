"""The drill of a GPU, rehearsed without one (docs/gpu.md)."""

import tarfile

import pytest

from benchmarks import gpu
from repro import parallel, runs
from repro.reports import export
from repro.studies.study import Study

pytestmark = pytest.mark.skipif(parallel.device() == "cuda", reason="with a GPU, make gpu is no rehearsal")


def test_the_study_is_trained_and_packed_to_take_away(tmp_path, trained_by_check):
    of = Study("rehearsal", out=str(tmp_path))
    tasks = of.tasks(of.preset.tables)
    trained_by_check(of, [task for task in tasks if task.row != "none"])
    to = tmp_path / "back"
    assert gpu.main(["study", "pack", "--out", str(tmp_path), "--to", str(to)]) == 0
    with tarfile.open(to / "seed0.tar") as tar:
        names = tar.getnames()
    assert {name.split("/")[1] for name in names} == {task.row for task in tasks}
    assert "runs/none/seed0/run.json" in names and "runs/attention_16/seed0/attention.npz" in names
    config, *_ = export.generator(to / "none.safetensors")
    assert config.key == runs.Run(of.run("none", 0).folder).read()["key"]
    with tarfile.open(to / "rest.tar") as tar:
        assert "real.jpg" in tar.getnames()


def test_a_study_out_of_time_says_so_and_goes_on(tmp_path):
    words = ["study", "--out", str(tmp_path), "--minutes", "0"]
    assert gpu.main(words) == runs.INTERRUPTED
    assert not list(tmp_path.glob("rehearsal/runs/*/seed0/run.json"))


@pytest.mark.slow
def test_its_tests_and_its_speed(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "OUT", tmp_path)
    monkeypatch.setattr(gpu, "SECONDS", 1.0)
    assert gpu.main(["tests", "speed"]) == 0
    said = (tmp_path / "bench.md").read_text()
    assert "2 at once" in said and "a score of 1,000, in all" in said and "operations a step" in said
