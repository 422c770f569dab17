"""`repro score` on images from anywhere."""

import json

import numpy as np
import pytest
from PIL import Image

from repro import cli
from repro.scoring import metrics


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
