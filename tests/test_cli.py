"""The real command: what a person types, and what comes back."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import pytest
from packaging.version import Version

from repro import cli, paper, runs
from repro.analysis import comparisons, plan
from repro.checks import regression
from repro.commands import results
from repro.data import loading
from repro.presets import PRESETS
from repro.reports import files
from repro.studies import notebooks, study

REPRO = [sys.executable, "-m", "repro"]


def repro(*words, **options):
    return subprocess.run([*REPRO, *map(str, words)], capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory, trained_by_check):
    """The whole study at the rehearsal preset, by the real command. It trains one run at least; the others
    may be those of `make check`.
    """
    out = tmp_path_factory.mktemp("studies with spaces é")
    of = study.Study("rehearsal", out=str(out))
    trained_by_check(of, [task for task in of.tasks(paper.TABLES) if task.row != "none"])
    return out, repro("reproduce", "--preset", "rehearsal", "--out", out)


def test_end_to_end(reproduced):
    out, done = reproduced
    assert done.returncode == 0, done.stderr
    folder = out / "rehearsal"
    for notebook in (*(t.notebook for t in paper.TABLES.values()), "report", *files.FIGURES):
        cells = nbformat.read(folder / f"{notebook}.ipynb", 4).cells
        assert all(c.execution_count for c in cells if c.cell_type == "code")
        outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs]
        assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)
        assert (
            notebook in files.FIGURES
            or (folder / f"{notebook}.csv").exists()
            and (folder / f"{notebook}.md").exists()
        )
    assert (
        len(list(folder.glob("runs/*/seed0/run.json")))
        == len(list(folder.glob("runs/*/seed0/samples.jpg")))
        == 9
    )
    assert "attention at 64" in done.stdout and "n/a at 32 px" in done.stdout and "C5" in done.stdout


def test_a_second_call_trains_nothing_and_says_the_same(reproduced, monkeypatch, capsys):
    """Its notebooks are those of the next test."""
    out, first = reproduced
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("checkpoint.pt")}
    monkeypatch.setattr(files, "execute_notebooks", lambda *_: None)
    assert cli.run(["reproduce", "--preset", "rehearsal", "--tables", "figure3", "--out", str(out)]) == 0
    again = capsys.readouterr().out
    assert "0 to train" in again
    assert {p: p.stat().st_mtime_ns for p in out.rglob("checkpoint.pt")} == stamps
    tables = lambda text: re.search(r"Figure 3:.*(?=\n[^\n]* final scores)", text, re.S)[0]
    assert tables(again) == tables(first.stdout) and "Verdicts" in tables(again)


def test_status_and_report_read_a_finished_study(reproduced, tmp_path, monkeypatch, capsys):
    """One of the six notebooks is executed again, by report; all six by reproduce."""
    out, _ = reproduced
    assert cli.run(["status", "--preset", "rehearsal", "--out", str(out)]) == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == 9 and "complete" in listed
    asked = []

    def execute_the_last(names, *of):
        asked.extend(names)
        notebooks.execute_notebooks(names[-1:], *of)

    monkeypatch.setattr(files, "execute_notebooks", execute_the_last)
    assert cli.run(["report", "--from", str(out / "rehearsal"), "--to", str(tmp_path / "again")]) == 0
    assert asked[-1] == "report" and set(asked) == {p.stem for p in (out / "rehearsal").glob("*.ipynb")}
    cells = [
        [(c.source, c.get("outputs")) for c in nbformat.read(folder / "report.ipynb", 4).cells]
        for folder in (tmp_path / "again", out / "rehearsal")
    ]
    assert cells[0] == cells[1]
    for name in ("table1_self_attention.csv", "report.md", "figure3_stabilization.png"):
        assert (tmp_path / "again" / name).read_bytes() == (out / "rehearsal" / name).read_bytes()


def test_a_run_of_another_configuration_stops_the_study(reproduced, tmp_path, capsys):
    out, _ = reproduced
    shutil.copytree(out / "rehearsal" / "runs" / "none", tmp_path / "rehearsal" / "runs" / "none")
    path = tmp_path / "rehearsal/runs/none/seed0/run.json"
    record = json.loads(path.read_text())
    record["config"]["recipe"]["lr_g"] = 0.5
    path.write_text(json.dumps(record))
    before = path.read_bytes()
    assert cli.run(["reproduce", "--preset", "rehearsal", "--tables", "figure3", "--out", str(tmp_path)]) == 2
    assert "recipe.lr_g was 0.5 and is now 0.0001" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "words, said",
    [
        (["reproduce", "--preset", "smokee"], "Did you mean 'smoke'"),
        (["reproduce", "--tables", "table1,tabel2"], "Did you mean 'table2'"),
        (["reproduce", "--seeds", "0"], "seeds is 0"),
        (["reproduce", "--jobs", "0"], "jobs"),
        (["reproduce", "--preset", "cifar10-cpu", "--data", "/nowhere/at all"], "'/nowhere/at all'"),
        (["reproduce", "--preset", "imagenet"], "does not exist: put the file there"),
        (["train", "atention_16"], "Did you mean 'attention_16'"),
        (["train", "attention_64"], "choose from 8, 16"),
        (["report", "--from", "results/nothing"], "no runs in results/nothing"),
        (["reproduse"], "Did you mean 'reproduce'"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_exit_code_2(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("REPRO_WEIGHTS", str(tmp_path))  # no download from a test
    options = ["--out", str(tmp_path)] if words[0] in ("reproduce", "train") else []
    assert cli.run([*words, *options]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    if error.startswith("repro:"):
        assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.rglob("run.json")) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_ends_in_one_sentence(tmp_path, monkeypatch, capsys, number):
    def full(path, data):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(runs, "write_atomically", full)
    assert cli.run(["train", "none", "--preset", "rehearsal", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert os.strerror(number) in error and "free space" in error


def test_a_failed_run_is_named_with_its_reason_and_the_others_finish(tmp_path, capsys, trained_by_check):
    of = study.Study("rehearsal", out=str(tmp_path))
    trained_by_check(of, [task for task in of.tasks(["figure3"]) if task.row == "sn_g_d"])
    blocked = tmp_path / "rehearsal" / "runs" / "sn_d" / "seed0"
    blocked.mkdir(parents=True)
    (blocked / "checkpoint.pt").write_bytes(b"nonsense")
    options = ["--preset", "rehearsal", "--tables", "figure3", "--out", str(tmp_path), "--jobs", "3"]
    assert cli.run(["reproduce", *options]) == 2
    error = capsys.readouterr().err
    assert "sn_d seed 0" in error and "checksum" in error and "delete the folder" in error
    assert (tmp_path / "rehearsal/runs/none/seed0/run.json").exists()
    (blocked / "checkpoint.pt").unlink()
    assert cli.run(["train", "sn_d", "--preset", "rehearsal", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_schedulers_notice_leave_a_resumable_study(tmp_path, sent):
    """SIGINT goes to the whole process group, as in a terminal; SIGTERM to the command alone, as batch
    schedulers send it.
    """
    words = [*REPRO, "reproduce", "--preset", "smoke", "--tables", "figure3", "--out", str(tmp_path)]
    # as in a terminal, also where whatever runs pytest ignores it
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heard,
    )
    folder = tmp_path / "smoke" / "runs"
    deadline = time.monotonic() + 120
    while (
        not any(json.loads(p.read_text())["step"] for p in folder.glob("*/seed0/run.json"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
    _, error = process.communicate(timeout=240)
    assert process.returncode == runs.INTERRUPTED and "same command continues" in error
    records = [json.loads(p.read_text()) for p in folder.glob("*/seed0/run.json")]
    stopped = [r for r in records if r["status"] == "interrupted"]
    assert (
        stopped
        and all(0 < r["step"] < PRESETS["smoke"].steps for r in stopped)
        and not any(r["status"] == "complete" for r in records)
    )
    assert all((folder / r["row"] / "seed0" / "checkpoint.pt").exists() for r in stopped)


def test_a_time_limit_ends_with_a_checkpoint_and_its_exit_code(tmp_path, capsys):
    options = ["--preset", "rehearsal", "--out", str(tmp_path)]
    assert cli.run(["train", "none", *options, "--max-minutes", "0"]) == runs.INTERRUPTED
    run = runs.Run(tmp_path / "rehearsal/runs/none/seed0")
    assert run.read()["status"] == "interrupted" and run.read()["step"] == 0 and run.checkpoint_path.exists()
    assert cli.run(["reproduce", *options, "--tables", "figure3", "--max-minutes", "0"]) == runs.INTERRUPTED
    assert "3 of 3 runs to finish; the same command continues" in capsys.readouterr().err
    assert cli.run(["train", "none", *options]) == 0 and run.read()["status"] == "complete"


def sources(path):
    """The cells of a notebook but the one with its parameters' values."""
    return [
        cell.source
        for cell in nbformat.read(path, 4).cells
        if "injected-parameters" not in cell.metadata.get("tags", ())
    ]


