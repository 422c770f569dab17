"""Comparisons and verdicts from made-up runs whose answers are known."""

import json
import math

import numpy as np
import pytest

from repro import claims, paper
from repro.analysis import comparisons as c
from repro.analysis import plan, quantities
from repro.analysis import statistics as s
from repro.analysis import verdicts as v
from repro.errors import ReproError
from repro.reports import forests
from repro.studies.study import Study
from tests.analysis.helpers import GOOD, budgets, judged, pair, scaled


def test_claims_take_all_or_one_of_their_comparisons():
    yes, no, none = s.SUPPORTED, s.CONTRADICTED, s.NO_DIFFERENCE
    assert v.of_claim([yes, yes]) == yes and v.of_claim([none, none]) == none
    assert (
        v.of_claim([yes, no]) == no
        and v.of_claim([yes, s.OPEN]) == s.OPEN
        and v.of_claim([yes, none]) == v.MIXED
    )
    assert v.of_claim([yes, c.UNSTABLE]) == c.UNSTABLE and v.of_claim([no, c.UNSTABLE]) == no


def test_contradiction_is_corrected_for_the_comparisons_of_the_claim(study_of, declare):
    """Two comparisons: an interval below 0 at 5 % but not at 2.5 % contradicts alone, and not as one of
    two.
    """
    better, worse = [105.5, 108.5, 106, 110], [99.5, 102, 97.5, 100]
    alone = pair(study_of, declare, better, worse)
    (j,) = c.judge(alone)
    look = j.look()
    assert j.outcome == s.CONTRADICTED
    both = declare(
        study_of(
            {"attention_16": better, "residual_16": worse, "attention_8": GOOD[:4], "residual_8": GOOD[:4]}
        )
    )
    of_two = next(j for j in judged(both, "C5") if "attention_16" in j.comparison.gain)
    assert (
        float(of_two.look().high) == float(look.high) < 0 < float(of_two.look().least)
        and of_two.outcome == s.OPEN
    )


def test_c4_is_tried_on_the_analogue_with_both_of_the_papers_differences(study_of, declare):
    study = declare(study_of({"none": GOOD, "attention_8": GOOD, "attention_16": GOOD}))
    (j,) = judged(study, "C4")
    assert j.published == {
        "the same rows": pytest.approx(math.log(22.96 / np.mean([22.98, 22.14]))),
        "maps of the same share of the image": pytest.approx(math.log(22.96 / np.mean([18.28, 18.65]))),
    }
    line = v.verdicts(study, "C4").iloc[0]
    assert line["verdict"] == s.NO_DIFFERENCE and line["finding"].startswith("Tried on an analogue")
    assert (
        "The paper's change for maps of the same share of the image, 19.6 % lower, lies outside of"
        in line["finding"]
    )
    shown = v.show_comparisons(study).set_index("claim").loc["C4"]
    assert (
        shown[f"paper ({paper.SETTING})"] == "+1.8 %" and shown["paper, same share of the image"] == "+21.8 %"
    )


def test_a_change_of_the_papers_within_the_margin_is_not_told_as_outside(study_of, declare):
    rows = dict.fromkeys(("attention_8", "attention_16"), scaled(GOOD, 1.04))
    found = v.verdicts(declare(study_of(rows | {"none": GOOD})), "C4")["finding"].item()
    assert "19.6 % lower, lies outside of" in found and "1.7 %" not in found


def test_an_open_comparison_says_what_it_rules_out(study_of, declare):
    wide = [95, 105, 97, 103]
    study = declare(study_of({row: wide for row in ("none", "attention_8", "attention_16")}))
    line = v.verdicts(study, "C4").iloc[0]
    assert line["verdict"] == s.OPEN and "19.6 % lower, lies outside of the interval" in line["finding"]
    assert "The paper's change for the same rows, 1.7 % lower, lies in the interval." in line["finding"]
    wider = [80, 120, 90, 110]
    study = declare(study_of({row: wider for row in ("none", "attention_8", "attention_16")}))
    assert "outside of" not in v.verdicts(study, "C4")["finding"].item()


def test_the_papers_difference_is_that_of_the_rows_compared(study_of, declare):
    found = {
        tuple(j.comparison.rows): j.published.get("the same rows")
        for j in c.judge(declare(study_of({"none": [100]})))
    }
    assert found["residual_8", "attention_8"] == pytest.approx(math.log(42.13 / 22.98))
    fid = next(
        j
        for j in c.judge(declare(study_of({"none": [100]})))
        if j.comparison.gain.keys() == {"sngan_projection", "attention_16"} and j.metric == "fid"
    )
    # SAGAN's, not Table 1's attention at 16
    assert fid.published["the same rows"] == pytest.approx(math.log(27.62 / 18.65))


