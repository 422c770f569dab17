"""A finished study becomes the reference, and the changelog says what moved."""

import dataclasses
import json
import shutil

from repro import cli, runs
from repro.reports import accept
from repro.studies.notebooks import NOTEBOOKS


def test_accept_writes_what_moved_and_by_how_much(two_studies):
    reference, now, write = two_studies
    tasks = [task for task in now.tasks(["table1"]) if task.row == "none"]
    new = dataclasses.replace(tasks[0], row="attention_8")
    accept.write_changes(reference, now, [new], "The first runs.")
    write(now, 0, 90.0, parameters={"generator": 7, "discriminator": 6})
    accept.write_changes(reference, now, tasks, "A wider generator.")
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
    # the earlier one
    assert json.loads((kept / "weight_average" / "seed0" / "run.json").read_text())["status"] == "complete"
    newest = (tmp_path / "results" / "CHANGELOG.md").read_text().split("## `rehearsal`")[1]
    assert "Another score." in newest and "scores.fid" in newest and "1 moved" in newest
