"""Levels, intervals and outcomes against SciPy, hand-computed values and simulation through the study's own
functions.
"""

import json
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import simulation
from repro import runs
from repro.analysis import statistics as s

MARGIN = math.log(1.1)


def test_levels_of_the_looks():
    """Against a Monte Carlo of 400,000 paths (within its error), and against what they must spend."""
    levels = s.nominal_levels(10)
    assert list(levels) == list(range(3, 11)) and levels[3] == pytest.approx(0.05 * 0.027)
    assert list(levels.values()) == pytest.approx(
        [0.00146, 0.00256, 0.00464, 0.0079, 0.0123, 0.0188, 0.0266, 0.0365], rel=0.09
    )
    assert list(levels.values())[2:] == pytest.approx(
        [0.00464, 0.0079, 0.0123, 0.0188, 0.0266, 0.0365], rel=0.025
    )
    assert s.nominal_levels(3) == {3: pytest.approx(0.05)}  # one look spends all


def test_levels_spend_what_was_declared():
    z = np.random.default_rng(0).normal(size=(200_000, 6)).cumsum(1) / np.sqrt(np.arange(1, 7))
    crossed = np.zeros(len(z), bool)
    for k, level in s.nominal_levels(6).items():
        crossed |= np.abs(z[:, k - 1]) > stats.norm.isf(level / 2)
        assert crossed.mean() == pytest.approx(0.05 * (k / 6) ** 3, rel=0.05)


def test_a_contrast_of_two_rows_is_welchs():
    a, b = np.array([1.0, 2.0, 4.0, 3.5]), np.array([0.5, 0.1, 6.0, 2.0])
    estimate, error, freedom = s.contrast([a, b], (1, -1))
    theirs = stats.ttest_ind(a, b, equal_var=False)
    assert estimate / error == pytest.approx(theirs.statistic) and freedom == pytest.approx(theirs.df)
    interval = theirs.confidence_interval(0.95)
    half = s.half_width(error, freedom, 0.05)
    assert (estimate - half, estimate + half) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_contrast_of_one_row_is_students():
    values = np.array([0.3, 0.1, 0.7])
    estimate, error, freedom = s.contrast([values], (1,))
    assert freedom == 2 and estimate / error == pytest.approx(stats.ttest_1samp(values, 0).statistic)


def test_a_contrast_of_three_rows_weighs_their_variances():
    rows = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 9.0], [1.0, 1.0, 4.0]])
    estimate, error, freedom = s.contrast(rows, (1, -0.5, -0.5))
    parts = np.array([1, 0.25, 0.25]) * rows.var(axis=1, ddof=1) / 3
    assert estimate == pytest.approx(2 - 2.5 - 1) and error == pytest.approx(math.sqrt(parts.sum()))
    assert freedom == pytest.approx(parts.sum() ** 2 / (parts**2 / 2).sum())


@pytest.mark.parametrize(
    "low, high, least, expected",
    [
        (0.001, 0.3, 0.4, s.SUPPORTED),
        (0.001, 0.05, 0.06, s.SUPPORTED),
        (-0.3, -0.001, -0.0005, s.CONTRADICTED),
        (-0.3, -0.001, 0.01, s.OPEN),
        (-0.05, -0.001, 0.01, s.NO_DIFFERENCE),
        (-0.09, 0.09, 0.1, s.NO_DIFFERENCE),
        (-0.09, 0.096, 0.1, s.OPEN),
        (math.nan, math.nan, math.nan, s.OPEN),
    ],
)
def test_outcomes(low, high, least, expected):
    assert s.outcome(low, high, least, MARGIN) == expected


def test_a_look_takes_its_first_seeds_and_no_others():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 6))
    full, changed = (
        s.looks(values, (1, -1), MARGIN, 10),
        s.looks(np.concatenate([values[:, :4], values[:, 4:] + 9], axis=1), (1, -1), MARGIN, 10),
    )
    assert [look.seeds for look in full] == [3, 4, 5, 6]
    for before, after in zip(full[:2], changed[:2], strict=True):
        assert (before.low, before.high) == (after.low, after.high)
    assert len(s.looks(values, (1, -1), MARGIN, 4)) == 2  # no look past the most seeds


def test_a_look_by_hand():
    """Three seeds of ten: level .00135, Welch's four degrees of freedom of two equal spreads."""
    (look,) = s.looks([[1.0, 1.1, 1.2], [0.5, 0.6, 0.7]], (1, -1), MARGIN, 10)
    half = stats.t.isf(0.00135 / 2, 4) * math.sqrt(2 * 0.01 / 3)
    assert (look.estimate, look.low, look.high) == (
        pytest.approx(0.5),
        pytest.approx(0.5 - half),
        pytest.approx(0.5 + half),
    )
    (strict,) = s.looks([[1.0, 1.1, 1.2], [0.5, 0.6, 0.7]], (1, -1), MARGIN, 10, of=6)
    assert strict.high == look.high and strict.least == pytest.approx(
        0.5 + stats.t.isf(0.00135 / 12, 4) * math.sqrt(2 * 0.01 / 3)
    )


def test_the_verdict_is_the_first_that_is_not_open():
    assert (
        s.settled([s.OPEN, s.NO_DIFFERENCE, s.SUPPORTED]) == 1
        and s.settled([s.OPEN]) is None
        and s.settled([]) is None
    )


def test_budgets_have_to_agree():
    yes, no = s.SUPPORTED, s.CONTRADICTED
    assert (
        s.across([yes] * 3) == yes and s.across([no] * 3) == no and s.across([yes, s.OPEN, no]) == s.DEPENDS
    )
    assert s.across([yes, yes, s.OPEN]) == s.OPEN and s.across([s.NO_DIFFERENCE]) == s.NO_DIFFERENCE