def test_c6_is_made_at_three_budgets(study_of, declare):
    """At 4 steps of SAGAN: SNGAN-projection at step 4, at 0.8 (nearest 1) and at 1.5 (nearest 1; the lower
    one of a tie).
    """
    study = budgets(study_of, declare, [400, 300, 60, 50])
    fid = next(j for j in judged(study, "C6") if j.metric == "fid")
    gains = {budget: float(fid.look(budget).estimate) for budget in fid.comparison.budgets}
    assert gains == {
        "G updates": pytest.approx(math.log(0.5)),
        "D updates": pytest.approx(math.log(4)),
        "cost": pytest.approx(math.log(3)),
    }
    assert fid.outcome == s.DEPENDS and v.verdicts(study, "C6")["verdict"].item() == s.DEPENDS
    cost = "declared to cost 2.6 times as much for SNGAN-projection and 2.6 times as much for AC-GAN as"
    assert cost in " ".join(v.rests_on(study))
    assert "declared to cost" not in " ".join(v.rests_on(pair(study_of, declare, GOOD, GOOD)))
    assert v.verdicts(budgets(study_of, declare, [400, 300, 250, 200]), "C6")["verdict"].item() == s.SUPPORTED
    assert v.verdicts(budgets(study_of, declare, [50, 45, 42, 40]), "C6")["verdict"].item() == s.CONTRADICTED


def test_intra_kid_stands_in_where_no_run_has_intra_fid(study_of, declare):
    fids = {"sagan": GOOD, "sngan_projection": scaled(GOOD, 2), "acgan": scaled(GOOD, 2)}
    study = declare(study_of(fids, without="intra_fid", extra=lambda fid: {"intra_kid": fid / 1000}))
    line = v.verdicts(study, "C6").iloc[0]
    assert (
        line["verdict"] == s.SUPPORTED
        and line["finding"].startswith(
            "All 6 comparisons: supported. Estimates that agree with the paper: 6 of 6 at equal G updates,"
        )
        and set(v.comparisons(study).query("claim == 'C6'")["comparison"].str.rsplit(", ", n=1).str[1])
        == {"FID (Lite0)", "IS (Lite0)", "intra KID (Lite0)"}
    )
    beside = v.comparisons(study).query("claim == 'C6'").set_index("comparison")["paper"]
    assert beside[beside.index.str.contains("intra")].isna().all()  # the paper has no intra KID
    assert beside["SAGAN against SNGAN-projection, FID (Lite0)"].notna().all()


def declining(study_of, declare, worse, better=(200, 150, 120, 100)):
    study = study_of({"sn_g_d": GOOD, "none": GOOD})
    for row, curve in (("sn_g_d", worse), ("none", better)):
        for seed in range(10):
            run = study.run(row, seed)
            record = run.read()
            fids = [fid * (1 + 0.01 * (seed % 3) * (step == 4)) for step, fid in enumerate(curve, 1)]
            scores = [
                record["final"] | {"step": step, "fid": fid, "is": 100 / fid}
                for step, fid in enumerate(fids, 1)
            ]
            run.write(record | {"scores": scores, "final": scores[-1], "best": scores[-1]})
    return declare(study)


def test_c2_is_a_signed_decline_between_quarters(study_of, declare):
    study = declining(study_of, declare, [200, 150, 100, 150])
    (j,) = judged(study, "C2")
    record = study.run("sn_g_d", 0).read()
    assert quantities.decline(record["scores"], 4) == pytest.approx(math.log(1.5))
    assert (
        quantities.decline(study.run("none", 0).read()["scores"], 4) == pytest.approx(math.log(100 / 120))
        and j.outcome == s.SUPPORTED
    )
    assert (
        v.verdicts(declining(study_of, declare, [200, 150, 100, 150], [200, 150, 50, 120]), "C2")[
            "verdict"
        ].item()
        == s.CONTRADICTED
    )


def test_c2_has_nothing_to_remove_where_nothing_declined(study_of, declare):
    line = v.verdicts(declining(study_of, declare, [200, 150, 120, 100]), "C2").iloc[0]
    assert line["verdict"] == c.NOT_DECLINED
    assert "For SN on G and D, FID in the last quarter" in line["finding"]
    assert "15.9 % lower" in line["finding"] and "so there is no decline to remove" in line["finding"]


