"""Tables from made-up runs, whose numbers are known."""

import json

import numpy as np
import pandas as pd
import pytest

from repro import paper
from repro.analysis import frames, labels, setting, tables
from repro.commands import studies
from repro.errors import ReproError
from repro.reports import pictures, plots
from repro.scoring import attention
from repro.studies.study import Study, rows, run_name


def test_the_table_in_numbers(study_of):
    study = study_of({"none": [100, 110, 120], "attention_16": [90, 95, 115]}, best={"attention_16": 80})
    table = frames.summary(study, paper.TABLE1).set_index("row")
    assert table.loc["none", "fid_mean"] == 110 and table.loc["none", "fid_sd"] == pytest.approx(10)
    assert (
        table.loc["attention_16", "fid_difference"] == pytest.approx(-10)
        and table.loc["attention_16", "seeds"] == 3
    )
    assert table.loc["attention_16", "fid_best_mean"] == 80
    assert table.loc["none", "paper_fid"] == 22.96 and table.loc["attention_64", "paper_is"] == 52.52
    assert (
        table.loc["attention_64", "status"] == "n/a at 32 px"
        and table.loc["attention_8", "status"] == "not run"
    )


def test_a_run_that_goes_on_is_in_no_table(study_of):
    study = study_of({"none": [100, 110, 900]})
    run = study.run("none", 2)
    run.write(run.read() | {"status": "interrupted"})
    assert frames.summary(study, paper.TABLE1).set_index("row").loc["none", "fid_mean"] == 105


def test_no_table_is_no_difference_to_another_folder(study_of):
    assert frames.difference_to(study_of({"none": [100]}), study_of({"none": [100]}), []).empty


def test_the_table_for_a_reader(study_of):
    study = study_of({"none": [100, 110], "attention_16": [90, 95]})
    shown = tables.present(study, paper.TABLE1).set_index("")
    assert (
        shown.loc["no block", "seeds"] == "2" and shown.loc["no block", "ours: FID (Lite0)"] == "105.0 ± 7.1"
    )
    assert shown.loc["attention at 16", "Δ FID"] == "-12.5" and shown.loc["no block", "Δ FID"] == "reference"
    assert "attention at 64" not in shown.index
    assert tables.left_out(study, paper.TABLE1).endswith("residual at 32, residual at 64 (n/a at 32 px).")
    one = tables.present(study_of({"none": [100], "attention_16": [90]}), paper.TABLE1).set_index("")
    assert one.loc["no block", "ours: FID (Lite0)"] == "100.0"
    table2 = tables.present(study_of({"sagan": [100]}), paper.TABLE2).set_index("")
    assert (
        "(not verified)" in table2.loc["AC-GAN", "paper (ImageNet 128, Inception): IS"]
        and "(second-hand)" in table2.loc["SAGAN", "paper (ImageNet 128, Inception): intra FID"]
    )


def test_a_score_that_not_all_seeds_have_says_how_many(study_of):
    study = study_of({"none": [100, 110, 120]})
    path = study.run("none", 2).json_path
    record = json.loads(path.read_text())
    del record["final"]["intra_fid"], record["scores"][-1]["intra_fid"]
    path.write_text(json.dumps(record))
    shown = tables.present(study, paper.TABLE1).set_index("").loc["no block"]
    assert (
        shown["ours: intra FID (Lite0)"] == "210.0 ± 14.1 (2 of 3 seeds)"
        and shown["ours: FID (Lite0)"] == "110.0 ± 10.0"
    )


def test_papers_numbers_stand_under_a_plain_heading_only_where_ours_are_measured_alike(study_of):
    smoke = study_of({"none": [100]})
    assert setting.paper_heading(smoke) == "paper (ImageNet 128, Inception)"
    assert "Δ intra FID" in tables.present(smoke, paper.TABLE1) and "KID (Lite0)" not in tables.present(
        smoke, paper.TABLE1
    )
    assert {"IS (Lite0)", "diversity"} <= set(tables.all_scores(smoke, paper.TABLE1))
    alike = Study("imagenet", executor="none", out=str(smoke.out))
    assert setting.paper_heading(alike) == "paper"


def test_runs_on_other_data_never_share_a_column(study_of):
    study = study_of({"none": [100], "attention_16": [90]})
    path = study.run("none", 0).json_path
    record = json.loads(path.read_text())
    record["config"]["data_fingerprint"] = "other"
    path.write_text(json.dumps(record))
    with pytest.raises(ReproError, match="scored in different ways.*other"):
        frames.records(study, paper.TABLE1)


