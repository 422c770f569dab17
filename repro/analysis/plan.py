"""What a study declares before its first run: results/<preset>/plan.json (docs/statistics.md)."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .. import runs
from ..errors import ReproError, SizeNotAvailable
from ..presets import Preset
from ..studies.study import Study, rows, run_name
from .labels import METRICS

SCHEMA = 1
BUDGETS = ("G updates", "D updates", "cost")
NEEDED = {  # what a comparison of each measure has to name
    "endpoint": ("gain", "metric"),
    "decline": ("gain", "metric"),
    "collapses": ("worse", "better"),
    "attention": ("row", "block"),
    "classes": ("gain", "structured", "textured"),
}
_ROWS = {"type": "object", "additionalProperties": {"type": "number"}}
PLAN_SCHEMA = {  # JSON Schema of plan.json
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": [
        "schema",
        "preset",
        "declared",
        "rows",
        "endpoint",
        "margin",
        "alpha",
        "first_look",
        "most_seeds",
        "inert",
        "cost",
        "comparisons",
    ],
    "properties": {
        "schema": {"const": SCHEMA},
        "preset": {"type": "string"},
        "declared": {"type": "string"},
        "rows": {"type": "array", "items": {"type": "string"}},
        "endpoint": {
            "type": "object",
            "required": ["metric", "scale", "step", "scores"],
            "properties": {
                "metric": {"enum": list(METRICS)},
                "scale": {"const": "ln"},
                "step": {"type": "integer", "minimum": 1},
                "scores": {"type": "integer", "minimum": 1},
            },
        },
        "margin": {"type": "number", "exclusiveMinimum": 0},
        "alpha": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "first_look": {"type": "integer", "minimum": 2},
        "most_seeds": {"type": "integer", "minimum": 2},
        "inert": {"type": "object", "required": ["entropy_from"]},
        "cost": _ROWS,
        "comparisons": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["claim", "measure"],
                "additionalProperties": False,
                "properties": {
                    **dict.fromkeys(("claim", "test", "analogue", "row", "worse", "better", "block"), {}),
                    **dict.fromkeys(("structured", "textured"), {}),
                    "measure": {"enum": list(NEEDED)},
                    "metric": {"enum": list(METRICS)},
                    "gain": _ROWS,
                    "budgets": {"type": "array", "minItems": 1, "items": {"enum": list(BUDGETS)}},
                    "paired": {"type": "boolean"},
                },
            },
        },
        "changes": {
            "type": "array",
            "items": {"type": "object", "required": ["date", "after_seeds", "fields"]},
        },
        "notes": {"type": "array", "items": {"type": "string"}},
    },
}


@dataclass(frozen=True)
class Comparison:
    """One declared comparison of a claim. gain: the weight of each row, positive where the claim says that
    the score is worse.
    """

    claim: str
    measure: str  # endpoint, decline, collapses, attention, interaction, structured
    gain: dict[str, float]
    metric: str = "fid"
    budgets: tuple[str, ...] = BUDGETS[:1]
    analogue: str = ""
    quantity: str = ""  # of attention maps
    block: str = "G"
    structured: tuple[str, ...] = ()  # names of classes
    textured: tuple[str, ...] = ()
    paired: bool = False  # whether runs of equal seed are compared with one another

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the rows that have a weight."""
        return tuple(self.gain)

    def side(self, better: bool) -> tuple[str, ...]:
        """The rows that the claim says to be better, or worse."""
        return tuple(row for row, weight in self.gain.items() if (weight < 0) == better)


@dataclass(frozen=True)
class Plan:
    """A study's plan as its file declares it: what is compared, at which step, with how many seeds."""

    preset: str
    declared: str
    rows: tuple[str, ...]
    metric: str
    step: int
    scores: int
    margin: float
    alpha: float
    first_look: int
    most_seeds: int
    inert_from: float
    cost: dict[str, float]
    comparisons: tuple[Comparison, ...]
    changes: tuple[dict, ...] = ()
    raw: dict = field(default_factory=dict, compare=False)  # the file

    def of(self, claim: str) -> tuple[Comparison, ...]:
        """The comparisons of a claim; none for a claim that the plan does not name."""
        return tuple(c for c in self.comparisons if c.claim == claim)


def path_of(study: Study) -> Path:
    """The study's own plan, else the committed one of its preset."""
    own = study.folder / "plan.json"
    return own if own.exists() else runs.PROJECT / "results" / study.preset.name / "plan.json"


def read(study: Study) -> Plan | None:
    """The plan of a study, or None where none was declared. Raises ReproError for one that is not a plan, or
    of other rows or steps.
    """
    path = path_of(study)
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as wrong:
        raise ReproError(f"{path} is not JSON ({str(wrong)[:200]}): restore it from git.") from wrong
    if fault := fault_of(raw, study.preset):
        raise ReproError(f"{path} {fault}: correct it, or restore it from git.")
    return Plan(
        raw["preset"],
        raw["declared"],
        tuple(raw["rows"]),
        raw["endpoint"]["metric"],
        raw["endpoint"]["step"],
        raw["endpoint"]["scores"],
        raw["margin"],
        raw["alpha"],
        raw["first_look"],
        raw["most_seeds"],
        raw["inert"]["entropy_from"],
        raw["cost"],
        tuple(part for c in raw["comparisons"] for part in _comparisons(c)),
        tuple(raw.get("changes", ())),
        raw,
    )