def test_a_decline_of_a_score_that_is_better_when_high_is_told_as_the_score_moves(study_of, declare):
    study = declining(study_of, declare, [200, 150, 120, 100])  # FID; IS is its inverse
    c2 = {"claim": "C2", "measure": "decline", "gain": {"sn_g_d": 1.0, "none": -1.0}, "metric": "is"}
    found = v.verdicts(declare(study, comparisons=[c2]), "C2")["finding"].item()
    assert "IS in the last quarter of training, against the quarter before it, is 18.9 % higher" in found


def test_the_hours_of_a_claim_count_each_run_once(study_of, declare):
    fids = {row: GOOD[:4] for row in ("none", "attention_8", "attention_16", "residual_8", "residual_16")}
    study = declare(study_of(fids))  # a minute each
    assert v.hours_of(study, "C4") == pytest.approx(3 * 4 / 60)
    assert v.hours_of(study, "C5") == pytest.approx(4 * 4 / 60)


def attending(study_of, declare, colour=0.8, distance=0.5, entropy=0.8):
    study = study_of({"attention_16": GOOD})
    for seed in range(10):
        run = study.run("attention_16", seed)
        near = 1 + 0.01 * (seed % 3)
        of = {
            "colour": colour * near,
            "colour_other": 1.0,
            "colour_3x3": 0.6,
            "distance": distance * near,
            "distance_3x3": 0.14,
            "distance_uniform": 0.52 * near,
            "entropy": entropy,
        }
        blocks = lambda value: {"G 16x16": value, "D 16x16": 1.0}
        run.write(
            run.read() | {"attention": [{"step": 4} | {name: blocks(value) for name, value in of.items()}]}
        )
    return declare(study)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, s.SUPPORTED),
        ({"colour": 1.2}, s.CONTRADICTED),
        ({"colour": 1.0}, v.MIXED),
        ({"distance": 0.05}, s.CONTRADICTED),
        ({"entropy": 0.995}, c.INERT),
        (
            {"colour": 1.0, "distance": 0.518, "entropy": 0.9999},
            c.INERT,
        ),  # uniform attention, which any nearest-key test would pass
    ],
)
def test_c7_takes_colour_and_distance_and_a_map_that_is_not_uniform(study_of, declare, changes, expected):
    assert v.verdicts(attending(study_of, declare, **changes), "C7")["verdict"].item() == expected


@pytest.mark.parametrize(
    "distance, far",
    [(0.5, "1.04 times as far as G's maps, so this shows"), (0.26, "2.00 times as far as G's maps.")],
)
def test_maps_stand_beside_ones_that_take_no_training(study_of, declare, distance, far):
    found = v.verdicts(attending(study_of, declare, distance=distance), "C7")["finding"].item()
    assert "Maps of only the nearest 3x3 positions would make it 40.0 % lower." in found
    assert f"A uniform map would reach {far}" in found


def by_class(study_of, declare, structured, textured):
    """KID by class of attention at 32 against none, whose classes all have 1."""
    study = study_of({"none": GOOD, "attention_32": GOOD}, preset="structure-texture-cpu")
    for row, (a, b) in (("none", (1, 1)), ("attention_32", (structured, textured))):
        for seed in range(10):
            run = study.run(row, seed)
            record = run.read()
            kids = {
                name: value * GOOD[(seed + i) % 10]
                for i, (names, value) in enumerate(((claims.STRUCTURED, a), (claims.TEXTURED, b)))
                for name in names
            }
            scores = [dict(score, kid_by_class=kids) for score in record["scores"]]
            run.write(record | {"scores": scores, "final": scores[-1], "best": scores[-1]})
    return declare(study)


def test_c8_is_an_interaction_of_classes(study_of, declare):
    """Structured classes gain more than textured ones, and gain at all."""
    both = by_class(study_of, declare, 0.5, 1.0)
    gains = [float(j.look().estimate) for j in judged(both, "C8")]
    assert gains == [pytest.approx(math.log(2)), pytest.approx(math.log(2))]
    for classes, expected in (((0.5, 0.5), "structured"), ((1.0, 2.0), "interaction")):
        found = {
            j.comparison.measure: float(j.look().estimate)
            for j in judged(by_class(study_of, declare, *classes), "C8")
        }
        assert found[expected] == pytest.approx(math.log(2)) and found[
            ({"structured", "interaction"} - {expected}).pop()
        ] == pytest.approx(0, abs=1e-9)