def test_an_ended_run_says_where(study_of):
    shown = tables.present(study_of({"sn_d": [300]}, status="collapsed"), paper.FIGURE3).set_index("")
    assert shown.loc["SN on D", "status"] == "collapsed at step 4"


def test_a_run_that_diverged_before_its_first_score_is_in_the_table(study_of):
    study = study_of({"sn_d": [300, 310], "sn_g_d": [200, 210]})
    run = study.run("sn_d", 1)
    record = {k: v for k, v in run.read().items() if k not in ("final", "best")}
    run.write(record | {"status": "diverged", "scores": [], "step": 1})
    shown = tables.present(study, paper.FIGURE3).set_index("").loc["SN on D"]
    assert (
        shown["status"] == "complete, diverged at step 1" and "(1 of 2 seeds)" in shown["ours: FID (Lite0)"]
    )


def test_averaged_weights_stand_beside_the_raw_ones(study_of):
    study = study_of({"none": [300, 310], "attention_16": [280]})
    run = study.run("none", 1)
    run.write(
        run.read()
        | {
            "final": run.read()["final"] | {"kid": 0.5},
            "shadow": {"decay": 0.99, "fid": 250.0, "is": 9.0, "kid": 0.4},
        }
    )
    shown = tables.averaged(study, paper.TABLE1)
    assert (
        shown[""].to_list() == ["no block"]
        and shown["seeds"].item() == "1"
        and shown["average over the last"].item() == "100 updates"
    )
    assert (
        shown["FID (Lite0), raw"].item() == "310.0"
        and shown["FID (Lite0), averaged weights"].item() == "250.0"
    )


def test_scores_of_two_definitions_are_never_mixed(study_of):
    study_of({"none": [100]})
    study = study_of(
        {"attention_16": [90]},
        definition={"extractor": "efficientnet_lite0", "resizer": "r", "samples": 11, "references": 20},
    )
    with pytest.raises(ReproError, match="different ways"):
        frames.summary(study, paper.TABLE1)


def test_differences_to_a_reference(study_of, tmp_path, capsys):
    here = study_of({"none": [100], "attention_16": [90]})
    assert (frames.difference_to(here, here, ["table1"])["difference"] == 0).all()
    record = here.run("none", 0).read()
    record["final"]["fid"] = record["scores"][-1]["fid"] = 103.0
    other = Study("rehearsal", 1, executor="none", out=str(tmp_path / "other"))
    other.run("none", 0).write(record)
    both = frames.difference_to(here, other, ["table1", "figure3"])
    assert both[both["difference"] != 0][["table", "row", "metric", "difference"]].values.tolist() == [
        ["table1", "none", "fid", -3.0],
        ["figure3", "sn_g_d_ttur", "fid", -3.0],
    ]
    empty = Study("rehearsal", 1, executor="none", out=str(tmp_path / "nothing"))
    assert frames.difference_to(here, empty, ["table1"]).empty
    other.run("none", 0).write(record | {"config": record["config"] | {"data_fingerprint": "photos"}})
    with pytest.raises(ReproError, match="different ways"):
        frames.difference_to(here, other, ["table1"])
    studies._print_difference(here, other, ["table1"])
    assert "Not compared with results/rehearsal: The runs of table1 were" in capsys.readouterr().out


def with_attention(study, values, row="attention_16"):
    """Write attention into the row's runs: values is {quantity: [of seed 0, ...]} at the last step, others
    0.
    """
    for seed in range(study.seeds):
        run = study.run(row, seed)
        block = {q: {"G 16x16": values.get(q, [0.0] * 9)[seed], "D 16x16": -1.0} for q in labels.ATTENTION}
        run.write(
            run.read()
            | {
                "attention": [
                    {"step": 2} | {q: {"G 16x16": 5.0, "D 16x16": 5.0} for q in block},
                    {"step": 4} | block,
                ]
            }
        )
    return study


def test_attention_that_was_not_recorded_is_not_run(study_of):
    study = study_of({"attention_16": [100, 101]})
    assert tables.present_attention(study, paper.TABLE1).empty and plots.attention_curves(study, paper.TABLE1)
    assert "No picture of attention" in pictures.picture(study, "sagan", "attention").data


