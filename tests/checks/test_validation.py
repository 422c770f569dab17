"""Scores of damaged real images worsen with the damage."""

import dataclasses
import json

import pandas as pd
import pytest

from repro import cli
from repro.checks import validation
from repro.data.loading import load
from repro.errors import ReproError
from repro.studies import notebooks
from repro.studies.study import Study


@pytest.mark.parametrize("name", ["symmetric_shapes", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_fid_worsens_with_every_step_of_damage(name, shared_data, rehearsal, monkeypatch, tmp_path):

    preset = dataclasses.replace(rehearsal, dataset=name, samples=150, references=300)
    loaded = load(preset, shared_data("cifar10") if name == "cifar10" else None)
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    study = Study("rehearsal", out=str(tmp_path))
    study.preset = preset
    frame = validation.validate(study, loaded, "efficientnet_lite0", extended=False)
    assert validation.orderly(frame).set_index("set")["fid"]["classes missing"], frame
    fid = frame.set_index(["set", "strength"])["fid"]
    real = fid[
        "real", 0.0
        # (blur of half a pixel goes unseen on CIFAR-10, and on the shapes FID is at its ceiling by noise of
        # 20)
    ]
    assert fid["blur", 0.5] < fid["blur", 1.0] < fid["blur", 2.0] and real < fid["blur", 1.0], frame
    assert real < fid["noise", 8.0] < fid["noise", 20.0], frame
    assert fid["real, drawn again", 0.0] < fid["classes uneven", 5.0] < fid["classes uneven", 20.0], frame
    real = validation.undamaged(frame)
    assert (
        real["images"].tolist() == [30, 60, 150, 300]
        and real["fid"].is_monotonic_decreasing
        and validation.extrapolated(frame) < real["fid"].min()
    )


def test_validation_is_computed_once_and_shown(rehearsal, tmp_path, capsys):
    """`repro validate`: the notebook in the study's folder, its numbers in a file that a second call
    reads.
    """
    words = ["validate", "--preset", "rehearsal", "--out", str(tmp_path)]
    assert cli.run(words) == 0
    notebook = (tmp_path / "rehearsal" / "metrics.ipynb").read_text()
    assert "uniform noise" in notebook and "extrapolated to endless many" in notebook
    assert "Not scored with Inception here" in notebook and "'real 0 (" in notebook
    path = tmp_path / "rehearsal" / "metrics-efficientnet_lite0.json"
    study = Study("rehearsal", out=str(tmp_path), executor="none")
    path.with_name("metrics-inception.json").write_text(path.read_text())
    assert validation.beside_inception(study).endswith("sets: 1.000")
    path.write_text(path.read_text().replace("uniform noise", "noise that is uniform"))
    assert "noise that is uniform" in set(validation.stored(study)["set"])
    kept = path.read_text()
    path.write_text(kept.replace('"data_fingerprint": "', '"data_fingerprint": "other'))
    assert cli.run(words) == 2 and "holds scores of other data: move it away" in capsys.readouterr().err
    path.unlink()
    with pytest.raises(ReproError, match="repro validate --preset rehearsal computes it"):
        validation.stored(study)


def test_runs_stand_beside_damaged_images_only_where_they_were_scored_alike(study_of):
    study = study_of({"none": [100, 110]})
    assert validation.generated(study).empty  # nothing is known of the damaged images
    run = study.run("none", 0)
    record = run.read()
    alike = {"extractor": "efficientnet_lite0", "references": 20, "samples": 10}
    for name, value in [
        ("extractor", "inception"),
        ("references", 5),
        ("samples", 5),
        ("data_fingerprint", "o"),
    ]:
        kept = alike | {"data_fingerprint": None} | {name: value}
        validation.path_of(study, "efficientnet_lite0").write_text(json.dumps(kept | {"sets": []}))
        assert validation.generated(study).empty, name
    kept = alike | {"data_fingerprint": None, "sets": []}
    validation.path_of(study, "efficientnet_lite0").write_text(json.dumps(kept))
    assert set(validation.generated(study)["seed"]) == {0, 1}
    run.write(record | {"definition": record["definition"] | {"samples": 11}})
    assert set(validation.generated(study)["seed"]) == {1}


def test_another_extractor_is_shown_beside_the_usual_one(tmp_path, monkeypatch, capsys):
    computed = []

    def validate(study, loaded, extractor):
        computed.append(extractor)
        return pd.DataFrame([("real", 0.0, 30, 1.5)], columns=["set", "strength", "images", "fid"])

    monkeypatch.setattr(validation, "validate", validate)
    monkeypatch.setattr(notebooks, "execute_notebooks", lambda *_: None)
    words = ["validate", "--preset", "rehearsal", "--out", str(tmp_path)]
    assert cli.run([*words, "--extractor", "efficientnet_lite2"]) == 0
    assert computed == ["efficientnet_lite0", "efficientnet_lite2"]
    assert "Damaged real images, efficientnet_lite2" in " ".join(capsys.readouterr().out.split())
