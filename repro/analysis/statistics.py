"""Intervals and outcomes of a comparison that is looked at again after every training seed. Pure functions of
arrays.

A comparison is a contrast of rows: sum of c_r times the mean of row r. Every array may have further axes, so
that a simulation (benchmarks/simulation.py) judges thousands of studies by the very functions that judge one.
docs/statistics.md says why it is so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SUPPORTED, CONTRADICTED, NO_DIFFERENCE, OPEN, DEPENDS = (
    "supported",
    "contradicted",
    "no difference",
    "open",
    "depends on the budget",
)
NODES = 200  # of the quadrature in `nominal_levels`
ROUNDING = 1e-12  # of the values: a smaller spread is none


@dataclass(frozen=True)
class Look:
    """A contrast at one look, in arrays of one shape (of one study: of no axes).

    seeds: k, of each row. estimate; low and high: the interval that holds over all looks, NaN where there is
    no spread; least: the upper end at the level of a claim of m comparisons, which "contradicted" takes.
    outcome: in words.
    """

    seeds: int
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    least: np.ndarray
    outcome: np.ndarray


@functools.cache
def nominal_levels(most: int, first: int = 3, alpha: float = 0.05) -> Mapping[int, float]:
    """Two-sided level of each look k = first .. most such that all looks together reject a true null with
    probability `alpha`.

    Spends alpha (k / most)^3 up to look k (Lan and DeMets 1983) over sums of independent normal values, by
    the recursive integration of Armitage, McPherson and Rowe (1969; Jennison and Turnbull 2000, chapter 19).
    """
    from scipy import optimize, stats

    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    spent = lambda k: alpha * (k / most) ** 3 if k >= first else 0.0
    levels = {first: spent(first)}
    bound = stats.norm.isf(spent(first) / 2) * math.sqrt(first)  # of the sum
    at, mass = bound * nodes, bound * weights * stats.norm.pdf(bound * nodes, scale=math.sqrt(first))
    for k in range(first + 1, most + 1):
        # the probability to cross first at this look
        crosses = lambda b, at=at, mass=mass: float(mass @ (stats.norm.sf(b - at) + stats.norm.cdf(-b - at)))
        excess = lambda b, k=k, crosses=crosses: crosses(b) - (spent(k) - spent(k - 1))
        bound = optimize.brentq(excess, 0, 10 * math.sqrt(k))
        levels[k] = float(2 * stats.norm.sf(bound / math.sqrt(k)))
        density = lambda s, at=at, mass=mass: stats.norm.pdf(s[:, None] - at) @ mass
        at, mass = bound * nodes, bound * weights * density(bound * nodes)
    return levels


def contrast(values: np.ndarray, weights: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, standard error and degrees of freedom of sum c_r m_r, each row with its own spread (Welch
    1947, Satterthwaite 1946).

    values: (rows, ..., k), k >= 2 seeds of each row. Of one row it is Student's. Freedom is NaN where no row
    has a spread.
    """
    values = np.asarray(values, float)
    k = values.shape[-1]
    c = np.asarray(weights, float).reshape(-1, *(1,) * (values.ndim - 2))
    of_rows = c**2 * values.var(-1, ddof=1) / k
    variance = of_rows.sum(0)
    some = variance > (ROUNDING * np.abs(values).max((0, -1))) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(some, variance**2 * (k - 1) / (of_rows**2).sum(0), math.nan)
    return (c * values.mean(-1)).sum(0), np.sqrt(variance), freedom


def half_width(error: np.ndarray, freedom: np.ndarray, level: float) -> np.ndarray:
    """Half of Student's interval at a two-sided `level`."""
    from scipy import stats

    return stats.t.isf(level / 2, freedom) * error


def outcome(low: np.ndarray, high: np.ndarray, least: np.ndarray, margin: float) -> np.ndarray:
    """What an interval says of a gain in a claim's direction: above 0, below 0 (by `least`), inside +-margin,
    or open.
    """
    return np.select(
        [low > 0, least < 0, (low > -margin) & (high < margin)],
        [SUPPORTED, CONTRADICTED, NO_DIFFERENCE],
        OPEN,
    )


def looks(
    values: np.ndarray,
    weights: Sequence[float],
    margin: float,
    most: int,
    first: int = 3,
    alpha: float = 0.05,
    of: int = 1,
) -> list[Look]:
    """Every look that n seeds allow: look k takes seeds 0 .. k - 1 and no others.

    values: (rows, ..., n). of: m, the comparisons of the claim; "contradicted" takes alpha / m (Bonferroni),
    the others alpha: "supported" needs all comparisons of a claim (intersection-union test, Berger 1982).
    """
    values = np.asarray(values, float)
    out = []
    for k in range(first, min(values.shape[-1], most) + 1):
        estimate, error, freedom = contrast(values[..., :k], weights)
        half, strict = (
            half_width(error, freedom, nominal_levels(most, first, a)[k]) for a in (alpha, alpha / of)
        )
        low, high, least = estimate - half, estimate + half, estimate + strict
        out.append(Look(k, estimate, low, high, least, outcome(low, high, least, margin)))
    return out


def settled(outcomes: Sequence[str], *waiting: str) -> int | None:
    """The place of the first look that is neither open nor waits for something: the verdict is made there and
    stays. None when there is none.
    """
    return next((place for place, found in enumerate(outcomes) if found not in (OPEN, *waiting)), None)


def across(outcomes: Sequence[str]) -> str:
    """The outcome of one comparison made at several budgets."""
    if len(outcomes) == 1:
        return outcomes[0]
    for each in (SUPPORTED, CONTRADICTED):
        if all(found == each for found in outcomes):
            return each
    return DEPENDS if {SUPPORTED, CONTRADICTED} <= set(outcomes) else OPEN


def seeds_needed(
    values: np.ndarray,
    weights: Sequence[float],
    margin: float,
    most: int,
    first: int = 3,
    alpha: float = 0.05,
) -> int | None:
    """The fewest seeds past the present k, up to `most`, at which the present spread gives an interval of at
    most +-margin; None: more.
    """
    k = np.asarray(values).shape[-1]
    _, error, freedom = contrast(values, weights)
    for n in range(max(k + 1, first), most + 1):
        if (
            half_width(
                error * math.sqrt(k / n), freedom * (n - 1) / (k - 1), nominal_levels(most, first, alpha)[n]
            )
            <= margin
        ):
            return n
    return None


def share(count: int, of: int, alpha: float = 0.05) -> tuple[float, float]:
    """The interval of a share (Clopper and Pearson 1934)."""
    from scipy import stats

    found = stats.binomtest(count, of).proportion_ci(1 - alpha, method="exact")
    return float(found.low), float(found.high)


def any_false(comparisons: Sequence[int], alpha: float = 0.05) -> float:
    """About the chance that any of several claims gets a false verdict when nothing is true, given how many
    comparisons each has.

    A claim of m independent ones is contradicted with alpha / 2 and supported, by all of them, with (alpha /
    2)^m.
    """
    return 1 - math.prod(1 - alpha / 2 - (alpha / 2) ** m for m in comparisons)
