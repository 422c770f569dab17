"""The regression check: it passes as the code is, and each planted fault fails it by name."""

import json
import shutil

import pandas as pd
import pytest

from repro import cli, paper, provenance, runs
from repro.checks import regression
from repro.errors import ReproError
from repro.studies.study import Study
from tests.checks.helpers import compared

# --- the parts of the check


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
    frame = regression.compare_verdicts(study, now)
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


def test_runs_of_another_processor_widen_the_tolerances_and_never_narrow_them(two_studies):
    reference, now, write = two_studies
    path = regression.tolerances_path(reference)
    known = {"scores.fid": {"4": 5.0}, "scores.is": {"4": 0.5}, "history.loss_d": {"1": 0.1}}
    path.write_text(json.dumps({"largest_difference": known, "seed_spread": {}}))
    write(now, 0, 108.0, provenance={"processor": "another", "wall_seconds": 1.0})
    (task,) = regression.reference_tasks(reference, now)
    assert regression.widen(reference, now, [task]) == ["another"]
    content = json.loads(path.read_text())
    largest = content["largest_difference"]
    assert largest["scores.fid"] == {"4": 8.0} and largest["scores.is"] == {"4": 0.5}
    assert largest["history.loss_d"] == {"1": 0.1}  # 0.08 apart
    assert regression.widen(reference, now, [task]) == ["another"]  # counted once
    run = now.run(task.row, task.seed)
    record = run.read()
    run.write(record | {"config": record["config"] | {"attention_at": [8]}})
    with pytest.raises(ReproError, match="of another configuration .*attention_at"):
        regression.widen(reference, now, [task])
    shutil.rmtree(now.folder)
    with pytest.raises(ReproError, match="no finished run"):
        regression.widen(reference, now, [task])


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
    for made in (
        {"wall_seconds": 1.0, "code": {"sources": "other"}},
        {"wall_seconds": 1.0, "code": provenance.code_revision(), "earlier_code": [{"sources": "other"}]},
        {"wall_seconds": 1.0, "code": {}},
    ):
        write(now, 0, 100.0, provenance=made)
        regression.discard_stale(now, [task])
        assert now.run("none", 0).read() is None


def test_the_command_passes_fails_by_name_and_refuses(tmp_path, capsys):
    """Over given runs: the committed ones pass, a moved number fails with exit code 1, misuse with 2."""
    given = tmp_path / "rehearsal"
    shutil.copytree(runs.PROJECT / "results" / "rehearsal", given)
    words = ["check", "--runs", str(given)]  # the folder names the preset
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
    shutil.copytree(
        runs.PROJECT / "results" / "cifar10-recipes", tmp_path / "cifar10-recipes"
    )  # whose reference has no tolerances
    for misuse, text in (
        (["check", "--against", str(tmp_path / "nothing")], "There are no runs in"),
        (["check", "--runs", str(tmp_path / "nothing")], "There are no runs in"),
        (["check", "--preset", "smokee"], "Did you mean 'smoke'"),
        (["check", "--preset", "rehearsal", "--against", str(given)], "repro calibrate"),
        (["check", "--runs", str(given), "--against", "results/smoke"], "give --preset smoke"),
        (["check", "--runs", str(given), "--against", f"{given}/"], "is the reference itself"),
        (
            ["calibrate", "--runs", str(tmp_path / "cifar10-recipes")],
            "repro calibrate --preset cifar10-recipes",
        ),
    ):
        if misuse[-1] == str(given):
            (given / "tolerances.json").unlink()
        assert cli.run(misuse) == 2 and text in capsys.readouterr().err


def test_a_check_removes_nothing_outside_its_own_folder(tmp_path, capsys):
    record = tmp_path / "rehearsal" / "runs" / "none" / "seed0" / "run.json"
    shutil.copytree(runs.PROJECT / "results" / "rehearsal", tmp_path / "rehearsal")
    assert cli.run(["check", "--preset", "rehearsal", "--out", str(tmp_path)]) == 2
    assert "made by other code" in capsys.readouterr().err and record.exists()


def test_runs_to_count_are_named_as_those_to_check(tmp_path, monkeypatch):
    """Calibrate --runs takes a study's folder, and trains nothing."""
    shutil.copytree(runs.PROJECT / "results" / "rehearsal", tmp_path / "rehearsal")
    counted = []
    monkeypatch.setattr(regression, "widen", lambda *of: counted.append(of) or ["another"])
    assert cli.run(["calibrate", "--runs", str(tmp_path / "rehearsal")]) == 0
    (reference, other, tasks), *_ = counted
    assert reference.folder == runs.PROJECT / "results" / "rehearsal" and len(tasks) > 5
    assert other.folder == tmp_path / "rehearsal"


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
