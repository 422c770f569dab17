"""The `repro` command. A person's mistake ends in one sentence and exit code 2; an interrupted run in exit
code 75.
"""

from __future__ import annotations

import errno
import inspect
import logging
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from . import runs
from .errors import ReproError, choose
from .presets import PRESETS

app = typer.Typer(
    help="Reproduce Self-Attention GAN (arXiv 1805.08318): train, score and report the paper's tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PresetOption = Annotated[str, typer.Option(help=f"The scale: {', '.join(PRESETS)}.")]
OutOption = Annotated[str, typer.Option(help="The folder of studies (relative to the project).")]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="Folder of class folders or of Parquet files, or a hub name; default: the preset's own."
    ),
]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Runs at once; default: as many as cores allow.")]
ExecutorOption = Annotated[str, typer.Option(help="local: this machine; ray: a Ray cluster.")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help=(
            "The Ray cluster: auto (this machine's), or host:port of its head; default: $RAY_ADDRESS, or this"
            " machine alone."
        )
    ),
]
DevicesOption = Annotated[
    int, typer.Option(min=1, help="GPUs (or processes of the CPU) that share each run, data parallel.")
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="torch.compile: minutes to start, then faster steps; for long runs.")
]
MinutesOption = Annotated[
    float,
    typer.Option(
        min=0, help="Stop training at the next step after so many minutes, with checkpoints and exit code 75."
    ),
]


@app.callback()
def common(
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder with Inception's weight files; default: $REPRO_WEIGHTS, or fetched once."),
    ] = None,
) -> None:
    """Take the options that every command shares."""
    if weights is not None:
        os.environ["REPRO_WEIGHTS"] = str(weights.resolve())  # training processes inherit it


