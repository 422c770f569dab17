"""How often the study's verdicts are wrong, and what they find: made-up studies judged by
repro.analysis.statistics (docs/statistics.md, docs/pilot.md).

python -m benchmarks.simulation              the tables of docs/statistics.md
python -m benchmarks.simulation --studies N  with so many made-up studies a line
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import pandas as pd
from scipy import stats

from repro.analysis.statistics import CONTRADICTED, NO_DIFFERENCE, OPEN, SUPPORTED, across, looks, settled

MARGIN, MOST = math.log(1.1), 10
FALSE_ALARMS = {  # rows' spreads and weights
    "two rows, equal spread": ((1, 1), (1, -1)),
    "two rows against one": ((1, 1, 1), (1, -0.5, -0.5)),
    "two rows, spreads 1 to 3": ((1, 3), (1, -1)),
    "two rows, spreads 1 to 5": ((1, 5), (1, -1)),
    "one row against 0": ((1,), (1,)),
}
EFFECTS = {"0": 0.0, "5 %": 0.05, "10 % (the margin)": MARGIN, "22 % (the paper's)": 0.22}
SPREADS = (0.03, 0.05, 0.07)
# The rules of cifar10-cpu-paired. Its spread is that of the differences of runs of equal seed in cifar10-cpu,
# between the ends of their 95 per cent interval.
PAIRED = dict(margin=math.log(1.05), most=16, first=6)
PAIRED_EFFECTS = {"0": 0.0, "2 %": 0.02, "4 %": 0.04, "5.5 %": 0.055, "5 % (the margin)": PAIRED["margin"]}
PAIRED_SPREADS = (0.032, 0.047, 0.085)


def study(
    rng: np.random.Generator,
    studies: int,
    spreads,
    means=None,
    most: int = MOST,
    tails: float | None = None,
    shared: float = 0,
) -> np.ndarray:
    """Endpoints of made-up studies: (rows, studies, most). tails: degrees of freedom of Student's values
    instead of normal ones. shared: the correlation of normal values of equal seed.
    """
    shape = (len(spreads), studies, most)
    noise = rng.normal(size=shape) if tails is None else rng.standard_t(tails, size=shape)
    if shared:
        noise = math.sqrt(1 - shared) * noise + math.sqrt(shared) * rng.normal(size=shape[1:])
    scale = np.reshape(spreads, (-1, 1, 1))
    return noise * scale + (0 if means is None else np.reshape(means, (-1, 1, 1)))


def verdicts(
    values: np.ndarray, weights, margin: float = MARGIN, of: int = 1, most: int = MOST, first: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """The verdict of each study, made at its first look that is not open, and the seeds it took."""
    found = looks(values, weights, margin, most, first, of=of)
    outcomes = np.array([look.outcome for look in found])
    made = (outcomes != OPEN).argmax(0)
    return np.take_along_axis(outcomes, made[None], 0)[0], np.where(
        (outcomes != OPEN).any(0), made + found[0].seeds, most
    )


def false_alarms(rng: np.random.Generator, studies: int) -> pd.DataFrame:
    """Supported or contradicted although nothing differs, over all looks; and how often an interval of a look
    misses the truth.
    """
    lines = []
    for name, (spreads, weights) in FALSE_ALARMS.items():
        values = study(rng, studies, spreads)
        found, _ = verdicts(values, weights, margin=0.0)
        covered = np.all(
            [(look.low < 0) & (look.high > 0) for look in looks(values, weights, 0.0, MOST)], axis=0
        )
        lines.append((name, np.isin(found, [SUPPORTED, CONTRADICTED]).mean(), covered.mean()))
    heavy = study(rng, studies, (1, 1), tails=3)
    found, _ = verdicts(heavy, (1, -1), margin=0.0)
    covered = np.all([(look.low < 0) & (look.high > 0) for look in looks(heavy, (1, -1), 0.0, MOST)], axis=0)
    lines.append(
        (
            "two rows, heavy tails (Student's, 3 degrees of freedom)",
            np.isin(found, [SUPPORTED, CONTRADICTED]).mean(),
            covered.mean(),
        )
    )
    return pd.DataFrame(lines, columns=["rows", "false alarms", "all intervals cover"])


def looking_again(rng: np.random.Generator, studies: int) -> float:
    """How often one of eight looks at two equal rows sees a difference where each is taken at the level of a
    single one, 5 per cent.
    """
    values = study(rng, studies, (1, 1))
    seen = [
        stats.ttest_ind(*values[:, :, :k], axis=1, equal_var=False).pvalue < 0.05 for k in range(3, MOST + 1)
    ]
    return float(np.any(seen, axis=0).mean())


def power(
    rng: np.random.Generator, studies: int, effects=EFFECTS, spreads=SPREADS, paired: bool = False
) -> pd.DataFrame:
    """Verdicts on two rows by true difference and spread: shares, and the seeds used on average. paired: the
    spread is that of the differences of runs of equal seed.
    """
    lines = []
    for name, effect in effects.items():
        for sd in spreads:
            found, seeds = (
                verdicts(study(rng, studies, (sd,), (effect,), PAIRED["most"]), (1,), **PAIRED)
                if paired
                else verdicts(study(rng, studies, (sd, sd), (effect, 0)), (1, -1))
            )
            lines.append(
                (
                    name,
                    sd,
                    *((found == one).mean() for one in (SUPPORTED, NO_DIFFERENCE, CONTRADICTED, OPEN)),
                    seeds.mean(),
                )
            )
    return pd.DataFrame(
        lines, columns=["true difference", "sd", SUPPORTED, NO_DIFFERENCE, CONTRADICTED, OPEN, "seeds"]
    )


def detected(rng: np.random.Generator, studies: int, effect: float = 1.5) -> float:
    """The share of studies that find a difference of so many standard deviations."""
    found, _ = verdicts(study(rng, studies, (1, 1), (effect, 0)), (1, -1), margin=0.0)
    return float((found == SUPPORTED).mean())


def three_budgets(
    rng: np.random.Generator, studies: int, comparisons: int = 6, correlation: float = 0.7
) -> float:
    """How often a claim of six comparisons, each at three budgets of the same runs, is contradicted although
    nothing differs.
    """
    any_contradicted = np.zeros(studies, bool)
    for _ in range(comparisons):
        runs = rng.normal(size=(2, studies, MOST))
        budgets = [
            math.sqrt(correlation) * runs + math.sqrt(1 - correlation) * rng.normal(size=runs.shape)
            for _ in range(3)
        ]
        by_budget = [looks(values, (1, -1), MARGIN, MOST, of=comparisons) for values in budgets]
        # (budgets, looks, studies)
        outcomes = np.array([[look.outcome for look in of_budget] for of_budget in by_budget])
        for at in range(studies):
            over_looks = [across(list(outcomes[:, look, at])) for look in range(outcomes.shape[1])]
            made = settled(over_looks)
            any_contradicted[at] |= made is not None and over_looks[made] == CONTRADICTED
    return float(any_contradicted.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=40_000)
    studies = parser.parse_args().studies
    rng = np.random.default_rng(2018)
    share = lambda v: f"{100 * v:.1f} %"
    alarms = false_alarms(rng, studies)
    print(
        alarms.assign(**{c: alarms[c].map(share) for c in alarms.columns[1:]}).to_markdown(
            index=False, disable_numparse=True
        ),
        end="\n\n",
    )
    pairs = power(np.random.default_rng(2018), studies, PAIRED_EFFECTS, PAIRED_SPREADS, paired=True)
    for table in (power(rng, studies), pairs):
        shown = {c: table[c].map(share) for c in (SUPPORTED, NO_DIFFERENCE, CONTRADICTED, OPEN)}
        print(
            table.assign(
                sd=(100 * table["sd"]).map("{:.2g}%".format),
                seeds=table["seeds"].map("{:.1f}".format),
                **shown,
            ).to_markdown(index=False, disable_numparse=True),
            end="\n\n",
        )
    print(f"A difference of 1.5 standard deviations is found by {share(detected(rng, studies))} of studies.")
    print(
        f"A claim of six comparisons at three budgets is contradicted by {share(three_budgets(rng, studies))}"
        " of studies when nothing differs."
    )
    no_margin = PAIRED | dict(margin=0.0)
    found, _ = verdicts(study(rng, studies, (1,), most=PAIRED["most"]), (1,), **no_margin)
    false = lambda found: share(np.isin(found, [SUPPORTED, CONTRADICTED]).mean())
    print(f"Over all looks at pairs, with no margin, {false(found)} of studies are false alarms.")
    print(f"Eight looks at the level of one: {share(looking_again(rng, studies))} are false alarms.")
    for shared in (0.3, 0.6):
        found, _ = verdicts(study(rng, studies, (1, 1), shared=shared), (1, -1), margin=0.0)
        print(f"Two rows, not paired, with a correlation of {shared} between equal seeds: {false(found)}.")


if __name__ == "__main__":
    main()
