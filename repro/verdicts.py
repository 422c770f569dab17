"""The paper's claims against the runs: paired differences over training seeds, their intervals, and a verdict."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import paper, report, runs
from .config import Preset
from .study import Study, configure, rows, run_name

CONFIDENCE = 0.95
POWER = 0.8  # chance with which a claim would be settled, in `seeds_needed`
BOOTSTRAP_FROM = 5  # seeds: fewer differences have too few distinct resamples
MOST_SEEDS = 1000  # that `seeds_needed` tries


@dataclass(frozen=True)
class Measured:
    """One comparison of a claim: paired differences over seeds, positive in the claim's direction, with their interval."""

    text: str
    differences: tuple[float, ...]
    words: tuple[str, str] = ("better by", "worse by")  # for a positive and a negative mean
    metric: str = ""  # as over a column; the differences' unit
    published: float = math.nan  # the paper's own difference between these rows
    at_best: tuple[float, ...] = ()  # the same at each run's best scored step instead of its last
    unstable: int = 0  # of the compared runs, how many collapsed or diverged: then no difference of the others stands for all

    @functools.cached_property
    def interval(self) -> tuple[float, float] | None:
        return None if self.unstable else interval(self.differences)

    @property
    def verdict(self) -> str:
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "inconclusive"
        return "supported" if self.interval[0] > 0 else "contradicted"


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The interval of the mean at `CONFIDENCE`: Student's t for two to four values, a seeded BCa bootstrap from BOOTSTRAP_FROM; None for fewer."""
    from scipy import stats

    values = np.asarray(values, float)
    if len(values) < 2:
        return None
    if len(values) >= BOOTSTRAP_FROM and np.ptp(values) > 0:
        rng = np.random.default_rng(2018)
        found = stats.bootstrap((values,), np.mean, confidence_level=CONFIDENCE, method="BCa", random_state=rng).confidence_interval
        return float(found.low), float(found.high)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def p_value(values: Sequence[float]) -> float:
    """Of the two-sided paired t test that the mean is zero; NaN for one value, or for equal ones."""
    from scipy import stats

    return float(stats.ttest_1samp(values, 0).pvalue) if len(values) > 1 and np.ptp(values) > 0 else math.nan


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p values adjusted for their number (Holm 1979): the chance that any of several true null hypotheses is rejected stays as stated."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)  # NaN last
    count = int(np.isfinite(p).sum())
    adjusted = np.full(len(p), math.nan)
    adjusted[order[:count]] = np.minimum(np.maximum.accumulate(p[order[:count]] * np.arange(count, 0, -1)), 1)
    return adjusted


def seeds_needed(values: Sequence[float]) -> float:
    """The training seeds with which the paired t test would find a mean such as this one, given this spread, with `POWER`.

    NaN for fewer than two values, infinity past MOST_SEEDS. From a few seeds both mean and spread are rough, so it is a hint.
    """
    from scipy import stats

    values = np.asarray(values, float)
    if len(values) < 2 or not np.ptp(values):
        return math.nan
    effect = abs(values.mean()) / values.std(ddof=1)
    n = np.arange(2, MOST_SEEDS + 1)
    limit = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    enough = stats.nct.sf(limit, n - 1, effect * np.sqrt(n)) >= POWER
    return float(n[enough.argmax()]) if enough.any() else math.inf