@app.command()
def reproduce(
    preset: PresetOption = "smoke",
    tables: Annotated[
        str | None,
        typer.Option(
            help="Tables, joined by commas: table1, table2, figure3 (the default is these), recipes."
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
) -> None:
    """Train what is missing, execute the notebooks into OUT/PRESET and set the numbers beside
    results/PRESET.
    """
    from . import paper
    from .analysis import frames
    from .analysis.effects import show_effects
    from .analysis.settle import until_settled
    from .analysis.verdicts import in_words, verdicts
    from .reports import pages
    from .studies.study import Study
    from .studies.trainer import ensure

    start = time.monotonic()
    names = _table_names(tables, preset)
    if settled and (seeds or tables):
        raise ReproError(
            "With --until-settled the plan says which rows and seeds are trained: leave --seeds and --tables"
            " out."
        )
    if most_seeds and not settled:
        raise ReproError(
            "--most-seeds goes with --until-settled: name the number of training seeds with --seeds."
        )
    if seeds is None:
        seeds = PRESETS[choose("preset", preset, PRESETS)].seeds
    minutes = min(max_minutes, 60 * max_hours)
    study = Study(
        preset,
        seeds,
        executor,
        out=out,
        data=data,
        jobs=jobs,
        max_minutes=minutes,
        address=address,
        devices=devices,
        compiled=compiled,
    )
    if settled:
        until_settled(study, most_seeds, _say)
        study.seeds = Study.in_folder(str(study.folder)).seeds
        names = study.finished_tables()
    else:
        _say(f"{len(study.tasks(names))} runs of preset {preset}, {len(study.missing(names))} to train.")
        ensure(study, *names)
    pages.write_notebooks(study, names, study.folder)

    for name in names:
        shown = frames.present(study, paper.WITH_NOTEBOOK[name])
        short = [
            c for c in shown if c not in ("best FID", "Δ IS", "ours: consistency", "seeds")
        ]  # the rest is in the notebook
        _print_frame(shown[short], paper.WITH_NOTEBOOK[name].title)
    if paper.RECIPE_TABLE.name in names:
        _print_frame(show_effects(study, paper.RECIPE_TABLE), "What each change moves")
    if set(names) & set(paper.TABLES):
        _print_frame(verdicts(study)[["claim", "verdict", "finding"]], "Verdicts")
        _say(in_words(study))
    _print_difference(study, Study(preset, study.seeds, executor="none", out="results"), names)
    _say(
        f"Notebooks, tables and figures: {_relative(study.folder, runs.PROJECT)}."
        f" {time.monotonic() - start:.0f} s in all."
    )


@app.command()
def train(
    row: Annotated[str, typer.Argument(help="A row of a table, e.g. attention_16.")],
    preset: PresetOption = "smoke",
    seed: Annotated[int, typer.Option(min=0, help="The training seed.")] = 0,
    data: DataOption = None,
    out: OutOption = "outputs",
    max_minutes: MinutesOption = math.inf,
    devices: DevicesOption = 1,
    compiled: CompileOption = False,
) -> None:
    """Train and score one run, resuming from its checkpoint. One such command a run is all a cluster
    needs.
    """
    from .studies.study import configure, rows
    from .studies.trainer import train_row

    # mistakes end before torch is imported
    configure(rows()[choose("row", row, rows())], PRESETS[choose("preset", preset, PRESETS)], seed)

    from .parallel import launch

    record = launch(devices, train_row, preset, row, seed, out, data, max_minutes, compiled)
    _say(f"{record['row']} seed {seed}: {record['status']} at step {record['step']}")


@app.command()
def report(
    source: Annotated[str, typer.Option("--from", help="A folder of finished runs, such as results/smoke.")],
    to: Annotated[str | None, typer.Option(help="Where the notebooks go; default: the same folder.")] = None,
) -> None:
    """Execute the notebooks over finished runs, without training."""
    from .reports import pages
    from .studies.study import Study

    study = Study.in_folder(source)
    folder = runs.PROJECT / to if to else study.folder
    names = study.finished_tables()
    if not names:
        raise ReproError(
            f"No table has all its runs finished in {source}: repro reproduce --preset {study.preset.name}"
            " trains them."
        )
    pages.write_notebooks(study, names, folder)
    if folder == runs.PROJECT / "results" / study.preset.name:
        pages.write_index(runs.PROJECT / "results")
    _say(f"Notebooks, tables and figures: {_relative(folder, runs.PROJECT)}.")


@app.command()
def score(
    images: Annotated[
        str,
        typer.Option(
            help="What to score: a folder of images, an .npz of uint8 images (N, R, R, 3), or Parquet files."
        ),
    ],
    reference: Annotated[str, typer.Option(help="Real images, in any of these forms, or a hub name.")],
    extractor: Annotated[
        str,
        typer.Option(help="inception, or efficientnet_lite0 or efficientnet_lite2, which need no download."),
    ] = "inception",
    resolution: Annotated[
        int | None, typer.Option(min=8, help="Resize both sides to this size first.")
    ] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Also the FID of each class and their mean.")
    ] = False,
    json_to: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file too.")] = None,
) -> None:
    """Score any set of images against any other: FID, KID, Inception score, precision, recall."""
    import json

    import pandas as pd

    from .data.images import read_images
    from .scoring import evaluate
    from .scoring.features import check_extractor, load_extractor

    check_extractor(extractor)
    generated, real = read_images(images, resolution), read_images(reference, resolution)
    network = load_extractor(extractor)
    scores, classes = evaluate.score_images(network, generated, real, by_class)
    if classes:
        scores["intra_fid"] = sum(classes.values()) / len(classes)
    definition = {
        "extractor": network.name,
        "resizer": network.resizer,
        "images": len(generated.images),
        "references": len(real.images),
        "size": generated.images.shape[1],
        "reference_size": real.images.shape[1],
        "reference_fingerprint": real.fingerprint,
    }
    title = f"{network.name}, {definition['images']:,} images against {definition['references']:,}"
    lines = [*scores.items(), *((f"FID of {name}", value) for name, value in classes.items())]
    _print_frame(
        pd.DataFrame([(name, f"{value:.5g}") for name, value in lines], columns=["score", "value"]), title
    )
    if json_to:
        runs.write_atomically(
            json_to,
            (
                json.dumps({"scores": scores, "classes": classes, "definition": definition}, indent=1) + "\n"
            ).encode(),
        )


@app.command()
def validate(
    preset: PresetOption = "smoke",
    extractor: Annotated[
        str, typer.Option(help="inception, efficientnet_lite0 or efficientnet_lite2.")
    ] = "efficientnet_lite0",
    data: DataOption = None,
    out: OutOption = "outputs",
) -> None:
    """Score damaged real images, whose order is known, and execute the notebook that says what the scores can
    tell.
    """
    from .checks import validation
    from .scoring.features import check_extractor
    from .studies.notebooks import execute_notebooks
    from .studies.study import Study

    check_extractor(extractor)
    study = Study(preset, out=out, data=data)
    validation.stored(study, extractor)
    execute_notebooks(["metrics"], study, study.folder)
    _say(f"What the scores can say: {_relative(study.folder / 'metrics.ipynb', runs.PROJECT)}.")


@app.command()
def attention(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run's folder, such as outputs/smoke/runs/attention_16/seed0."),
    ],
) -> None:
    """Measure what a trained run's attention maps attend to, and draw them into RUN/attention.jpg."""
    import pandas as pd

    from .networks import resnet
    from .scoring import attention as maps
    from .training import checkpoint

    config, g, d, precision = checkpoint.trained(folder)
    if not maps.blocks(g):
        raise ReproError(
            f"The networks of {folder} have no attention: name a run of a row such as attention_16."
        )
    measured, shown = maps.look(g, d, config, precision)
    run = runs.Run(folder)
    maps.write(run, shown)
    gamma = {
        f"{name} {stage}": v
        for name, network in (("G", g), ("D", d))
        for stage, v in resnet.gammas(network).items()
    }
    frame = pd.DataFrame({"gamma": gamma} | measured).map("{:.3f}".format)
    _print_frame(
        frame.rename_axis("").reset_index(),
        "What is attended to: distances in sides of the image, colours in grey levels",
    )
    _say(f"The picture: {run.picture('attention')}")


