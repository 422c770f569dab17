"""What a study declares before its first run: results/<preset>/plan.json (docs/statistics.md)."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from .. import claims, runs
from ..errors import ReproError, SizeNotAvailable
from ..presets import Preset
from ..studies.study import Study, Task, configure, rows, run_name

SCHEMA = 1
BUDGETS = ("G updates", "D updates", "cost")
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
            "items": {
                "type": "object",
                "required": ["claim", "measure"],
                "properties": {"gain": _ROWS, "paired": {"type": "boolean"}},
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
        _validate()(raw)
    except FileNotFoundError:
        return None
    except ValueError as wrong:  # of json and of fastjsonschema
        raise ReproError(f"{path} is not a plan ({str(wrong)[:200]}): restore it from git.") from wrong
    named = {
        *raw["rows"],
        *raw["cost"],
        *(
            row
            for c in raw["comparisons"]
            for row in (*c.get("gain", {}), *(c[k] for k in ("row", "worse", "better") if k in c))
        ),
    }
    unknown = sorted(named - rows().keys())
    if unknown:
        raise ReproError(
            f"{path} names rows that do not exist ({', '.join(unknown)}): correct it, or restore it from git."
        )
    if raw["preset"] != study.preset.name or raw["endpoint"]["step"] > study.preset.steps:
        raise ReproError(
            f"{path} is the plan of preset {raw['preset']} at step {raw['endpoint']['step']}, not of"
            f" {study.preset.name} with {study.preset.steps} steps."
        )
    for c in raw["comparisons"]:
        if c.get("paired") and c["measure"] not in ("endpoint", "decline"):
            raise ReproError(
                f'{path} pairs the runs of a comparison of {c["measure"]}: take "paired" out, which endpoints'
                " and declines may have."
            )
    if raw["first_look"] > raw["most_seeds"]:
        raise ReproError(
            f"{path} looks first at {raw['first_look']} seeds and takes {raw['most_seeds']} at most: correct"
            " it, or restore it from git."
        )
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
    """Raise ReproError where a plan differs from the one that verdicts were made by and its list of changes
    does not say so.
    """
    fields = changed(before, now)
    if fields and len(now.get("changes", ())) <= len(before.get("changes", ())):
        raise ReproError(
            f"The plan of {now['preset']} changed after {seeds} seeds had run ({', '.join(fields)}): add to"
            f' its "changes" an entry {{"date": ..., "after_seeds": {seeds}, "fields":'
            f' {json.dumps(list(fields))}}}, and its verdicts are headed "exploratory".'
        )


def draft(preset: Preset, most_seeds: int, scores: int = 3, declared: str = "", pilot: str = "") -> dict:
    """A plan for a preset: the comparisons of the paper's claims that its rows allow, looks from the third
    seed on.

    Raises ReproError for a number of seeds that allows no look.
    """
    if most_seeds < 3:
        raise ReproError(f"A plan of {most_seeds} seeds allows no interval: give at least 3.")
    here = {task.row: task for task in Study(preset.name, executor="none").tasks(preset.tables)}
    comparisons = [of for claim in claims.CLAIMS for of in _drafted(claim, preset, here)]
    return {
        "schema": SCHEMA,
        "preset": preset.name,
        "declared": declared,
        "pilot": pilot,
        "rows": list(here),
        "endpoint": {"metric": "fid", "scale": "ln", "step": preset.steps, "scores": scores},
        "margin": round(math.log(1.1), 5),
        "alpha": 0.05,
        "spending": "alpha (k / most_seeds)^3",
        "first_look": 3,
        "most_seeds": most_seeds,
        "collapse": {"diversity_below": 0.05, "fid_times_best": 2.0, "scores_in_a_row": 2},
        "too_short": (
            "at the first look, the rows' mean FID at the last step is at half of noise's or above on both"
            " sides"
        ),
        "inert": {"entropy_from": 0.99},
        "cost": {row: task.steps / preset.steps for row, task in here.items()},
        "comparisons": comparisons,
    }


def _drafted(claim: claims.Claim, preset: Preset, here: dict[str, Task]) -> list[dict]:
    """The comparisons of a claim between rows of the study, as plan.json has them."""

    def existing(names: tuple[str, ...]) -> list[str]:
        found = []
        for name in names:
            try:
                configure(rows()[name], preset)
                found.append(run_name(rows()[name], preset))
            except SizeNotAvailable:
                continue
        return [name for name in found if name in here]

    def of(comparison: claims.Comparison, analogue: str = "") -> list[dict]:
        better, worse = existing(comparison.better), existing(comparison.worse)
        if not better or not worse:
            return []
        out = {"claim": claim.name, "measure": comparison.measure}
        if comparison.measure == "collapses":
            out |= {
                "test": "Fisher's exact test, once, at most_seeds",
                "worse": worse[0],
                "better": better[0],
            }
        else:
            gain = {row: sign / len(side) for sign, side in ((1.0, worse), (-1.0, better)) for row in side}
            out |= {"metric": comparison.metric, "gain": gain}
        if comparison.measure == "classes":
            out |= {"structured": list(claims.STRUCTURED), "textured": list(claims.TEXTURED)}
        different = len({here[row].steps for row in (*better, *worse)}) > 1
        return [
            out
            | ({"budgets": list(BUDGETS)} if different else {})
            | ({"analogue": analogue} if analogue else {})
        ]

    if any(c.measure == "classes" for c in claim.comparisons) and preset.dataset != claims.CLASSES_OF:
        return []
    if claim.attention:
        shown = existing(("sagan", "attention_32", "attention_16"))
        return [{"claim": claim.name, "measure": "attention", "row": row, "block": "G"} for row in shown[:1]]
    ways = (
        (claim.comparisons, ""),
        (claim.analogue.get(preset.resolution, ()), claims.ANALOGUE.get(preset.resolution, "")),
        (claim.stress, claims.STRESSED),
    )
    return next(
        (
            found
            for comparisons, analogue in ways
            if (found := [line for c in comparisons for line in of(c, analogue)])
        ),
        [],
    )
