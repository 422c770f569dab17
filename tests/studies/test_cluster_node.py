"""What a node of a cluster does with a run, without a cluster."""

import json
import math
import signal
import subprocess
import sys
import time

import pytest

from repro import provenance, runs
from repro.studies import cluster

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")


def test_a_run_ends_with_the_driver_that_no_longer_hears_of_it(tmp_path, monkeypatch):
    class Board:
        class report:
            remote = staticmethod(lambda *_: 1 / 0)

    started = []

    class Started(subprocess.Popen):
        def __init__(self, *words, **more):
            super().__init__(*words, **more)
            started.append(self)

    job = {"sources": provenance.code_revision()["sources"]}
    monkeypatch.setattr(cluster.subprocess, "Popen", Started)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "here")
    job |= dict.fromkeys(("preset", "row", "data"), "none") | {"seed": 0, "deadline": math.inf}
    job |= {"token": str(tmp_path), "out": str(tmp_path)}
    with pytest.raises(ZeroDivisionError):
        cluster.train_on_node(
            Board,
            job | {"environment": {}, "execution": {}},
            lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"],
        )
    assert [process.poll() for process in started] == [-signal.SIGTERM]


def test_a_run_that_waited_past_the_time_limit_is_left_for_the_next_call(tmp_path, monkeypatch):
    job = {"sources": provenance.code_revision()["sources"], "deadline": time.time() - 1}
    job |= dict.fromkeys(("preset", "row", "data"), "none") | {"seed": 0}
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "here")
    code, said = cluster.train_on_node(None, job | {"token": str(tmp_path), "out": str(tmp_path)}, None)
    assert code == runs.INTERRUPTED and "time was over" in said


def test_a_node_goes_on_from_whoever_is_further_and_begins_anew_what_nobody_knows(tmp_path):
    run = runs.Run(tmp_path / "run")
    files = lambda step: {"run.json": json.dumps({"step": step}).encode(), "checkpoint.pt": bytes([step])}
    run.folder.mkdir()
    for step, left in ((5, 5), (9, 9), (7, 9)):
        cluster._take_over(run, files(step))
        assert run.checkpoint_path.read_bytes() == bytes([left])
    cluster._take_over(run, {})
    assert not run.json_path.exists() and not run.checkpoint_path.exists()