def test_committed_results_are_whole():
    """Each committed study: the present notebooks without an error cell, a finished record of the present
    configuration for each run.

    One that is not reported yet, as its first look is to come, has its plan and no notebook.
    """
    folders = [p for p in (runs.PROJECT / "results").iterdir() if p.is_dir()]
    assert "smoke" in {p.name for p in folders}
    for folder in folders:
        if not any(folder.glob("runs/*/seed*/run.json")):  # a plan before its first run
            assert (folder / "plan.json").exists()
            continue
        committed = study.Study.in_folder(str(folder))
        names = files.shown_tables(committed)
        declared = (folder / "plan.json").exists()
        reported = (folder / "report.csv").exists()
        if not declared and not set(names) & set(paper.TABLES):  # the recipes alone: no claims, so no report
            reported = any(folder.glob("*.ipynb"))
        assert (folder / "real.jpg").exists() or not names
        if not reported and folder.name != "rehearsal":  # which is a reference of the regression check alone
            assert declared and not any(folder.glob("*.ipynb"))
            looks_from = plan.read(committed).first_look
            assert all(j.seeds < looks_from for j in comparisons.judge(committed)), "report it"
        for path in (*folder.glob("*.ipynb"), *folder.rglob("*.json")):  # no path of the machine that made it
            assert not re.search(r'"[^"]*(?<![\w.:/])/(home|root|tmp|work|Users)/', path.read_text()), (
                path.name
            )
        for path in folder.glob("*.ipynb"):
            assert sources(path) == sources(runs.PROJECT / "notebooks" / path.name), path
            outputs = [o for c in nbformat.read(path, 4).cells for o in c.get("outputs", [])]
            assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)
        for name in names:
            assert (folder / f"{paper.WITH_NOTEBOOK[name].notebook}.ipynb").exists() or not reported
        for name in names or committed.possible_tables:
            for task in (
                task
                for task in committed.tasks([name])
                if committed.run(task.row, task.seed).json_path.exists()
            ):
                record = committed.run(task.row, task.seed).read()
                assert record["config"]["preset"]["steps"] == PRESETS[folder.name].steps
                if folder.name in ("smoke", "rehearsal"):
                    assert (
                        record["config"]["data_fingerprint"] == loading.load(PRESETS[folder.name]).fingerprint
                    )
                assert record["provenance"]["code"]["dirty"] is False
                assert committed.run(task.row, task.seed).picture("samples").exists()