def test_without_a_plan_nothing_is_judged(study_of):
    study = study_of({"none": GOOD, "attention_16": GOOD})
    assert set(v.verdicts(study)["verdict"]) == {v.NO_PLAN} and v.comparisons(study).empty
    assert v.show_verdicts(study) == []
    assert "shows that everything runs" in " ".join(v.rests_on(study)) and forests.comparisons(study)


def test_a_reader_sees_the_verdicts_on_claims_that_were_tried_and_the_names_of_the_others(study_of, declare):
    study = pair(study_of, declare, GOOD, GOOD)  # tries C5 alone
    claim, found, left = v.show_verdicts(study)
    assert claim.startswith("**C5, no difference.** *A residual block") and found.startswith(
        "* Attention at 16"
    )
    assert left == "Not tried in this study: C1, C2, C3, C4, C6, C7, C8."
    assert v.show_verdicts(study, "C6") == ["Not tried in this study: C6."]
    assert v.show_verdicts(study, "C5") == [claim, found]


def test_studies_of_two_codes_are_named_and_of_two_extractors_refused(study_of, declare):
    study = pair(study_of, declare, GOOD, GOOD)
    assert "one revision of the code (sources abc). All ran on one kind of" in " ".join(v.rests_on(study))
    run = study.run("residual_16", 0)
    record = run.read()
    run.write(record | {"provenance": record["provenance"] | {"code": {"sources": "other"}}})
    assert "2 revisions of the code (sources abc, sources other)" in " ".join(v.rests_on(study))
    earlier = {"earlier_code": [{"sources": "third"}], "earlier_processor": ["another"]}
    run.write(record | {"provenance": record["provenance"] | earlier})
    assert "2 revisions of the code (sources abc, sources third)" in " ".join(v.rests_on(study))
    assert "2 kinds of processor (a processor: seeds 0 to 9, another: seed 0)" in " ".join(v.rests_on(study))
    run.write(record | {"definition": record["definition"] | {"extractor": "inception"}})
    with pytest.raises(ReproError, match="scored in different ways"):
        c.judge(study)


def test_a_plan_that_changed_is_exploratory(study_of, declare):
    study = declare(
        study_of({"none": GOOD}), changes=[{"date": "2026-02-02", "after_seeds": 4, "fields": ["margin"]}]
    )
    assert "**Exploratory**: the plan changed on 2026-02-02 after 4 seeds had run (margin)." in " ".join(
        v.rests_on(study)
    )
    told = v.verdicts(study).set_index("claim")["verdict"]
    assert told["C4"] == "open (exploratory)" and told["C3"] == v.NOT_TRIED


def test_what_is_written_holds_the_plan_and_a_silent_change_is_refused(study_of, declare):
    study = pair(study_of, declare, GOOD, GOOD)
    made = json.loads(v.written(study, plan.read(study)))
    raw = made["plan"] | {"margin": 0.2}
    with pytest.raises(ReproError, match=r'changed after 10 seeds had run \(margin\): add to its "changes"'):
        plan.check_declared(made["plan"], raw, made["seeds"])
    said = {"changes": [{"date": "", "after_seeds": 10, "fields": ["margin"]}]}
    plan.check_declared(made["plan"], raw | said, made["seeds"])
    with pytest.raises(ReproError, match=r"after 10 seeds had run \(alpha\)"):  # an entry that leaves it out
        plan.check_declared(made["plan"], raw | said | {"alpha": 0.1}, made["seeds"])
    with pytest.raises(ReproError, match=r"after 10 seeds had run \(alpha, margin\)"):  # an entry of before
        plan.check_declared(made["plan"] | said, raw | said | {"alpha": 0.1}, made["seeds"])
    plan.check_declared(made["plan"], made["plan"], made["seeds"])
    assert made["claims"]["C5"]["comparisons"][0]["outcome"] == s.NO_DIFFERENCE


def test_the_false_verdicts_to_expect_are_said(study_of, declare):
    study = declare(
        study_of(
            {"none": GOOD, "attention_8": GOOD, "attention_16": GOOD, "residual_8": GOOD, "residual_16": GOOD}
        )
    )
    claimed = {of.claim for of in plan.read(study).comparisons}
    assert f"It names {len(claimed)} claims, each tested at 5%" in " ".join(v.rests_on(study))


def test_nothing_has_run(tmp_path):
    assert v.comparisons(Study("rehearsal", executor="none", out=str(tmp_path / "nothing"))).empty
