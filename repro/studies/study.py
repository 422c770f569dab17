"""Which runs the tables of a study need, where they are, and which are missing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .. import paper, runs
from ..config import Config
from ..errors import ReproError, SizeNotAvailable, choose
from ..execution import PLAIN, Execution
from ..presets import Preset, get_preset
from ..recipes import RECIPES

EXECUTORS = ("local", "ray", "none")  # this machine, a Ray cluster; none: never train, show what is there


@dataclass(frozen=True)
class Task:
    """One run of the study: the row that names its folder, its training seed, and its configuration before
    the data are known.
    """

    row: str
    seed: int
    config: Config

    @property
    def steps(self) -> float:
        """Work in steps of a 1:1 row, for the order of runs and the time left.

        A D update counts 0.4 of such a step and G's 0.6: in results/smoke a run with five D updates takes 2.4
        times as long.
        """
        return self.config.preset.steps * (0.4 * self.config.recipe.d_steps + 0.6)


def configure(row: paper.Row, preset: Preset, seed: int = 0, recipe: str | None = None) -> Config:
    """The configuration of a row at a preset, from the row's recipe or another.

    Raises SizeNotAvailable when the row's feature-map size does not exist there, ReproError for an unknown
    recipe.
    """
    base = RECIPES[choose("recipe", recipe or row.recipe, RECIPES)]
    return Config(
        recipe=dataclasses.replace(base, **row.changes),
        preset=preset,
        attention_at=row.attention_at,
        residual_at=row.residual_at,
        seed=seed,
        pinned=row.pinned,
    )


def rows() -> dict[str, paper.Row]:
    """Every row of every table by name."""
    return {row.name: row for table in paper.ALL_TABLES.values() for row in table.rows}


@cache
def _first_rows(preset: Preset) -> dict[str, str]:
    """For the key of each configuration that a row has at the preset, the first such row of the tables."""
    names = {}
    for row in rows().values():
        with suppress(SizeNotAvailable):
            names.setdefault(configure(row, preset).key, row.name)
    return names


def run_name(row: paper.Row, preset: Preset) -> str:
    """The row whose folder holds this row's runs: the first one of the tables with the same configuration.

    Raises SizeNotAvailable as `configure` does.
    """
    return _first_rows(preset)[configure(row, preset).key]


class Study:
    """The runs of a preset under one folder.

    Args: preset, by name; seeds, how many training seeds (0 .. seeds - 1); executor, "local" to train what is
    missing here, "ray" to train it on a Ray cluster, "none" to show what is there; out, the folder of studies
    (relative to the project); data, where the images are (None: the preset's own place); jobs, how many runs
    at once (None: one for each GPU, else as many as cores allow; on a cluster as many as it has room for);
    max_minutes, when training stops; address, the cluster's ("auto": this machine's; "host:port" of its head;
    None: $RAY_ADDRESS, or a cluster of this machine alone); execution, how each run is computed.
    """

    def __init__(
        self,
        preset: str = "smoke",
        seeds: int = 1,
        executor: str = "local",
        out: str = "outputs",
        data: str | None = None,
        jobs: int | None = None,
        max_minutes: float = math.inf,
        address: str | None = None,
        execution: Execution = PLAIN,
    ):
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
        self.execution = execution
        self.environment: dict[str, str] = {}  # of the training processes, beside this one's own

    @classmethod
    def from_parameters(cls, names: dict) -> Study:
        """The study of a notebook: `Study.from_parameters(globals())` after the cell tagged `parameters`.

        Raises ReproError for a parameter the notebooks do not have (papermill itself only warns).
        """
        known = ("preset", "seeds", "executor", "out", "data")
        given = {
            k: v
            for k, v in names.items()
            if not k.startswith("_") and isinstance(v, (str, int, float, bool, list, dict))
        }
        for name in given.keys() - {"In", "Out"}:
            choose("notebook parameter", name, known)
        return cls(**{name: given[name] for name in known if name in given})

    @classmethod
    def in_folder(cls, source: str) -> Study:
        """The study that a folder such as results/smoke holds, with as many training seeds as its fullest
        row has.

        Raises ReproError when it has no runs.
        """
        folder = (runs.PROJECT / source).resolve()
        seeds = [int(run.folder.name[4:]) for run in runs.stored(folder)]
        if not seeds:
            raise ReproError(
                f"There are no runs in {source}: name a folder such as results/smoke or outputs/smoke."
            )
        return cls(folder.name, max(seeds) + 1, executor="none", out=str(folder.parent))

    @property
    def possible_tables(self) -> Iterable[str]:
        """The tables that a study of this preset may hold."""
        return self.preset.tables if self.preset.rows else paper.WITH_NOTEBOOK

    def finished_tables(self) -> list[str]:
        """The tables of whose every row the first training seed is finished; of further seeds a row shows
        those that it has.
        """

        def finished(name: str) -> bool:
            # a row that pins streams to seed 0 begins with seed 1
            pins = any(row.pinned for row in paper.ALL_TABLES[name].rows)
            first = Study(self.preset.name, 2 if pins else 1, out=str(self.out))
            return bool(first.tasks([name])) and not first.missing([name])

        return list(filter(finished, self.possible_tables))

    @property
    def folder(self) -> Path:
        """The study's folder, named after its preset."""
        return self.out / self.preset.name

    @property
    def real_path(self) -> Path:
        """The sheet of real images."""
        return self.folder / f"real{runs.PICTURE}"

    def run(self, row: str, seed: int) -> runs.Run:
        """The run of a row and a training seed, whether it exists or not."""
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
                # seed 0 of a row that pins streams to it is the run of the row that pins none
                for seed in range(1 if row.pinned else 0, self.seeds):
                    tasks[folder_row, seed] = Task(folder_row, seed, configure(row, self.preset, seed))
        return sorted(tasks.values(), key=lambda t: (t.seed, -t.steps))

    def missing(self, tables: Iterable[str]) -> list[Task]:
        """The tables' tasks without a finished run. Raises ReproError when a folder holds a run of another
        configuration.
        """
        return self.unfinished(self.tasks(tables))

    def unfinished(self, tasks: Iterable[Task]) -> list[Task]:
        """Those of the tasks without a finished run. Raises ReproError when a folder holds a run of another
        configuration.
        """
        out = []
        for task in tasks:
            record = self._checked(task)
            if record is None or record["status"] not in runs.FINISHED:
                out.append(task)
        return out

    def finished(self, row: str, seed: int) -> dict | None:
        """The record of a finished run; None where there is none. Raises ReproError when the folder holds a
        run of another configuration.
        """
        record = self._checked(Task(row, seed, configure(rows()[row], self.preset, seed)))
        return record if record and record["status"] in runs.FINISHED else None

    def _checked(self, task: Task) -> dict | None:
        """The record of a task's run. Raises ReproError for one of another configuration."""
        run = self.run(task.row, task.seed)
        record = run.read()
        if record is not None:  # the data are not read here, so what they decide is not compared
            known = {k: record["config"].get(k) for k in ("num_classes", "data_fingerprint")}
            run.check_same(dataclasses.replace(task.config, **known))
        return record

    def write_real(self, loaded) -> None:
        """A sheet of training images like the runs' samples. loaded: images.ImageData."""
        from ..data.sheets import by_class

        if not self.real_path.exists():
            first = slice(0, 5000)  # enough for some of each class, without reading all of a large memory map
            runs.write_atomically(self.real_path, by_class(loaded.images[first], loaded.labels[first]))