@app.command()
def sample(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, or a generator that `repro export` wrote.")
    ],
    n: Annotated[int, typer.Option(min=1, help="How many images.")] = 64,
    label: Annotated[
        int | None, typer.Option("--class", min=0, help="The class of all; default: all classes in turns.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents.")] = 0,
    out: Annotated[Path, typer.Option(help="The sheet of images, a PNG.")] = Path("grid.png"),
) -> None:
    """Draw images of a trained generator."""
    from .data import sheets
    from .reports import export as exports
    from .scoring import evaluate

    config, g, precision = exports.generator(source)
    if label is not None and label >= config.num_classes:
        raise ReproError(
            f"--class is {label} and this generator knows {config.num_classes} classes: choose from 0 to"
            f" {config.num_classes - 1}."
        )
    images, _ = evaluate.sample(g, config, n, precision, seed=seed, label=label)
    runs.write_atomically(out, sheets.square(images))
    _say(f"{n} images of {config.preset.resolution} px: {out}")


@app.command()
def export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run's folder, such as outputs/smoke/runs/attention_16/seed0."),
    ],
    to: Annotated[
        Path | None, typer.Option(help="The .safetensors file; default: RUN/generator.safetensors.")
    ] = None,
) -> None:
    """Write the generator of a run's best scored step as safetensors, with a model card."""
    from .reports import export as exports

    to = to or folder / "generator.safetensors"
    if to.suffix != exports.SUFFIX:
        raise ReproError(f"--to is {to}: give it a name that ends in {exports.SUFFIX}.")
    exports.export(folder, to)
    _say(f"The generator: {to}. Its model card: {to.with_suffix('.md')}")


