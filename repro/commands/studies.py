"""Commands that train studies, and say what they need and where they stand."""

from __future__ import annotations

import json
import math
import shlex
import time
from typing import TYPE_CHECKING, Annotated

import typer

from .. import runs
from ..errors import ReproError, choose
from ..execution import Execution
from ..presets import PRESETS
from .options import (
    AccumulateOption,
    AddressOption,
    CompileOption,
    DataOption,
    DevicesOption,
    ExecutorOption,
    GraphsOption,
    JobsOption,
    MinutesOption,
    OutOption,
    PresetOption,
    table_names,
)
from .printing import print_frame, relative, say, say_in_brief

if TYPE_CHECKING:
    from ..studies.study import Study


def reproduce(
    preset: PresetOption = "smoke",
    tables: Annotated[
        str | None,
        typer.Option(
            help="Tables, joined by commas, such as table1,figure3 or recipes; default: the preset's."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Training seeds a row; default: the preset's.")] = None,
    settled: Annotated[
        bool,
        typer.Option(
            "--until-settled", help="Seed after seed of what is open by the preset's plan, until nothing is."
        ),
    ] = False,
    most_seeds: Annotated[
        int | None,
        typer.Option(min=1, help="With --until-settled: stop at so many seeds, if the plan allows more."),
    ] = None,
    max_hours: Annotated[float, typer.Option(min=0, help="As --max-minutes, in hours.")] = math.inf,
    jobs: JobsOption = None,
    data: DataOption = None,
    out: OutOption = "outputs",
    max_minutes: MinutesOption = math.inf,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
    devices: DevicesOption = 1,
    compiled: CompileOption = False,
    graphed: GraphsOption = False,
    accumulate: AccumulateOption = 1,
) -> None:
    """Train what is missing, execute the notebooks into OUT/PRESET and set the numbers beside
    results/PRESET.
    """
    from ..reports import files
    from ..studies.study import Study

    start = time.monotonic()
    names = table_names(tables, preset)
    _refuse_contradictions(settled, seeds, tables, most_seeds, executor)
    study = Study(
        preset,
        PRESETS[choose("preset", preset, PRESETS)].seeds if seeds is None else seeds,
        executor,
        out=out,
        data=data,
        jobs=jobs,
        max_minutes=min(max_minutes, 60 * max_hours),
        address=address,
        execution=Execution(devices, compiled, graphed, accumulate),
    )
    if settled:
        names = _settle(study, most_seeds)
    else:
        _train_missing(study, names)
    files.write_notebooks(study, names, study.folder)
    say_in_brief(study, study.folder)
    _print_study(study, names)
    _print_difference(study, Study(preset, study.seeds, executor="none", out="results"), names)
    say(f"{time.monotonic() - start:.0f} s in all.")


def _refuse_contradictions(
    settled: bool, seeds: int | None, tables: str | None, most_seeds: int | None, executor: str
) -> None:
    if settled and executor == "none":
        raise ReproError("--until-settled trains and --executor none never does: leave one of them out.")
    if settled and (seeds or tables):
        raise ReproError(
            "With --until-settled the plan says which rows and seeds are trained: leave --seeds and --tables"
            " out."
        )
    if most_seeds and not settled:
        raise ReproError(
            "--most-seeds goes with --until-settled: name the number of training seeds with --seeds."
        )


def _settle(study: Study, most_seeds: int | None) -> list[str]:
    """Train until nothing is open by the plan. Returns the tables that are finished then."""
    from ..analysis.settle import until_settled

    until_settled(study, most_seeds, say)
    study.seeds = study.in_folder(str(study.folder)).seeds
    return study.finished_tables()


def _train_missing(study: Study, names: list[str]) -> None:
    from ..studies.trainer import ensure

    missing = len(study.missing(names))
    say(f"{len(study.tasks(names))} runs of preset {study.preset.name}, {missing} to train.")
    ensure(study, *names)


def train(
    row: Annotated[str, typer.Argument(help="A row of a table, e.g. attention_16.")],
    preset: PresetOption = "smoke",
    seed: Annotated[int, typer.Option(min=0, help="The training seed.")] = 0,
    data: DataOption = None,
    out: OutOption = "outputs",
    max_minutes: MinutesOption = math.inf,
    devices: DevicesOption = 1,
    compiled: CompileOption = False,
    graphed: GraphsOption = False,
    accumulate: AccumulateOption = 1,
) -> None:
    """Train and score one run, resuming from its checkpoint. One such command a run is all a cluster
    needs.
    """
    from ..studies.study import configure, rows
    from ..studies.trainer import train_row

    # mistakes end before torch is imported
    configure(rows()[choose("row", row, rows())], PRESETS[choose("preset", preset, PRESETS)], seed)

    from ..parallel import launch

    execution = Execution(devices, compiled, graphed, accumulate)
    record = launch(devices, train_row, preset, row, seed, out, data, max_minutes, execution)
    say(f"{record['row']} seed {seed}: {record['status']} at step {record['step']}")


def status(preset: PresetOption = "smoke", out: OutOption = "outputs") -> None:
    """List the runs of a preset, its plan and where its looks stand."""
    from ..analysis import plan as plans
    from ..analysis.comparisons import judge
    from ..analysis.settle import progress
    from ..analysis.verdicts import rests_on
    from ..studies.study import Study

    study = Study(preset, executor="none", out=out)
    found = runs.stored(study.folder)
    if not found:
        say(
            f"No runs of {preset} in {relative(study.folder)} yet: repro reproduce --preset"
            f" {preset} trains them."
        )
    for run in found:
        record = run.read()
        final = record.get("final")
        score = (
            f"  FID {final['fid']:.1f}, IS {final['is']:.2f} ({record['definition']['extractor']})"
            if final
            else ""
        )
        error = f"  {record['error']}" if record["error"] else ""
        name = f"{run.folder.parent.name}/{run.folder.name}"
        print(
            f"{name:32} {record['status']:12} step"
            f" {record['step']:>7}/{record['config']['preset']['steps']}{score}{error}"
        )
    declared = plans.read(study)
    if declared:
        say("\n".join([*rests_on(study), *progress(study, declared, judge(study), declared.most_seeds)]))


def plan(
    preset: PresetOption = "cifar10",
    most_seeds: Annotated[
        int, typer.Option(min=1, help="The most training seeds a row that the study will take.")
    ] = 5,
    scores: Annotated[
        int, typer.Option(min=1, help="Over how many of the last scores the endpoint is averaged.")
    ] = 3,
    pilot: Annotated[str, typer.Option(help="Where the reasons stand.")] = "",
    out: Annotated[str, typer.Option(help="The folder of studies (relative to the project).")] = "results",
) -> None:
    """Write the plan of a preset, before its first run: what is compared, by which measure, and when its runs
    are looked at.
    """
    from ..analysis import drafting
    from ..studies.study import Study

    study = Study(preset, executor="none", out=out)
    path = study.folder / "plan.json"
    if path.exists():
        raise ReproError(
            f'{path} exists: edit it, and say in its "changes" what changed after how many seeds.'
        )
    working = Study(preset, executor="none").folder  # where repro reproduce trains by default
    for folder in (study.folder, working) if study.out == runs.PROJECT / "results" else (study.folder,):
        if runs.stored(folder):
            raise ReproError(f"{folder} holds runs already: a plan is declared before the first one.")
    raw = drafting.draft(study.preset, most_seeds, scores, time.strftime("%Y-%m-%d", time.gmtime()), pilot)
    runs.write_atomically(path, (json.dumps(raw, indent=1) + "\n").encode())
    say(f"The plan: {relative(path)}. Read it and commit it before the first run.")


def commands(
    preset: PresetOption = "smoke",
    tables: Annotated[
        str | None, typer.Option(help="Tables, joined by commas; default: the preset's.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Training seeds a row; default: the preset's.")
    ] = None,
    data: DataOption = None,
    out: OutOption = "outputs",
    devices: DevicesOption = 1,
    compiled: CompileOption = False,
    graphed: GraphsOption = False,
    accumulate: AccumulateOption = 1,
) -> None:
    """Print one plain command for each missing run, seed after seed, the longest first: for a job array or
    any other scheduler.
    """
    from ..studies.executors import command
    from ..studies.study import Study

    study = Study(preset, seeds or PRESETS[choose("preset", preset, PRESETS)].seeds, out=out, data=data)
    execution = Execution(devices, compiled, graphed, accumulate)
    for task in study.missing(table_names(tables, preset)):
        words = command(preset, task.row, task.seed, out, math.inf, data, execution)
        print(shlex.join(["repro", *words[3:]]))


def estimate(
    preset: PresetOption = "imagenet",
    gpus: Annotated[
        str,
        typer.Option(
            help=(
                "How many devices like this machine's; with --images-per-second several numbers, joined by"
                " commas."
            )
        ),
    ] = "1",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Training seeds a row; default: the preset's.")
    ] = None,
    images_per_second: Annotated[
        float | None, typer.Option(min=1e-9, help="Of one GPU that is not here, on the row without a block.")
    ] = None,
) -> None:
    """Measure a few steps of every row here, and say what a whole study takes: hours, device-hours and disk,
    by table.

    With --images-per-second instead what it takes on clusters of GPUs that fast, and what it asks of storage
    and driver.
    """
    from ..checks import estimate as estimates

    chosen = PRESETS[choose("preset", preset, PRESETS)]
    if not all(n.isdigit() and int(n) for n in gpus.split(",")) or (
        "," in gpus and images_per_second is None
    ):
        raise ReproError(
            f"--gpus is {gpus!r}: give one whole number, or with --images-per-second several joined by"
            " commas."
        )
    counts = list(map(int, gpus.split(",")))
    if images_per_second is not None:
        frame, assumptions = estimates.scaling(chosen, counts, images_per_second, seeds)
        print_frame(frame, f"Preset {preset} on clusters of such GPUs")
    else:
        frame, assumptions = estimates.estimate(chosen, counts[0], seeds)
        print_frame(frame, f"Preset {preset} on {gpus} of this machine's devices")
    say("\n".join(f"* {text}" for text in assumptions))


def _print_study(study: Study, names: list[str]) -> None:
    from .. import paper
    from ..analysis import tables
    from ..analysis.effects import show_effects
    from ..analysis.verdicts import rests_on, verdicts

    for name in names:
        shown = tables.present(study, paper.WITH_NOTEBOOK[name])
        short = [
            c for c in shown if c not in ("best FID", "Δ IS", "ours: consistency", "seeds")
        ]  # the rest is in the notebook
        print_frame(shown[short], paper.WITH_NOTEBOOK[name].title)
        if left_out := tables.left_out(study, paper.WITH_NOTEBOOK[name]):
            say(left_out)
    if paper.RECIPE_TABLE.name in names:
        print_frame(show_effects(study, paper.RECIPE_TABLE), "What each change moves")
    if set(names) & set(paper.TABLES):
        print_frame(verdicts(study)[["claim", "verdict", "finding"]], "Verdicts")
        say("\n".join(rests_on(study)))


def _print_difference(study: Study, committed: Study, names: list[str]) -> None:
    from ..analysis import frames

    try:
        both = frames.difference_to(study, committed, names)
    except ReproError as error:  # such as of other data
        say(f"Not compared with results/{study.preset.name}: {error}")
        return
    if both.empty:
        say(f"results/{study.preset.name} holds no such runs to compare with.")
        return
    moved = both[both["difference"] != 0]
    if moved.empty:
        say(f"All {len(both)} final scores equal those of results/{study.preset.name} to the last digit.")
    else:
        columns = ["table", "row", "seed", "metric", "value_here", "value_committed", "difference"]
        title = f"{len(moved)} of {len(both)} final scores differ from results/{study.preset.name}"
        print_frame(moved[columns].round(4), title)