def fault_of(raw: dict, preset: Preset) -> str | None:
    """The first thing that is wrong with a plan, as the end of a sentence that begins with its file; None
    where nothing is. raw: as in the file.
    """
    try:
        _validate()(raw)
    except ValueError as wrong:
        return f"is not a plan ({str(wrong)[:200]})"
    return next(_faults(raw, preset), None)


def _faults(raw: dict, preset: Preset) -> Iterator[str]:
    """What is wrong with a plan of the right form."""
    compared = {
        row
        for c in raw["comparisons"]
        for row in (*c.get("gain", {}), *(c[k] for k in ("row", "worse", "better") if k in c))
    }
    if unknown := sorted({*raw["rows"], *raw["cost"], *compared} - rows().keys()):
        yield f"names rows that do not exist ({', '.join(unknown)})"
    if raw["preset"] != preset.name or raw["endpoint"]["step"] > preset.steps:
        yield (
            f"is the plan of preset {raw['preset']} at step {raw['endpoint']['step']}, not of {preset.name}"
            f" with {preset.steps} steps"
        )
    if outside := sorted((compared - set(raw["rows"])) | (set(raw["rows"]) - raw["cost"].keys())):
        yield f'compares rows that its "rows" or its "cost" leave out ({", ".join(outside)})'
    for row in raw["rows"]:
        try:
            name = run_name(rows()[row], preset)
        except SizeNotAvailable:
            yield f"names row {row}, which does not exist at {preset.resolution} px"
        else:
            if name != row:
                yield f"names row {row}, whose run is that of {name}: name that one"
    for c in raw["comparisons"]:
        if missing := [name for name in NEEDED[c["measure"]] if name not in c]:
            yield f"has a comparison of {c['measure']} for {c['claim']} without {', '.join(missing)}"
        if c["measure"] == "decline" and sum(weight > 0 for weight in c.get("gain", {}).values()) != 1:
            yield f"has a decline for {c['claim']} of several rows: name one that the claim says to decline"
        if c.get("paired") and c["measure"] not in ("endpoint", "decline"):
            yield (
                f"pairs the runs of a comparison of {c['measure']}, which only endpoints and declines may do"
            )
    if raw["first_look"] > raw["most_seeds"]:
        yield f"looks first at {raw['first_look']} seeds and takes {raw['most_seeds']} at most"


def _comparisons(raw: dict) -> list[Comparison]:
    """A comparison as declared; of attention maps and of classes two, both of which the claim needs."""
    of = dict(claim=raw["claim"], analogue=raw.get("analogue", ""))
    if raw["measure"] == "collapses":
        return [Comparison(measure="collapses", gain={raw["worse"]: 1.0, raw["better"]: -1.0}, **of)]
    if raw["measure"] == "attention":
        return [
            Comparison(
                measure="attention", gain={raw["row"]: 1.0}, quantity=quantity, block=raw["block"], **of
            )
            for quantity in ("colour", "distance")
        ]
    if raw["measure"] == "classes":
        classes = dict(structured=tuple(raw["structured"]), textured=tuple(raw["textured"]))
        return [
            Comparison(measure=measure, gain=raw["gain"], metric="kid", **classes, **of)
            for measure in ("interaction", "structured")
        ]
    return [
        Comparison(
            measure=raw["measure"],
            gain=raw["gain"],
            metric=raw["metric"],
            budgets=tuple(raw.get("budgets", BUDGETS[:1])),
            paired=raw.get("paired", False),
            **of,
        )
    ]


@functools.cache
def _validate():
    import fastjsonschema

    return fastjsonschema.compile(PLAN_SCHEMA)


def changed(before: dict, now: dict) -> dict[str, list]:
    """What differs between two plans, beside the list of changes itself: {field: [before, now]}."""
    fields = (before.keys() | now.keys()) - {"changes", "notes", "pilot"}
    return {
        name: [before.get(name), now.get(name)]
        for name in sorted(fields)
        if before.get(name) != now.get(name)
    }


def check_declared(before: dict, now: dict, seeds: int) -> None:
    """Raise ReproError where a plan differs from the one that verdicts were made by and the entries that its
    list of changes has got since do not name every field that does.
    """
    added = now.get("changes", [])[len(before.get("changes", ())) :]
    told = {field for change in added for field in change["fields"]}
    if fields := [name for name in changed(before, now) if name not in told]:
        raise ReproError(
            f"The plan of {now['preset']} changed after {seeds} seeds had run ({', '.join(fields)}): add to"
            f' its "changes" an entry {{"date": ..., "after_seeds": {seeds}, "fields":'
            f' {json.dumps(fields)}}}, and its verdicts are called "exploratory".'
        )
