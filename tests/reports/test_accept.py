"""A finished study becomes the reference, and the changelog says what moved."""

import dataclasses
import json
import shutil

import pytest

from repro import cli, runs
from repro.commands import results
from repro.errors import ReproError
from repro.reports import accept, files
from repro.studies.notebooks import NOTEBOOKS
from repro.studies.study import Study


def test_accept_writes_what_moved_and_by_how_much(two_studies):
    reference, now, write = two_studies
    tasks = [task for task in now.tasks(["table1"]) if task.row == "none"]
    new = dataclasses.replace(tasks[0], row="attention_8")
    accept.write_changes(reference, "The first runs.", accept.changes(reference, now, [new]))
    write(now, 0, 90.0, parameters={"generator": 7, "discriminator": 6})
    accept.write_changes(reference, "A wider generator.", accept.changes(reference, now, tasks))
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
    (kept / "none" / "seed7.old").mkdir()  # moved away by a person
    assert cli.run([*words, "--why", "Another score."]) == 0
    assert (kept / "none" / "seed7").exists() and not (kept / "none" / "seed8").exists()
    assert json.loads((kept / "none" / "seed0" / "run.json").read_text())["final"]["fid"] == 1.0
    # the earlier one
    assert json.loads((kept / "weight_average" / "seed0" / "run.json").read_text())["status"] == "complete"
    newest = (tmp_path / "results" / "CHANGELOG.md").read_text().split("## `rehearsal`")[1]
    assert "Another score." in newest and "scores.fid" in newest and "1 moved" in newest
    assert cli.run([*words, "--out", "results"]) == 2 and "is the reference" in capsys.readouterr().err


def test_verdicts_are_those_of_all_seeds_where_a_folder_holds_the_new_one_alone(study_of, declare, tmp_path):
    fids = {"none": [200, 204, 199], "attention_8": [100, 101, 103], "attention_16": [101, 102, 99]}
    committed = declare(study_of(fids))
    new = Study("rehearsal", 3, executor="none", out=str(tmp_path / "new"))
    shutil.copytree(committed.folder, new.folder)
    for row in fids:
        shutil.rmtree(committed.run(row, 2).folder)
        for seed in range(2):
            shutil.rmtree(new.run(row, seed).folder)
    new.real_path.write_bytes(b"sheet")
    before = accept.verdicts_of(committed)
    assert before["C4"] == "open"
    accept.accept(new, committed, "One more seed.", notebooks=False)
    after = accept.verdicts_of(committed)
    newest = (committed.out / "CHANGELOG.md").read_text()
    assert after["C4"] == "supported" and "New runs: 3." in newest
    assert "Verdicts that moved: C4 from “open” to “supported”" in newest
    assert newest.count("from “") == sum(before[claim] != after[claim] for claim in before)
    accept.accept(new, committed, "The same again.", notebooks=False)
    assert "No verdict moved." in (committed.out / "CHANGELOG.md").read_text().split("## `rehearsal`")[1]


def test_verdicts_that_a_new_report_changes_are_in_the_changelog(study_of, declare):
    study = declare(study_of({"none": [200, 204, 199], "attention_8": [100, 101, 103]}))
    files.write_report(study, study.folder)
    reported = accept.reported_verdicts(study)
    accept.write_judged_again(study, reported)
    assert reported["C1"] == "open" and not (study.out / "CHANGELOG.md").exists()
    accept.write_judged_again(study, reported | {"C1": "not testable"})
    assert (
        "Verdicts that moved: C1 from “not testable” to “open”." in (study.out / "CHANGELOG.md").read_text()
    )


def test_a_report_of_a_committed_study_writes_verdicts_that_moved(study_of, declare, tmp_path, monkeypatch):
    study = declare(study_of({"none": [200, 204, 199], "attention_8": [100, 101, 103]}))
    files.write_report(study, study.folder)
    verdicts = study.folder / "verdicts.json"
    verdicts.write_text(verdicts.read_text().replace('"verdict": "open"', '"verdict": "supported"', 1))
    committed = shutil.move(study.folder, tmp_path / "results" / "rehearsal")
    monkeypatch.setattr(runs, "PROJECT", tmp_path)
    monkeypatch.setattr(Study, "finished_tables", lambda study: ["table1"])
    monkeypatch.setattr(files, "write_notebooks", lambda study, names, folder: None)
    results.report("results/rehearsal", to="elsewhere")
    assert not (tmp_path / "results" / "CHANGELOG.md").exists()
    results.report(str(committed))
    assert "from “supported” to “open”" in (tmp_path / "results" / "CHANGELOG.md").read_text()


def test_accept_takes_the_plan_along_and_refuses_another(study_of, declare, tmp_path):
    new = declare(study_of({"none": [200]}))  # without a sheet of real images, as in a folder of copied runs
    target = Study("rehearsal", executor="none", out=str(tmp_path / "results"))
    accept.accept(new, target, "With its plan.", notebooks=False)
    path = target.folder / "plan.json"
    assert path.read_text() == (new.folder / "plan.json").read_text()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"margin": 0.2}))
    with pytest.raises(ReproError, match="is not the plan in"):
        accept.accept(new, target, "With another plan.", notebooks=False)


def test_rows_of_other_data_never_stand_beside_the_committed(study_of, tmp_path):
    """Refused before anything is copied; committed seeds of a row that is replaced go, where their data
    differ.
    """

    def on(data, *names):
        for path in (new.folder / "runs").glob("*/seed*"):
            if not names or path.parent.name in names:
                record = runs.Run(path).read()
                runs.Run(path).write(record | {"config": record["config"] | {"data_fingerprint": data}})

    new = study_of({"none": [200, 210], "attention_16": [100, 110]})
    new.real_path.write_bytes(b"sheet")
    target = Study("rehearsal", executor="none", out=str(tmp_path / "results"))
    on("photos")
    accept.accept(new, target, "Photos.", notebooks=False)
    before = target.run("none", 0).json_path.read_text()
    on("drawings")
    shutil.rmtree(new.folder / "runs" / "attention_16")
    (new.folder / "plan.json").write_text("{}")
    with pytest.raises(ReproError, match="attention_16/seed0 is of other data .* nothing was copied"):
        accept.accept(new, target, "Drawings.", notebooks=False)
    assert not (target.folder / "plan.json").exists()
    (new.folder / "plan.json").unlink()
    assert target.run("none", 0).json_path.read_text() == before
    shutil.rmtree(target.folder / "runs" / "attention_16")
    shutil.rmtree(new.folder / "runs" / "none" / "seed1")
    accept.accept(new, target, "Drawings alone.", notebooks=False)
    assert target.run("none", 0).read()["config"]["data_fingerprint"] == "drawings"
    assert not target.run("none", 1).json_path.exists()
