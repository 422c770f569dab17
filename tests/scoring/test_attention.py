"""Statistics of attention maps against maps whose numbers are known, and the figure and command made of
them.
"""

import numpy as np
import pytest
import torch

from repro import cli, runs
from repro.data import sheets
from repro.networks import resnet
from repro.scoring import attention


def map_of(choose, queries=16, keys=16, images=1):
    """A map (images, queries, keys) that attends from query q to key choose(q) alone."""
    out = torch.zeros(images, queries, keys)
    for q in range(queries):
        out[:, q, choose(q)] = 1
    return out


def random_images(count=1, size=16):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_attending_to_oneself():
    of = attention.statistics(map_of(lambda q: q), random_images())
    assert (
        of["distance"] == of["distance_nearest"] == 0
        and of["entropy"] == 0
        and of["colour"] == pytest.approx(0, abs=1e-3)
    )


def test_attending_to_the_right_neighbour():
    of = attention.statistics(map_of(lambda q: q + 1 if q % 4 < 3 else q - 1), random_images())
    assert of["distance"] == pytest.approx(1 / 4)


def test_uniform_attention():
    of = attention.statistics(torch.full((1, 16, 4), 1 / 4), random_images())  # keys pooled 2x2
    assert of["distance"] == pytest.approx(of["distance_uniform"]) and of["entropy"] == pytest.approx(1)
    assert of["colour"] == pytest.approx(of["colour_uniform"]) == pytest.approx(of["colour_other"])
    # a query at the corner of a 4x4 grid lies 1/8 in each direction from the centre of its pooled key
    assert of["distance_nearest"] == pytest.approx(np.hypot(1 / 8, 1 / 8))
    centres = [(np.array([r, c]) + 0.5) / 4 for r in range(4) for c in range(4)]
    pooled = [np.array([r, c]) / 2 + 1 / 4 for r in range(2) for c in range(2)]
    assert of["distance_uniform"] == pytest.approx(
        np.mean([np.linalg.norm(a - b) for a in centres for b in pooled])
    )


@pytest.mark.parametrize("keys", [64, 16])  # of 8x8 queries; the fewer are pooled 2x2
def test_attention_to_the_nearest_3x3(keys):
    side, images = int(np.sqrt(keys)), random_images()
    centres = lambda n: np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n] * 2, indexing="ij"), -1).reshape(
        -1, 2
    )
    weights = np.zeros((64, keys))
    for q in range(64):  # by row and column of the key under the query
        row, column = q // 8 * side // 8, q % 8 * side // 8
        for k in range(keys):
            weights[q, k] = abs(k // side - row) <= 1 and abs(k % side - column) <= 1
    assert set(weights.sum(1)) == {4, 6, 9}
    weights /= weights.sum(1, keepdims=True)
    distances = np.linalg.norm(centres(8)[:, None] - centres(side)[None], axis=-1)
    of = attention.statistics(torch.from_numpy(weights[None]).float(), images)
    assert (
        of["distance_3x3"]
        == pytest.approx((weights * distances).sum(1).mean(), rel=1e-5)
        == pytest.approx(of["distance"], rel=1e-5)
    )
    assert of["colour_3x3"] == pytest.approx(of["colour"], rel=1e-5) and of["colour_3x3"] != pytest.approx(
        of["colour_uniform"], rel=1e-2
    )
    assert of["distance_nearest"] < of["distance_3x3"] < of["distance_uniform"]


def test_colours_of_what_is_attended():
    """Two images in two colours, left and right halves swapped: attending to one's own half is one's colour,
    the other image's map too; attending across is the other colour.
    """
    left_red = np.zeros((16, 16, 3), np.uint8)
    left_red[:, :8, 0] = 255
    images = np.stack([left_red, np.rot90(left_red)])  # columns against rows
    of_columns, of_rows = (
        map_of(lambda q: (q + 4) % 16),
        map_of(lambda q: 4 * (q // 4) + (q + 1) % 4),
    )  # along a column, along a row
    own = attention.statistics(torch.cat([of_columns, of_rows]), images)
    assert own["colour"] == pytest.approx(0, abs=1e-3) and own["colour_other"] == pytest.approx(
        255 / np.sqrt(3) / 2, rel=1e-4
    )


def test_the_maps_are_those_the_networks_use(make_config):
    config = make_config("attention_16")
    g, d = resnet.build(config)
    z, labels = torch.randn(2, 128), torch.zeros(2, dtype=torch.int64)
    out, found = attention.maps(g.eval(), z, labels)
    assert torch.equal(out, g(z, labels)) and found["16x16"].shape == (2, 256, 64)
    seen = []
    g.inserted["16x16"].register_forward_pre_hook(lambda block, x: seen.append(block.attention_map(*x)))
    g(z, labels)
    assert torch.equal(found["16x16"], seen[0]) and len(g.inserted["16x16"]._forward_pre_hooks) == 1


def test_looking_does_not_touch_the_networks(make_config):
    config = make_config("attention_16")
    g, d = resnet.build(config)
    g.train(), d.train()
    before = [t.clone() for network in (g, d) for t in network.state_dict().values()]
    measured, shown = attention.look(g, d, config, "fp32")
    assert (
        all(map(torch.equal, before, [t for network in (g, d) for t in network.state_dict().values()]))
        and g.training
        and d.training
    )
    assert set(measured["distance"]) == {"G 16x16", "D 16x16"} and attention.picture(shown).startswith(
        b"\xff\xd8\xff"
    )
    assert shown["G 16x16"].shape == (attention.SHOWN, len(sheets.QUERIES), 64) and shown[
        "mean D 16x16"
    ].shape == (len(sheets.QUERIES), 64)
    np.testing.assert_allclose(shown["G 16x16"].astype(float).sum(-1), 1, atol=1e-2)


def test_the_picture_shows_what_is_attended():
    """A query in the middle that attends to the top left cell alone: that corner keeps its colour, the
    opposite one is white.
    """
    import io

    from PIL import Image

    image = np.full((1, 32, 32, 3), 40, np.uint8)
    sheet = np.asarray(
        Image.open(io.BytesIO(sheets.attention(image, map_of(lambda q: 0, len(sheets.QUERIES), 64).numpy())))
    )
    assert sheet.shape == (96, 6 * 96 + 5 * sheets.GAP, 3)
    panel = sheet[:, 96 + sheets.GAP :][:, :96]
    for (y, x), colour in {(4, 4): [40] * 3, (-4, -4): [255] * 3, (48, 48): sheets.MARK}.items():
        assert np.abs(panel[y, x].astype(int) - colour).max() <= 16, (y, x)  # of 255: JPEG


def test_the_command_looks_at_a_checkpoint_again(tmp_path, trained, capsys):
    folder, without = trained(tmp_path, "attention_16", "none")
    record = runs.Run(folder).read()
    kept = [folder / name for name in ("attention.jpg", "attention.npz")]
    before = [path.read_bytes() for path in kept]
    for path in kept:
        path.unlink()
    assert cli.run(["attention", str(folder)]) == 0
    assert [path.read_bytes() for path in kept] == before
    assert f"{record['attention'][-1]['entropy']['G 16x16']:.3f}" in capsys.readouterr().out

    for other, words in ((without, "no attention"), (tmp_path / "nowhere", "no checkpoint")):
        assert cli.run(["attention", str(other)]) == 2
        assert words in capsys.readouterr().err


def test_a_configuration_comes_back_from_its_identity(make_config):
    from repro.config import Config

    config = make_config("attention_16", ema_decay=0.9)
    assert (
        Config.of(config.identity).identity == config.identity
        and Config.of(config.identity).key == config.key
    )
