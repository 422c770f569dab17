"""The regression check: it passes as the code is, and each planted fault fails it by name."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest
import torch

from repro import cli, paper, runs
from repro.checks import regression
from repro.config import Config, ReproError
from repro.data import images
from repro.networks import layers, resnet
from repro.reports import pages
from repro.scoring import evaluate
from repro.studies.notebooks import NOTEBOOKS
from repro.studies.study import Study
from repro.training import loop


@pytest.fixture(scope="module")
def reference():
    return Study("rehearsal", executor="none", out="results")


@pytest.fixture
def checked(reference, shapes_data, tmp_path):
    """Train a row of the rehearsal in this process and compare it with the committed reference."""

    def train_and_compare(row):
        now = Study("rehearsal", out=str(tmp_path))
        (task,) = [task for task in now.tasks(paper.ALL_TABLES) if task.row == row]
        loop.train(images.with_data(task.config, shapes_data), shapes_data, now.run(row, 0), row)
        frame = regression.compare(reference, now, [task], regression.read_tolerances(reference))
        return frame[frame["run"] != "verdicts"]

    return train_and_compare


def gamma_frozen(monkeypatch):
    def build(config, original=loop.build):
        networks = original(config)
        for network in networks:
            for block in network.inserted.values():
                block.gamma.register_hook(torch.zeros_like)
        return networks

    monkeypatch.setattr(loop, "build", build)


def spectral_norm_dropped_from_g(monkeypatch):
    def build(config, original=loop.build):
        plain = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, sn_generator=False))
        return original(plain)[0], original(config)[1]

    monkeypatch.setattr(loop, "build", build)


def learning_rates_swapped(monkeypatch):
    rates = Config.lr_g, Config.lr_d
    monkeypatch.setattr(Config, "lr_g", rates[1])
    monkeypatch.setattr(Config, "lr_d", rates[0])


def average_decay_changed(monkeypatch, original=loop.get_ema_multi_avg_fn):
    monkeypatch.setattr(loop, "get_ema_multi_avg_fn", lambda decay: original(0.99))


def softmax_over_queries(monkeypatch, original=torch.softmax):
    monkeypatch.setattr(layers.torch, "softmax", lambda x, dim: original(x, dim=1))


def labels_shuffled(monkeypatch, original=loop.Batches.batch):
    def batch(self, i):
        images, labels = original(self, i)
        return images, labels.roll(1)

    monkeypatch.setattr(loop.Batches, "batch", batch)


def batch_norm_evaluated_with_the_batch(monkeypatch):
    monkeypatch.setattr(resnet.Generator, "eval", lambda self: self)
    monkeypatch.setattr(
        layers.BatchNorm, "forward", torch.nn.BatchNorm2d.forward
    )  # which takes any number of images


def batch_norm_momentum_changed(monkeypatch, original=Config.resolved_recipe):
    monkeypatch.setattr(
        Config, "resolved_recipe", lambda self: dataclasses.replace(original(self), bn_momentum=0.11)
    )


def no_power_iteration(monkeypatch, original=layers.SpectralNorm.__init__):
    def init(self, weight, eps, iterations, *more):
        original(self, weight, eps, 0, *more)

    monkeypatch.setattr(layers.SpectralNorm, "__init__", init)


def other_samples(monkeypatch, original=evaluate.latents):
    monkeypatch.setattr(
        evaluate, "latents", lambda z_dim, seed, first, count: original(z_dim, seed, first + 1, count)
    )


FAULTS = [  # a fault, the row it is planted in, and where the check first has to see it
    (gamma_frozen, "attention_16", "history.gamma_d.16x16", 1),
    (gamma_frozen, "residual_8", "history.gamma_g.8x8", 1),
    (spectral_norm_dropped_from_g, "none", "history.loss_d", 1),
    (learning_rates_swapped, "none", "history.loss_g", 1),
    (average_decay_changed, "weight_average", "history.average_lag", 2),
    (softmax_over_queries, "attention_16", "history.gamma_d.16x16", 1),
    (softmax_over_queries, "attention_8", "history.gamma_g.8x8", 1),
    (labels_shuffled, "none", "history.loss_d", 1),
    (batch_norm_evaluated_with_the_batch, "none", "scores.fid", 2),
    (batch_norm_momentum_changed, "none", "scores.diversity", 4),
    (no_power_iteration, "none", "history.loss_d", 1),
    (other_samples, "none", "scores.consistency", 2),
]


@pytest.mark.parametrize("row", sorted({row for _, row, _, _ in FAULTS}))
def test_the_code_as_it_is_passes(checked, row):
    frame = checked(row)
    assert len(frame) > 90 and frame["passed"].all(), frame[~frame["passed"]]


@pytest.mark.parametrize("plant, row, quantity, step", FAULTS, ids=lambda v: getattr(v, "__name__", None))
def test_a_planted_fault_fails_by_name(checked, monkeypatch, plant, row, quantity, step):
    plant(monkeypatch)
    frame = checked(row)
    failed = frame[~frame["passed"]]
    found = failed[failed["quantity"] == quantity]["step"]
    assert len(found) and found.min() == step, failed[["quantity", "step", "reference", "now", "tolerance"]]


# --- the parts of the check


@pytest.fixture
def two_studies(tmp_path):
    """A made-up reference and a copy of it to change: (reference, now, write) with write(study, seed, fid,
    **changes).
    """
    reference, now = (
        Study("rehearsal", executor="none", out=str(tmp_path / name)) for name in ("reference", "now")
    )

    def write(study, seed, fid, **changes):
        score = {"step": 4, "fid": fid, "is": 2.0, "diversity": 1.0}
        entry = {"step": 1, "loss_d": fid / 100, "loss_g": 0.0, "gamma_g": {}, "gamma_d": {}}
        study.run("none", seed).write(
            {
                "schema": runs.SCHEMA,
                "row": "none",
                "config": {"recipe": {"lr_g": 1.0, "ema_decay": None}, "preset": {}, "seed": seed},
                "status": "complete",
                "error": None,
                "step": 4,
                "parameters": {"generator": 5, "discriminator": 6},
                "history": [entry],
                "scores": [score],
                "final": score,
                "best": score,
                "definition": {"extractor": "x"},
                "provenance": {"wall_seconds": 1.0, "code": runs.code_revision()},
            }
            | changes
        )

    write(reference, 0, 100.0), write(now, 0, 100.0)
    return reference, now, write


def tolerate(fid):
    kinds = {
        "scores.fid": fid,
        "scores.is": 0.1,
        "scores.diversity": 0.0,
        "history.loss_d": 0.01,
        "history.loss_g": 0.0,
    }
    return {
        "seed_spread": {},
        "largest_difference": {name: {"1": value / 2, "4": value} for name, value in kinds.items()},
    }


def compared(reference, now, fid=3.0):
    tasks = [task for task in now.tasks(["table1"]) if task.row == "none"]
    return regression.compare(reference, now, tasks, tolerate(fid)).set_index(["run", "quantity"])


def test_what_is_measured_may_move_by_its_tolerance_and_no_further(two_studies):
    reference, now, write = two_studies
    for fid, passed in ((100.0, True), (105.9, True), (94.1, True), (106.1, False), (93.9, False)):
        write(now, 0, fid)
        frame = compared(reference, now)
        assert (
            frame.loc[("none/seed0", "scores.fid"), "passed"] == passed
            and frame.loc[("none/seed0", "scores.fid"), "tolerance"] == 6.0
        )
    assert not frame.loc[("none/seed0", "history.loss_d"), "passed"]  # 0.939 against 1: past 2 x 0.005
    assert frame["equal"].sum() == len(frame) - 2


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"parameters": {"generator": 5.0000001, "discriminator": 6}}, "parameters.generator"),
        (
            {"config": {"recipe": {"lr_g": 1.0, "ema_decay": 0.9}, "preset": {}, "seed": 0}},
            "config.recipe.ema_decay",
        ),
        ({"definition": {"extractor": "y"}}, "definition.extractor"),
        ({"status": "collapsed"}, "status"),
        ({"history": []}, "history.loss_d"),
        ({"parameters": {"generator": 5, "discriminator": 6, "extra": 1}}, "parameters.extra"),
    ],
)
def test_what_is_exact_must_be_equal(two_studies, changes, name):
    reference, now, write = two_studies
    write(now, 0, 100.0, **changes)
    frame = compared(reference, now)
    assert ("none/seed0", name) in frame[~frame["passed"]].index
    shown = regression.digest(frame.reset_index())
    assert name in set(shown[~shown["passed"]]["quantity"])


def test_a_verdict_that_moved_fails(study_of, declare, tmp_path):
    good = [100, 101, 102]
    study = declare(study_of({"none": good, "attention_8": good, "attention_16": good}))
    shutil.copytree(study.folder, tmp_path / "now" / "rehearsal")
    now = Study("rehearsal", 3, executor="none", out=str(tmp_path / "now"))
    for seed in range(3):
        run = now.run("none", seed)
        record = run.read()
        run.write(record | {"scores": [dict(score, fid=2 * score["fid"]) for score in record["scores"]]})
    frame = regression.compare(study, now, [], None)
    assert frame[~frame["passed"]][["run", "quantity", "reference", "now"]].values.tolist() == [
        ["verdicts", "C4", "no difference", "supported"]
    ]


def test_a_missing_run_fails(reference, tmp_path):
    shutil.copytree(reference.folder, tmp_path / "rehearsal", ignore=shutil.ignore_patterns("sn_d"))
    now = Study("rehearsal", executor="none", out=str(tmp_path))
    frame = regression.compare(
        reference, now, now.tasks(paper.ALL_TABLES), regression.read_tolerances(reference)
    )
    failed = frame[~frame["passed"]][["run", "quantity", "reference", "now"]].values.tolist()
    assert failed == [["sn_d/seed0", "status", "complete", None]]


def test_tolerances_are_the_largest_difference_of_the_arithmetics(two_studies, tmp_path):
    base, _, write = two_studies
    for seed, fid in ((0, 100.0), (1, 110.0), (2, 120.0)):
        write(base, seed, fid)
    twins = [Study("rehearsal", executor="none", out=str(tmp_path / name)) for name in ("a", "b")]
    write(twins[0], 0, 101.0), write(twins[1], 0, 97.0)
    three = Study("rehearsal", 3, executor="none", out=str(base.out))
    tasks = [task for task in three.tasks(["table1"]) if task.row == "none"]
    found = regression.measure(three, twins, tasks)
    assert found["largest_difference"]["scores.fid"] == {"4": 3.0} and found["largest_difference"][
        "history.loss_d"
    ] == {"1": 0.03}
    assert found["seed_spread"]["scores.fid"] == {"4": 10.0}
    assert set(found["largest_difference"]) == {
        "scores.fid",
        "scores.is",
        "scores.diversity",
        "history.loss_d",
        "history.loss_g",
    }


def test_a_tolerance_never_shrinks_with_the_steps_and_is_never_under_rounding():
    tolerances = {
        "seed_spread": {},
        "largest_difference": {"history.gamma_g": {"1": 0.0, "2": 0.5, "3": 0.1}},
    }
    assert regression.tolerance(tolerances, "history.gamma_g.16x16", 3, 1.0) == 1.0
    assert regression.tolerance(tolerances, "history.gamma_g.16x16", 1, 8.0) == 8 * 2**-22
    with pytest.raises(ReproError, match="No tolerance was measured for history.other"):
        regression.tolerance(tolerances, "history.other", 1, 1.0)


def test_a_tolerance_is_wider_once_rounding_is_chance():
    steps = {"1": 0.001, "2": 0.4, "3": 0.1}
    tolerances = {
        "seed_spread": {"scores.fid": {"1": 1.0, "2": 1.0, "3": 1.0}},
        "largest_difference": {"scores.fid": steps},
    }
    found = [regression.tolerance(tolerances, "scores.fid", step, 10.0) for step in (1, 2, 3)]
    assert found == pytest.approx([0.002, 1.2, 1.2])


def test_runs_of_other_sources_are_trained_again(two_studies):
    _, now, write = two_studies
    (task,) = [task for task in now.tasks(["table1"]) if task.row == "none"]
    regression.discard_stale(now, [task])
    assert now.run("none", 0).read()
    for provenance in (
        {"wall_seconds": 1.0, "code": {"sources": "other"}},
        {"wall_seconds": 1.0, "code": runs.code_revision(), "earlier_code": [{"sources": "other"}]},
        {"wall_seconds": 1.0, "code": {}},
    ):
        write(now, 0, 100.0, provenance=provenance)
        regression.discard_stale(now, [task])
        assert now.run("none", 0).read() is None


def test_the_command_passes_fails_by_name_and_refuses(tmp_path, capsys):
    """Over given runs: the committed ones pass, a moved number fails with exit code 1, misuse with 2."""
    given = tmp_path / "rehearsal"
    shutil.copytree(runs.PROJECT / "results" / "rehearsal", given)
    words = ["check", "--preset", "rehearsal", "--runs", str(given)]
    assert cli.run(words) == 0
    assert "equal to the last digit" in capsys.readouterr().out
    path = given / "runs" / "none" / "seed0" / "run.json"
    record = json.loads(path.read_text())
    record["scores"][0]["fid"] *= 1.1
    path.write_text(json.dumps(record))
    assert cli.run(words) == 1
    said = capsys.readouterr().out
    assert "none/seed0" in said and "scores.fid" in said and "FAIL" in said and "1 of" in said
    table = pd.read_csv(given / "check.csv")
    assert table[~table["passed"]][["run", "quantity", "step"]].values.tolist() == [
        ["none/seed0", "scores.fid", 2]
    ]
    for misuse, text in (
        (["check", "--against", str(tmp_path / "nothing")], "There are no runs in"),
        (["check", "--runs", str(tmp_path / "nothing")], "There are no runs in"),
        (["check", "--preset", "smokee"], "Did you mean 'smoke'"),
        (["check", "--preset", "rehearsal", "--against", str(given)], "repro calibrate"),
    ):
        if misuse[-1] == str(given):
            (given / "tolerances.json").unlink()
        assert cli.run(misuse) == 2 and text in capsys.readouterr().err


def test_accept_writes_what_moved_and_by_how_much(two_studies):
    reference, now, write = two_studies
    tasks = [task for task in now.tasks(["table1"]) if task.row == "none"]
    new = dataclasses.replace(tasks[0], row="attention_8")
    pages.write_changes(reference, now, [new], "The first runs.")
    write(now, 0, 90.0, parameters={"generator": 7, "discriminator": 6})
    pages.write_changes(reference, now, tasks, "A wider generator.")
    text = (reference.out / "CHANGELOG.md").read_text()
    newest, oldest = text.split("## `rehearsal`")[1:]
    assert (
        "A wider generator." in newest
        and "New runs: 1." in oldest
        and text.startswith("# Changelog of results")
    )
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in newest.splitlines()
        if line.startswith("| none")
    ]
    assert ["none/seed0", "parameters.generator", "0", "5", "7", "2", "0"] in rows
    assert [
        "none/seed0",
        "scores.fid",
        "4",
        "100",
        "90",
        "-10",
        "0",
    ] in rows and "3 moved (3 past their tolerances), 0 are new, 0 are gone" in newest


def test_accept_makes_a_finished_study_the_reference(tmp_path, monkeypatch, capsys):
    """The command itself, in a project of its own: what is finished is copied, what is not stays behind, and
    the changelog says what moved.
    """
    monkeypatch.setattr(runs, "PROJECT", tmp_path)
    words = ["accept", "--preset", "rehearsal", "--runs-only"]
    assert cli.run(words) == 2 and "There are no runs in" in capsys.readouterr().err
    trained = tmp_path / "outputs" / "rehearsal"
    shutil.copytree(NOTEBOOKS.parent / "results" / "rehearsal", trained)
    (trained / "real.jpg").write_bytes(b"sheet")
    assert cli.run([*words, "--why", "The first."]) == 0
    kept = tmp_path / "results" / "rehearsal" / "runs"
    assert sorted(p.parent.parent.name for p in kept.glob("*/*/run.json")) == sorted(
        p.name for p in (trained / "runs").iterdir()
    )
    record = json.loads((trained / "runs" / "none" / "seed0" / "run.json").read_text())
    record["final"]["fid"] = record["scores"][-1]["fid"] = 1.0
    (trained / "runs" / "none" / "seed0" / "run.json").write_text(json.dumps(record))
    path = trained / "runs" / "weight_average" / "seed0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "interrupted"}))
    for seed, rate in (
        (7, record["config"]["recipe"]["lr_g"]),
        (8, 1.0),
    ):  # of the same configuration, and of another
        config = record["config"] | {"seed": seed, "recipe": record["config"]["recipe"] | {"lr_g": rate}}
        (kept / "none" / f"seed{seed}").mkdir()
        (kept / "none" / f"seed{seed}" / "run.json").write_text(json.dumps(record | {"config": config}))
    assert cli.run([*words, "--why", "Another score."]) == 0
    assert (kept / "none" / "seed7").exists() and not (kept / "none" / "seed8").exists()
    assert json.loads((kept / "none" / "seed0" / "run.json").read_text())["final"]["fid"] == 1.0
    assert (
        json.loads((kept / "weight_average" / "seed0" / "run.json").read_text())["status"] == "complete"
    )  # the earlier one
    newest = (tmp_path / "results" / "CHANGELOG.md").read_text().split("## `rehearsal`")[1]
    assert "Another score." in newest and "scores.fid" in newest and "1 moved" in newest


def test_committed_references_have_tolerances_for_all_they_hold():
    folders = [path.parent for path in (runs.PROJECT / "results").glob("*/tolerances.json")]
    assert {"rehearsal", "smoke"} <= {folder.name for folder in folders}
    for folder in folders:
        committed = Study.in_folder(str(folder))
        tolerances = regression.read_tolerances(committed)
        assert "AVX2" in tolerances["arithmetics"] and tolerances["code"]["dirty"] is False
        for task in regression.reference_tasks(committed, committed):
            for (quantity, step), value in regression.values(
                committed.run(task.row, task.seed).read()
            ).items():
                if regression.kind(quantity):
                    regression.tolerance(tolerances, quantity, step, value)
