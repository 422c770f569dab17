"""Tables and verdicts from made-up runs, whose answers are known."""

import shutil

import pytest
import typer

from repro import paper
from repro.analysis import frames, plan, setting
from repro.commands import results
from repro.errors import ReproError
from repro.reports import files, learned, pages, readme
from repro.studies.study import Study

ATTENTION = ("attention_8", "attention_16")


def test_every_knob_changes_what_it_says_at_the_presets_it_runs_at(study_of):
    changes = setting.changes(
        study_of({"none": [1]}, preset="cifar10-recipes"), paper.RECIPE_TABLE
    ).set_index("")["changes"]
    assert changes["released_code"] == "–" and changes["no attention"] == "attention_at []"
    assert changes["random flips"] == "flip True" and changes["Adam beta2 0.9"] == "beta2 0.9"
    assert "bn_momentum 0.01" in changes["BN momentum 0.01"] and "network dcgan" in changes["heykeetae"]
    others = changes.drop("released_code")
    assert others.nunique() == len(others) and "–" not in set(others)  # a knob that is the default is none


def test_the_differences_page_has_each_setting_and_its_effect(recipe_study, tmp_path, monkeypatch):
    study = recipe_study(knob_average=[100, 121], knob_slow_bn=[100, 122], knob_sn_cbn=[100, 123])
    (study.folder / "recipes.ipynb").write_text("{}")
    page = pages.differences(tmp_path)
    line = next(line for line in page.splitlines() if line.startswith("| init "))
    assert "+36.9 % (" in line and "orthogonal" in line
    together = [line for line in page.splitlines() if ", together with " in line]
    assert len(together) == 6 and "together with" not in line  # three pairs of fields
    assert any(
        line.startswith("| SN on the cBN tables ") and "together with cBN tables at the start" in line
        for line in together
    )
    assert "| Adam beta1" not in page  # alike everywhere
    assert "D's power iteration" in page and "one an update" in page


def test_the_page_of_a_rows_runs_leads_from_any_table_to_the_command(study_of):
    study = study_of({"none": [100, 110], "attention_16": [90, 95]})
    path = study.folder / "runs/attention_16/README.md"
    page = pages.rows_texts(study)[path]
    for text in (
        "`repro train attention_16 --preset rehearsal --seed K`, K = 0, 1",
        "[run.json](seed1/run.json)",
        "| attention_at",
        "| recipe.beta2",
        "| 95 ",
    ):
        assert text in page, text
    assert "no executed notebook" in page  # links only to what is there
    run = study.run("attention_16", 1)
    made = run.read()["provenance"] | {"compiled": True, "cuda_graphs": None, "accumulate": 4}
    run.write(run.read() | {"provenance": made})
    again = pages.rows_texts(study)[path]
    assert "--compile --accumulate 4 --seed 1`" in again and "--preset rehearsal --seed 0`" in again
    (study.folder / "table1_self_attention.ipynb").write_text("{}")
    assert "(../../table1_self_attention.ipynb), as *attention at 16*" in pages.rows_texts(study)[path]
    table = "\n".join(pages._table(study, paper.TABLE1, "results/rehearsal"))
    assert (
        "[attention at 16](results/rehearsal/runs/attention_16/README.md)" in table
        and "| attention at 8 " in table
        and "| attention at 64 " not in table
        and "Left out: attention at 32, attention at 64" in table
    )


def test_the_index_links_the_executed_notebooks_of_no_table(study_of, tmp_path):
    study = study_of({"none": [100]})
    for name in ("table1_self_attention", "report", "figure6_samples", "report.failed"):
        (study.folder / f"{name}.ipynb").write_text("{}")
    page = pages.texts(tmp_path)[tmp_path / "README.md"]
    assert (
        "Its other notebooks: [Figure 6: samples by class, their neighbours, and the way between]"
        "(rehearsal/figure6_samples.ipynb); [Report: every table, every claim, one page]"
        "(rehearsal/report.ipynb)."
    ) in page