def test_the_seeds_needed_make_the_interval_as_narrow_as_the_margin():
    values = np.array([[0.0, 0.05, 0.1], [0.02, 0.05, 0.08]])
    needed = s.seeds_needed(values, (1, -1), MARGIN, 10)
    _, error, freedom = s.contrast(values, (1, -1))
    width = lambda n: (
        stats.t.isf(s.nominal_levels(10)[n] / 2, freedom * (n - 1) / 2) * error * math.sqrt(3 / n)
    )
    assert width(needed) <= MARGIN < width(needed - 1)
    assert s.seeds_needed(10 * values, (1, -1), MARGIN, 10) is None


def test_shares():
    assert s.share(0, 10)[1] == pytest.approx(1 - 0.025**0.1) and s.share(10, 10) == (
        pytest.approx(0.025**0.1),
        1.0,
    )


def test_false_verdicts_of_several_claims():
    assert s.any_false([1]) == pytest.approx(0.05) and s.any_false([1, 1, 2, 6, 2]) == pytest.approx(
        0.16, abs=0.01
    )


STUDIES = 12_000


def test_false_alarms_over_all_looks_stay_as_stated():
    found = simulation.false_alarms(np.random.default_rng(0), STUDIES).set_index("rows")["false alarms"]
    assert found["two rows, equal spread"] <= 0.055 and found["two rows against one"] <= 0.06
    assert found["two rows, spreads 1 to 3"] <= 0.07 and found["two rows, spreads 1 to 5"] <= 0.07
    assert (
        found.drop("two rows, heavy tails (Student's, 3 degrees of freedom)") >= 0.04
    ).all()  # and not by never finding anything


def test_power():
    assert simulation.detected(np.random.default_rng(0), STUDIES) >= 0.85


def test_a_claim_of_six_comparisons_is_seldom_contradicted_by_chance():
    assert simulation.three_budgets(np.random.default_rng(0), 2_000) <= 0.005  # 0.018 at levels of one
    rng, one = np.random.default_rng(0), [1 / 6] * 6
    false = np.zeros(STUDIES, bool)
    for _ in one:
        found, _ = simulation.verdicts(simulation.study(rng, STUDIES, (1, 1)), (1, -1), margin=0.0, of=6)
        false |= found == s.CONTRADICTED
    assert false.mean() <= 0.055


def test_the_rules_of_the_study_of_pairs():
    """Against docs/pilot.md: at a true difference as large as the margin, and false alarms without one."""
    declared = json.loads((runs.PROJECT / "results/cifar10-cpu-paired/plan.json").read_text())
    margin, most, first = (declared[name] for name in ("margin", "most_seeds", "first_look"))
    assert dict(margin=pytest.approx(margin, abs=1e-5), most=most, first=first) == simulation.PAIRED
    of = simulation.power(np.random.default_rng(0), STUDIES, {"m": margin}, (0.032, 0.085), paired=True)
    narrow, wide = (line for _, line in of.iterrows())
    assert narrow[s.SUPPORTED] == pytest.approx(0.995, abs=0.005) and narrow[s.NO_DIFFERENCE] <= 0.01
    assert wide[s.SUPPORTED] == pytest.approx(0.547, abs=0.02) and wide[s.NO_DIFFERENCE] <= 0.025
    rng, rules = np.random.default_rng(0), simulation.PAIRED | dict(margin=0.0)
    found, _ = simulation.verdicts(simulation.study(rng, STUDIES, (1,), most=most), (1,), **rules)
    assert 0.045 <= (found != s.OPEN).mean() <= 0.062


def test_shared_seeds_make_unpaired_rows_cautious_and_looking_again_does_not():
    rng = np.random.default_rng(0)
    found, _ = simulation.verdicts(simulation.study(rng, STUDIES, (1, 1), shared=0.3), (1, -1), margin=0.0)
    assert 0.018 <= (found != s.OPEN).mean() <= 0.03
    assert 0.12 <= simulation.looking_again(rng, STUDIES) <= 0.16


def test_what_a_pair_can_expect():
    """Against the table that the design was chosen by: (difference, sd) -> supported, no difference, seeds on
    average.
    """
    found = simulation.power(np.random.default_rng(0), STUDIES).set_index(["true difference", "sd"])
    expected = {
        ("0", 0.03): (None, 0.99, 5.3),
        ("0", 0.05): (None, 0.93, 7.6),
        ("0", 0.07): (None, 0.57, 9.2),
        ("5 %", 0.03): (0.62, 0.38, 6.2),
        ("5 %", 0.05): (0.48, 0.39, 8.1),
        ("5 %", 0.07): (0.31, 0.23, 9.2),
        ("10 % (the margin)", 0.03): (1.0, 0.002, 4.9),
        ("10 % (the margin)", 0.05): (0.97, 0.018, 6.6),
        ("10 % (the margin)", 0.07): (0.79, 0.024, 8.0),
        ("22 % (the paper's)", 0.03): (1.0, 0, 3.7),
        ("22 % (the paper's)", 0.05): (1.0, 0, 4.4),
        ("22 % (the paper's)", 0.07): (1.0, 0, 5.2),
    }
    for at, (supported, no_difference, seeds) in expected.items():
        line = found.loc[at]
        assert supported is None or line[s.SUPPORTED] == pytest.approx(supported, abs=0.025), at
        assert line[s.NO_DIFFERENCE] == pytest.approx(no_difference, abs=0.02) and line[
            "seeds"
        ] == pytest.approx(seeds, abs=0.35), at
    assert (found.loc["10 % (the margin)", s.NO_DIFFERENCE] <= 0.03).all()
