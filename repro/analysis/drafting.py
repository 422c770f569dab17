"""A plan drafted for a preset: every comparison that the paper's claims name and its rows allow."""

from __future__ import annotations

import math

from .. import claims
from ..errors import ReproError, SizeNotAvailable, choose
from ..presets import Preset
from ..studies.study import Study, Task, configure, rows, run_name
from .plan import BUDGETS, SCHEMA, fault_of


def draft(preset: Preset, most_seeds: int, scores: int = 3, declared: str = "", pilot: str = "") -> dict:
    """A plan for a preset: the comparisons of the paper's claims that its rows allow, looks from the third
    seed on.

    Raises ReproError for a number of seeds that allows no look, and for claims that make no valid plan.
    """
    if most_seeds < 3:
        raise ReproError(f"A plan of {most_seeds} seeds allows no interval: give at least 3.")
    here = {task.row: task for task in Study(preset.name, executor="none").tasks(preset.tables)}
    comparisons = [of for claim in claims.CLAIMS for of in _drafted(claim, preset, here)]
    raw = {
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
    if fault := fault_of(raw, preset):
        raise ReproError(f"The draft for preset {preset.name} {fault}: correct repro/claims.py.")
    return raw


def _drafted(claim: claims.Claim, preset: Preset, here: dict[str, Task]) -> list[dict]:
    """The comparisons of a claim between rows of the study, as plan.json has them."""

    def existing(names: tuple[str, ...]) -> list[str]:
        found = []
        for name in names:
            row = rows()[choose(f"row of claim {claim.name}", name, rows())]
            try:
                configure(row, preset)
                found.append(run_name(row, preset))
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
