"""Every figure can be drawn, and shows what it says."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from repro import paper, runs
from repro.analysis import sections
from repro.data import sheets
from repro.reports import figures, forests, pictures, plots
from repro.studies.study import Study, rows, run_name
from tests.analysis.helpers import GOOD, change, scaled


@pytest.mark.parametrize("fids", [{}, {"none": [100, 101], "attention_16": [90, 95]}])
def test_every_figure_can_be_drawn(study_of, tmp_path, fids):
    study = study_of(fids) if fids else Study("rehearsal", executor="none", out=str(tmp_path))
    for make in (plots.final_scores, plots.score_curves, plots.training_curves):
        figures.save(make(study, paper.TABLE1), tmp_path / "figure.png")
    figures.save(plots.figure3(study), tmp_path / "figure.png")
    first = (tmp_path / "figure.png").read_bytes()
    figures.save(plots.figure3(study), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == first  # equal figures are equal files


def test_a_run_s_picture_is_of_a_kind_that_notebook_viewers_show(study_of):
    from nbconvert.utils.base import NbConvertBase

    study = study_of({"sagan": [100]})
    runs.write_atomically(
        study.run(run_name(rows()["sagan"], study.preset), 0).picture("attention"),
        sheets.picture(np.zeros((8, 8, 3), np.uint8)),
    )
    image = pictures.picture(study, "sagan", "attention")
    assert (
        image._mimetype in NbConvertBase().display_data_priority
        and image._repr_mimebundle_()[0][image._mimetype]
    )


def test_a_page_of_samples_is_as_high_as_its_sheets_need(study_of):
    study = study_of({"none": [100], "attention_16": [90]})
    heights = []
    for tall in (2, 8):
        for path in (study.real_path, *(study.run(row, 0).samples_path for row in ("none", "attention_16"))):
            runs.write_atomically(path, sheets.picture(np.zeros((32 * tall, 320, 3), np.uint8)))
        with Image.open(io.BytesIO(pictures.samples(study, paper.TABLE1).data)) as page:
            heights.append(page.height / page.width)
    assert heights[0] < heights[1] / 2


def test_a_report_without_a_plan_says_that_nothing_is_compared(study_of):
    assert "nothing is compared" in sections.comparisons(study_of({"none": [100]})).data


def test_survival_counts_and_marks_the_runs_that_broke_down(study_of):
    study = study_of({"sn_d_x8": [100, 110, 120], "sn_g_d_x8": [100, 110], "sn_g_d_ttur_x32": [90]})
    for row, seed in (("sn_d_x8", 0), ("sn_d_x8", 2), ("sn_g_d_ttur_x32", 0)):
        run = study.run(row, seed)
        run.write(run.read() | {"status": "collapsed"})
    figure = plots.survival(study)
    for axis, counts, crosses in zip(
        figure.axes,
        (["1 of 3", "2 of 2", "0 of 0"], ["0 of 0"] * 2 + ["0 of 1"]),
        ([100, 120], [90]),
        strict=True,
    ):
        assert [text.get_text().rpartition(": ")[2] for text in axis.get_legend().get_texts()] == counts
        assert [line.get_ydata()[0] for line in axis.lines if line.get_marker() == "X"] == crosses


def test_survival_counts_a_run_that_diverged_before_its_first_score(study_of):
    study = study_of({"sn_d_x8": [100, 110]})
    run = study.run("sn_d_x8", 1)
    run.write({k: v for k, v in run.read().items() if k != "final"} | {"status": "diverged", "scores": []})
    axis = plots.survival(study).axes[0]
    assert axis.get_legend().get_texts()[0].get_text().endswith(": 1 of 2")


def test_the_forest_plot_has_a_line_for_each_interval(study_of, declare):
    study = declare(
        study_of(
            {
                "none": GOOD,
                "attention_8": GOOD,
                "attention_16": GOOD,
                "residual_8": scaled(GOOD, 3),
                "residual_16": GOOD,
            }
        )
    )
    (axis,) = forests.comparisons(study).axes
    labels = [label.get_text().replace("\n", " ") for label in axis.get_yticklabels()]
    assert labels == [
        "C4: Attention at 8 and 16 against no block, FID (Lite0)",
        "C5: Attention at 8 against residual at 8, FID (Lite0)",
        "C5: Attention at 16 against residual at 16, FID (Lite0)",
    ]
    outcomes = [text.get_text() for text in axis.texts if "seeds" in text.get_text()]
    assert [outcome.endswith(" seeds") for outcome in outcomes] == [True] * 3 and "no difference" in outcomes[
        0
    ]
    (narrow,) = forests.comparisons(study, brief=True).axes
    said = [text.get_text() for text in narrow.texts if "seeds" in text.get_text()]
    assert said == [
        f"{label.removesuffix(', FID (Lite0)')}: {outcome}"
        for label, outcome in zip(labels, outcomes, strict=True)
    ]
    assert {round(band.get_x(), 4) for band in axis.patches} == {round(-100 * math.log(1.1), 4)}


def test_one_plot_has_the_comparisons_of_all_studies_and_a_panel_for_each_data_set(
    study_of, declare, another
):
    fids = {"none": GOOD, "attention_8": GOOD, "attention_16": GOOD, "residual_8": scaled(GOOD, 3)}
    study = declare(study_of(fids))
    other, fresh = another(study, "other"), another(study, "fresh", margin=0.2)
    made = study.run("none", 0).read()["provenance"]
    change(other, provenance=made | {"data": "photographs"})
    alike, apart = forests.on_attention([fresh, other, study]).axes
    said = [text.get_text().partition(":")[0] for text in apart.texts if "seeds" in text.get_text()]
    assert said == ["C4", "C5"] and apart.get_title().startswith("photographs, ")
    names = [text.get_text() for text in alike.texts if "seeds" in text.get_text()]
    assert [name.partition(" (")[2].partition(")")[0] for name in names] == ["fresh", "rehearsal"] * 2
    assert [name[:3] for name in names] == ["C4:", "C4:", "C5:", "C5:"]
    assert [round(band.get_x()) for band in alike.patches] == [-20, -10, -20, -10]
    assert forests.on_attention([]).axes  # says that there is nothing yet