@app.command()
def check(
    preset: PresetOption = "smoke",
    against: Annotated[str | None, typer.Option(help="The reference; default: results/PRESET.")] = None,
    given: Annotated[
        str | None, typer.Option("--runs", help="Compare the runs in this folder instead of training them.")
    ] = None,
    jobs: JobsOption = None,
    data: DataOption = None,
    out: Annotated[str, typer.Option(help="Where the runs are trained.")] = "outputs/check",
) -> None:
    """Train a reference's runs again and compare every number with it; exit code 1 when one is past its
    tolerance.

    The rehearsal comes first: a few steps in fp32, whose tolerances are the last digits. Where it fails,
    nothing more is trained. At the end the tables and verdicts of every study in results/ are computed from
    its runs again and compared with its files.
    """
    from .checks import regression as checks
    from .reports import pages
    from .studies.study import Study
    from .studies.trainer import train as train_missing

    choose("preset", preset, PRESETS)
    stages = []
    # all misuse ends here
    for name in [preset] if preset == "rehearsal" or against or given else ["rehearsal", preset]:
        reference = Study.in_folder(against or f"results/{name}")
        now = (
            Study.in_folder(given)
            if given
            else Study(name, out=out, data=data if name == preset else None, jobs=jobs)
        )
        now.seeds = reference.seeds
        stages.append(
            (reference, now, checks.reference_tasks(reference, now), checks.read_tolerances(reference))
        )
    for reference, now, tasks, tolerances in stages:
        start = time.monotonic()
        name = now.preset.name
        if not given:
            checks.discard_stale(now, tasks)
            _say(f"{len(tasks)} runs of preset {name}, {len(now.unfinished(tasks))} to train.")
            train_missing(now, tasks)
        frame = checks.compare(reference, now, tasks, tolerances)
        frame.to_csv(now.folder / "check.csv", index=False)
        shown = checks.digest(frame)
        shown["passed"] = shown["passed"].map({True: "pass", False: "FAIL"})
        title = (
            f"{name} against {_relative(reference.folder, runs.PROJECT)}: what failed, and what came nearest"
            " to its tolerance"
        )
        _print_frame(shown.map(lambda v: f"{v:.5g}" if isinstance(v, float) else str(v)), title)
        failed = int((~frame["passed"]).sum())
        words = f"{failed} of {len(frame)} values FAILED" if failed else f"All {len(frame)} values passed"
        path = _relative(now.folder, runs.PROJECT) / "check.csv"
        _say(
            f"{words}, {frame['equal'].sum()} equal to the last digit ({time.monotonic() - start:.0f} s). All"
            f" of them: {path}"
        )
        if failed:
            raise typer.Exit(1)
    if not (against or given):
        for study in pages.studies(runs.PROJECT / "results"):
            found = pages.reread(study)
            wrong = [name for name, same in found.items() if not same]
            _say(
                f"results/{study.preset.name}: {len(found)} files read again, "
                + (f"not what the runs say: {', '.join(wrong)}" if wrong else "all say what the runs say")
            )
            if wrong:
                raise typer.Exit(1)


@app.command()
def calibrate(
    preset: PresetOption = "smoke",
    seeds: Annotated[
        int, typer.Option(min=2, help="Training seeds for the spread that tolerances are set beside.")
    ] = 3,
    arithmetics: Annotated[str, typer.Option(help="Joined by commas; SSE4.1 is slow.")] = "AVX2,SSE4.1",
    jobs: JobsOption = None,
    data: DataOption = None,
    out: Annotated[str, typer.Option(help="Where the runs are trained.")] = "outputs/check",
) -> None:
    """Measure the tolerances of results/PRESET: its runs again from other seeds and in other arithmetics."""
    from .checks import regression as checks
    from .studies.study import Study

    reference = Study.in_folder(f"results/{preset}")
    checks.calibrate(preset, reference, seeds, arithmetics.split(","), out, jobs, data)
    _say(
        f"Tolerances: {_relative(checks.tolerances_path(reference), runs.PROJECT)}. Now run repro check"
        f" --preset {preset}."
    )


