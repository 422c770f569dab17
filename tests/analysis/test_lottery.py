"""How far a score moves with which part of a training seed, against values known by hand."""

import math
import shutil

import numpy as np
import pytest
from scipy import stats

from repro import paper
from repro.analysis import findings, lottery, tables
from repro.studies.study import Study, configure, rows, run_name

FIDS = {
    "none": [100.0, 110.0, 121.0, 133.1],  # ln: 0.0953 apart
    "only_weights": [
        7.0,
        100.0,
        110.0,
        121.0,
    ],  # seed 0 is the run of the row with all three: it counts there
    "only_order": [7.0, 100.0, 100.0 * 1.1**0.5],
}


def test_spreads_and_shares_are_those_known_by_hand(study_of):
    frame = lottery.spreads(study_of(FIDS)).set_index("source")
    step = math.log(1.1)
    whole, weights, order = (
        frame.loc[label] for label in ("all three", "initial weights alone", "order of the images alone")
    )
    assert whole["sd"] == pytest.approx(100 * step * math.sqrt(5 / 3))  # of 0, 1, 2, 3
    assert weights["sd"] == pytest.approx(100 * step) and weights["seeds"] == 3
    assert order["sd"] == pytest.approx(100 * step / 2 / math.sqrt(2))
    assert weights["share"] == pytest.approx(3 / 5) and math.isnan(whole["share"])
    # 95 % of chi-squared with three degrees of freedom, from a table: 0.2158 and 9.3484
    assert whole["sd_low"] == pytest.approx(whole["sd"] * math.sqrt(3 / 9.3484), rel=1e-3)
    assert whole["sd_high"] == pytest.approx(whole["sd"] * math.sqrt(3 / 0.2158), rel=1e-3)
    # F(2, 3): 0.0255 and 16.04
    assert weights["share_low"] == pytest.approx(0.6 / 16.04, rel=1e-3)
    assert weights["share_high"] == pytest.approx(0.6 / 0.0255, rel=2e-3)
    assert "latents and their labels alone" not in frame.index  # no run of it


def test_its_notebook_counts_its_own_seeds_and_compares_no_means(study_of):
    study = study_of(FIDS | {"attention_16": [100.0]})
    assert "1 to 4 training seeds a row" in findings.where_it_holds(study)
    assert "3 to 4 training seeds a row" in findings.where_it_holds(study, "streams")
    assert "Δ FID" in tables.present(study, paper.TABLE1)
    assert "Δ FID" not in tables.present(study, paper.STREAM_TABLE)


def test_other_samples_of_one_generator_are_pooled_over_generators(study_of):
    study = study_of({"none": [100.0, 110.0], "attention_16": [90.0, 95.0]})
    for row, times in (("none", 1.01), ("attention_16", 1.03)):
        for seed in range(2):
            record = study.run(row, seed).read()
            study.run(row, seed).write(record | {"resampled": [{"fid": times * record["final"]["fid"]}]})
    frame = lottery.spreads(study).set_index("source")
    again = frame.loc[lottery.SAMPLED]
    # two values of one generator that lie x apart have the variance x^2 / 2
    variance = np.mean([math.log(1.01) ** 2 / 2, math.log(1.03) ** 2 / 2])
    assert again["sd"] == pytest.approx(100 * math.sqrt(variance)) and again["seeds"] == 8
    pooled = np.mean([math.log(1.1) ** 2 / 2, math.log(95 / 90) ** 2 / 2])
    assert frame.loc[lottery.POOLED, "sd"] == pytest.approx(100 * math.sqrt(pooled))
    assert again["share"] == pytest.approx(variance / pooled)
    said = " ".join(lottery.spreads_in_words(study))
    assert f"{100 * math.sqrt(pooled):.1f} per cent" in said
    assert f"of one generator it is {100 * math.sqrt(variance):.1f} per cent" in said


def test_a_study_of_one_seed_says_nothing(study_of):
    study = study_of({"none": [100.0]})
    assert lottery.spreads_in_words(study) == [] and lottery.show_spreads(study).empty


@pytest.mark.parametrize("row", [row for row in paper.STREAM_TABLE.rows if row.pinned])
def test_a_row_of_one_stream_changes_that_stream_alone(row, rehearsal):
    config = configure(row, rehearsal, seed=3)
    moved = {stream for stream in ("weights", "order", "latents") if config.seed_of(stream) == 3}
    assert moved == {row.name.removeprefix("only_")}
    assert run_name(row, rehearsal) == row.name  # a folder of its own
    assert rows()[row.name] is row


def test_a_row_of_one_stream_begins_with_seed_1(study_of):
    """Its seed 0 would be the run of the row with all three."""
    alone = {"only_weights", "only_order", "only_latents"}
    tasks = {(task.row, task.seed) for task in Study("rehearsal", 2).tasks(["streams"])}
    assert tasks == {("none", 0), ("none", 1)} | {(row, 1) for row in alone}
    study = study_of({"none": [100.0, 110.0]} | {row: [7.0, 100.0] for row in alone})
    for row in alone:
        shutil.rmtree(study.run(row, 0).folder)
    assert "streams" in study.finished_tables()
    shutil.rmtree(study.run("only_order", 1).folder)
    assert "streams" not in study.finished_tables()


def test_rows_that_share_their_seeds_have_fewer_degrees_of_freedom():
    """Of rows that move together the second tells nothing new; of rows that move apart it tells as much."""
    one = {0: 1.0, 1: 2.0, 2: 4.0, 3: 3.0}
    variance, dof, count = lottery._pooled({"a": one, "b": {k: 2 + v for k, v in one.items()}})
    assert (variance, dof, count) == (pytest.approx(np.var([1, 2, 4, 3], ddof=1)), pytest.approx(3.0), 8)
    apart = {0: 1.0, 1: -1.0, 2: -1.0, 3: 1.0}
    assert lottery._pooled({"a": {0: 1.0, 1: 1.0, 2: -1.0, 3: -1.0}, "b": apart})[1] == pytest.approx(6.0)


def test_intervals_of_a_spread_over_shared_seeds_hold_95_times_in_100():
    rng, hits = np.random.default_rng(0), {"shared": 0, "as if apart": 0}
    for _ in range(1000):
        seed = rng.normal(0, 1, 10)
        groups = {row: dict(enumerate((seed + rng.normal(0, 0.6, 10)) / 1.36**0.5)) for row in range(5)}
        variance, dof, _ = lottery._pooled(groups)
        for name, of in (("shared", dof), ("as if apart", 45)):
            low, high = (of / stats.chi2.ppf(p, of) * variance for p in (0.975, 0.025))
            hits[name] += low <= 1 <= high
    assert hits["shared"] > 0.92 * 1000 and hits["as if apart"] < 0.8 * 1000