def test_the_tables_of_attention_and_neighbours(study_of):
    study = with_attention(study_of({"none": [90, 91], "attention_16": [100, 101]}), {"entropy": [0.5, 0.7]})
    for seed, gamma in ((0, -0.3), (1, 0.2)):  # of either sign: the size is averaged
        run = study.run("attention_16", seed)
        run.write(
            run.read()
            | {"history": [entry | {"gamma_g": {"16x16": gamma}} for entry in run.read()["history"]]}
        )
    shown = tables.present_attention(study, paper.TABLE1)
    assert shown.set_index("block").loc["G 16x16", "size of gamma"] == "0.250"
    assert shown["block"].tolist() == ["G 16x16", "D 16x16"]
    # the last step, mean over seeds
    assert shown.set_index("block").loc["G 16x16", labels.ATTENTION["entropy"]] == "0.600"
    assert len(frames.attention(study, paper.TABLE1)) == 8 and plots.attention_curves(study, paper.TABLE1)
    for seed, samples in ((0, 2.0), (1, 3.0)):
        run = study.run("attention_16", seed)
        run.write(run.read() | {"neighbours": {"samples": samples, "real": 1.0}})
    near = tables.neighbours(study, paper.TABLE1)
    assert near.to_numpy().tolist() == [["attention at 16", "2.50", "1.00"]]


def test_the_table_of_attention_has_the_order_of_the_papers_rows(study_of):
    study = study_of({"attention_8": [100], "attention_16": [100]})
    for row in ("attention_16", "attention_8"):
        with_attention(study, {}, row)
    shown = tables.present_attention(study, paper.TABLE1)
    assert shown[["", "block"]].to_numpy().tolist() == [
        [row, block] for row in ("attention at 8", "attention at 16") for block in ("G 16x16", "D 16x16")
    ]


def test_which_scores_are_better_when_larger():
    larger = {name for name, (_, larger, _) in labels.METRICS.items() if larger}
    of_pixels = {"consistency", "consistency_mirrored", "consistency_turned", "diversity"}
    assert larger == {"is", "is_10", "is_lite2", "precision", "recall"} | of_pixels


def test_every_measured_quantity_of_attention_is_shown():
    import torch

    measured = attention.statistics(torch.full((1, 16, 4), 1 / 4), np.zeros((1, 8, 8, 3), np.uint8))
    assert measured.keys() == labels.ATTENTION.keys()


def test_equal_rows_share_a_run_and_different_ones_do_not(rehearsal):
    assert run_name(rows()["sn_g_d_ttur"], rehearsal) == "none"
    assert run_name(rows()["sagan"], rehearsal) == "attention_16"
    tasks = Study("rehearsal", executor="none").tasks(paper.TABLES)
    assert len(tasks) == len({t.row for t in tasks})
    assert sum(len(t.rows) for t in paper.TABLES.values()) - len(tasks) == 6  # four that are n/a, two shared
    assert {t.row for t in tasks[:2]} == {"sngan_projection", "acgan"}  # the longest first
    shared = sum(len(t.rows) for t in paper.TABLES.values()) - len(
        Study("imagenet", executor="none").tasks(paper.TABLES)
    )
    assert shared == 2


def test_extractors_that_disagree_about_rows(study_of):
    """Attention at 16 is better than the row without a block by one extractor and worse by the other;
    residual at 16 is worst by both.
    """
    fids = {"none": [110, 112], "attention_16": [100, 102], "residual_16": [150, 152]}
    assert tables.extractors_agree(study_of(fids), paper.TABLE1).empty
    second = {100: 30, 102: 32, 110: 20, 112: 22, 150: 90, 152: 92}
    study = study_of(
        fids,
        extra=lambda fid: {
            "fid_lite2": second[fid],
            "kid": fid / 1000,
            "kid_lite2": fid / 500,
            "kid_by_class": {"cat": 0.1},
        },
    )
    of_fid, of_kid = tables.extractors_agree(study, paper.TABLE1).to_dict("records")
    assert of_fid[""] == "FID (Lite0) against FID (Lite2)" and of_fid["pairs in the same order"] == "2 of 3"
    assert (
        of_fid["pairs that change their order"] == "no block and attention at 16"
        and of_fid["Spearman"] == "0.50"
        and of_fid["Kendall"] == "0.33"
    )
    assert of_kid["pairs that change their order"] == "none" and of_kid["Spearman"] == "1.00"
    assert "FID (Lite2)" in tables.all_scores(study, paper.TABLE1) and "FID (Lite2)" not in " ".join(
        tables.present(study, paper.TABLE1)
    )


def test_cells_stand_in_markdown_as_they_are():
    text = tables.to_markdown(pd.DataFrame({"FID": ["12.50", "1e3"]}))
    assert "12.50" in text and "1e3" in text