@app.command()
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
    from .reports import pages
    from .studies.study import Study

    study = Study.in_folder(str(Path(out) / preset))
    pages.accept(
        study, Study(preset, study.seeds, executor="none", out="results"), why, notebooks=not runs_only
    )
    _say(
        f"results/{preset} now holds this study: look at it and at results/CHANGELOG.md, then commit."
        " Tolerances: repro calibrate."
    )


@app.command()
def site(to: Annotated[Path, typer.Option(help="The folder of pages.")] = Path("outputs/site")) -> None:
    """Write the executed notebooks and the pages of results as static HTML, readable without Jupyter and
    network.
    """
    from .reports import site as sites

    to = runs.PROJECT / to
    count = sites.build(to)
    _say(f"{count} pages: open {_relative(to, runs.PROJECT)}/index.html")


@app.command()
def bench(
    only: Annotated[
        str | None,
        typer.Option(
            help=(
                "Sections, joined by commas: training, attention, scoring, studies, and smoke and cluster"
                " (long)."
            )
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Turns that each side takes; medians are shown.")] = 5,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="A file or checkout to train against, as benchmarks/plain_loop.py; may be given again."
        ),
    ] = None,
    json_to: Annotated[
        Path, typer.Option("--json", help="Where every number goes; the table goes beside it.")
    ] = Path("outputs/bench.json"),
) -> None:
    """Measure the speed of this machine's training, scoring and reports against what a user could pick
    instead.
    """
    from .checks import bench as benches

    lines = []
    for line in benches.measure(only.split(",") if only else list(benches.DEFAULT), repeats, peer or []):
        logging.getLogger(__name__).info("%s: %.3g %s", line.what, line.ours, line.unit)
        lines.append(line)
    _print_frame(
        benches.table(lines),
        f"Medians of {repeats} turns, on a shared machine if this is one: trust the ratios",
    )
    benches.write(lines, repeats, runs.PROJECT / json_to)
    _say(f"Every number: {_relative(runs.PROJECT / json_to, runs.PROJECT)}.")


@app.command()
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
    from .checks import estimate as estimates

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
        _print_frame(frame, f"Preset {preset} on clusters of such GPUs")
    else:
        frame, assumptions = estimates.estimate(chosen, counts[0], seeds)
        _print_frame(frame, f"Preset {preset} on {gpus} of this machine's devices")
    _say("\n".join(f"* {text}" for text in assumptions))


@app.command()
def commands(
    preset: PresetOption = "smoke",
    tables: Annotated[
        str | None, typer.Option(help="Tables, joined by commas; default: the paper's three.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Training seeds a row; default: the preset's.")
    ] = None,
    data: DataOption = None,
    out: OutOption = "outputs",
    devices: DevicesOption = 1,
    compiled: CompileOption = False,
) -> None:
    """Print one plain command for each missing run, the longest first: for a job array or any other
    scheduler.
    """
    from .studies.executors import command
    from .studies.study import Study

    study = Study(preset, seeds or PRESETS[choose("preset", preset, PRESETS)].seeds, out=out, data=data)
    for task in study.missing(_table_names(tables, preset)):
        words = command(preset, task.row, task.seed, out, math.inf, data, devices, compiled)
        print(shlex.join(["repro", *words[3:]]))


