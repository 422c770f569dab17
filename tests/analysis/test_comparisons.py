"""Outcomes of comparisons from made-up runs whose answers are known."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from repro.analysis import comparisons as c
from repro.analysis import published
from repro.analysis import statistics as s
from repro.analysis import verdicts as v
from repro.analysis.plan import read as read_plan
from repro.analysis.sentences import sentence
from repro.errors import ReproError
from tests.analysis.helpers import GOOD, LEVELS, budgets, judged, pair, scaled, with_status


def test_a_run_of_another_configuration_is_not_looked_at(study_of, declare):
    study = pair(study_of, declare, GOOD, GOOD)
    run = study.run("residual_16", 1)
    record = run.read()
    config = record["config"] | {"recipe": record["config"]["recipe"] | {"lr_g": 0.5}}
    run.write(record | {"config": config})
    with pytest.raises(
        ReproError, match=r"residual_16/seed1 holds a run of another configuration \(recipe.lr_g"
    ):
        c.judge(study)


def test_a_look_by_hand(study_of, declare):
    """Three seeds: Welch's interval of ln FID at the level of the first look of ten."""
    better, worse = [100, 101, 102], [200, 204, 203]
    (j,) = c.judge(pair(study_of, declare, better, worse))
    a, b = np.log(better), np.log(worse)
    va, vb = a.var(ddof=1) / 3, b.var(ddof=1) / 3
    half = stats.t.isf(LEVELS[3] / 2, (va + vb) ** 2 / (va**2 / 2 + vb**2 / 2)) * math.sqrt(va + vb)
    look = j.look()
    assert (look.low, look.high) == (
        pytest.approx(b.mean() - a.mean() - half),
        pytest.approx(b.mean() - a.mean() + half),
    )
    assert j.outcome == s.SUPPORTED and j.at == 3


@pytest.mark.parametrize(
    "worse, expected",
    [(2.0, s.SUPPORTED), (0.5, s.CONTRADICTED), (1.0, s.NO_DIFFERENCE), (1.05, s.SUPPORTED)],
)
def test_outcomes_of_a_pair(study_of, declare, worse, expected):
    study = pair(study_of, declare, GOOD, scaled(GOOD, worse))
    (j,) = c.judge(study)
    assert j.outcome == expected
    line = v.verdicts(study, "C5").iloc[0]
    assert line["verdict"] == expected and line["finding"].startswith(
        "Attention at 16 against residual at 16, FID (Lite0): "
    )
    small = "by less than 10 per cent" in line["finding"]
    assert small == (worse == 1.05)


def test_a_spread_that_says_nothing_is_open_with_the_seeds_needed(study_of, declare):
    wide = [60, 140, 90]
    (j,) = c.judge(pair(study_of, declare, wide, wide))
    assert j.outcome == s.OPEN and j.needed is None
    study = pair(study_of, declare, [100, 104, 108], [101, 104, 107])
    (j,) = c.judge(study)
    assert j.outcome == s.OPEN and 3 < j.needed <= 10
    finding = v.verdicts(study, "C5")["finding"].item()
    assert "paper's" not in finding  # its 1.2 per cent are within the margin
    assert (
        f"interval is as narrow as the margin (a factor of 1.10) at {j.needed} seeds; the plan goes to 10."
        in v.verdicts(study, "C5")["finding"].item()
    )


def test_a_verdict_stays_once_made(study_of, declare):
    """The first three seeds settle it; what later seeds say stands beside it and changes nothing."""
    early, late = [100, 101, 102], [100, 101, 102, 300, 20, 400, 90]
    (before,) = c.judge(pair(study_of, declare, early, scaled(early, 2.0)))
    study = pair(study_of, declare, late, scaled(early, 2.0) + [50, 900, 30, 100])
    (after,) = c.judge(study)
    assert (before.outcome, before.at) == (after.outcome, after.at) == (s.SUPPORTED, 3)
    assert float(before.look().low) == float(after.look().low) and after.latest == s.OPEN
    assert (
        "With all 7 seeds" in v.verdicts(study, "C5")["finding"].item()
        and "which alone would be open" in v.verdicts(study, "C5")["finding"].item()
    )


