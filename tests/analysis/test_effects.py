"""The recipes: effects with intervals, and no verdicts."""

import numpy as np
import pytest
from scipy import stats

from repro import paper
from repro.analysis import effects as e
from repro.reports import forests


def test_effects_are_welchs_in_per_cent_and_ranked(recipe_study):
    frame = e.effects(recipe_study(), paper.RECIPE_TABLE)
    assert frame["label"].tolist() == ["orthogonal init", "no attention", "random flips"]
    a, b = np.log([146, 154]), np.log([100, 120])
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    line = frame.iloc[0]
    assert line[["difference", "low", "high"]].tolist() == pytest.approx(
        [100 * (np.exp(v) - 1) for v in (a.mean() - b.mean(), theirs.low, theirs.high)]
    )
    words = e.effects_in_words(recipe_study(), paper.RECIPE_TABLE)
    assert "by +9.2 per cent" in words and "leaves out 0 for none of 2 single settings; one" in words
    apart = recipe_study(recipe_heykeetae=[1000, 1001], knob_beta2=[10, 10.1])
    words = e.effects_in_words(apart, paper.RECIPE_TABLE)
    assert "0 for 1 of 1 whole recipes (heykeetae +813 %) and for 1 of 3 single settings (Adam beta2" in words


def test_effects_near_noise_are_told_as_those_of_the_start(recipe_study):
    study = recipe_study()
    assert "how fast a model starts" not in e.effects_in_words(study, paper.RECIPE_TABLE)
    for seed in range(2):  # FID 100 and 120
        run = study.run("attention_16", seed)
        run.write(run.read() | {"noise": {"fid": 219.0}})
    said = e.effects_in_words(study, paper.RECIPE_TABLE)
    assert "FID without a change is 110, and half of random noise's is 110: this early, a change" in said


def test_effects_are_ranked_as_factors(study_of):
    fids = {"attention_16": [100, 100], "knob_init": [180, 180], "knob_flip": [55, 55]}
    frame = e.effects(study_of(fids), paper.RECIPE_TABLE)
    assert frame["difference"].tolist() == pytest.approx([-45, 80])


def test_effects_of_one_seed_have_no_interval_and_of_no_reference_there_are_none(study_of):
    one = e.show_effects(study_of({"attention_16": [100], "none": [110]}), paper.RECIPE_TABLE)
    assert one.iloc[0]["95 % interval"] == "–"
    study = study_of({"attention_16": [100], "none": [110], "knob_init": [90], "knob_flip": [80]})
    said = e.effects_in_words(study, paper.RECIPE_TABLE)
    assert "none of 2 single settings, 2 of them without an interval; one" in said
    assert forests.effects(study_of({"attention_16": [100], "none": [110]}), paper.RECIPE_TABLE)


def test_effects_without_the_reference_row_are_none(study_of):
    assert e.effects(study_of({"none": [110]}), paper.RECIPE_TABLE).empty