@app.command()
def status(preset: PresetOption = "smoke", out: OutOption = "outputs") -> None:
    """List the runs of a preset, its plan and where its looks stand."""
    from .analysis import plan as plans
    from .analysis.comparisons import judge
    from .analysis.settle import progress
    from .analysis.verdicts import in_words
    from .studies.study import Study

    study = Study(preset, executor="none", out=out)
    paths = sorted((study.folder / "runs").glob("*/seed*/run.json"))
    if not paths:
        _say(
            f"No runs of {preset} in {_relative(study.folder, runs.PROJECT)} yet: repro reproduce --preset"
            f" {preset} trains them."
        )
    for path in paths:
        record = runs.Run(path.parent).read()
        final = record.get("final")
        score = (
            f"  FID {final['fid']:.1f}, IS {final['is']:.2f} ({record['definition']['extractor']})"
            if final
            else ""
        )
        error = f"  {record['error']}" if record["error"] else ""
        name = f"{path.parent.parent.name}/{path.parent.name}"
        print(
            f"{name:32} {record['status']:12} step"
            f" {record['step']:>7}/{record['config']['preset']['steps']}{score}{error}"
        )
    declared = plans.read(study)
    if declared:
        _say("\n".join([in_words(study), *progress(study, declared, judge(study), declared.most_seeds)]))


@app.command()
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
    import json

    from .analysis import plan as plans
    from .studies.study import Study

    study = Study(preset, executor="none", out=out)
    path = study.folder / "plan.json"
    if path.exists():
        raise ReproError(
            f'{path} exists: edit it, and say in its "changes" what changed after how many seeds.'
        )
    if any((study.folder / "runs").glob("*/seed*/run.json")):
        raise ReproError(f"{study.folder} holds runs already: a plan is declared before the first one.")
    raw = plans.draft(study.preset, most_seeds, scores, time.strftime("%Y-%m-%d", time.gmtime()), pilot)
    runs.write_atomically(path, (json.dumps(raw, indent=1) + "\n").encode())
    _say(f"The plan: {_relative(path, runs.PROJECT)}. Read it and commit it before the first run.")


def _table_names(tables: str | None, preset: str) -> list[str]:
    from . import paper

    if tables is None:
        return list(PRESETS[choose("preset", preset, PRESETS)].tables)
    return [choose("table", name.strip(), paper.WITH_NOTEBOOK) for name in tables.split(",")]


def _print_frame(frame, title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column in frame:
        table.add_column(str(column), no_wrap=column == "", overflow="fold")
    for line in frame.itertuples(index=False):
        table.add_row(*map(str, line))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _print_difference(study, committed, names: list[str]) -> None:
    from .analysis import frames

    both = frames.difference_to(study, committed, names)
    if both.empty:
        _say(f"results/{study.preset.name} holds no such runs to compare with.")
        return
    moved = both[both["difference"] != 0]
    if moved.empty:
        _say(f"All {len(both)} final scores equal those of results/{study.preset.name} to the last digit.")
    else:
        columns = ["table", "row", "seed", "metric", "value_here", "value_committed", "difference"]
        title = f"{len(moved)} of {len(both)} final scores differ from results/{study.preset.name}"
        _print_frame(moved[columns].round(4), title)


def _relative(path: Path, base: Path) -> Path:
    return path.relative_to(base) if path.is_relative_to(base) else path


def _say(text: str) -> None:
    print(text, flush=True)


for _command in app.registered_commands:  # Typer's list of commands would keep a docstring's line breaks
    _paragraphs = inspect.getdoc(_command.callback).split("\n\n")
    _command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in _paragraphs)


def main() -> None:
    """Set up logging, run the command line, and exit with its code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    for name in ("datasets", "papermill", "httpx", "matplotlib", "fsspec", "timm"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        app(arguments)
    except SystemExit as stop:  # also typer's own errors of usage, with code 2
        return stop.code or 0
    except ReproError as error:
        print(f"repro: {error}", file=sys.stderr)
        return 2
    except runs.Interrupted as stop:
        print(f"repro: {stop}", file=sys.stderr)
        return runs.INTERRUPTED
    except runs.RankDied as error:
        print(f"repro: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        where = f" at {error.filename}" if error.filename else ""
        print(
            f"repro: {error.strerror}{where}: free space or choose another folder (--out, or $REPRO_CACHE for"
            " prepared data), then run the same command again; finished steps are kept.",
            file=sys.stderr,
        )
        return 2
    return 0