def test_the_summary_answers_for_each_data_set(study_of, declare):
    good = [100, 101, 102]
    study = study_of({"none": [2 * v for v in good], "attention_8": good, "attention_16": good})
    assert "no claim has a verdict" in readme.answer([study])[0]  # without a report,
    (study.folder / "report.csv").write_text("")
    assert "no claim has a verdict" in readme.answer([study])[0]  # or a plan
    text = "\n".join(readme.answer([declare(study)]))
    assert "Does attention help? After 4 updates: supported." in text and "Other scales may differ" in text
    assert (
        "* [`rehearsal`](results/rehearsal/report.md): symmetric shapes, 32 px, width 8, 4 updates." in text
    )


def test_the_first_screen_has_the_verdicts_of_all_studies_and_the_one_that_answers_first(
    study_of, declare, another
):
    fids = {row: [100.0, 104.0, 97.0] for row in ("none", "attention_8", "attention_16")}
    first = declare(study_of(fids))
    (first.folder / "report.csv").write_text("")
    again = another(first, "again", margin=0.5, seed_offset=10)
    assert readme.judged([first, again]) == [again, first]
    tried = 2 * len({c.claim for c in plan.read(first).comparisons})
    likely = learned.claims([first, again])[1]
    assert f"These are {tried} verdicts. If nothing differed in any study" in likely
    assert "supported only if all of them are" in likely
    text = "\n".join(readme.answer([first, again]))
    assert "| no difference: `again`; open: `rehearsal` |" in text and "| not tried here |" in text
    assert "(all seeds:" not in text  # here they say what the verdicts do
    assert text.index("* [`again`](results/again/report.md)") < text.index("* [`rehearsal`]")
    assert "width 8, 4 updates, fresh seeds." in text
    longer = another(first, "longer", steps=8)  # of as many channels times steps as a study twice as wide
    wider = another(first, "wider", channels=16)
    assert "results/longer/strip.jpg" in "\n".join(readme.answer([first, again, wider, longer]))
    stress = readme._study(Study("cifar10-stress", executor="none", out=first.out))
    assert stress.endswith("1,000 updates, learning rates times 8 and 32.")


def test_pages_say_what_all_seeds_would_where_a_verdict_was_made_earlier(study_of, declare):
    early, late = [90.0, 90.1, 90.2], [150.0, 160.0]  # better at three seeds, open by five
    study = study_of({"none": [100.0, 100.1, 100.2, 100.0, 100.1]} | dict.fromkeys(ATTENTION, early + late))
    (declare(study).folder / "report.csv").write_text("")
    assert "| supported: `rehearsal` (all seeds: open) |" in "\n".join(readme.answer([study]))
    assert "| supported (all seeds: open) |" in learned.claims([study])[0]


def test_pages_that_say_something_else_than_the_runs_are_named(study_of, declare, tmp_path):
    good = [100, 101, 102]
    made = declare(study_of({"none": [2 * v for v in good], "attention_8": good, "attention_16": good}))
    shutil.copytree(made.folder, tmp_path / "project/results/rehearsal")
    study = Study.in_folder(str(tmp_path / "project/results/rehearsal"))
    (study.folder / "table1_self_attention.ipynb").write_text("{}")
    files.write_report(study, study.folder)
    (tmp_path / "project/README.md").write_text(f"Above\n<!-- generated: answer -->{readme.END}\nbelow\n")
    renewed = lambda: readme.renew(tmp_path / "project")
    wrong = lambda: {page for page, same in readme.reread(tmp_path / "project").items() if not same}
    renewed()
    assert (
        not wrong()
        and "**Does attention help? After 4 updates: supported.**"
        in (tmp_path / "project/README.md").read_text()
    )
    record = study.run("none", 0).read()
    record["final"]["fid"] = record["scores"][-1]["fid"] = 190.0
    study.run("none", 0).write(record)
    assert wrong() == {"README.md", "results/README.md", "results/rehearsal/runs/none/README.md"}
    renewed()
    assert not wrong()