def measure(study: Study, comparison: paper.Comparison) -> Measured | None:
    """The comparison over the seeds that have all its rows, by its other metric where none has its own; None when a side has no rows
    at this resolution."""
    if comparison.instead:
        own = measure(study, dataclasses.replace(comparison, instead=""))
        other = measure(study, dataclasses.replace(comparison, metric=comparison.instead, instead=""))
        return own if own is None or own.differences or not other.differences else other
    better, worse = (
        [name for name in names if report.unavailable(rows()[name], study.preset) is None]
        for names in (comparison.better, comparison.worse)
    )
    if not better or not worse:
        return None
    _, larger_is_better, _ = report.METRICS[comparison.metric]
    name = report.heading(comparison.metric, study.preset)
    sign = 1 if larger_is_better else -1

    def differences(which: str) -> tuple[float, ...]:
        out = []
        for seed in range(study.seeds):
            sides = [[_value(study, row, seed, comparison, which) for row in side] for side in (better, worse)]
            if all(v is not None for side in sides for v in side):
                out.append(float(sign * (np.mean(sides[0]) - np.mean(sides[1]))))
        return tuple(out)

    unstable = sum(
        record is not None and runs.unstable(record)
        for row in (*better, *worse) for seed in range(study.seeds) for record in [study.run(run_name(rows()[row], study.preset), seed).read()]
    )
    labels = [" and ".join(rows()[row].label for row in side) for side in (better, worse)]
    what = f"{name} decline from best to last, %" if comparison.measure == "decline" else name
    at_best = differences("best") if comparison.measure == "final" else ()
    published = [[rows()[row].published.get(comparison.metric) for row in side] for side in (better, worse)]
    theirs = math.nan
    if comparison.measure == "final" and all(p for side in published for p in side):
        theirs = sign * float(np.mean([p.value for p in published[0]]) - np.mean([p.value for p in published[1]]))
    return Measured(f"{what}, {labels[0]} against {labels[1]}", differences("final"), metric=what, published=theirs, at_best=at_best, unstable=unstable)


def _value(study: Study, name: str, seed: int, comparison: paper.Comparison, which: str) -> float | None:
    record = study.run(run_name(rows()[name], study.preset), seed).read()
    if record is None or record["status"] not in runs.FINISHED or not record.get(which):
        return None
    final = record[which].get(comparison.metric)  # intra FID only where classes have enough images
    if final is not None and comparison.measure == "decline":
        best = record["best"][comparison.metric]
        return 100 * (final - best) / best
    return final


def measure_attention(study: Study, smaller: str, larger: str) -> Measured:
    """How far a quantity of attention.statistics lies below another one, in G's block of the row sagan at the last scored step."""
    row = rows()["sagan"]
    differences, shares = [], []
    for seed in range(study.seeds):
        record = study.run(run_name(row, study.preset), seed).read()
        if record is not None and record["status"] in runs.FINISHED and record.get("attention"):
            last = record["attention"][-1]
            (block,) = [name for name in last[larger] if name.startswith("G ")]
            differences.append(last[larger][block] - last[smaller][block])
            shares.append(last[smaller][block] / last[larger][block])
    names = [report.ATTENTION[name].split(" (")[0] for name in (smaller, larger)]
    of = f" (ratio {np.mean(shares):.2f})" if shares else ""
    return Measured(f"in G, {names[0]} below {names[1]}{of}", tuple(differences), ("by", "no, above it by"), names[0])


def measurements(study: Study, claim: paper.Claim) -> tuple[list[Measured], str]:
    """The claim's comparisons as measured here, and in words what sets them apart: other feature maps, unequal budgets."""
    preset = study.preset
    remarks = _unequal_updates(claim, preset)
    measured = [m for m in (measure(study, c) for c in claim.comparisons) if m]
    if not measured and preset.resolution in claim.analogue:
        measured = [m for m in (measure(study, c) for c in claim.analogue[preset.resolution]) if m]
        remarks += f"At {preset.resolution} px, on the maps of the same size relative to the image. "
    return measured + [measure_attention(study, *pair) for pair in claim.attention], remarks


def _unequal_updates(claim: paper.Claim, preset: Preset) -> str:
    """A sentence where the claim's rows update D a different number of times for each G update."""
    compared = [rows()[name] for name in dict.fromkeys(name for c in claim.comparisons for name in (*c.better, *c.worse))]
    updates = {row.label: configure(row, preset).recipe.d_steps for row in compared if report.unavailable(row, preset) is None}
    if len(set(updates.values())) < 2:
        return ""
    return "Equal in G updates, not in D updates for each: " + ", ".join(f"{label} {n}" for label, n in updates.items()) + ". "