def test_rows_with_unequal_seeds_are_looked_at_where_both_have_them(study_of, declare):
    (j,) = c.judge(pair(study_of, declare, GOOD, scaled(GOOD[:4], 2.0)))
    assert j.seeds == 4 and len(j.looks["G updates"]) == 2


def test_before_the_first_look_there_is_no_interval(study_of, declare):
    study = pair(study_of, declare, GOOD[:1], GOOD[:1])
    (j,) = c.judge(study)
    assert j.outcome == s.OPEN and not j.looks
    assert "the first look takes 3 seeds, 1 so far" in v.verdicts(study, "C5")["finding"].item()
    assert v.show_comparisons(study)["interval"].item() == "–"


def test_equal_scores_have_no_interval_and_no_nan(study_of, declare):
    study = pair(study_of, declare, [100] * 4, [100] * 4)
    (j,) = c.judge(study)
    assert j.outcome == s.OPEN and "no spread" in j.remark
    assert (
        "nan" not in v.verdicts(study, "C5")["finding"].item() + v.show_comparisons(study).to_string().lower()
    )


def test_a_run_that_breaks_down_leaves_no_interval_and_is_never_dropped(study_of, declare):
    """The unstable row's other seeds score far better: without the broken run they would win."""
    study = pair(study_of, declare, GOOD, scaled(GOOD, 2.0))
    run = study.run("attention_16", 1)
    run.write(run.read() | {"status": "diverged"})
    (j,) = c.judge(study)
    assert j.outcome == c.UNSTABLE and sum(j.broken.values()) == 1
    assert "unstable, 1 of 20 runs broke down" in v.verdicts(study, "C5")["finding"].item()
    for seed in range(10):
        for row in ("attention_16", "residual_16"):
            run = study.run(row, seed)
            run.write(run.read() | {"status": "collapsed"})
    assert v.verdicts(study, "C5")["verdict"].item() == c.UNSTABLE


def test_a_run_that_breaks_down_later_takes_the_verdict_back(study_of, declare):
    study = pair(study_of, declare, GOOD, scaled(GOOD, 2.0))
    run = study.run("attention_16", 6)
    run.write(run.read() | {"status": "collapsed"})
    (j,) = c.judge(study)
    assert (j.outcome, j.at, j.latest) == (c.UNSTABLE, 0, c.UNSTABLE)
    assert v.comparisons(study)["low"].isna().all()  # an interval without that run would flatter its row
    finding = v.verdicts(study, "C5")["finding"].item()
    assert "1 of 20 runs broke down" in finding and "it was supported at 3 seeds" in finding


def test_a_missing_score_is_one_sentence(study_of, declare):
    study = declare(study_of({"sagan": GOOD, "sngan_projection": GOOD, "acgan": GOOD}))
    run = study.run("acgan", 2)
    record = run.read()
    run.write(
        record
        | {
            "scores": [
                {k: value for k, value in score.items() if k != "intra_fid"} for score in record["scores"]
            ]
        }
    )
    remarks = {(j.metric, j.comparison.rows[0]): j.remark for j in judged(study, "C6")}
    assert (
        remarks["intra_fid", "acgan"]
        == "intra_fid is missing or not above 0 in a run, so it has no logarithm"
        and not remarks["fid", "acgan"]
    )


@pytest.mark.parametrize("fids, short", [((1200, 1300), True), ((1200, 900), False), ((800, 900), False)])
def test_too_short_to_rank(study_of, declare, fids, short):
    """Judged at the first look, against half of what noise scores: a bound of 1,000."""
    study = pair(study_of, declare, scaled(GOOD, fids[0] / 100), scaled(GOOD, fids[1] / 100))
    for row in ("attention_16", "residual_16"):
        for seed in range(10):
            run = study.run(row, seed)
            run.write(run.read() | {"noise": {"fid": 2000.0}})
    (j,) = c.judge(study)
    assert (j.outcome == c.TOO_SHORT) == short
    assert ("only one side is below half of noise's FID" in j.remark) == (fids == (1200, 900))