def test_a_declared_study_says_how_far_it_is_until_it_is_reported(study_of, declare):
    study = declare(study_of({row: [100, 101] for row in ("none", "attention_8", "attention_16")}))
    (line,) = pages.planned(study.out)
    assert line.startswith("[`rehearsal`](rehearsal/plan.json): C1, C2, C4")
    assert line.endswith(" (0 to 2 of the 3 seeds of its first look)")
    assert readme._waiting(study.out)[0].startswith("[Not judged yet](results/README.md): `rehearsal`: C1")
    assert "seeds" not in readme._waiting(study.out)[0]
    (study.folder / "report.csv").write_text("")
    assert pages.planned(study.out) == []


def test_studies_with_more_runs_come_first(study_of):
    small, large = study_of({"none": [100]}, preset="smoke"), study_of({"none": [100, 110, 120]})
    for study in (small, large):
        (study.folder / "report.ipynb").write_text("{}")
    assert [(s.preset.name, s.seeds) for s in pages.studies(large.out)] == [("rehearsal", 3), ("smoke", 1)]


def test_committed_tables_and_verdicts_say_what_runs_and_plan_say(study_of, declare, rehearsal):
    good = [100, 101, 102]
    table1 = [row.name for row in paper.TABLE1.rows if frames.unavailable(row, rehearsal) is None]
    study = declare(study_of(dict.fromkeys(table1, good) | {"residual_8": [2 * v for v in good]}))
    files.write_table(study, paper.TABLE1, study.folder)
    assert files.reread(study) == {}  # nothing counts without its notebook
    (study.folder / "table1_self_attention.ipynb").write_text("{}")
    files.write_report(study, study.folder)
    wrong = lambda: [name for name, same in files.reread(study).items() if not same]
    assert len(files.reread(study)) == 6 and not wrong()
    record = study.run("residual_8", 0).read()
    record["final"]["fid"] = record["scores"][-1]["fid"] = 70.0
    study.run("residual_8", 0).write(record)
    assert wrong() == [
        "table1_self_attention.csv",
        "table1_self_attention.md",
        "report.csv",
        "report.md",
        "verdicts.json",
        "comparisons.csv",
    ]


def test_a_table_that_gets_a_row_stays_in_the_report(study_of, declare, rehearsal):
    """A committed table is read again and reported whether or not its new row has run."""
    table1 = [row.name for row in paper.TABLE1.rows if frames.unavailable(row, rehearsal) is None]
    study = declare(study_of(dict.fromkeys(table1, [100, 101, 102])))
    (study.folder / "table1_self_attention.ipynb").write_text("{}")
    write = lambda: (
        files.write_table(study, paper.TABLE1, study.folder),
        files.write_report(study, study.folder),
    )
    write()
    shutil.rmtree(study.folder / "runs" / "residual_8")  # as if it were new
    assert study.finished_tables() == [] and files.shown_tables(study) == ["table1"]
    assert not files.reread(study)["table1_self_attention.csv"]
    write()
    assert all(files.reread(study).values())
    assert "not run" in (study.folder / "table1_self_attention.md").read_text()


def test_a_plan_that_changed_after_runs_is_found_and_has_to_be_said(study_of, declare):
    study = declare(study_of({"none": [100, 101, 102]}))
    files.write_report(study, study.folder)
    declare(study, margin=0.2)
    assert not all(files.reread(study).values())
    with pytest.raises(ReproError, match=r"changed after \d seeds had run \(margin\)"):
        files.write_report(study, study.folder)
    declare(study, margin=0.2, changes=[{"date": "2026-02-02", "after_seeds": 1, "fields": ["margin"]}])
    files.write_report(study, study.folder)
    assert "**Exploratory**" in (study.folder / "report.md").read_text() and all(files.reread(study).values())


def test_the_check_names_the_files_of_every_study(study_of, monkeypatch, capsys):
    study = study_of({"none": [100]})
    monkeypatch.setattr(pages, "studies", lambda results: [study, Study("smoke", executor="none")])
    monkeypatch.setattr(files, "reread", lambda study: {f"{study.preset.name}.csv": False, "same.csv": True})
    monkeypatch.setattr(readme, "reread", lambda project: {"page.md": False})
    with pytest.raises(typer.Exit):
        results._read_again()
    said = capsys.readouterr().out
    assert all(name in said for name in ("rehearsal.csv", "smoke.csv", "page.md")) and "same" not in said