def verdict(study: Study, claim: paper.Claim) -> dict[str, str]:
    """claim, statement, verdict and evidence. The verdict is supported when every comparison is, contradicted when one is."""
    preset = study.preset
    measured, remarks = measurements(study, claim)
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
    return line | {"verdict": overall, "evidence": remarks + "; ".join(map(_evidence, measured)) + "."}


def comparisons(study: Study) -> pd.DataFrame:
    """Every comparison behind the verdicts, in numbers: claim, comparison, metric, paper (its own difference), differences (ours, by seed),
    mean, low, high, p, p_holm (over all of them), seeds_needed, at_best (the mean at the best scored steps)."""
    lines = []
    for claim in paper.CLAIMS:
        for m in measurements(study, claim)[0]:
            if m.differences:
                low, high = m.interval or (math.nan, math.nan)
                lines.append({
                    "claim": claim.name, "comparison": m.text, "metric": m.metric, "paper": m.published, "differences": m.differences, "mean": float(np.mean(m.differences)),
                    "low": low, "high": high, "p": p_value(m.differences), "seeds_needed": seeds_needed(m.differences),
                    "at_best": float(np.mean(m.at_best)) if m.at_best else math.nan,
                })
    frame = pd.DataFrame(lines, columns=["claim", "comparison", "metric", "paper", "differences", "mean", "low", "high", "p", "seeds_needed", "at_best"])
    frame.insert(9, "p_holm", holm(frame["p"]))
    return frame


def show_comparisons(study: Study) -> pd.DataFrame:
    """`comparisons` for a reader: positive gains are in the claim's direction; strings throughout."""
    frame = comparisons(study)
    tested = frame["p"].notna().sum()
    number = lambda v, form="{:.2f}": "–" if v != v else form.format(v)
    needed = lambda n: "–" if n != n else f"more than {MOST_SEEDS:,}" if math.isinf(n) else f"{n:.0f}"
    return pd.DataFrame({
        "claim": frame["claim"],
        "comparison": frame["comparison"],
        f"paper ({paper.SETTING})": frame["paper"].map(lambda v: number(v, "{:+.2f}")),
        "seeds": [str(len(d)) for d in frame["differences"]],
        "gain": frame["mean"].map("{:+.2f}".format),
        f"{CONFIDENCE:.0%} interval": [f"{low:+.2f} to {high:+.2f}" if low == low else "–" for low, high in zip(frame["low"], frame["high"])],
        "p": frame["p"].map(lambda p: number(p, "{:.3f}")),
        f"p for all {tested} (Holm)" if tested else "p (Holm)": frame["p_holm"].map(lambda p: number(p, "{:.3f}")),
        "gain at the best steps": frame["at_best"].map(lambda v: number(v, "{:+.2f}")),
        f"seeds for {POWER:.0%} power": frame["seeds_needed"].map(needed),
    })


