"""Making a study's runs the reference, and the changelog that says what moved."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time

import pandas as pd

from .. import paper, provenance, runs
from ..analysis import tables
from ..analysis.plan import read as read_plan
from ..analysis.verdicts import verdicts
from ..checks import regression
from ..errors import ReproError
from ..studies.study import Study, Task, rows, run_name
from .files import shown_tables, write_notebooks
from .readme import renew

CHANGELOG = (
    "# Changelog of results\n\nWritten by `repro accept`, and by `repro report` where verdicts move:"
    " settings, verdicts and final scores that moved, newest first.\n"
)


def changes(reference: Study, new: Study, tasks: list[Task]) -> list[str]:
    """What moves from the reference to the new runs of `tasks`, and by how much: paragraphs."""
    known = [task for task in tasks if reference.run(task.row, task.seed).json_path.exists()]
    told = [f"New runs: {len(tasks) - len(known)}."] if len(known) < len(tasks) else []
    if known:
        tolerances = (
            regression.read_tolerances(reference) if regression.tolerances_path(reference).exists() else None
        )
        told += _moved(regression.compare(reference, new, known, tolerances))
    return told


def verdicts_of(target: Study) -> dict[str, str]:
    """The verdict on each claim by the runs in the study's folder; none where it has no plan or no runs."""
    if read_plan(target) is None or not runs.stored(target.folder):
        return {}
    return dict(verdicts(Study.in_folder(str(target.folder))).set_index("claim")["verdict"])


def reported_verdicts(target: Study) -> dict[str, str]:
    """The verdict on each claim that its last report made; none where it has none."""
    path = target.folder / "verdicts.json"
    reported = json.loads(path.read_text())["claims"] if path.exists() else {}
    return {claim: of["verdict"] for claim, of in reported.items()}


def write_judged_again(target: Study, before: dict[str, str]) -> None:
    """Put an entry on top of the changelog where verdicts are no longer those `before`: today's code judges
    runs by other rules than the code of the last report, or in other words.
    """
    if moved := _moved_verdicts(before, verdicts_of(target)):
        write_changes(target, "Reported again, by the runs that are there.", [moved])


def _moved_verdicts(before: dict[str, str], after: dict[str, str]) -> str:
    moved = [
        f"{claim} from “{before[claim]}” to “{now}”"
        for claim, now in after.items()
        if before.get(claim, now) != now
    ]
    return f"Verdicts that moved: {', '.join(moved)}." if moved else ""


def write_changes(target: Study, why: str, told: list[str]) -> None:
    """Put an entry on top of results/CHANGELOG.md."""
    path = target.out / "CHANGELOG.md"
    code = provenance.code_revision()
    revision = f"{(code['commit'] or 'no git')[:10]}{' with uncommitted changes' if code['dirty'] else ''}"
    head = f"## `{target.preset.name}`, {time.strftime('%Y-%m-%d', time.gmtime())}, code {revision}"
    entry = "\n\n".join([head, *([why] if why else []), *told])
    before = path.read_text().removeprefix(CHANGELOG) if path.exists() else ""
    runs.write_atomically(path, f"{CHANGELOG}\n{entry}\n{before}".encode())


def _moved(frame: pd.DataFrame) -> list[str]:
    """What a comparison says moved: counts, and a table of settings, verdicts and final scores."""
    moved = frame[~frame["equal"]]
    added, removed = (
        moved["reference"].isna() & moved["now"].notna(),
        moved["now"].isna() & moved["reference"].notna(),
    )
    changed = moved[~added & ~removed]
    past = int((~changed["passed"]).sum())
    counts = (
        f"Of {len(frame)} recorded values {len(changed)} moved ({past} past their tolerances), {added.sum()}"
        f" are new, {removed.sum()} are gone."
    )
    measured = changed["quantity"].map(regression.kind)
    last = changed[measured == "scores.fid"].groupby("run")["step"].max()  # of the scores, the final ones
    final = measured.isin(["scores.fid", "scores.is"]) & (changed["step"] == changed["run"].map(last))
    lines = changed[measured.isna() | final]
    if lines.empty:
        return [counts]
    by = [
        b - a if isinstance(a, (int, float)) and isinstance(b, (int, float)) else ""
        for a, b in zip(lines["reference"], lines["now"], strict=True)
    ]
    lines = lines.assign(by=by)[["run", "quantity", "step", "reference", "now", "by", "tolerance"]]
    return [counts, tables.to_markdown(lines.map(lambda v: f"{v:.5g}" if isinstance(v, float) else str(v)))]


