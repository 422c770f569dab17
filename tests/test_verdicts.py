"""Verdicts, their intervals and what they rest on, from made-up runs whose answers are known."""

import math

import numpy as np
import pytest
from scipy import stats

from repro import paper, plots, report, verdicts as v
from repro.study import Study
from repro.verdicts import effects, effects_in_words, interval, measure, show_effects, verdicts


@pytest.mark.parametrize("residual, expected", [
    ([110, 112, 111], "supported"),  # attention better by about 10 in each seed
    ([90, 92, 91], "contradicted"),
    ([110, 90, 105], "inconclusive"),
    ([110], "inconclusive"),  # one seed has no interval
])
def test_verdicts(study_of, residual, expected):
    attention = [100, 101, 102][: len(residual)]
    study = study_of({f"{kind}_{size}": v for size in (8, 16) for kind, v in (("attention", attention), ("residual", residual))})
    (line,) = verdicts(study, "C5").to_dict("records")
    assert line["verdict"] == expected
    assert "attention at 16 against residual at 16" in line["evidence"]


def test_a_claim_needs_each_of_its_comparisons(study_of):
    good, bad = [110, 112, 111], [90, 92, 91]
    rows_ = {"attention_8": [100, 101, 102], "attention_16": [100, 101, 102], "residual_8": good}
    assert verdicts(study_of(rows_), "C5")["verdict"].item() == "inconclusive"  # residual_16 has not run
    assert verdicts(study_of(rows_ | {"residual_16": bad}), "C5")["verdict"].item() == "contradicted"


def test_a_higher_inception_score_is_better(study_of):
    study = study_of({"sagan": [50, 51, 52], "sngan_projection": [100, 101, 102], "acgan": [100, 103, 102]})
    assert verdicts(study, "C6")["verdict"].item() == "supported"
    worse = study_of({"sagan": [150, 151, 152], "sngan_projection": [100, 101, 102], "acgan": [100, 103, 102]})
    assert verdicts(worse, "C6")["verdict"].item() == "contradicted"


def test_intra_kid_stands_in_where_no_run_has_intra_fid(study_of):
    """tiny-imagenet and imagenet have too few images of a class; the comparison says by which metric it was made."""
    fids = {"sagan": [50, 51, 52], "sngan_projection": [100, 101, 102], "acgan": [100, 103, 102]}
    assert "intra FID (Lite0)" in verdicts(study_of(fids), "C6")["evidence"].item()
    without = study_of(fids, without="intra_fid")
    line = verdicts(without, "C6").iloc[0]
    assert line["verdict"] == "inconclusive" and "intra FID (Lite0), SAGAN against AC-GAN: not run" in line["evidence"]
    study = study_of(fids, without="intra_fid", extra=lambda fid: {"intra_kid": fid / 1000})
    line = verdicts(study, "C6").iloc[0]
    assert line["verdict"] == "supported" and line["evidence"].count("intra KID (Lite0)") == 2 and "intra FID" not in line["evidence"]


def test_a_run_that_breaks_down_settles_nothing_and_is_never_dropped(study_of):
    """The unstable row's other seeds score far better: without the broken run they would win."""
    study = study_of({"sn_g_d": [400, 401, 402], "sn_d": [100, 101, 102]})
    assert verdicts(study, "C1")["verdict"].item() == "contradicted"
    run = study.run("sn_d", 2)
    run.write(run.read() | {"status": "diverged"})
    line = verdicts(study, "C1").iloc[0]
    assert line["verdict"] == "inconclusive" and "unstable: 1 of the compared runs" in line["evidence"]


def test_the_decline_is_from_best_to_last(study_of):
    study = study_of({"sn_g_d": [150, 160, 155], "sn_g_d_ttur": [100, 101, 102]},
                     best={"sn_g_d": 100, "sn_g_d_ttur": 99})
    comparison = next(c for c in paper.CLAIMS if c.name == "C2").comparisons[0]
    measured = measure(study, comparison)
    assert measured.differences[0] == pytest.approx(50 - 100 / 99 * 1.0, abs=0.1) and measured.verdict == "supported"


def test_claims_about_maps_that_do_not_exist(study_of):
    found = verdicts(study_of({"none": [100]})).set_index("claim")["verdict"]
    assert found["C3"] == "not testable" and found["C8"] == "not tested" and found["C7"] == found["C4"] == "not run"


def test_the_interval_is_students(study_of):
    values = [1.0, 2.0, 4.0]
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)  # t quantile for 2 degrees of freedom
    assert interval(values) == pytest.approx((7 / 3 - half, 7 / 3 + half), rel=1e-5)
    assert interval([1.0]) is None