def test_a_row_that_broke_down_is_unstable_not_too_short(study_of, declare):
    study = pair(study_of, declare, [1200] * 3, [1300] * 3)
    for row in ("attention_16", "residual_16"):
        for seed in range(3):
            run = study.run(row, seed)
            run.write(run.read() | {"noise": {"fid": 2000.0}})
    assert c.judge(study)[0].outcome == c.TOO_SHORT
    assert c.judge(with_status(study, attention_16=[1]))[0].outcome == c.UNSTABLE


def test_a_budget_that_leaves_one_score_says_so(study_of, declare):
    study = declare(study_of({"sagan": GOOD, "sngan_projection": GOOD, "acgan": GOOD}))
    plan = json.loads((study.folder / "plan.json").read_text())
    plan["endpoint"]["scores"] = 2
    (study.folder / "plan.json").write_text(json.dumps(plan))
    fid = next(j for j in judged(study, "C6") if "sngan_projection" in j.comparison.rows)
    assert "at equal D updates the endpoint of SNGAN-projection is one score, at step 2" in fid.remark


@pytest.mark.parametrize(
    "row, resolution, other",
    [
        ("attention_16", 32, "attention_64"),
        ("residual_8", 32, "residual_32"),
        ("attention_32", 64, "attention_64"),
        ("none", 32, "none"),
        ("attention_32", 128, "attention_32"),
    ],
)
def test_the_papers_row_at_the_same_size_relative_to_the_image(row, resolution, other):
    assert published._at_128(row, resolution) == other


def test_c1_counts_collapses_once_at_the_most_seeds(study_of, declare):
    early = declare(study_of({"sn_d": GOOD[:9], "sn_g_d": GOOD[:9]}))
    line = v.verdicts(early, "C1").iloc[0]
    assert line["verdict"] == c.NOT_TESTABLE and "would give p = 1.00" in line["finding"]  # 1 of 10 against 0
    study = declare(study_of({"sn_d": GOOD, "sn_g_d": GOOD}))
    line = v.verdicts(study, "C1").iloc[0]
    assert line["verdict"] == c.NOT_TESTABLE and "may still be up to 31%" in line["finding"]
    assert v.verdicts(with_status(study, sn_d=range(4)), "C1")["verdict"].item() == s.OPEN  # p = .09
    line = v.verdicts(with_status(study, sn_d=range(8)), "C1").iloc[0]
    assert (
        line["verdict"] == s.SUPPORTED and "SN on D: 8 of 10 runs broke down (44% to 97%)" in line["finding"]
    )
    study = declare(study_of({"sn_d": GOOD, "sn_g_d": GOOD}))
    assert v.verdicts(with_status(study, sn_g_d=range(8)), "C1")["verdict"].item() == s.CONTRADICTED


def test_c1_ends_early_only_where_no_seed_left_could_decide_it(study_of, declare):
    """Of 10 runs 5 against 0 is p = .03 and 4 against 0 is .09."""
    waits = lambda study: judged(study, "C1")[0].waits
    outcome = lambda study: judged(study, "C1")[0].outcome
    assert waits(declare(study_of({"sn_d": GOOD[:5], "sn_g_d": GOOD[:5]})))  # 5 could still collapse
    six = declare(study_of({"sn_d": GOOD[:6], "sn_g_d": GOOD[:6]}))
    assert not waits(six) and outcome(six) == c.NOT_TESTABLE
    assert waits(with_status(six, sn_d=[0]))  # and 4 more make 5
    seven = declare(study_of({"sn_d": GOOD[:7], "sn_g_d": GOOD[:7]}))
    with_status(seven, sn_d=[0])
    assert not waits(seven) and outcome(seven) == s.OPEN
    assert "SN on D: 1 of 7 runs broke down" in v.verdicts(seven, "C1")["finding"].item()


def test_c1_is_contradicted_at_the_level_of_a_claim_of_its_comparisons(study_of, declare):
    """At 5 seeds 4 against 0 is p = .048: enough to support one of two comparisons, not to contradict it."""
    rows = [f"{name}_x{times}" for name in ("sn_d", "sn_g_d", "sn_g_d_ttur") for times in (8, 32)]
    study = study_of({row: GOOD[:5] for row in rows}, preset="cifar10-stress")
    outcomes = lambda: [j.outcome for j in judged(study, "C1")]
    assert outcomes() == [c.NOT_TESTABLE] * 2
    with_status(study, sn_d_x8=range(4), sn_g_d_x32=range(4))
    assert outcomes() == [s.SUPPORTED, s.OPEN]
    with_status(study, sn_g_d_x32=[4])
    assert outcomes() == [s.SUPPORTED, s.CONTRADICTED]


