"""Records: what they hold, and which are refused."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from repro import cli, provenance, runs
from repro.errors import ReproError


def test_a_record_is_never_half_written(tmp_path, monkeypatch):
    run = runs.Run(tmp_path)
    run.write({"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        run.write({"step": 2})
    assert json.loads(run.json_path.read_text()) == {"step": 1} and list(tmp_path.iterdir()) == [
        run.json_path
    ]


def test_a_run_that_was_moved_away_is_no_run_of_the_study(study_of):
    study = study_of({"none": [100, 110]})
    for name in ("seed1-old", "seed-old"):
        os.renames(study.run("none", 1).folder, study.run("none", 1).folder.with_name(name))
        assert [run.folder.name for run in runs.stored(study.folder)] == ["seed0"]
        os.renames(study.run("none", 1).folder.with_name(name), study.run("none", 1).folder)
    assert len(runs.stored(study.folder)) == 2


def test_a_record_is_readable_by_pandas_in_one_line(study_of):
    study = study_of({"none": [100]})
    assert (
        pd.json_normalize(json.loads(study.run("none", 0).json_path.read_text()))["final.fid"].item() == 100
    )


def test_unreadable_records_are_refused(study_of):
    run = study_of({"none": [100]}).run("none", 0)
    run.json_path.write_text("{")
    with pytest.raises(ReproError, match="cannot be read"):
        run.read()


CLEAN, DIRTY = (
    {"code": {"commit": "0123456789abcdef", "dirty": dirty, "sources": "fedcba98"}} for dirty in (False, True)
)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"schema": runs.SCHEMA + 1}, "a newer version made the run; update repro."),
        ({"schema": "2.0"}, "a newer version made the run; update repro."),
        (
            {"schema": runs.SCHEMA - 1, "provenance": CLEAN},
            (
                "an older version made the run; move its folder away and train it again, or use the version"
                " that made it (commit 0123456789)."
            ),
        ),
        (
            {"schema": runs.SCHEMA - 1, "provenance": DIRTY},
            "train it again, or use the version that made it (sources fedcba98).",
        ),
        (
            {"schema": runs.SCHEMA - 1, "provenance": {}},
            "an older version made the run; move its folder away and train it again.",
        ),
    ],
)
def test_a_record_of_another_schema_says_what_to_do_and_stays(study_of, capsys, change, said):
    study = study_of({"none": [100]})
    path = study.run("none", 0).json_path
    text = json.dumps(study.run("none", 0).read() | change)
    path.write_text(text)
    words = ["train", "none", "--preset", study.preset.name, "--out", str(study.out)]
    assert cli.run(words) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert (
        f"has schema {change['schema']} and this version reads {runs.SCHEMA}: " in error
        and error.endswith(said)
    )
    assert path.read_text() == text and [p.name for p in path.parent.iterdir() if p.name != ".lock"] == [
        "run.json"
    ]


def test_a_record_has_a_line_for_each_logged_step(study_of):
    run = study_of({"none": [100]}).run("none", 0)
    entry = {"step": 1, "loss_d": 1.4, "loss_g": -0.2, "gamma_g": {"16x16": 0.1}, "gamma_d": {}}
    record = run.read() | {"history": [entry, entry | {"step": 2}], "attention": [], "error": "a [\n b"}
    run.write(record)
    lines = run.json_path.read_text().splitlines()
    assert (
        run.read() == record
        and sum('"loss_d"' in line and '"gamma_d"' in line for line in lines) == 2
        and max(map(len, lines)) < 200
    )


def test_shortened_numbers_are_the_same_in_float32():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    short = runs.shortened({"step": 3, "gamma": {str(i): float(v) for i, v in enumerate(values)}})
    assert short["step"] == 3 and np.array_equal(np.float32(list(short["gamma"].values())), values)
    assert max(len(repr(abs(v))) for v in short["gamma"].values()) <= 15


@pytest.mark.parametrize(
    "change, named",
    [
        ({"status": "finished"}, r"data.status must be one of"),
        ({"step": "4"}, r"data.step must be integer"),
        ({"history": [{"step": 1}]}, r"data.history\[0\] must contain .*loss_d"),
        (
            {"scores": [{"step": 1, "fid": -3, "is": 1, "diversity": 1}]},
            r"data.scores\[0\].fid must be bigger than or equal to 0",
        ),
        ({"config": {"recipe": {}}}, r"data.config must contain .*preset"),
    ],
)
def test_a_record_that_breaks_the_schema_is_refused_by_field(study_of, change, named):
    run = study_of({"none": [100]}).run("none", 0)
    run.json_path.write_text(json.dumps(run.read() | change))
    with pytest.raises(ReproError, match=named):
        run.read()


@pytest.mark.parametrize(
    "code, said",
    [
        ({"commit": "0123456789abcdef", "dirty": False, "sources": "abc"}, "commit 0123456789"),
        ({"commit": "0123456789abcdef", "dirty": True, "sources": "abc"}, "sources abc"),
        ({"commit": None, "dirty": None, "sources": "abc"}, "sources abc"),
        ({"commit": "0123456789abcdef", "dirty": True}, "unknown"),
    ],
)
def test_a_run_names_the_code_that_made_it(code, said):
    assert provenance.revisions({"provenance": {"code": code}}) == [said]
    moved = {"code": code, "earlier_code": [{"sources": "5ae1"}, code]}
    assert provenance.revisions({"provenance": moved}) == ["sources 5ae1", said]
