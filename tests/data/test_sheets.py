"""What pictures are made of: interpolations between samples, nearest training images, query points of
attention maps.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from repro.data import sheets
from repro.networks import resnet
from repro.scoring.neighbours import nearest_training_images
from repro.scoring.sampling import interpolations, latents, sample, to_uint8
from repro.scoring.scorer import Scorer


@pytest.fixture
def generator(make_config):
    config = make_config("none")
    g, _ = resnet.build(config)
    for name, module in g.named_modules():  # classes that differ, as after training
        if name.endswith(("gain", "bias")):
            torch.nn.init.normal_(module.weight, 1.0, 0.5, generator=torch.Generator().manual_seed(1))
    return config, g


def test_interpolations_go_from_sample_to_sample(generator):
    config, g = generator
    lines = interpolations(g, config, "fp32").astype(int)
    assert lines.shape == (8, 9, 32, 32, 3)
    samples, labels = sample(g, config, 20, "fp32")
    close = lambda a, b: np.abs(a - b.astype(int)).max() <= 1
    for k in range(4):
        assert labels[k] == k and close(lines[k, 0], samples[k]) and close(lines[4 + k, 0], samples[k])

    def drawn(z, label):
        out = g.eval()(latents(config.preset.z_dim, config.preset.sampling_seed, z, 1), torch.tensor([label]))
        return to_uint8(out.detach())[0]

    for k in range(4):
        # another latent; the next class
        assert close(lines[k, -1], drawn(k + 4, k)) and close(lines[4 + k, -1], drawn(k, k + 1))
    steps = np.abs(np.diff(lines, axis=1)).mean((2, 3, 4))
    whole = np.abs(lines[:, -1] - lines[:, 0]).mean((1, 2, 3))
    assert (steps.max(axis=1) < whole).all() and (steps > 0).all()  # gradual


def test_the_interpolated_latents_stay_as_long_as_latents_are(generator, monkeypatch):
    config, g = generator
    seen = []
    monkeypatch.setattr(g, "forward", lambda z, labels: seen.append(z) or torch.zeros(len(z), 3, 32, 32))
    interpolations(g, config, "fp32")
    for z in seen[:4]:
        lengths = z.norm(dim=1)
        assert (
            min(lengths[0], lengths[-1]) * 0.9 < lengths.min()
            and lengths.max() < max(lengths[0], lengths[-1]) * 1.1
        )


def test_training_images_are_their_own_nearest(make_config, shapes_data):
    scorer = Scorer(make_config(references=200), shapes_data)
    of = scorer.chosen[[3, 50, 120]]
    nearest, medians = nearest_training_images(scorer, shapes_data, shapes_data.images[of])
    assert nearest.shape == (3, 5, 32, 32, 3) and np.array_equal(nearest[:, 0], shapes_data.images[of])
    assert medians["samples"] == pytest.approx(0, abs=0.1) and medians["real"] > 1


def test_each_query_point_shows_its_own_row_of_the_map():
    """Every position attends to itself alone: each panel keeps the picture around its own point and is white
    elsewhere.
    """
    image = np.full((1, 32, 32, 3), 40, np.uint8)
    sheet = np.asarray(
        Image.open(
            io.BytesIO(sheets.attention(image, sheets.at_queries(np.eye(256, dtype=np.float32)[None])))
        )
    )
    for i, (row, column) in enumerate(sheets.QUERIES, start=1):
        panel = sheet[:, i * (96 + sheets.GAP) :][:, :96]
        dark = np.argwhere(panel.sum(-1) < 3 * 200)
        assert np.abs(dark.mean(0) / 96 - (row, column)).max() < 0.06, (row, column)


def test_a_white_gap_parts_the_lines_and_panels_of_an_attention_sheet():
    images, maps = np.full((2, 32, 32, 3), 40, np.uint8), np.full((2, len(sheets.QUERIES), 16), 1 / 16)
    sheet = np.asarray(Image.open(io.BytesIO(sheets.attention(images, maps))))
    assert sheet.shape == (2 * 96 + sheets.GAP, 6 * 96 + 5 * sheets.GAP, 3)
    assert sheet[96:98, 20:90].min() > 200 and sheet[20:90, 96:98].min() > 200


def test_a_sheet_has_a_column_a_class():
    images = np.stack([np.full((8, 8, 3), 10 * i, np.uint8) for i in range(6)])
    sheet = np.asarray(Image.open(io.BytesIO(sheets.by_class(images, np.array([0, 1, 0, 1, 0, 0]), rows=2))))
    assert sheet.shape == (16, 16, 3) and np.abs(sheet[::8, ::8, 0] - [[0, 10], [20, 30]]).max() <= 1


def test_a_run_s_picture_is_small_sharp_in_colour_and_the_same_each_time(shapes_data):
    images = shapes_data.images[:80].reshape(8, 10, 32, 32, 3)
    made = sheets.grid(images)
    assert (
        made == sheets.grid(images) and len(made) < 40_000 and Image.open(io.BytesIO(made)).format == "JPEG"
    )
    lines = np.zeros((32, 32, 3), np.uint8)
    lines[:, ::2, 0] = 255  # red and black in turns: at half the resolution of colour they become one
    shown = np.asarray(Image.open(io.BytesIO(sheets.picture(lines)))).astype(int)
    assert np.abs(shown - lines).max() <= 32


def test_a_user_s_sheet_keeps_every_pixel(shapes_data):
    images = shapes_data.images[:4]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sheets.square(images))))[:32, 32:], images[1])


@pytest.mark.parametrize("side, height", [(32, 256), (64, 128)])
def test_a_sheet_of_larger_images_has_fewer_rows(side, height):
    sheet = Image.open(io.BytesIO(sheets.by_class(np.zeros((9, side, side, 3), np.uint8), np.zeros(9))))
    assert sheet.size == (side, height)