def test_effects_are_paired_and_ranked_with_one_spread_for_all(recipe_study):
    frame = effects(recipe_study(), paper.RECIPE_TABLE)
    assert frame["label"].tolist() == ["orthogonal init", "no attention", "random flips"] and frame["difference"].tolist() == [40, 10, 0]
    # differences between seeds 20, 20, 32, 8; their mean 20: residuals of half the deviation in each of two cells; 3 degrees of freedom
    spread = np.sqrt((2 * (6**2 + 6**2)) / 3)
    half = 3.182446 * spread * np.sqrt(2 / 2)
    assert (frame["high"] - frame["difference"]).tolist() == pytest.approx([half] * 3, rel=1e-5)
    shown = show_effects(recipe_study(), paper.RECIPE_TABLE).set_index("changed")
    assert shown["larger than attention's"].tolist() == ["yes", "its own", "no"]
    assert shown["apart from zero"].tolist() == ["yes", "no", "no"]
    words = effects_in_words(recipe_study(recipe_paper_text=[200, 220]), paper.RECIPE_TABLE)
    assert "by +10.0; 1 of the 2 single settings move it further (orthogonal init), and so do 1 of the 1 rows with a whole recipe changed." in words


def test_other_networks_and_failed_runs_are_ranked_but_do_not_widen_the_interval(recipe_study):
    before = effects(recipe_study(), paper.RECIPE_TABLE)
    after = effects(recipe_study(recipe_heykeetae=[300, 900]), paper.RECIPE_TABLE)
    assert after["row"].iloc[0] == "recipe_heykeetae" and (after["high"] - after["difference"]).max() == pytest.approx((before["high"] - before["difference"]).max())


def test_effects_of_one_seed_have_no_interval_and_of_no_reference_there_are_none(study_of):
    one = show_effects(study_of({"attention_16": [100], "none": [110]}), paper.RECIPE_TABLE)
    assert one.iloc[0][["95% interval", "apart from zero"]].tolist() == ["–", "–"]
    assert plots.effects(study_of({"attention_16": [100], "none": [110]}), paper.RECIPE_TABLE)


def test_effects_without_the_reference_row_are_none(study_of):
    assert effects(study_of({"none": [110]}), paper.RECIPE_TABLE).empty


def test_from_five_seeds_the_interval_is_a_bootstrap_that_repeats_itself():
    values = [1.0, 2.0, 4.0, 4.5, 20.0]
    low, high = interval(values)
    assert (low, high) == interval(values)
    assert high - np.mean(values) > np.mean(values) - low > 0  # a t interval is symmetric; this one follows the long tail
    assert interval([2.0] * 5) == (2.0, 2.0)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for seeds, least in ((3, 0.93), (8, 0.86)):  # bootstraps of few values are known to be short
        found = [interval(rng.normal(1.0, 2.0, seeds)) for _ in range(300)]
        assert least < np.mean([low <= 1 <= high for low, high in found]) < 0.98, seeds


def test_p_values_adjusted_for_their_number():
    assert v.holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)
    assert v.holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert v.p_value([1.0, 2.0, 4.0]) == pytest.approx(stats.ttest_rel([2.0, 4.0, 7.0], [1.0, 2.0, 3.0]).pvalue)
    assert math.isnan(v.p_value([1.0])) and math.isnan(v.p_value([2.0, 2.0]))


def test_the_seeds_needed_have_the_power():
    values = np.array([-1.0, 0.5, 2.5])
    needed = int(v.seeds_needed(values))
    rng = np.random.default_rng(0)

    def power(n):
        drawn = rng.normal(values.mean(), values.std(ddof=1), (4000, n))
        return np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)

    assert power(needed) == pytest.approx(0.8, abs=0.03) and power(needed - 6) < 0.79
    assert math.isinf(v.seeds_needed([1.0, -1.0, 1e-6])) and math.isnan(v.seeds_needed([1.0]))


def test_the_comparisons_behind_the_verdicts(study_of, tmp_path):
    study = study_of({"none": [100, 110, 120], "attention_8": [99, 100, 113], "attention_16": [90, 95, 115]}, best={"attention_16": 80})
    frame = v.comparisons(study).set_index("claim")
    line = frame.loc["C4"]
    assert line["differences"] == pytest.approx((5.5, 12.5, 6.0)) and line["mean"] == pytest.approx(8.0)
    assert line["paper"] == pytest.approx(22.96 - (22.98 + 22.14) / 2) and line["at_best"] == pytest.approx(110 - np.mean([99, 100, 113, 80, 80, 80]) )
    tested = frame["p"].dropna()
    assert line["p"] == tested.min() and line["p_holm"] == pytest.approx(min(len(tested) * line["p"], 1))
    shown = v.show_comparisons(study)
    assert "+8.00" in set(shown["gain"]) and f"p for all {len(tested)} (Holm)" in shown
    assert v.comparisons(Study("rehearsal", executor="none", out=str(tmp_path / "nothing"))).empty