def test_a_comparison_that_waits_does_not_hide_one_that_broke_down(study_of):
    seeds = {
        f"{name}_x{times}": 3 if times == 8 else 2 for name in ("sn_g_d", "sn_g_d_ttur") for times in (8, 32)
    }
    study = study_of({row: GOOD[:count] for row, count in seeds.items()}, preset="cifar10-stress")
    assert (
        v.verdicts(study, "C2")["finding"]
        .item()
        .endswith("x32, decline of FID (Lite0): open (the first look takes 3 seeds, 2 so far).")
    )
    with_status(study, sn_g_d_x8=[0])
    told = v.verdicts(study, "C2").iloc[0]
    assert told["verdict"] == c.UNSTABLE and "unstable, 1 of 6 runs broke down" in told["finding"]


def test_c1_is_open_before_its_first_run_where_three_seeds_can_prove_nothing(study_of, declare):
    study = declare(study_of({"none": GOOD[:2]}), most_seeds=3)
    (j,) = judged(study, "C1")
    assert (j.outcome, j.seeds) == (s.OPEN, 0)


def of_differences(values):
    """Student's interval at the last look, by hand."""
    half = stats.t.isf(LEVELS[len(values)] / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return pytest.approx(values.mean() - half), pytest.approx(values.mean() + half)


def test_pairs_decide_where_the_plan_declares_them(study_of, declare):
    """Seeds that move both rows alike: each row spreads, their differences hardly do."""
    rng = np.random.default_rng(0)
    seed, noise = np.exp(rng.normal(0, 0.08, 10)), np.exp(rng.normal(0, 0.005, 10))
    study = pair(study_of, declare, list(100 * seed * noise), list(105 * seed))
    (j,) = c.judge(study)
    differences = np.log(105 / (100 * noise))
    assert j.outcome == s.OPEN and (j.exploratory.low, j.exploratory.high) == of_differences(differences)
    plan = json.loads((study.folder / "plan.json").read_text())
    plan["comparisons"][0]["paired"] = True
    (study.folder / "plan.json").write_text(json.dumps(plan))
    (declared,) = c.judge(study)
    assert (declared.outcome, declared.at, declared.exploratory) == (s.SUPPORTED, 4, None)
    last = declared.looks["G updates"][-1]
    assert (last.low, last.high) == of_differences(differences)
    assert v.verdicts(study, "C5")["finding"].item().count("(4 seeds, rows compared seed by seed)") == 1
    record = study.run("attention_16", 7).read()
    elsewhere = record["provenance"] | {"earlier_processor": ["another"]}
    study.run("attention_16", 7).write(record | {"provenance": elsewhere})
    with pytest.raises(ReproError, match=r"training seed 7 \(.*differ in what made them \(processor\)"):
        c.judge(study)
    plan["comparisons"][0]["paired"] = False
    (study.folder / "plan.json").write_text(json.dumps(plan))
    undeclared = "not declared: compared seed by seed, FID is 5.0 % lower"
    assert undeclared not in v.verdicts(study, "C5")["finding"].item()  # seed 7 is of two machines
    study.run("attention_16", 7).write(record)
    assert undeclared in v.verdicts(study, "C5")["finding"].item()


def test_an_effect_is_called_small_where_it_is_at_every_budget(study_of, declare):
    study = budgets(study_of, declare, [400, 300, 250, 200])
    fid = next(j for j in judged(study, "C6") if j.metric == "fid")
    said = lambda highs: sentence(
        dataclasses.replace(
            fid,
            looks={
                budget: [dataclasses.replace(look, low=0.01, high=high) for look in fid.looks[budget]]
                for budget, high in zip(fid.looks, highs, strict=True)
            },
        ),
        read_plan(study),
        study,
    )
    assert "better, by less than 10 per cent" in said([0.05, 0.06, 0.07])
    assert "by less than" not in said([0.05, 0.2, 0.07])
