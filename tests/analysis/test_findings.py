"""What a study found, in sentences that hold whatever the numbers are."""

import dataclasses
import re
import shutil

import pytest

from repro import paper, runs
from repro.analysis import answer, findings, sections, setting
from repro.errors import ReproError
from repro.studies.study import Study
from tests.analysis.helpers import GOOD, change, scaled


def text(study, notebook):
    return " ".join(findings.found(study, notebook))


def test_rows_are_ordered_by_their_mean_and_their_spread_is_said(study_of):
    study = study_of({"none": [100, 110], "attention_16": [80, 90]})
    found = text(study, "table1")
    assert "attention at 16: 85, no block: 105" in found and "An order of means is no verdict" in found
    assert "may be chance" in text(study_of({"none": [100], "attention_16": [80]}), "table1")


def test_a_dearer_rows_cost_is_measured_seed_by_seed(study_of, declare):
    """Of seeds that met three loads a ratio of medians would give 1.5."""
    seconds = {"none": (10, 40, 20), "attention_16": (10, 40, 20), "sngan_projection": (20, 80, 30)}
    study = declare(study_of(dict.fromkeys(seconds, [100, 101, 102])))
    for row, of_row in seconds.items():
        for seed, value in enumerate(of_row):
            run = study.run(row, seed)
            run.write(run.read() | {"provenance": run.read()["provenance"] | {"train_seconds": value}})
    assert "machines that did other work too: 2.0. " in text(study, "table2")


def test_rows_at_the_level_of_noise_are_not_ordered(study_of):
    study = study_of({"none": [100, 110], "attention_16": [80, 90]})
    change(study, noise={"fid": 150.0})
    found = text(study, "table1")
    assert "Too short to rank" in found and "Order at the last step" not in found


def test_a_study_without_a_plan_or_without_runs_says_so(study_of, tmp_path):
    assert "No claim is judged" in text(study_of({"none": [100]}), "report")
    empty = Study("rehearsal", executor="none", out=str(tmp_path / "nothing"))
    assert findings.found(empty, "figure6") == [] and "Nothing yet" in sections.found(empty, "figure6").data


def test_claims_are_told_by_their_verdicts_and_those_not_tried_left_out(study_of, declare):
    rows = {"none": scaled(GOOD, 2), "attention_8": GOOD, "attention_16": GOOD}
    study = declare(study_of(rows | {"residual_8": GOOD, "residual_16": GOOD}))
    found = text(study, "table1")
    assert "**C4, supported.**" in found and "C3" not in found
    assert findings.in_brief(study).startswith("Of ") and "1 supported" in findings.in_brief(study)


def test_a_collapsed_run_is_counted_and_its_row_not_ordered(study_of):
    study = study_of({"sn_d": [100, 90], "sn_g_d": [80, 80]})
    change(study, only=("sn_d", 1), status="collapsed")
    assert "SN on D alone broke down**: 1 of 2" in text(study, "figure3")
    change(
        study_of({"sn_d": [100, 90], "sn_g_d": [80, 80], "none": [70, 70]}),
        only=("sn_d", 1),
        status="diverged",
    )
    assert "verdict. Left out, as a run broke down: SN on D." in text(study, "report")


def test_every_notebook_but_the_scores_has_findings_of_its_name():
    wanted = {table.name for table in paper.WITH_NOTEBOOK.values()} | {"figure5", "figure6", "report"}
    assert set(findings.PARTS) == wanted
    with pytest.raises(ReproError, match="findings of notebook"):
        findings.found(Study("rehearsal", executor="none"), "no such")


def test_texts_of_other_data_and_of_tables_that_did_not_run_are_left_out(study_of, another):
    study = study_of({"none": [100]})
    assert "mirrored" in sections.setup(study).data
    study = another(study, "photographs", dataset="cifar10")
    assert "mirrored" not in sections.setup(study).data
    assert sections.table(study, paper.TABLE2).data.startswith("*No run of")
    assert sections.averaged(study, paper.TABLE1) is None and sections.extractors(study, paper.TABLE1) is None


def test_a_tables_notebook_says_how_many_seeds_its_own_rows_have(study_of):
    study = study_of({"none": [100, 110, 120], "sn_g_d": [90, 91]})
    seeds = lambda section: re.search(r"training seeds +\| ([\w ]+?) +\|", section.data)[1]
    assert seeds(sections.setup(study, "table1")) == "3" and seeds(sections.setup(study)) == "2 to 3"
    assert "**Seeds.** 3 training" in sections.threats(study, "table1").data


