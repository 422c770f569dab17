"""A study on a Ray cluster of two nodes (two raylets of this machine), and what happens when parts of it
die.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from repro import cli, provenance, runs
from repro.errors import ReproError
from repro.execution import Execution
from repro.studies import cluster, trainer
from repro.studies.study import Study

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture
def two_nodes(monkeypatch):
    """A head without processors, and two nodes with one each."""
    for name, value in NODE.items():
        monkeypatch.setenv(name, value)
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    ray.shutdown()
    made.shutdown()


NODE = {  # impatient, and with workers that do not stand back (Ray's niceness of 15) on a busy machine
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_worker_niceness": "0",
}


def command(*words, **environment):
    return subprocess.run(words, check=True, capture_output=True, text=True, env=os.environ | environment)


@pytest.fixture
def two_networks():
    """A head and two nodes in network namespaces with addresses of their own: the cluster's address and the
    namespaces.
    """
    names, ray_command = ("repro-a", "repro-b"), [sys.executable, "-m", "ray.scripts.scripts"]
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the command ip")

    def remove():
        command(*ray_command, "stop", "--force")
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        for name in (*names, "repro-br"):  # a namespace lives on while a process is in it, its link goes now
            subprocess.run(["ip", "link", "del", name], capture_output=True)

    remove()
    try:
        command("ip", "link", "add", "repro-br", "type", "bridge")
        command("ip", "addr", "add", "10.71.0.1/24", "dev", "repro-br")
        command("ip", "link", "set", "repro-br", "up")
        for k, name in enumerate(names, 2):
            command("ip", "netns", "add", name)
            command("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            command("ip", "link", "set", name, "master", "repro-br", "up")
            command("ip", "-n", name, "addr", "add", f"10.71.0.{k}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                command("ip", "-n", name, "link", "set", device, "up")
    except subprocess.CalledProcessError as error:
        remove()
        pytest.skip(f"this machine does not let a test make networks ({error.stderr.strip()})")
    start = ["start", "--disable-usage-stats"]
    plain = NODE | {
        "RAY_AUTH_MODE": "disabled"
    }  # else a head asks for the token that an earlier Ray of this user may have left
    command(
        *ray_command,
        *start,
        "--head",
        "--node-ip-address",
        "10.71.0.1",
        "--port",
        "6390",
        "--num-cpus",
        "0",
        "--include-dashboard",
        "false",
        **plain,
    )
    for k, name in enumerate(names, 2):
        words = [
            *ray_command,
            *start,
            "--address",
            "10.71.0.1:6390",
            "--node-ip-address",
            f"10.71.0.{k}",
            "--num-cpus",
            "1",
        ]
        command("ip", "netns", "exec", name, *words, REPRO_NODE=name, **plain)
    yield "10.71.0.1:6390", names
    ray.shutdown()
    remove()


def study_on(made, folder, tables=("figure3",), **more):
    study = Study("rehearsal", 1, "ray", out=str(folder), address=getattr(made, "address", made), **more)
    return study, study.tasks(tables)


def recorded(study, tasks):
    """What the runs recorded, without their times and places."""
    return {
        t.row: {k: v for k, v in study.run(t.row, t.seed).read().items() if k != "provenance"} for t in tasks
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory, trained_by_check):
    """The same runs by the local executor."""
    study = Study("rehearsal", 1, "local", out=str(tmp_path_factory.mktemp("local")))
    tasks = study.tasks(["figure3"])
    trained_by_check(study, tasks)
    trainer.train(study, tasks)
    return recorded(study, tasks)


def hide_storage(executor):
    """As if no node saw the driver's disk."""
    executor.token.unlink()
    return executor


def starts(folder):
    """How often each run's process began."""
    return {log.parent.parent.name: log.read_text().count("step 1/4") for log in folder.rglob("train.log")}


def test_a_study_on_two_nodes_is_the_local_one_bit_for_bit(two_nodes, local, tmp_path):
    study, tasks = study_on(two_nodes, tmp_path / "out")
    tasks = tasks[:2]  # one for each node
    trainer.train(study, tasks)
    assert recorded(study, tasks) == {task.row: local[task.row] for task in tasks}
    assert set(starts(tmp_path).values()) == {1} and not list(study.folder.glob(".shared-*"))
    trainer.train(study, tasks)  # nothing is left to do
    assert set(starts(tmp_path).values()) == {1}


def scratch(of_node, out):
    """Where a node that does not see the driver's folder trains its runs."""
    return Path(f"{of_node}/{socket.gethostname()}{out}")


@pytest.mark.slow
def test_nodes_without_the_drivers_disk_deliver_everything(two_nodes, local, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "SCRATCH", str(tmp_path / "node's own"))
    study, tasks = study_on(two_nodes, tmp_path / "out")
    hide_storage(trainer.make(study)).train(tasks)
    assert recorded(study, tasks) == local
    for task in tasks:
        there, here = (
            runs.Run(runs.run_folder(f, "rehearsal", task.row, 0)).folder
            for f in (scratch(tmp_path / "node's own", tmp_path / "out"), tmp_path / "out")
        )
        names = {"run.json", "samples.jpg", "checkpoint.pt", "train.log", "neighbours.jpg"}
        assert {p.name for p in here.iterdir()} >= names
        assert all((there / p.name).read_bytes() == p.read_bytes() for p in here.iterdir())


