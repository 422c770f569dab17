"""Commands on finished studies: reports, the regression check, the reference, the site."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from .. import paper, runs
from ..errors import ReproError, choose
from ..presets import PRESETS
from .options import DataOption, JobsOption, OutOption, PresetOption
from .printing import print_frame, relative, say, say_in_brief

CHECKED = "outputs/check"  # where a check trains, and removes what older code trained


def report(
    source: Annotated[
        str,
        typer.Option(
            "--from", help="A folder of finished runs, such as results/smoke (relative to the project)."
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(help="Where the notebooks go (relative to the project); default: the same folder."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Show the report in the browser.")] = False,
) -> None:
    """Execute the notebooks over finished runs, without training."""
    from ..reports import accept as accepting
    from ..reports import files, readme
    from ..studies.notebooks import as_page
    from ..studies.study import Study

    study = Study.in_folder(source)
    folder = runs.PROJECT / to if to else study.folder
    names = files.shown_tables(study)
    if not names:
        raise ReproError(
            f"No table has all its runs finished in {source}: repro reproduce --preset {study.preset.name}"
            f" --out {relative(study.out)} trains them."
        )
    before = accepting.reported_verdicts(study)
    files.write_notebooks(study, names, folder)
    if folder == runs.PROJECT / "results" / study.preset.name:
        accepting.write_judged_again(study, before)
        readme.renew(runs.PROJECT)
    say_in_brief(study, folder)
    if open_page:
        shown = "report" if set(names) & set(paper.TABLES) else paper.WITH_NOTEBOOK[names[0]].notebook
        typer.launch(str(as_page(folder / f"{shown}.ipynb")))


def check(
    preset: PresetOption = "smoke",
    against: Annotated[
        str | None, typer.Option(help="The reference (relative to the project); default: results/PRESET.")
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(
            "--runs",
            help="Compare the runs of this study, such as outputs/smoke, instead of training them; its name"
            " is the preset.",
        ),
    ] = None,
    jobs: JobsOption = None,
    data: DataOption = None,
    out: Annotated[str, typer.Option(help="Where the runs are trained (relative to the project).")] = CHECKED,
) -> None:
    """Train a reference's runs again and compare every number with it; exit code 1 when one is past its
    tolerance.

    The rehearsal comes first: a few steps in fp32, whose tolerances are the last digits. Where it fails,
    nothing more is trained. At the end the tables and verdicts of every study in results/, and the pages
    that show them, are computed from the runs again and compared with what is committed.
    """
    import pandas as pd

    from ..checks import regression as checks
    from ..studies.study import Study
    from ..studies.trainer import train as train_missing

    choose("preset", preset, PRESETS)
    stages = []
    existing = Study.in_folder(given) if given else None
    preset = existing.preset.name if existing else preset
    # all misuse ends here
    for name in [preset] if preset == "rehearsal" or against or given else ["rehearsal", preset]:
        reference = Study.in_folder(against or f"results/{name}")
        now = existing or Study(name, out=out, data=data if name == preset else None, jobs=jobs)
        now.seeds = reference.seeds
        tasks = checks.reference_tasks(reference, now)
        _refuse_misuse(reference, now, tasks, removes=not given and out != CHECKED)
        stages.append((reference, now, tasks, checks.read_tolerances(reference)))
    for reference, now, tasks, tolerances in stages:
        start = time.monotonic()
        if not given:
            checks.discard_stale(now, tasks)
            say(f"{len(tasks)} runs of preset {now.preset.name}, {len(now.unfinished(tasks))} to train.")
            train_missing(now, tasks)
        frame = pd.concat(
            [checks.compare(reference, now, tasks, tolerances), checks.compare_verdicts(reference, now)],
            ignore_index=True,
        )
        _print_check(reference, now, frame, time.monotonic() - start)
        if not frame["passed"].all():
            raise typer.Exit(1)
    if not (against or given):
        _read_again()


def _refuse_misuse(reference, now, tasks, removes: bool) -> None:
    """Raise ReproError where a check would compare a study with itself or with another preset's, or would
    remove runs outside its own folder.
    """
    from ..checks import regression as checks

    if reference.preset.name != now.preset.name:
        raise ReproError(
            f"{relative(reference.folder)} holds runs of preset {reference.preset.name} and would be compared"
            f" with those of {now.preset.name}: give --preset {reference.preset.name}."
        )
    if reference.folder == now.folder:
        raise ReproError(f"{relative(now.folder)} is the reference itself: name another folder.")
    if removes and checks.stale(now, tasks):
        raise ReproError(
            f"{relative(now.folder)} holds runs made by other code, which a check would remove: name an"
            f" empty folder with --out, or leave --out away to train in {CHECKED}."
        )


def _print_check(reference, now, frame, seconds: float) -> None:
    from ..analysis import tables
    from ..checks import regression as checks

    path = now.folder / "check.csv"
    frame.to_csv(path, index=False)
    shown = checks.digest(frame)
    shown["passed"] = shown["passed"].map({True: "pass", False: "FAIL"})
    shown = shown.map(lambda v: f"{v:.5g}" if isinstance(v, float) else str(v))
    title = (
        f"{now.preset.name} against {relative(reference.folder)}: what failed, and what came nearest to its"
        " tolerance"
    )
    print_frame(shown, title)
    failed = int((~frame["passed"]).sum())
    words = f"{failed} of {len(frame)} values FAILED" if failed else f"All {len(frame)} values passed"
    said = (
        f"{words}, {frame['equal'].sum()} equal to the last digit ({seconds:.0f} s). All of them:"
        f" {relative(path)}"
    )
    say(said)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):  # the page of a CI job
        with open(summary, "a") as f:
            f.write(f"{title}\n\n{tables.to_markdown(shown)}\n\n{said}\n\n")


def _read_again() -> None:
    """Compute every study's tables and verdicts and all pages from the runs again, and compare them with what
    is committed.
    """
    from ..reports import files, pages, readme

    results = runs.PROJECT / "results"
    found = {f"results/{study.preset.name}": files.reread(study) for study in pages.studies(results)}
    found["README.md, docs/ and pages of results/"] = readme.reread(runs.PROJECT)
    for where, texts in found.items():
        wrong = [name for name, same in texts.items() if not same]
        say(
            f"{where}: {len(texts)} files read again, "
            + (f"not what the runs say: {', '.join(wrong)}" if wrong else "all say what the runs say")
        )
    if not all(same for texts in found.values() for same in texts.values()):
        raise typer.Exit(1)


def calibrate(
    preset: PresetOption = "smoke",
    seeds: Annotated[
        int, typer.Option(min=2, help="Training seeds for the spread that tolerances are set beside.")
    ] = 3,
    arithmetics: Annotated[str, typer.Option(help="Joined by commas; SSE4.1 is slow.")] = "AVX2,SSE4.1",
    jobs: JobsOption = None,
    data: DataOption = None,
    out: Annotated[str, typer.Option(help="Where the runs are trained (relative to the project).")] = CHECKED,
    of_runs: Annotated[
        str | None,
        typer.Option(
            "--runs",
            help="Train nothing: count the runs of this study, made on another processor, too; such as"
            " outputs/check/rehearsal, whose name is the preset.",
        ),
    ] = None,
) -> None:
    """Measure the tolerances of results/PRESET: its runs again from other seeds and in other arithmetics."""
    from ..checks import regression as checks
    from ..studies.study import Study

    other = Study.in_folder(of_runs) if of_runs else None
    preset = other.preset.name if other else preset
    reference = Study.in_folder(f"results/{preset}")
    if other:
        counted = checks.widen(reference, other, checks.reference_tasks(reference, other))
        say(f"{relative(checks.tolerances_path(reference))} counts these processors: {', '.join(counted)}.")
        return
    checks.calibrate(preset, reference, seeds, arithmetics.split(","), out, jobs, data)
    say(f"Tolerances: {relative(checks.tolerances_path(reference))}. Now run repro check --preset {preset}.")


def accept(
    preset: PresetOption = "smoke",
    out: OutOption = "outputs",
    runs_only: Annotated[
        bool, typer.Option("--runs-only", help="No notebooks: a reference for repro check alone.")
    ] = False,
    why: Annotated[str, typer.Option(help="One sentence for the changelog of results.")] = "",
) -> None:
    """Copy a finished study from OUT to results/: it becomes the reference, and results/CHANGELOG.md says
    what moved.
    """
    from ..reports import accept as accepting
    from ..studies.study import Study

    study = Study.in_folder(str(Path(out) / preset))
    accepting.accept(
        study, Study(preset, study.seeds, executor="none", out="results"), why, notebooks=not runs_only
    )
    say(
        f"results/{preset} now holds this study: look at it and at results/CHANGELOG.md, then commit."
        " Tolerances: repro calibrate."
    )


def site(
    to: Annotated[Path, typer.Option(help="The folder of pages (relative to the project).")] = Path(
        "outputs/site"
    ),
) -> None:
    """Write the executed notebooks and the pages of results as static HTML, readable without Jupyter and
    network.
    """
    from ..reports import site as sites

    to = runs.PROJECT / to
    count = sites.build(to)
    say(f"{count} pages: open {relative(to)}/index.html")