def test_the_settings_under_stress_say_by_how_much_learning_rates_grow(study_of):
    study = study_of({"sn_d_x8": [100], "sn_d_x32": [100]}, preset="cifar10-stress")
    assert "the recipe's times 8 or 32, by row" in sections.setup(study, "stress").data
    ordinary = sections.setup(study_of({"none": [100]}, preset="cifar10-cpu"), "table1")
    assert "the recipe's times 2 " in ordinary.data


def test_rows_that_are_not_clear_of_noise_are_counted(study_of):
    study = study_of({"none": [1100, 1104], "attention_8": [900, 904], "sn_d": [1990, 1999]})
    assert findings.at_noise_in_words(study) == ""
    change(study, noise={"fid": 2000.0})
    assert findings.at_noise_in_words(study) == "2 of 3 rows end above half of noise's FID."


def test_residual_blocks_stand_beside_attention_in_the_answer(study_of, declare):
    fids = {row: [100.0, 104.0, 97.0] for row in ("none", "attention_8", "attention_16")}
    assert "residual block" not in answer.answers([declare(study_of(fids))])
    fids |= {row: [110.0, 114.0, 107.0] for row in ("residual_8", "residual_16")}
    line = answer.answers([declare(study_of(fids))]).splitlines()[1]
    assert line.startswith("* **Is attention better than a residual block of as many parameters? ")
    assert "Attention at 8 against residual at 8: FID is" in line
    assert "Attention at 16 against residual at 16: FID is" in line
    close, far = [100.0, 100.2, 99.9], [150.0, 150.3, 149.85]
    fids |= dict.fromkeys(("attention_8", "attention_16", "residual_8"), close) | {"residual_16": far}
    line = answer.answers([declare(study_of(fids))]).splitlines()[1]
    assert "(3 seeds): no difference of 10 per cent or more. Attention at 16" in line
    assert line.endswith("(3 seeds): better.")
    change(study := declare(study_of(fids)), only=("residual_16", 0), status="collapsed")
    line = answer.answers([study]).splitlines()[1]
    assert line.endswith("Attention at 16 against residual at 16, FID (Lite0): unstable.")


def test_larger_images_stand_in_the_answer_with_the_papers_change(study_of, declare):
    fids = {"none": [200.0, 202.0, 199.0, 201.0], "attention_32": [210.0, 207.0, 212.0, 205.0]}
    larger = declare(study_of(fids, preset="structure-texture-cpu"))
    first = declare(study_of({"none": GOOD, "attention_8": GOOD, "attention_16": GOOD}))
    last = answer.answers([first, larger]).splitlines()[-1]
    assert last.startswith("* **At 64 px, in `structure-texture-cpu`: ") and "(4 seeds)" in last
    assert last.endswith("The paper's change for the same rows, 20.4 % lower, lies outside of the interval.")
    assert "64 px" not in answer.answers([larger, first]).splitlines()[-1]  # it answers itself
    assert "64 px" not in answer.answers([first])


def test_a_run_with_two_blocks_is_one_run(study_of):
    study = study_of({"attention_16": [100]})
    change(study, attention=[{"step": 4, "entropy": {"D 8": 0.999, "D 16": 0.998}}])
    assert "last score of one run" in findings.uniform(study, [paper.TABLE1])[0]


def test_what_an_entropy_is_stands_with_the_first_network_alone(study_of):
    study = study_of({"attention_16": [100, 110]})
    change(study, attention=[{"step": 4, "entropy": {"G 16": 0.8, "D 16": 0.999}}])
    of_d, of_g = findings.uniform(study, [paper.TABLE1])
    assert "of that of equal weights" in of_d and of_g == "**G's attention is not uniform**: 80.0 per cent."


@pytest.mark.parametrize(
    "entropies, said",
    [
        ([0.9937, 0.9998], "99.37 to 99.98 per cent"),  # 99.98 is not 100
        ([0.994, 0.998], "99.4 to 99.8 per cent"),
        ([0.999, 1.0], "99.9 to 100.0 per cent"),
    ],
)
def test_entropies_near_that_of_equal_weights_keep_the_digit_that_tells_them_apart(entropies, said):
    text = findings._of_network("D", {("a row", i, "D 16"): v for i, v in enumerate(entropies)}, 0.99)
    assert "close to uniform" in text and said in text and "each of 2 runs" in text