def effects(study: Study, table: paper.Table, metric: str = "fid") -> pd.DataFrame:
    """Every row's paired difference to the table's reference row, the largest first: row, label, seeds, mean, difference, low, high.

    Few seeds give a row no useful spread of its own, so the interval takes one spread for all: the residual of "row plus seed"
    over the complete runs of the ResNet pair (a randomised block design; Student's t with (rows - 1)(seeds - 1) degrees of
    freedom). It assumes that rows spread alike, and is missing with one seed.
    """
    from scipy import stats

    tidy = report.scores(study, table)
    final = tidy[(tidy["metric"] == metric) & tidy["final"]].pivot(index="row", columns="seed", values="value").dropna()
    if table.reference not in final.index:
        return pd.DataFrame(columns=["row", "label", "seeds", "mean", "difference", "low", "high"])
    found = report.records(study, table)
    alike = [
        row for row in final.index
        if rows()[row].recipe != "heykeetae" and all(found[row, seed]["status"] == "complete" for seed in final.columns)
    ]
    grid = final.loc[alike].to_numpy()
    residual = grid - grid.mean(0) - grid.mean(1, keepdims=True) + grid.mean()
    freedom, seeds = (grid.shape[0] - 1) * (grid.shape[1] - 1), final.shape[1]
    half = math.nan
    if freedom > 0:
        half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * math.sqrt(2 * (residual**2).sum() / freedom / seeds)
    frame = pd.DataFrame({"mean": final.mean(axis=1), "difference": (final - final.loc[table.reference]).mean(axis=1)}).reset_index()
    frame["low"], frame["high"] = frame["difference"] - half, frame["difference"] + half
    frame.insert(1, "label", [rows()[row].label for row in frame["row"]])
    frame.insert(2, "seeds", seeds)
    frame = frame[frame["row"] != table.reference]
    return frame.sort_values("difference", key=abs, ascending=False, ignore_index=True)


def show_effects(study: Study, table: paper.Table) -> pd.DataFrame:
    """`effects` for a reader, with whether each is larger than attention's own and whether its interval excludes zero."""
    frame = effects(study, table)
    own = frame.set_index("row")["difference"].get("recipe_none", math.nan)
    interval = [f"{low:+.1f} to {high:+.1f}" if low == low else "–" for low, high in zip(frame["low"], frame["high"])]
    clear = ["–" if low != low else "yes" if low > 0 or high < 0 else "no" for low, high in zip(frame["low"], frame["high"])]
    larger = ["its own" if row == "recipe_none" else "yes" if abs(d) > abs(own) else "no" for row, d in zip(frame["row"], frame["difference"])]
    return pd.DataFrame({
        "changed": frame["label"],
        report.heading("fid", study.preset): frame["mean"].map("{:.1f}".format),
        "Δ to released_code": frame["difference"].map("{:+.1f}".format),
        f"{CONFIDENCE:.0%} interval": interval,
        "apart from zero": clear,
        "larger than attention's": larger,
    })


def effects_in_words(study: Study, table: paper.Table) -> str:
    """How many single settings move the score more than attention does, in a sentence."""
    frame = effects(study, table).set_index("row")
    knobs = frame[frame.index.str.startswith("knob_")]
    if knobs.empty or "recipe_none" not in frame.index:
        return "The rows that this takes have not all run."
    own = frame.loc["recipe_none", "difference"]
    larger = knobs[knobs["difference"].abs() > abs(own)]
    names = f" ({', '.join(larger['label'])})" if len(larger) else ""
    return (
        f"Leaving attention out moves {report.heading('fid', study.preset)} by {own:+.1f}; {len(larger)} of the {len(knobs)} single settings move it"
        f" further{names}, and so do {int((frame.drop(knobs.index)['difference'].abs() > abs(own)).sum())} of the {len(frame) - len(knobs) - 1} rows with a whole recipe changed."
    )


def _evidence(m: Measured) -> str:
    if not m.differences:
        return f"{m.text}: not run"
    mean = np.mean(m.differences)
    text = f"{m.text}: " + (f"{m.words[int(mean < 0)]} {abs(mean):.2f}" if mean else "no difference")
    if m.unstable:
        return text + f" (unstable: {m.unstable} of the compared runs collapsed or diverged, so no interval)"
    if m.interval is None:
        return text + " (1 seed, no interval)"
    low, high = m.interval
    return text + f" ({CONFIDENCE:.0%} interval of the gain {low:+.2f} to {high:+.2f}, {len(m.differences)} seeds)"


def verdicts(study: Study, *claims: str) -> pd.DataFrame:
    """The verdicts on the named claims, or on all: claim, statement, verdict, evidence."""
    return pd.DataFrame([verdict(study, c) for c in paper.CLAIMS if not claims or c.name in claims])