def accept(study: Study, target: Study, why: str, notebooks: bool = True) -> None:
    """Make a study's finished runs the reference `target`, and write what moved into its changelog; notebooks
    of the tables that are complete.

    Runs that are not finished stay behind. Committed seeds that this study has not are kept where they are of
    the same configuration. Raises ReproError, before anything is copied, where the study is the reference
    itself, has another plan, or would stand beside committed rows of other data.
    """
    if study.folder == target.folder:
        raise ReproError(f"{target.folder} is the reference: name another study's folder with --out.")
    tasks = regression.reference_tasks(study, study, paper.ALL_TABLES)
    unfinished = study.unfinished(tasks)
    tasks = [task for task in tasks if task not in unfinished]
    _check_data(study, target, tasks)
    _keep_plan(study, target)
    told, before = changes(target, study, tasks), verdicts_of(target)
    shown = {
        run_name(rows()[row], study.preset) for row in ("sagan", "recipe_heykeetae")
    }  # by notebooks, beside samples
    for task in tasks:
        _remove_others(study, target, task)
        source, copy = (s.run(task.row, task.seed) for s in (study, target))
        copy.folder.mkdir(parents=True, exist_ok=True)
        pictures = runs.PICTURES if task.row in shown and task.seed == 0 else ["samples"]
        for path in (source.json_path, source.maps_path, *map(source.picture, pictures)):
            if path.exists():
                shutil.copyfile(path, copy.folder / path.name)
    for path in (study.real_path, *study.folder.glob("metrics-*.json")):
        if path.exists():  # not in a folder of runs that were copied
            shutil.copyfile(path, target.folder / path.name)
    moved = _moved_verdicts(before, verdicts_of(target)) or ("No verdict moved." if before else "")
    write_changes(target, why, [*told, *filter(None, [moved])])
    if notebooks:
        whole = Study.in_folder(str(target.folder))
        write_notebooks(whole, shown_tables(whole), target.folder)
        renew(runs.PROJECT)


def _keep_plan(study: Study, target: Study) -> None:
    """Copy the plan that the runs were made by. Raises ReproError where the reference has another one."""
    own, kept = (of.folder / "plan.json" for of in (study, target))
    if not own.exists():
        return
    if kept.exists() and json.loads(own.read_text()) != json.loads(kept.read_text()):
        raise ReproError(
            f"{own} is not the plan in {kept}, by which the reference's verdicts are made: move one of them"
            " away."
        )
    runs.write_atomically(kept, own.read_bytes())


def _check_data(study: Study, target: Study, tasks: list[Task]) -> None:
    """Raise ReproError where rows that stay committed are of other data than the runs of `tasks`."""
    replaced = {task.row for task in tasks}
    data = {study.run(task.row, task.seed).read()["config"]["data_fingerprint"] for task in tasks}
    for run in runs.stored(target.folder):
        other = data - {run.read()["config"]["data_fingerprint"]}
        if other and run.folder.parent.name not in replaced:
            raise ReproError(
                f"{run.folder} is of other data than the runs in {study.folder}, and scores of different"
                f" data never stand beside each other: nothing was copied; move {target.folder} away first."
            )


def _remove_others(study: Study, target: Study, task: Task) -> None:
    """Remove the committed runs of a task's row that are of another configuration than its run in `study`."""
    known = {
        k: study.run(task.row, task.seed).read()["config"].get(k) for k in ("num_classes", "data_fingerprint")
    }
    for folder in (target.folder / "runs" / task.row).glob("seed*"):
        run = runs.Run(folder)
        if not folder.name[4:].isdigit():  # moved away by a person
            continue
        config = dataclasses.replace(task.config, seed=int(folder.name[4:]))
        try:
            run.check_same(dataclasses.replace(config, **known))
        except ReproError:
            shutil.rmtree(folder)
