"""Which runs a table needs, who trains the missing ones, and the notebooks over them."""

from __future__ import annotations

import dataclasses
import errno
import logging
import math
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import paper, runs
from .config import RECIPES, Config, Preset, ReproError, SizeNotAvailable, choose, get_preset

NOTEBOOKS = runs.PROJECT / "notebooks"
EXECUTORS = ("local", "ray", "none")  # this machine, a Ray cluster; none: never train, show what is there


@dataclass(frozen=True)
class Task:
    """One run of the study: the row that names its folder, its training seed, and its configuration before the data are known."""

    row: str
    seed: int
    config: Config

    @property
    def steps(self) -> float:
        """Work in steps of a 1:1 row, for the order of runs and the time left.

        A D update counts 0.4 of such a step and G's 0.6: in results/smoke a run with five D updates takes 2.4 times as long.
        """
        return self.config.preset.steps * (0.4 * self.config.recipe.d_steps + 0.6)


def configure(row: paper.Row, preset: Preset, seed: int = 0, recipe: str | None = None) -> Config:
    """The configuration of a row at a preset, from the row's recipe or another.

    Raises SizeNotAvailable when the row's feature-map size does not exist there, ReproError for an unknown recipe.
    """
    base = RECIPES[choose("recipe", recipe or row.recipe, RECIPES)]
    return Config(
        recipe=dataclasses.replace(base, **row.changes),
        preset=preset,
        attention_at=row.attention_at,
        residual_at=row.residual_at,
        seed=seed,
    )


def rows() -> dict[str, paper.Row]:
    """Every row of every table by name."""
    return {row.name: row for table in paper.ALL_TABLES.values() for row in table.rows}


def run_name(row: paper.Row, preset: Preset) -> str:
    """The row whose folder holds this row's runs: the first one of the tables with the same configuration."""
    identity = configure(row, preset).identity
    for other in rows().values():
        try:
            if configure(other, preset).identity == identity:
                return other.name
        except SizeNotAvailable:
            continue
    raise AssertionError("a row always equals itself")


