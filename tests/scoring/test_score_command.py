"""`repro score` on images from anywhere."""

import dataclasses
import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from repro import cli
from repro.scoring import features, metrics, weights


def save_folder(folder, images, labels=None):
    for i, image in enumerate(images):
        path = folder / (f"class{labels[i]}" if labels is not None else ".") / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def test_any_folder_or_npz_can_be_scored(shapes_data, tmp_path, capsys):
    images, labels = np.array(shapes_data.images[:240]), shapes_data.labels[:240]
    save_folder(tmp_path / "images", images[:120])
    np.savez(tmp_path / "real.npz", images=images[120:], labels=labels[120:])
    words = [
        "score",
        "--extractor",
        "efficientnet_lite0",
        "--reference",
        str(tmp_path / "real.npz"),
        "--json",
        str(tmp_path / "scores.json"),
    ]
    assert cli.run([*words, "--images", str(tmp_path / "images")]) == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    assert (
        set(found["scores"]) == {"fid", "kid", "is", "is_10", "precision", "recall"}
        and found["definition"]["images"] == 120
    )
    assert "kid" in capsys.readouterr().out
    # the same images in class folders: the same scores
    save_folder(tmp_path / "classes", images[:120], labels[:120])
    assert cli.run([*words, "--images", str(tmp_path / "classes")]) == 0
    again = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert again["fid"] == pytest.approx(found["scores"]["fid"], rel=1e-6)  # in another order
    black = np.zeros_like(images[:120])
    np.savez(tmp_path / "black.npz", black)
    assert cli.run([*words, "--images", str(tmp_path / "black.npz")]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["scores"]["fid"] > 2 * found["scores"]["fid"]


def test_what_cannot_be_scored_is_refused(shapes_data, tmp_path, capsys):
    np.savez(tmp_path / "few.npz", shapes_data.images[:50])
    np.savez(tmp_path / "real.npz", shapes_data.images[:120])
    np.savez(tmp_path / "floats.npz", np.zeros((120, 32, 32, 3)))
    (tmp_path / "text.npz").write_text("no")
    save_folder(tmp_path / "sizes", [np.zeros((32, 32, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)])
    for name, said in (
        ("few.npz", "few holds 50 images"),
        ("floats.npz", "no uint8 array"),
        ("text.npz", "cannot be read"),
        ("sizes", "sizes from 16 to 32: give --resolution"),
        ("nothing", f"'{tmp_path}/nothing'"),
    ):
        words = [
            "score",
            "--extractor",
            "efficientnet_lite0",
            "--images",
            str(tmp_path / name),
            "--reference",
            str(tmp_path / "real.npz"),
        ]
        assert cli.run(words) == 2
        assert said in capsys.readouterr().err


def test_a_fid_by_class_needs_enough_images(shapes_data, tmp_path, capsys, monkeypatch):
    np.savez(tmp_path / "a.npz", images=shapes_data.images[:120], labels=shapes_data.labels[:120])
    np.savez(tmp_path / "b.npz", images=shapes_data.images[120:240], labels=shapes_data.labels[120:240])
    words = [
        "score",
        "--extractor",
        "efficientnet_lite0",
        "--images",
        str(tmp_path / "a.npz"),
        "--reference",
        str(tmp_path / "b.npz"),
        "--by-class",
    ]
    assert cli.run(words) == 2 and "500 are needed" in capsys.readouterr().err
    monkeypatch.setattr(metrics, "MINIMUM_PER_CLASS", 5)
    assert cli.run(words) == 0
    said = capsys.readouterr().out
    assert "intra_fid" in said and "FID of 9" in said


@pytest.fixture
def small_dinov2(monkeypatch, tmp_path):
    """DINOv2's smallest network with random weights, on two patches a side; gives the weights' folder."""
    monkeypatch.setattr(features.DinoV2, "architecture", "vit_small_patch14_dinov2")
    monkeypatch.setattr(features.DinoV2, "size", 28)
    torch.manual_seed(0)
    shapes = timm.create_model("vit_small_patch14_dinov2", pretrained=False).state_dict()
    state = {name: 0.1 * torch.randn(weight.shape) for name, weight in shapes.items()}
    state["mask_token"] = torch.zeros(1, 384)
    path = tmp_path / "weights" / weights.DINOV2.name
    path.parent.mkdir()
    torch.save(state, path)
    known = dataclasses.replace(weights.DINOV2, sha256=weights.digest(path))
    monkeypatch.setitem(features.FETCHED, "dinov2", (known,))
    monkeypatch.setattr(weights, "DINOV2", known)
    return path.parent


def test_dinov2_scores_without_classes(small_dinov2, shapes_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPRO_WEIGHTS", str(small_dinov2))
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))  # of these weights
    images = np.array(shapes_data.images[:200])
    for name, of in (("real", images[:100]), ("more", images[100:]), ("black", np.zeros_like(images[:100]))):
        np.savez(tmp_path / f"{name}.npz", of)
    words = ["score", "--extractor", "dinov2", "--reference", str(tmp_path / "real.npz")]

    def scores(name):
        to = tmp_path / "scores.json"
        assert cli.run([*words, "--images", str(tmp_path / f"{name}.npz"), "--json", str(to)]) == 0
        found = json.loads(to.read_text())
        assert found["definition"]["extractor"] == "dinov2"
        return found["scores"]

    assert set(scores("more")) == {"fid", "kid", "precision", "recall"}
    assert scores("real")["fid"] < 1e-6 < scores("more")["fid"] < scores("black")["fid"]


def test_dinov2s_weights_are_verified_and_their_absence_is_one_sentence(
    small_dinov2, tmp_path, monkeypatch, capsys
):
    words = ["score", "--extractor", "dinov2", "--images", "x.npz", "--reference", "y.npz"]

    def refused(folder, said):
        monkeypatch.setenv("REPRO_WEIGHTS", str(folder))
        assert cli.run(words) == 2
        error = capsys.readouterr().err.strip()
        assert said in error and "\n" not in error, error

    refused(tmp_path / "nowhere", "does not exist: put the file there")
    with (small_dinov2 / weights.DINOV2.name).open("ab") as f:
        f.write(b"x")
    refused(small_dinov2, "is not the published file")


def test_position_embeddings_are_read_where_dinov2_reads_them():
    ramp = torch.linspace(0, 1, 37).expand(37, 37)
    stored = torch.cat([torch.full((1, 1), 7.0), ramp.reshape(1, -1)], dim=1)[
        ..., None
    ]  # (1, 1 + 37 * 37, 1)
    model = features.DinoV2.__new__(features.DinoV2)
    found = features.DinoV2._resampled(model, stored)
    assert found.shape == (1, 1 + 16 * 16, 1) and found[0, 0, 0] == 7
    grid = found[0, 1:, 0].reshape(16, 16)
    assert (grid.diff(dim=1) > 0).all() and torch.allclose(grid, grid[0])  # left to right, every line alike
    # where DINOv2 reads between the 37 patches for each of 16. PyTorch's cubic bends a ramp by 0.05 of a
    # patch; 16 instead of 16.1 would be 0.1 to 0.2 of one away
    places = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    torch.testing.assert_close(36 * grid[0, 8:-2], places[8:-2], rtol=0, atol=0.06)