def test_environment_yml_has_the_same_pins():
    import yaml

    pip = yaml.safe_load((runs.PROJECT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    assert pip == ["-c constraints.txt", "-e .[test,notebook]"]
    pins = dict(
        line.split("==")
        for line in (runs.PROJECT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert (pins["torch"], pins["torchvision"]) == ("2.14.1", "0.29.1") and Version(pins["scipy"]) < Version(
        "1.18"
    )


def test_help_flows_as_paragraphs(capsys):
    for command in cli.app.registered_commands:
        for paragraph in command.help.split("\n\n"):
            assert "\n" not in paragraph and "  " not in paragraph, command.callback.__name__


def test_the_checks_digest_stands_on_the_page_of_a_ci_job(tmp_path, monkeypatch, study_of):
    frame = pd.DataFrame({"run": ["none/seed0"], "passed": [False], "equal": [False]})
    monkeypatch.setattr(regression, "digest", lambda frame: frame.copy())
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    study = study_of({"none": [100]})
    results._print_check(study, study, frame, 1.0)
    text = (tmp_path / "summary.md").read_text()
    assert "| none/seed0 | FAIL" in text and "1 of 1 values FAILED" in text


def test_commands_that_compute_nothing_do_not_wait_for_pytorch():
    """Importing it is two thirds of the time of `repro status`."""
    program = (
        "import sys; from repro import cli; code = cli.run(['status', '--out', 'results']);"
        " sys.exit(code or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=runs.PROJECT, check=True, capture_output=True)