def train_row(preset: str, row: str, seed: int, out: str, data: str | None, max_minutes: float, compiled: bool) -> dict:
    """Train and score one run by its names, in one process or on every rank of a process group. Returns its record.

    Raises what `train.train` does; any other failure is recorded in run.json as well.
    """
    from . import data as images, parallel
    from .features import SECOND, check_extractor
    from .train import train

    study = Study(preset, seed + 1, out=out, data=data)
    chosen = rows()[row]
    name = run_name(chosen, study.preset)
    check_extractor(study.preset.extractor)
    loaded = images.load(study.preset, study.data)
    parallel.on_first(lambda: study.write_real(loaded))
    run = study.run(name, seed)
    try:
        return train(images.with_data(configure(chosen, study.preset, seed), loaded), loaded, run, name, max_minutes, compiled)
    except (ReproError, runs.Interrupted):
        raise
    except Exception as error:
        record = run.read()
        if record is not None and parallel.rank() == 0 and getattr(error, "errno", None) != errno.ENOSPC:
            run.write(record | {"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise


class Study:
    """The runs of a preset under one folder.

    Args: preset, by name; seeds, how many training seeds (0 .. seeds - 1); executor, "local" to train what is missing here,
    "ray" to train it on a Ray cluster, "none" to show what is there; out, the folder of studies (relative to the project); data,
    where the images are (None: the preset's own place); jobs, how many runs at once (None: one for each GPU, else as many as
    cores allow; on a cluster as many as it has room for); max_minutes, when training stops; address, the cluster's ("auto":
    this machine's; "host:port" of its head; None: $RAY_ADDRESS, or a cluster of this machine alone); devices, how many share each run (data parallel);
    compiled, whether torch.compile makes the networks.
    """

    def __init__(self, preset: str = "smoke", seeds: int = 1, executor: str = "local", out: str = "outputs", data: str | None = None,
                 jobs: int | None = None, max_minutes: float = math.inf, address: str | None = None, devices: int = 1, compiled: bool = False):
        self.preset = get_preset(preset)
        self.executor = choose("executor", executor, EXECUTORS)
        if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
            raise ReproError(f"seeds is {seeds!r}: it must be a whole number of at least 1.")
        self.seeds = seeds
        self.out = runs.PROJECT / out
        self.data = data or None
        self.max_minutes = max_minutes
        self.jobs = jobs
        self.address = address
        self.devices = devices
        self.compiled = compiled
        self.environment: dict[str, str] = {}  # of the training processes, beside this one's own

    @classmethod
    def from_parameters(cls, names: dict) -> Study:
        """The study of a notebook: `Study.from_parameters(globals())` after the cell tagged `parameters`.

        Raises ReproError for a parameter the notebooks do not have (papermill itself only warns).
        """
        known = ("preset", "seeds", "executor", "out", "data")
        given = {k: v for k, v in names.items() if not k.startswith("_") and isinstance(v, (str, int, float, bool, list, dict))}
        for name in given.keys() - {"In", "Out"}:
            choose("notebook parameter", name, known)
        return cls(**{name: given[name] for name in known if name in given})

    @classmethod
    def in_folder(cls, source: str) -> Study:
        """The study that a folder such as results/smoke holds, with as many training seeds as all rows of some table have.

        Raises ReproError when it has no runs.
        """
        folder = (runs.PROJECT / source).resolve()
        seeds = [int(path.parent.name[4:]) for path in folder.glob("runs/*/seed*/run.json")]
        if not seeds:
            raise ReproError(f"There are no runs in {source}: name a folder such as results/smoke or outputs/smoke.")
        studies = [cls(folder.name, count, executor="none", out=str(folder.parent)) for count in range(max(seeds) + 1, 0, -1)]
        here = lambda study, name: (tasks := study.tasks([name])) and all(study.run(t.row, t.seed).json_path.exists() for t in tasks)
        return next((study for study in studies if any(here(study, name) for name in study.possible_tables)), studies[0])

    @property
    def possible_tables(self) -> Iterable[str]:
        """The tables that a study of this preset may hold."""
        return self.preset.tables if self.preset.rows else paper.WITH_NOTEBOOK

    def finished_tables(self) -> list[str]:
        """The tables with a finished run for each of their rows and seeds."""
        return [name for name in self.possible_tables if self.tasks([name]) and not self.missing([name])]

    @property
    def folder(self) -> Path:
        return self.out / self.preset.name

    @property
    def real_path(self) -> Path:
        """The sheet of real images."""
        return self.folder / f"real{runs.PICTURE}"

    def run(self, row: str, seed: int) -> runs.Run:
        return runs.Run(runs.run_folder(self.out, self.preset.name, row, seed))

    def tasks(self, tables: Iterable[str]) -> list[Task]:
        """The distinct runs the tables need, those with most work first."""
        tasks = {}
        for name in tables:
            for row in paper.ALL_TABLES[choose("table", name, paper.ALL_TABLES)].rows:
                try:
                    folder_row = run_name(row, self.preset)
                except SizeNotAvailable:
                    continue  # shown as "n/a" with the reason
                if self.preset.rows and folder_row not in self.preset.rows:
                    continue
                for seed in range(self.seeds):
                    tasks[folder_row, seed] = Task(folder_row, seed, configure(row, self.preset, seed))
        return sorted(tasks.values(), key=lambda t: (t.seed, -t.steps))

    def missing(self, tables: Iterable[str]) -> list[Task]:
        """The tables' tasks without a finished run. Raises ReproError when a folder holds a run of another configuration."""
        return self.unfinished(self.tasks(tables))

    def unfinished(self, tasks: Iterable[Task]) -> list[Task]:
        out = []
        for task in tasks:
            run = self.run(task.row, task.seed)
            record = run.read()
            if record is not None:  # the data are not read here, so what they decide is not compared
                known = {k: record["config"].get(k) for k in ("num_classes", "data_fingerprint")}
                run.check_same(dataclasses.replace(task.config, **known))
            if record is None or record["status"] not in runs.FINISHED:
                out.append(task)
        return out

    def ensure(self, *tables: str) -> None:
        """Train what the tables need and is missing. A notebook's first call; nothing to do where the study has run."""
        if self.executor != "none":
            self.train(self.tasks(tables))

    def train(self, tasks: Iterable[Task]) -> None:
        """Train the tasks that have no finished run. Raises ReproError when the real data do not score as real data should."""
        missing = self.unfinished(tasks)
        if not missing:
            return
        import torch

        from . import data, executors
        from .evaluate import Scorer
        from .features import SECOND, check_extractor

        check_extractor(self.preset.extractor)
        check_extractor(SECOND)
        loaded = data.load(self.preset, self.data)  # once, before several processes ask for it; bad data end here
        for task in missing:
            data.with_data(task.config, loaded)
        self.write_real(loaded)
        torch.set_num_threads(self.preset.threads)  # as where it is computed for a run
        Scorer(missing[0].config, loaded)  # absurd scores of real images end here
        executors.make(self).train(missing)

    def write_real(self, loaded) -> None:
        """A sheet of training images like the runs' samples. loaded: data.ImageData."""
        from .sheets import by_class

        if not self.real_path.exists():
            first = slice(0, 5000)  # enough for some of each class, without reading all of a large memory map
            runs.write_atomically(self.real_path, by_class(loaded.images[first], loaded.labels[first]))


def execute_notebooks(names: list[str], study: Study, folder: Path) -> None:
    """Execute notebooks/<name>.ipynb into <folder>/<name>.ipynb with papermill for this study, as many at once as there are cores.

    Nothing trains in them: what was missing was trained before, with one progress display. A file appears only when
    complete, so that an interrupted or failed execution never replaces a good notebook. Raises ReproError where a cell fails.
    """
    with _quiet("papermill", "blib2to3"), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda name: _execute(name, study, folder), names))  # the first error ends those that have not begun


