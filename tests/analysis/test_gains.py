"""Gains over training, beside the verdict's own numbers where the two must agree."""

import itertools
import math
import re

import pytest

from repro import paper
from repro.analysis import gains
from repro.reports import plots
from tests.analysis.helpers import GOOD, judged, pair, scaled

BETTER, WORSE = [90, 95, 99], [100, 104, 125]


@pytest.mark.parametrize("paired", [False, True])
def test_at_the_endpoint_a_gain_and_its_interval_are_those_of_a_single_look(study_of, declare, paired):
    study = pair(study_of, declare, BETTER, WORSE, best={"attention_16": 200})
    plan = study.folder / "plan.json"
    plan.write_text(plan.read_text().replace('"most_seeds": 10', '"most_seeds": 3'))
    if paired:
        plan.write_text(plan.read_text().replace('"gain":', '"paired": true, "gain":'))
    (comparison,) = gains.compared(study, paper.TABLE1)
    frame = gains.over_training(study, comparison).set_index("step")
    (j,) = judged(study, "C5")
    assert comparison.paired == paired and list(frame["seeds"]) == [3, 3]
    assert tuple(frame.loc[4, ["gain", "low", "high"]]) == pytest.approx(
        (j.look().estimate, j.look().low, j.look().high)
    )
    early = sum(math.log(fid / 200) for fid in WORSE) / 3  # of the first score, where attention has 200
    assert frame.loc[2, "gain"] == pytest.approx(early)


def test_two_seeds_have_no_curve_and_a_run_that_goes_on_is_in_none(study_of, declare):
    study = pair(study_of, declare, BETTER, WORSE)
    (comparison,) = gains.compared(study, paper.TABLE1)
    run = study.run("residual_16", 1)
    run.write(run.read() | {"status": "interrupted"})
    assert gains.over_training(study, comparison).empty and plots.gain_curves(study, paper.TABLE1) is None


def test_a_comparison_is_made_by_other_scores_of_the_same_runs(study_of, declare):
    """FID differs by a factor of two at the last score and not before; averaged weights turn it round."""
    study = pair(study_of, declare, GOOD, scaled(GOOD, 2), best={"residual_16": 100})
    plan = study.folder / "plan.json"
    plan.write_text(plan.read_text().replace('"scores": 1', '"scores": 2'))
    assert {line.score for line in gains.by_other_scores(study).itertuples()} == {
        "FID (Lite0), endpoint",
        "intra FID (Lite0), endpoint",
        "IS (Lite0), endpoint",
        "FID (Lite0), last score",
    }  # the records have no KID, second extractor or averaged weights
    for row, seed in itertools.product(("attention_16", "residual_16"), range(10)):
        run = study.run(row, seed)
        run.write(run.read() | {"shadow": {"fid": GOOD[seed] / (4 if row == "residual_16" else 1)}})
    frame = gains.by_other_scores(study).set_index("score")
    (j,) = judged(study, "C5")
    first = frame.loc["FID (Lite0), endpoint"]
    assert first["gain"] == pytest.approx(float(j.looks["G updates"][-1].estimate)) and set(
        frame["seeds"]
    ) == {10}
    assert frame.loc["FID (Lite0), last score", "gain"] == pytest.approx(math.log(2))
    assert frame.loc["IS (Lite0), endpoint", "gain"] == pytest.approx(first["gain"])  # their inverses
    assert frame.loc["FID (Lite0) of averaged weights, last score", "gain"] == pytest.approx(-math.log(4))
    title, how, table = gains.show_by_other_scores(study, "##")
    assert title.startswith("## ") and how.startswith("Exploratory")
    assert re.search(r"^\| score +\| Attention at 16 against residual at 16 \(10 seeds\) +\|$", table, re.M)
    assert re.search(r"^\| FID \(Lite0\), last score +\| a factor of 2.00 \(a factor of 1.9", table, re.M)
    assert gains.show_by_other_scores(pair(study_of, declare, [90, 91], [90, 92]), "##") == []


def test_shorter_studies_of_the_same_rows_stand_beside_a_longer_one(study_of, declare, another):
    study = declare(study_of({"none": WORSE, "attention_8": BETTER, "attention_16": BETTER}))
    another(study, "short", steps=2, score_every=1, seed_offset=10)
    another(study, "short and wide", steps=2, channels=32)
    another(study, "short, of other tables", steps=2, tables=("recipes",))
    another(study, "as long", seed_offset=10)
    assert [of.preset.name for of in gains.shorter(study, paper.TABLE1)] == ["short"]
    (axis,) = plots.gain_curves(study, paper.TABLE1).axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        f"{name}, 3 seeds" for name in ("rehearsal", "short")
    ]
    assert axis.get_title() == "C4: Attention at 8 and 16 against no block"


def test_growth_is_the_gain_of_the_second_half_less_that_of_the_first(study_of, declare):
    """The rows are level at step 2 and differ by a factor of two at step 4."""
    study = pair(study_of, declare, GOOD, scaled(GOOD, 2), best={"attention_16": 100, "residual_16": 100})
    (text,) = gains.growth_in_words(study, "C4", "C5")
    assert text.startswith("Attention at 16 against residual at 16: the mean gain is +0.0 % over the scores")
    assert "up to step 2 and a factor of 2.00 over those after it" in text
    assert re.search(
        r"less the first is a factor of 2\.00 \(a factor of 1\.9\d to 2\.0\d\), 10 seeds\.$", text
    )
    assert gains.growth_in_words(pair(study_of, declare, [90, 91], [90, 92]), "C5") == []
