"""What a study writes beside its notebooks: tables and figures as files."""

from __future__ import annotations

import json
from pathlib import Path

from .. import paper, runs
from ..analysis import frames, gains, setting, tables
from ..analysis.plan import check_declared
from ..analysis.plan import read as read_plan
from ..analysis.verdicts import (
    UNITS,
    comparisons,
    rests_on,
    show_comparisons,
    show_verdicts,
    verdicts,
    written,
)
from ..checks import validation
from ..studies.notebooks import execute_notebooks
from ..studies.study import Study
from . import figures, forests, pictures, plots

FIGURES = ("figure5_attention_maps", "figure6_samples")  # notebooks over the runs of Tables 1 and 2


def table_texts(study: Study, table: paper.Table) -> dict[str, str]:
    """<notebook>.csv (numbers) and .md (for readers) of a table, by file name."""
    text = (
        f"# {table.title}\n\nPaper: {paper.SETTING}. Ours: preset `{study.preset.name}`,"
        f" {setting.definition(study)}.\n\n"
    )
    return {
        f"{table.notebook}.csv": frames.summary(study, table).to_csv(index=False, float_format="%.6g"),
        f"{table.notebook}.md": text + tables.to_markdown(tables.present(study, table)) + "\n",
    }


def report_texts(study: Study) -> dict[str, str]:
    """report.csv and report.md, the verdicts, and what they rest on: comparisons.csv and, of a study with a
    plan, verdicts.json; by file name.
    """
    table, declared = verdicts(study), read_plan(study)
    parts, by_plan = [f"# Verdicts, preset `{study.preset.name}`"], {}
    if declared:
        name = study.preset.name
        parts += [
            f"Runs and tables: [results](../README.md#{name}). How verdicts are made:"
            " [statistics](../../docs/statistics.md).",
            "![Gains with intervals, by comparison](comparisons.png)",
            *show_verdicts(study),
            "## What they rest on",
        ]
    parts.append(tables.listed(rests_on(study)))
    if declared:
        parts += ["## The comparisons behind them", UNITS, tables.to_markdown(show_comparisons(study))]
        parts += gains.show_by_other_scores(study, "##")
        numbers = comparisons(study).to_csv(index=False, float_format="%.6g")
        by_plan = {"verdicts.json": written(study, declared), "comparisons.csv": numbers}
    text = "\n\n".join(parts) + "\n"
    return {"report.csv": table.to_csv(index=False), "report.md": text} | by_plan


def write_table(study: Study, table: paper.Table, folder: Path) -> None:
    """The texts of a table and its picture, scores by row."""
    for name, text in table_texts(study, table).items():
        runs.write_atomically(folder / name, text.encode())
    own = {paper.RECIPE_TABLE.name: forests.effects, paper.STRESS.name: plots.survival}
    picture = own.get(table.name, plots.final_scores)
    figures.save(picture(study, table), folder / f"{table.notebook}.png")


def write_report(study: Study, folder: Path) -> None:
    """The texts of the report and, of a study with a plan, the pictures of its comparisons, of those that the
    README shows, and of samples.

    Raises ReproError where the plan differs from the one that the verdicts here were made by, and does not
    say so.
    """
    declared, before = read_plan(study), folder / "verdicts.json"
    if declared and before.exists():
        made = json.loads(before.read_text())
        check_declared(made["plan"], declared.raw, made["seeds"])
    for name, text in report_texts(study).items():
        runs.write_atomically(folder / name, text.encode())
    if declared:
        figures.save(forests.comparisons(study), folder / "comparisons.png")
    if declared and paper.TABLE1.name in shown_tables(study):
        figures.save(forests.comparisons(study, brief=True), folder / "answer.png")
        runs.write_atomically(folder / "strip.jpg", pictures.strip(study).data)


def shown_tables(study: Study) -> list[str]:
    """The tables that a report of the study has: those that are finished, and those that its folder shows
    already, where a row that the table got since is "not run".
    """
    finished = study.finished_tables()
    return [
        name
        for name in study.possible_tables
        if name in finished or (study.folder / f"{paper.WITH_NOTEBOOK[name].notebook}.ipynb").exists()
    ]


def reread(study: Study) -> dict[str, bool]:
    """For each text file of a committed study whether it says what its runs say, by file name."""
    texts = {}
    for table in map(paper.WITH_NOTEBOOK.get, study.possible_tables):
        if (study.folder / f"{table.notebook}.ipynb").exists():
            texts |= table_texts(study, table)
    if (study.folder / "report.csv").exists():
        texts |= report_texts(study)
    paths = {name: study.folder / name for name in texts}
    return {name: paths[name].exists() and paths[name].read_text() == text for name, text in texts.items()}


def write_notebooks(study: Study, names: list[str], folder: Path) -> None:
    """Execute the notebooks that the tables named have runs for into `folder`, with the files made of their
    frames.
    """
    shown = [paper.WITH_NOTEBOOK[name] for name in names]
    notebooks = [table.notebook for table in shown]
    if validation.path_of(study, "efficientnet_lite0").exists():
        notebooks.append("metrics")
    if {"table1", "table2"} <= set(names) and not frames.attention(
        study, paper.TABLE1
    ).empty:  # older runs did not record it
        notebooks.extend(FIGURES)
    if set(names) & set(paper.TABLES):
        notebooks.append("report")
    execute_notebooks(notebooks, study, folder)
    for table in shown:
        write_table(study, table, folder)
    if "report" in notebooks or read_plan(study):
        write_report(study, folder)
