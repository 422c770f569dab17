"""What the pilot of `cifar10-cpu` says: sd of ln FID between training seeds, and cost, by candidate endpoint. Writes the table of docs/pilot.md.

    python benchmarks/pilot.py

The pilot's records are results/cifar10-pilot*/runs: seeds from 100 on, which no study uses. Their code revision, which is in each record,
has the presets `cifar10-pilot`, `cifar10-pilot-short` and `cifar10-pilot-fast` that made them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).resolve().parent.parent / "results"
STEPS = (1500, 2000, 2500, 3000)  # candidates for the budget
LAST = (1, 2, 3, 4)  # and for how many of the last scores are averaged


def scores() -> pd.DataFrame:
    """A line per run and scored step: rates (times the recipe's), row, seed, step, ln FID."""
    lines = []
    for path in sorted(RESULTS.glob("cifar10-pilot*/runs/*/seed*/run.json")):
        record = json.loads(path.read_text())
        config = record["config"]
        of = {"rates": config["preset"]["learning_rate_scale"], "row": record["row"], "seed": config["seed"]}
        lines += [of | {"step": s["step"], "y": math.log(s["fid"])} for s in record["scores"]]
    return pd.DataFrame(lines)


def endpoints(frame: pd.DataFrame) -> pd.DataFrame:
    """A line per candidate: FID of each row (geometric mean over seeds), sd of the endpoint within rows (pooled) and its degrees of
    freedom, gain of attention, and what the sd costs: steps x sd^2, relative to the last score at 3,000 steps of the same rates."""
    lines = []
    for rates, of_rates in frame.groupby("rates"):
        for step in STEPS:
            for last in LAST:
                used = of_rates[(of_rates["step"] <= step) & (of_rates["step"] > step - 250 * last)]
                whole = used.groupby(["row", "seed"])["y"].agg(["mean", "count"])
                y = whole[whole["count"] == last]["mean"].unstack("row")
                freedom = int((y.count() - 1).clip(lower=0).sum())
                squares = float(((y - y.mean()) ** 2).sum().sum())
                sd = math.sqrt(squares / freedom) if freedom else math.nan
                lines.append({
                    "rates": f"x{rates:g}", "steps": step, "scores averaged": last,
                    **{f"FID, {row}": f"{math.exp(y[row].mean()):.0f} ({y[row].count()})" for row in y},
                    "sd of ln FID": sd, "degrees of freedom": freedom, "cost": step * sd**2,
                })
    found = pd.DataFrame(lines)
    base = found[(found["steps"] == 3000) & (found["scores averaged"] == 1)].set_index("rates")["cost"]
    found["cost"] = found["cost"] / found["rates"].map(base)
    return found


def main() -> None:
    shown = endpoints(scores())
    shown["sd of ln FID"] = [f"{100 * sd:.1f} %" if np.isfinite(sd) else "–" for sd in shown["sd of ln FID"]]
    shown["cost"] = [f"{c:.2f}" if np.isfinite(c) else "–" for c in shown["cost"]]
    print(shown.to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
