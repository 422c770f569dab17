"""The regression check: what runs recorded beside a committed reference, each number within a tolerance that
was measured.

Training a GAN is chaotic: a rounding error of the first step is a different picture a hundred steps later. So
a number's tolerance is what another arithmetic makes of it. The preset `rehearsal` takes few steps in fp32,
where that is the last digits; it catches what a study's own numbers cannot tell from chance.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from .. import claims, paper, provenance, runs
from ..analysis.verdicts import verdicts
from ..config import difference
from ..errors import ReproError, choose
from ..studies.study import Study, Task
from ..studies.trainer import train

# Environments in which this processor computes as a lesser one would: other kernels, other orders of
# summation, no bf16
ARITHMETICS = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    "SSE4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}
FACTOR = 2.0  # a tolerance is this many times the largest difference seen between arithmetics,
CHAOTIC_FACTOR = {
    "history": 6.0,
    "scores": 3.0,
    "shadow": 3.0,
}  # and this many where that is past CHAOTIC of the spread over seeds: a third
# arithmetic (resampling fused with its convolutions, 1e-14 apart in float64) went up to 4.6 and 2.1 times as
# far there
CHAOTIC = 0.1
ROUNDING = 2.0**-22  # and at least this share of the number: two units in the last place of fp32
MEASURED = (
    "history",
    "scores",
    "shadow",
    "real",
    "noise",
)  # numbers with a tolerance; everything else must be equal
HOW = (
    "largest_difference: the largest absolute difference, over all rows and training seeds, between runs of"
    " equal configuration in the processor's own arithmetic, in those of `arithmetics` and on"
    " `other_processors`, at this step. A"
    " tolerance is 2 times the largest up to its step (6 times in history and 3 in scores and shadow once one"
    " was past a tenth of seed_spread: rounding has become chance there), and at least 2^-22 of the number."
    " seed_spread: the standard deviation over training seeds (root mean square over rows): a tolerance above"
    " it notices only what is larger than chance."
)

Values = dict[
    tuple[str, int], object
]  # by quantity, such as "history.loss_d", and step (0 where there is none)


def values(record: dict) -> Values:
    """What a run recorded: settings, counts, history and scores. Not its times, its machine, and what is
    taken from the samples whose scores are here: attention, nearest training images, further sets.
    """

    def flat(prefix: str, of: dict) -> Iterable[tuple[str, object]]:
        for name, value in of.items():
            if isinstance(value, dict):
                yield from flat(f"{prefix}.{name}", value)
            else:
                yield f"{prefix}.{name}", value

    out = {("status", 0): record["status"], ("last step", 0): record["step"]}
    for part in ("config", "parameters", "definition", "real", "noise", "shadow"):
        out |= {(name, 0): value for name, value in flat(part, record.get(part, {}))}
    for part in ("history", "scores"):
        for entry in record[part]:
            out |= {
                (name, entry["step"]): value for name, value in flat(part, entry) if name != f"{part}.step"
            }
    return out


def kind(quantity: str) -> str | None:
    """The name under which a quantity's tolerance stands (one for the gammas of all feature maps); None: it
    must be equal.
    """
    parts = quantity.split(".")
    return ".".join(parts[:2]) if parts[0] in MEASURED else None


def tolerances_path(reference: Study) -> Path:
    """Where the tolerances of a reference are stored."""
    return reference.folder / "tolerances.json"


def read_tolerances(reference: Study) -> dict:
    """The stored tolerances of a reference. Raises ReproError when there are none or they cannot be read."""
    path = tolerances_path(reference)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        name = reference.preset.name
        raise ReproError(
            f"{path} does not exist: repro calibrate --preset {name} measures the tolerances of"
            f" results/{name}."
        ) from None
    except ValueError as error:
        raise ReproError(
            f"{path} cannot be read ({error}): restore it from git or run repro calibrate again."
        ) from error


def tolerance(tolerances: dict, quantity: str, step: int, value: float) -> float:
    """How far a number may lie from its reference `value`. Raises ReproError when none was measured."""
    steps = tolerances["largest_difference"].get(kind(quantity), {})
    spread = tolerances["seed_spread"].get(kind(quantity), {})
    seen = {at: difference for at, difference in steps.items() if int(at) <= step}
    if not seen:
        raise ReproError(
            f"No tolerance was measured for {quantity} at step {step}: run repro calibrate again."
        )
    chaotic = any(
        difference > CHAOTIC * spread[at] > ROUNDING * abs(value)
        for at, difference in seen.items()
        if at in spread
    )
    factor = CHAOTIC_FACTOR.get(quantity.split(".")[0], FACTOR) if chaotic else FACTOR
    return max(factor * max(seen.values()), ROUNDING * abs(value))


COLUMNS = ["run", "quantity", "step", "reference", "now", "tolerance", "equal", "passed"]


def compare(reference: Study, now: Study, tasks: Iterable[Task], tolerances: dict | None) -> pd.DataFrame:
    """A line per recorded value of the tasks' runs: run, quantity, step, reference, now, tolerance, equal,
    passed.

    Without `tolerances` nothing but an equal value passes.
    """
    lines = []

    def line(run: str, quantity: str, step: int, a, b) -> None:
        bound = 0.0
        if tolerances and kind(quantity) and a is not None and b is not None:
            bound = tolerance(tolerances, quantity, step, a)
        lines.append(
            (run, quantity, step, a, b, bound, a == b, a == b or (bound > 0 and abs(b - a) <= bound))
        )

    for task in tasks:
        name = f"{task.row}/seed{task.seed}"
        before, after = (study.run(task.row, task.seed).read() for study in (reference, now))
        if before is None or after is None:
            line(name, "status", 0, before and before["status"], after and after["status"])
            continue
        before, after = values(before), values(after)
        for quantity, step in before | after:
            line(name, quantity, step, before.get((quantity, step)), after.get((quantity, step)))
    return pd.DataFrame(lines, columns=COLUMNS)


def compare_verdicts(reference: Study, now: Study) -> pd.DataFrame:
    """The verdict on each claim in both studies, which has to be the same: lines as those of `compare`."""
    both = zip(*(verdicts(study)["verdict"] for study in (reference, now)), strict=True)
    lines = [
        ("verdicts", claim.name, 0, a, b, 0.0, a == b, a == b)
        for claim, (a, b) in zip(claims.CLAIMS, both, strict=True)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def digest(frame: pd.DataFrame) -> pd.DataFrame:
    """For a reader: each quantity that failed, at its first such step; of the others, per run, the nearest to
    its tolerance of each kind.
    """
    measured = frame["tolerance"] > 0
    share = (frame["now"][measured] - frame["reference"][measured]).abs() / frame["tolerance"][measured]
    near = frame.assign(
        share=share.reindex(frame.index).fillna(0.0).astype(float),
        part=frame["quantity"].str.split(".").str[0],
    )
    failed = near[~near["passed"]].drop_duplicates(["run", "quantity"])
    rest = near[near["passed"] & (near["run"] != "verdicts")]
    nearest = near.loc[rest.groupby(["run", "part"], sort=False)["share"].idxmax()]
    settings = nearest["part"].isin(["config", "definition", "last step"])
    return pd.concat([failed, nearest[~settings]])[[*frame.columns[:6], "passed"]].sort_index()


def reference_tasks(
    reference: Study, now: Study, tables: Iterable[str] = (*paper.TABLES, paper.CHECK.name)
) -> list[Task]:
    """The runs of the tables that the reference holds: to train again, those of the paper's tables and of the
    check alone, as the recipes would double its time. Raises ReproError when it holds none of them.
    """
    tasks = [task for task in now.tasks(tables) if reference.run(task.row, task.seed).json_path.exists()]
    if not tasks:
        raise ReproError(
            f"There are no runs of {now.preset.name} in {reference.folder}: name a folder such as"
            " results/smoke."
        )
    return tasks


def discard_stale(study: Study, tasks: Iterable[Task]) -> None:
    """Remove the runs that other sources of this package made, so that what is compared is what the present
    code does.
    """
    for run in stale(study, tasks):
        shutil.rmtree(run.folder)


def stale(study: Study, tasks: Iterable[Task]) -> list[runs.Run]:
    """The runs of the tasks that other sources of this package made."""
    sources = provenance.code_revision()["sources"]
    made = [study.run(task.row, task.seed) for task in tasks]
    return [
        run for run in made if (record := run.read()) and set(provenance.made_by(record)["code"]) != {sources}
    ]


def measure(base: Study, twins: Iterable[Study], tasks: Iterable[Task]) -> dict:
    """The tolerances' content: `base` holds the tasks of several training seeds, each twin those of seed 0 in
    one other arithmetic.
    """
    largest, seeds = {}, {}

    def numbers(study: Study, task: Task) -> Values:
        return {key: v for key, v in values(study.run(task.row, task.seed).read()).items() if kind(key[0])}

    twins, by_row = list(twins), {}
    for task in tasks:
        own = numbers(base, task)
        by_row.setdefault(task.row, []).append(own)
        if task.seed == 0:
            for twin in twins:
                other = numbers(twin, task)
                for key in own.keys() & other.keys():
                    place = kind(key[0]), key[1]
                    largest[place] = max(largest.get(place, 0.0), abs(other[key] - own[key]))
    for runs_of_row in by_row.values():
        for key in set.intersection(*(set(r) for r in runs_of_row)):
            seeds.setdefault((kind(key[0]), key[1]), []).append(np.std([r[key] for r in runs_of_row], ddof=1))
    spread = {place: math.sqrt(np.mean(np.square(of))) for place, of in seeds.items()}

    return {"largest_difference": _by_kind(largest), "seed_spread": _by_kind(spread)}


def _by_kind(of: dict[tuple[str, int], float]) -> dict[str, dict[str, float]]:
    out = {}
    for (name, step), value in sorted(of.items()):
        out.setdefault(name, {})[str(step)] = float(f"{value:.3g}")
    return out


def widen(reference: Study, other: Study, tasks: Iterable[Task]) -> list[str]:
    """Count the differences between the reference and runs that another processor made into the tolerances:
    the largest ones stay. Returns the processors that have been counted.

    Raises ReproError when none of the tasks has a finished run on both sides, or one has another
    configuration.
    """
    content = read_tolerances(reference)
    largest = {
        (name, int(step)): value
        for name, of in content["largest_difference"].items()
        for step, value in of.items()
    }
    others = []
    for task in tasks:
        before, after = (study.run(task.row, task.seed).read() for study in (reference, other))
        if before is None or after is None or after["status"] not in runs.FINISHED:
            continue
        if fields := difference(before["config"], after["config"]):
            raise ReproError(
                f"{other.folder} holds runs of another configuration than {reference.folder}"
                f" ({'; '.join(fields)}): tolerances count equal ones."
            )
        others.append(after["provenance"]["processor"])
        before, after = values(before), values(after)
        for key in before.keys() & after.keys():
            if kind(key[0]):
                place = kind(key[0]), key[1]
                largest[place] = max(largest.get(place, 0.0), abs(after[key] - before[key]))
    if not others:
        raise ReproError(f"{other.folder} has no finished run that {reference.folder} has too.")
    content["other_processors"] = sorted({*content.get("other_processors", []), *others})
    content["largest_difference"] = _by_kind(largest)
    runs.write_atomically(tolerances_path(reference), (json.dumps(content, indent=1) + "\n").encode())
    return content["other_processors"]


def calibrate(
    preset: str,
    reference: Study,
    seeds: int,
    arithmetics: Iterable[str],
    out: str,
    jobs: int | None,
    data: str | None,
) -> None:
    """Train the reference's runs again, from `seeds` training seeds and in each of the `ARITHMETICS` named,
    and write its tolerances.
    """
    chosen = {name: ARITHMETICS[choose("arithmetic", name, ARITHMETICS)] for name in arithmetics}

    def trained(folder: str, count: int, environment: dict) -> tuple[Study, list[Task]]:
        made = Study(preset, count, out=folder, jobs=jobs, data=data)
        made.environment = environment
        wanted = {task.row for task in reference_tasks(reference, made)}
        tasks = [task for task in made.tasks(paper.ALL_TABLES) if task.row in wanted]
        discard_stale(made, tasks)
        train(made, tasks)
        return made, tasks

    base, tasks = trained(str(Path(out) / "seeds"), seeds, {})  # apart from runs that may be accepted
    twins = []
    for name, environment in chosen.items():
        folder = Path(out) / name
        twins.append(
            trained(str(folder), 1, environment | {"REPRO_CACHE": str(runs.PROJECT / folder / "cache")})[0]
        )
    made_with = {
        "code": provenance.code_revision(),
        "processor": provenance.processor(),
        "seeds": seeds,
        "arithmetics": chosen,
    }
    content = {"how": HOW, **made_with, **measure(base, twins, tasks)}
    runs.write_atomically(tolerances_path(reference), (json.dumps(content, indent=1) + "\n").encode())