def test_a_study_of_fresh_seeds_answers_first_once_it_has_looked(study_of, declare, another):
    fids = {"none": [100.0, 104.0, 97.0], "attention_8": [101.0, 104.0, 97.0]}
    fids["attention_16"] = [100.0, 104.0, 98.0]
    first = declare(study_of(fids))
    again = another(first, "again", seed_offset=10)
    lines = answer.answers([first, again]).splitlines()
    assert lines[0].startswith("* **Does attention help?") and lines[0].endswith(
        "Preset `again`, on fresh seeds."
    )
    assert lines[1].startswith(
        "* **An earlier study, `rehearsal`, prompted this one. Its verdict: open.** Att"
    )
    assert "pairs" not in lines[1]  # which no plan declared
    assert lines[-1].endswith("Other scales may differ. All but the first are of `rehearsal`.")
    shutil.rmtree(again.run("none", 2).folder)  # two seeds are no look
    lines = answer.answers([first, again]).splitlines()
    assert "on fresh seeds" not in lines[0] and "prompted" not in "".join(lines)
    assert "All but the first" not in lines[-1]


def test_the_scale_says_how_many_images_the_noise_has(study_of):
    study, image = study_of({"none": [100]}), {"fid": 50.0, "is": 9.0, "images": 500}
    change(study, real=image, noise=image | {"fid": 2000.0})
    assert "of 500 other training images 50.0, of as many images of noise 2,000.0" in setting.scale(study)
    change(study, noise=image | {"images": 5000})
    assert "of 5,000 images of noise" in setting.scale(study)


def test_no_difference_names_its_margin_in_the_answer(study_of, declare):
    fids = {row: [100.0, 100.2, 99.9] for row in ("none", "attention_8", "attention_16")}
    (line, *_) = answer.answers([declare(study_of(fids))]).splitlines()
    assert line.startswith(
        "* **Does attention help? After 4 updates: no difference of 10 per cent or more.** Attention at 8"
    )


def test_an_earlier_study_that_is_too_short_says_so_without_a_number(study_of, declare):
    fids = {row: [1900.0, 1904.0, 1897.0] for row in ("none", "attention_8", "attention_16")}
    study = declare(study_of(fids))
    change(study, noise={"fid": 2000.0})
    line = answer._prompted(study)
    assert "too short to rank" in line and "%" not in line
    fids["none"] = [1100.0, 1104.0, 1097.0]
    half = declare(study_of(fids | {row: [900.0, 904.0, 897.0] for row in fids if row != "none"}))
    change(half, noise={"fid": 2000.0})
    line = answer._prompted(half)
    assert "% lower" in line and "Only one side is below half of noise's FID" in line


def test_hours_of_a_processor_are_not_told_of_runs_on_a_gpu(study_of, declare):
    fids = {row: [100.0, 104.0, 97.0] for row in ("none", "attention_8", "attention_16")}
    study = declare(study_of(fids))
    (j,) = [j for j in answer.judge(study) if j.comparison.claim == "C4"]
    j = dataclasses.replace(j, outcome=answer.OPEN, needed=9)
    assert "take about 0 core-hours." in answer.cost_of_more(study, j)
    run = study.run("none", 0)
    record = run.read()
    run.write(record | {"provenance": record["provenance"] | {"device": "cuda"}})
    assert answer.cost_of_more(study, j) == ""


def test_the_next_command_is_of_the_same_data_and_folder(study_of, declare, another, monkeypatch):
    """Pasted as it stands, it goes on with this study."""
    study = declare(study_of({"none": [100], "attention_8": [90], "attention_16": [90]}))
    study.data = "my photos"
    said = findings.next_step(study)
    assert f"`repro reproduce --preset rehearsal --out {study.out} --until-settled` trains more" in said
    study = another(study, "photographs", dataset="cifar10")
    said = findings.next_step(study)
    assert f"--preset photographs --data 'my photos' --out {study.out} --until-settled" in said
    study.data = None
    assert "--preset photographs --data FOLDER" in findings.next_step(study)
    monkeypatch.setattr(runs, "PROJECT", study.out.parent)
    study.out = study.out.rename(study.out.parent / "results")
    said = findings.next_step(study)
    assert said.startswith("With results/photographs copied into outputs/, `repro") and "--out" not in said
