"""Generators as files: what is exported is what was scored, and `repro sample` draws from either."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from repro import cli, runs
from repro.presets import PRESETS
from repro.reports import export
from repro.scoring import metrics
from repro.scoring.sampling import sample
from repro.studies.study import configure, rows
from repro.training import checkpoint


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory, trained):
    (folder,) = trained(tmp_path_factory.mktemp("out"), "weight_average")
    return folder


def pixels(path):
    return np.asarray(Image.open(path))


def test_an_exported_generator_draws_what_was_scored(trained_run, tmp_path):
    assert cli.run(["export", str(trained_run), "--to", str(tmp_path / "g.safetensors")]) == 0
    config, g, precision = export.generator(tmp_path / "g.safetensors")
    best = runs.Run(trained_run).read()["best"]
    images, labels = sample(g, config, config.preset.samples, precision)
    state = checkpoint.read_checkpoint(trained_run / "best.pt")
    assert json.loads(state["record"])["step"] == best["step"] and state["ema"]["n_averaged"] > 0
    average = checkpoint.sampled_generator(config, state)
    assert (images == sample(average, config, config.preset.samples, precision)[0]).all()
    assert metrics.diversity(images, labels) > 0
    plain = dict(state)
    del plain["ema"]
    assert (
        images
        != sample(checkpoint.sampled_generator(config, plain), config, config.preset.samples, precision)[0]
    ).any()
    card = (tmp_path / "g.md").read_text()
    assert (
        f"{best['step']} updates" in card
        and f"{best['fid']:.4g}" in card
        and "`repro train weight_average --preset rehearsal --seed 0`" in card
        and "g.safetensors" in card
    )


def test_a_card_tells_whether_the_generator_knows_classes(study_of):
    record = study_of({"recipe_heykeetae": [100], "none": [100]}).run("recipe_heykeetae", 0).read()
    record["provenance"] |= {"images": 10, "data_fingerprint": "abc"}
    record["recipe"] = "heykeetae"
    card = export.model_card(record, "rehearsal", record["best"], "g.safetensors")
    assert "An unconditional generator" in card and "--n 64 --seed 0" in card
    for row, said in (("none", ", no block, "), ("residual_16", ", a residual block at 16, ")):
        record["config"] = configure(rows()[row], PRESETS["rehearsal"]).identity
        assert said in export.model_card(record, "rehearsal", record["best"], "g.safetensors")
    assert "(which it ignores)" in card and "the DCGAN pair of heykeetae, recipe" in card


def test_an_unconditional_generator_takes_no_class(monkeypatch, make_config, capsys):
    config = make_config("recipe_heykeetae", channels=16)
    monkeypatch.setattr(export, "generator", lambda source: (config, None, "fp32"))
    assert cli.run(["sample", "a.safetensors", "--class", "0"]) == 2
    assert "is unconditional" in capsys.readouterr().err


def test_sample_draws_the_class_and_seed_asked_for(trained_run, tmp_path, capsys):
    export.export(trained_run, tmp_path / "g.safetensors")

    def draw(source, *words):
        assert cli.run(["sample", str(source), "--out", str(tmp_path / "a.png"), *words]) == 0
        return pixels(tmp_path / "a.png")

    four = draw(tmp_path / "g.safetensors", "--n", "4", "--class", "3")
    assert four.shape == (64, 64, 3)
    config, g, precision = export.generator(tmp_path / "g.safetensors")
    images, labels = sample(g, config, 4, precision, seed=0, label=3)
    assert (
        labels.tolist() == [3] * 4
        and (four[:32, 32:] == images[1]).all()
        and (four[32:, :32] == images[2]).all()
    )
    assert (draw(tmp_path / "g.safetensors", "--n", "4", "--class", "3", "--seed", "1") != four).any()
    assert (draw(tmp_path / "g.safetensors", "--n", "3")[32:, 32:] == 255).all()
    assert draw(trained_run, "--n", "4").shape == four.shape


@pytest.mark.parametrize(
    "path", sorted((runs.PROJECT / "results").glob("*/models/*.safetensors")), ids=lambda path: path.stem
)
def test_committed_generators_draw(path, tmp_path):
    assert cli.run(["sample", str(path), "--n", "4", "--out", str(tmp_path / "a.png")]) == 0
    record = runs.Run(path.parents[1] / "runs" / path.stem.replace("-", "/")).read()
    assert (
        "  " not in export.model_card(record, path.parents[1].name, record["best"], path.name).splitlines()[0]
    )
    assert (
        f"{record['best']['fid']:.4g}" in path.with_suffix(".md").read_text()
        and export.generator(path)[0].key == record["key"]
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["sample", "{run}", "--class", "10"], "knows 10 classes: choose from 0 to 9"),
        (["sample", "{tmp}/none.safetensors"], "cannot be read as an exported generator"),
        (["sample", "{tmp}/broken.safetensors"], "cannot be read as an exported generator"),
        (["sample", "{tmp}/nothing"], "There is no checkpoint"),
        (["export", "{tmp}/nothing"], "has no best.pt"),
        (["export", "{run}", "--to", "{tmp}/g.pt"], "ends in .safetensors"),
        (["export", "{tmp}/copied"], "is not in a study's folder"),
    ],
)
def test_mistakes_are_one_sentence(trained_run, tmp_path, capsys, words, message):
    (tmp_path / "broken.safetensors").write_bytes(b"not one")
    shutil.copytree(trained_run, tmp_path / "copied")
    assert cli.run([w.format(run=trained_run, tmp=tmp_path) for w in words]) == 2
    assert message in capsys.readouterr().err