def when_running(study, act):
    """Act once, in a thread (the test's own trains, as it handles signals), when a run has begun to train: a
    future of whether it did.
    """

    def wait():
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if any(
                '"status": "running"' in path.read_text()
                for path in study.folder.glob("runs/*/seed0/run.json")
            ):
                act()
                return True
            time.sleep(0.05)
        return False

    return ThreadPoolExecutor(1).submit(wait)


def kill_workers():
    """Every process that Ray runs a training for, as the system's memory killer would."""
    found = subprocess.run(["pgrep", "-f", "^ray::.* seed 0"], capture_output=True, text=True).stdout.split()
    assert found
    for line in found:
        os.kill(int(line), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["worker", "node", "frozen node"])
def test_what_dies_is_trained_elsewhere_to_the_same_bits(two_nodes, local, tmp_path, what):
    study, tasks = study_on(two_nodes, tmp_path / "out")
    node = two_nodes.nodes[0]
    raylet = node.all_processes["raylet"][0].process.pid

    def freeze():  # past the health check's patience: the cluster takes it for dead, as one that is cut off
        os.kill(raylet, signal.SIGSTOP)
        time.sleep(10)
        os.kill(raylet, signal.SIGCONT)

    act = {
        "worker": kill_workers,
        "node": lambda: two_nodes.remove_node(node, allow_graceful=False),
        "frozen node": freeze,
    }[what]
    acted = when_running(study, act)
    trainer.train(study, tasks)
    assert acted.result(60) and recorded(study, tasks) == local
    assert sum(not node["Alive"] for node in ray.nodes()) == (what != "worker")


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_node_that_is_cut_off_for_30_seconds_loses_nothing(
    two_networks, local, tmp_path, monkeypatch, shared
):
    monkeypatch.setattr(cluster, "SCRATCH", str(tmp_path / "$REPRO_NODE"))
    address, (name, _) = two_networks
    study, tasks = study_on(address, tmp_path / "out")

    def cut():
        command("ip", "-n", name, "link", "set", "eth0", "down")
        time.sleep(30)
        command("ip", "-n", name, "link", "set", "eth0", "up")

    trained_in = tmp_path / "out" if shared else scratch(tmp_path / name, tmp_path / "out")
    acted = when_running(Study("rehearsal", 1, out=str(trained_in)), cut)
    executor = trainer.make(study)
    (executor if shared else hide_storage(executor)).train(tasks)
    assert recorded(study, tasks) == local
    assert acted.result(90)


@pytest.mark.slow
def test_a_row_on_two_devices_of_a_node(two_nodes, tmp_path):
    two_nodes.add_node(num_cpus=2)
    study, tasks = study_on(two_nodes, tmp_path / "ray", execution=Execution(devices=2))
    trainer.train(study, tasks[:1])
    here = Study("rehearsal", 1, "local", out=str(tmp_path / "local"), execution=Execution(devices=2))
    trainer.train(here, tasks[:1])
    assert recorded(study, tasks[:1]) == recorded(here, tasks[:1])
    assert study.run(tasks[0].row, 0).read()["provenance"]["devices"] == 2


@pytest.mark.slow
def test_a_driver_that_is_interrupted_then_killed_is_started_again(two_nodes, local, tmp_path):
    study, tasks = study_on(two_nodes, tmp_path / "out")
    acted = when_running(study, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(runs.Interrupted, match="the same command continues them"):
        trainer.train(study, tasks)
    assert acted.result(60)
    assert not subprocess.run(
        ["pgrep", "-f", f"repro train .*{tmp_path}"], capture_output=True
    ).stdout  # the cluster is idle
    assert any((study.run(t.row, 0).folder / "checkpoint.pt").exists() for t in tasks)

    words = [
        sys.executable,
        "-m",
        "repro",
        "reproduce",
        "--preset",
        "rehearsal",
        "--tables",
        "figure3",
        "--executor",
        "ray",
        "--address",
        two_nodes.address,
        "--out",
        str(tmp_path / "out"),
    ]
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert when_running(study, driver.kill).result(130)
    assert driver.wait() == -signal.SIGKILL
    again, _ = study_on(two_nodes, tmp_path / "out")
    trainer.train(again, tasks)
    assert recorded(again, tasks) == local


@pytest.mark.slow
def test_a_node_with_another_version_is_refused(two_nodes, tmp_path, monkeypatch):
    study, tasks = study_on(two_nodes, tmp_path / "out")
    monkeypatch.setattr(provenance, "code_revision", lambda: {"sources": "made up"})
    with pytest.raises(ReproError, match="another version of this project"):
        trainer.make(study).train(tasks)


def test_no_cluster_is_one_sentence(tmp_path, capsys):
    assert (
        cli.run(
            [
                "reproduce",
                "--preset",
                "rehearsal",
                "--executor",
                "ray",
                "--address",
                "127.0.0.1:1",
                "--out",
                str(tmp_path),
            ]
        )
        == 2
    )
    assert "There is no Ray cluster at '127.0.0.1:1'" in capsys.readouterr().err


def test_commands_for_any_scheduler(tmp_path, capsys):
    assert cli.run(["commands", "--preset", "imagenet", "--out", str(tmp_path), "--data", "two words"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 13 * 3
        and lines[0]
        == f"repro train sngan_projection --preset imagenet --seed 0 --out {tmp_path} --data 'two words'"
    )
