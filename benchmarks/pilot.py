"""The tables of docs/pilot.md: FID of the pilots' runs by step, and how much one score scatters about its own
curve.

    python benchmarks/pilot.py

The records are results/<preset>/pilot, of seeds from 100 on, which no study uses. The code revision in each
has the presets that made them (rates x2 are those of the study, x4 those of a preset with "pilot" in its
name; a score every 250 steps).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).resolve().parent.parent / "results"
EVERY = 250  # steps between scores
SHOWN = (1000, 1500, 2000, 2500, 3000, 3500, 4000)
FROM = 1500  # the step from which the curve is straight enough


def scatter(of_step: dict[int, float]) -> float:
    """The sd of one score's ln FID about the line between its two neighbours, from step FROM on."""
    middle = [s for s in of_step if s >= FROM and {s - EVERY, s + EVERY} <= of_step.keys()]
    off = [of_step[s] - (of_step[s - EVERY] + of_step[s + EVERY]) / 2 for s in middle]
    # the variance of y_1 - (y_0 + y_2) / 2 is 1.5 of one score's
    return float(np.sqrt(np.mean(np.square(off)) / 1.5))


def table(folder: Path) -> pd.DataFrame:
    """A line a run: FID at the steps shown, and the scatter of a score."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        fid = {s["step"]: s["fid"] for s in record["scores"]}
        config = record["config"]
        lines.append(
            {
                "rates": f"x{config['preset']['learning_rate_scale']:g}",
                "row": record["row"],
                "seed": str(config["seed"]),
                "stopped at": str(record["step"]),
                **{f"FID at {step:,}": f"{fid[step]:.0f}" if step in fid else "–" for step in SHOWN},
                "scatter of a score": f"{100 * scatter({s: np.log(v) for s, v in fid.items()}):.1f} %",
            }
        )
    return pd.DataFrame(lines)


def main() -> None:
    for folder in sorted(RESULTS.glob("*/pilot")):
        print(f"{folder.parent.name}\n\n{table(folder).to_markdown(index=False, disable_numparse=True)}\n")


if __name__ == "__main__":
    main()
