"""The paper's claims against the runs: paired differences over training seeds, their intervals, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import paper, report, runs
from .study import Study, rows, run_name

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Measured:
    """One comparison of a claim: paired differences over seeds, positive in the claim's direction, with their interval."""

    text: str
    differences: tuple[float, ...]
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "inconclusive"
        return "supported" if self.interval[0] > 0 else "contradicted"


def t_interval(values: Iterable[float]) -> tuple[float, float] | None:
    """Student's t interval of the mean at `CONFIDENCE`; None for fewer than two values."""
    from scipy import stats

    values = np.asarray(list(values), float)
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def measure(study: Study, comparison: paper.Comparison) -> Measured | None:
    """The comparison over the seeds that have all its rows; None when a side has no rows at this resolution."""
    better, worse = (
        [name for name in names if report.unavailable(rows()[name], study.preset) is None]
        for names in (comparison.better, comparison.worse)
    )
    if not better or not worse:
        return None
    _, larger_is_better, _ = report.METRICS[comparison.metric]
    name = report.heading(comparison.metric, study.preset)
    sign = 1 if larger_is_better else -1
    differences = []
    for seed in range(study.seeds):
        sides = [[_value(study, row, seed, comparison) for row in side] for side in (better, worse)]
        if all(v is not None for side in sides for v in side):
            differences.append(sign * (np.mean(sides[0]) - np.mean(sides[1])))
    labels = [" and ".join(rows()[row].label for row in side) for side in (better, worse)]
    what = f"{name} decline from best to last, %" if comparison.measure == "decline" else name
    return Measured(f"{what}, {labels[0]} against {labels[1]}", tuple(map(float, differences)), t_interval(differences))


def _value(study: Study, name: str, seed: int, comparison: paper.Comparison) -> float | None:
    record = study.run(run_name(rows()[name], study.preset), seed).read()
    if record is None or record["status"] not in runs.FINISHED or not record.get("final"):
        return None
    final = record["final"].get(comparison.metric)  # intra FID only where classes have enough images
    if final is not None and comparison.measure == "decline":
        best = record["best"][comparison.metric]
        return 100 * (final - best) / best
    return final


def verdict(study: Study, claim: paper.Claim) -> dict[str, str]:
    """claim, statement, verdict and evidence. The verdict is supported when every comparison is, contradicted when one is."""
    preset, comparisons, scaled = study.preset, claim.comparisons, ""
    measured = [m for m in (measure(study, c) for c in comparisons) if m]
    if not measured and preset.resolution in claim.analogue:
        measured = [m for m in (measure(study, c) for c in claim.analogue[preset.resolution]) if m]
        scaled = f"At {preset.resolution} px, on the maps of the same size relative to the image. "
    line = {"claim": claim.name, "statement": claim.statement}
    if claim.untested:
        return line | {"verdict": "not tested", "evidence": claim.untested[0].upper() + claim.untested[1:] + "."}
    if not measured:
        return line | {"verdict": "not testable", "evidence": f"Its feature maps do not exist at {preset.resolution} px."}
    if not any(m.differences for m in measured):
        return line | {"verdict": "not run", "evidence": "Its rows have no finished runs here."}
    verdicts = {m.verdict for m in measured if m.differences}
    if any(not m.differences for m in measured):
        verdicts.add("inconclusive")
    if "contradicted" in verdicts:
        overall = "contradicted"
    else:
        overall = "inconclusive" if "inconclusive" in verdicts else "supported"
    return line | {"verdict": overall, "evidence": scaled + "; ".join(map(_evidence, measured)) + "."}


def _evidence(m: Measured) -> str:
    if not m.differences:
        return f"{m.text}: not run"
    mean = np.mean(m.differences)
    text = f"{m.text}: " + (f"{'better' if mean > 0 else 'worse'} by {abs(mean):.2f}" if mean else "no difference")
    if m.interval is None:
        return text + " (1 seed, no interval)"
    low, high = m.interval
    return text + f" ({CONFIDENCE:.0%} interval of the gain {low:+.2f} to {high:+.2f}, {len(m.differences)} seeds)"


def verdicts(study: Study, *claims: str) -> pd.DataFrame:
    """The verdicts on the named claims, or on all: claim, statement, verdict, evidence."""
    return pd.DataFrame([verdict(study, c) for c in paper.CLAIMS if not claims or c.name in claims])