def _execute(name: str, study: Study, folder: Path) -> None:
    import nbformat
    import papermill
    from traitlets.config import Config as TraitConfig

    out = study.out.relative_to(runs.PROJECT) if study.out.is_relative_to(runs.PROJECT) else study.out
    parameters = {"preset": study.preset.name, "seeds": study.seeds, "executor": "none", "out": str(out)}
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".part-{name}-{os.getpid()}.ipynb"
    try:
        # sockets in a folder of their own: TCP ports picked by kernels that start together can clash (papermill issue 511)
        with tempfile.TemporaryDirectory(prefix="repro-") as sockets:
            papermill.execute_notebook(
                NOTEBOOKS / f"{name}.ipynb", part, parameters, cwd=runs.PROJECT, progress_bar=False, kernel_name="python3",
                config=TraitConfig({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
            )
        notebook = nbformat.read(part, nbformat.NO_CONVERT)
        for item in (notebook, *notebook.cells):  # this machine's paths and clock: an equal study is an equal file
            item.metadata.pop("papermill", None)
            item.metadata.pop("execution", None)
            if "injected-parameters" in item.metadata.get("tags", ()):
                item.id = "injected-parameters"  # papermill draws one at random
        nbformat.write(notebook, part)
        os.replace(part, folder / f"{name}.ipynb")
    except papermill.PapermillExecutionError as error:
        raise ReproError(f"The notebook {name} stopped in a cell: {error.ename}: {error.evalue}.") from error
    finally:
        part.unlink(missing_ok=True)


class _quiet:
    """Loggers kept to errors for the length of a block."""

    def __init__(self, *names: str):
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self):
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_):
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
