"""A comparison asked again on fresh seeds: made-up pairs whose answers can be counted by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from repro.analysis import fresh_seeds
from repro.analysis.plan import read
from tests.analysis.helpers import change

NONE = [100.0, 110.0, 90.0, 105.0]
GAINS = np.array([0.1, 0.3, 0.05, 0.15])  # of both rows with attention, as logarithms
FRESH = np.log([1.01, 1 / 1.01, 1.01, 1 / 1.01])  # of the second study


@pytest.fixture
def two(study_of, declare, another):
    """A study that gains GAINS and one on fresh seeds that gains nothing, with seeds 2 and 3 of the first on
    another processor.
    """
    better = [fid * math.exp(-gain) for fid, gain in zip(NONE, GAINS, strict=True)]
    first = declare(study_of({"none": NONE, "attention_8": better, "attention_16": better}))
    again = another(first, "again", seed_offset=10)
    for row in ("attention_8", "attention_16"):
        for seed, gain in enumerate(FRESH):
            record = again.run(row, seed).read()
            record["scores"][-1]["fid"] = NONE[seed] * math.exp(-gain)
            again.run(row, seed).write(record)
    made = first.run("none", 0).read()["provenance"]
    for row in ("none", "attention_8", "attention_16"):
        for seed in (2, 3):
            change(first, only=(row, seed), provenance=made | {"processor": "another processor"})
    return first, again


def test_gains_are_those_of_pairs_by_kind_of_processor(two):
    first, again = two
    (c,) = read(first).of("C4")
    assert fresh_seeds.gains(fresh_seeds.endpoints(first, c), c) == pytest.approx(GAINS)
    frame = fresh_seeds.show_by_processor([first, again], c)
    assert list(frame["study"]) == ["`rehearsal`", "`rehearsal`", "`again`"]
    assert list(frame["processor"]) == ["a processor", "another processor", "a processor"]
    assert list(frame["seeds"]) == ["0 to 1", "2 to 3", "10 to 13"]
    half = stats.t.isf(0.025, 1) * stats.sem(GAINS[:2])  # an interval that wide is told as factors
    shown = f"a factor of 1.22 (a factor of {math.exp(0.2 - half):.2f} to {math.exp(0.2 + half):.2f})"
    assert frame.loc[0, "attention at 8"] == frame.loc[0, "attention at 16"] == shown
    half = 100 * stats.t.isf(0.025, 3) * stats.sem(FRESH)
    assert frame.loc[2, "attention at 8"].endswith(f" ({-half:+.1f} to {half:+.1f} %)")
    assert frame.loc[0, "FID, no block"] == f"{math.sqrt(100 * 110):.0f}"


def test_the_two_studies_are_compared_by_welchs_test(two):
    first, again = two
    (c,) = read(first).of("C4")
    text = fresh_seeds.in_words(first, again, c, known=1)
    p = stats.ttest_ind(GAINS, FRESH, equal_var=False).pvalue
    assert "`rehearsal` gains +15.0 %" in text[0] and "less the second is +15.0 % (-2." in text[0]
    assert text[0].endswith(f"p = {p:.3f}.")
    assert "below 1 of" in text[1] and "gain +10.0 %, the others +16.7 %" in text[1]
    assert "+10.0 to +30.0 % on a processor (2 seeds) and +5.0 to +15.0 % on another processor" in text[2]
    assert "p = 0.667" in text[2]  # of six orders of two among four, four are as extreme
    change(first, provenance=first.run("none", 0).read()["provenance"])  # one processor: nothing to compare
    assert len(fresh_seeds.in_words(first, again, c, known=1)) == 2


def test_the_correlation_of_the_example_of_its_source():
    """Shrout and Fleiss 1979, table 2: six targets, four judges, and 0.71 in table 4."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    frame = pd.DataFrame(ratings, dtype=float).assign(processor="a processor")
    assert fresh_seeds.correlation(frame) == pytest.approx(0.71, abs=0.005)


def test_rows_without_all_seeds_of_the_reference_row_are_left_out(two):
    first, _ = two
    (c,) = read(first).of("C4")
    change(first, only=("attention_8", 3), status="interrupted")
    assert list(fresh_seeds.endpoints(first, c).columns) == ["none", "processor", "attention_16"]
    change(first, only=("none", 2), status="interrupted")
    assert list(fresh_seeds.endpoints(first, c).index) == [0, 1, 3]
