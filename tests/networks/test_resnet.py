"""The residual networks: shapes, parameters, places of blocks."""

import pytest
import torch
import torch.nn.functional as F

from repro import paper
from repro.config import Config
from repro.errors import ReproError, SizeNotAvailable
from repro.networks import resnet
from repro.networks.resnet import Discriminator, Generator, parameter_count
from repro.presets import PRESETS
from repro.recipes import Recipe
from repro.studies import study
from repro.training import draws, updates


@pytest.mark.parametrize(
    "at, count_g, count_d", [((), 41_996_931, 39_443_137), ((32,), 42_078_852, 39_463_618)]
)
def test_parameter_counts_of_the_released_networks(at, count_g, count_d):
    with torch.device("meta"):
        assert parameter_count(Generator(128, 64, 1000, attention_at=at)) == count_g
        assert parameter_count(Discriminator(128, 64, 1000, attention_at=at)) == count_d


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_shapes_and_stages(resolution):
    g, d = Generator(resolution, 8, 5), Discriminator(resolution, 8, 5)
    labels = torch.arange(2)
    images = g(torch.randn(2, 128), labels)
    assert images.shape == (2, 3, resolution, resolution) and images.abs().max() <= 1
    logits, classes = d(images, labels)
    assert logits.shape == (2,) and classes is None
    assert list(g.stages) == [f"{s}x{s}" for s in (8, 16, 32, 64, 128) if s <= resolution]
    assert list(d.stages) == [f"{s}x{s}" for s in (64, 32, 16, 8, 4) if s < resolution]


def test_auxiliary_classifier_head():
    d = Discriminator(32, 8, 5, Recipe(conditioning="auxiliary_classifier"))
    logits, classes = d(torch.randn(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))
    assert logits.shape == (2,) and classes.shape == (2, 5)


def test_the_projection_depends_on_the_class():
    d = Discriminator(32, 8, 5)
    x = torch.randn(1, 3, 32, 32).expand(2, -1, -1, -1)
    logits, _ = d(x, torch.tensor([0, 1]))
    assert logits[0] != logits[1]


@pytest.mark.parametrize("row", ["attention_8", "attention_16", "residual_8", "residual_16"])
def test_a_fresh_network_with_a_block_equals_the_one_without(make_config, row):
    labels, z = torch.arange(4), torch.randn(4, 128)
    (g, d), (g_plain, d_plain) = resnet.build(make_config(row)), resnet.build(make_config("none"))
    for network in (g, d, g_plain, d_plain):
        network.eval()
    images = g(z, labels)
    assert torch.equal(images, g_plain(z, labels))
    assert torch.equal(d(images, labels)[0], d_plain(images, labels)[0])
    assert len(g.inserted) == 1 and len(d.inserted) == 1


def test_building_is_seeded_and_leaves_the_global_state(make_config):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    a, b, other = (resnet.build(make_config(seed=s))[0] for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(same) and not torch.equal(a.last_conv.weight, other.last_conv.weight)


def sn_weights(network):
    return [name for name, module in network.named_modules() if hasattr(module, "parametrizations")]


def test_spectral_norm_covers_what_the_released_code_covers():
    g, d = Generator(32, 8, 5, attention_at=(16,)), Discriminator(32, 8, 5, attention_at=(16,))
    expected = lambda n: {
        name
        for name, m in n.named_modules()
        if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))
        or (isinstance(m, torch.nn.Embedding) and name == "embedding")
    }
    assert set(sn_weights(g)) == expected(g) and set(sn_weights(d)) == expected(d)
    assert {"stem", "last_conv", "inserted.16x16.query"} <= set(sn_weights(g)) and "embedding" in sn_weights(
        d
    )
    assert sn_weights(Generator(32, 8, 5, Recipe(sn_generator=False))) == []
    assert any("gain" in name for name in sn_weights(Generator(32, 8, 5, Recipe(sn_cbn=True))))


def test_the_cbn_tables_start_as_the_recipe_says(make_config):
    """BigGAN-PyTorch's within Xavier's bound of a (classes, C) table, from the run's seed alone; the released
    code's at 1 and 0.
    """
    first, second = (
        resnet.build(make_config("none", cbn_init="init"))[0].stages["8x8"].norm1 for _ in range(2)
    )
    for table, again in ((first.gain.weight, second.gain.weight), (first.bias.weight, second.bias.weight)):
        bound = (6 / sum(table.shape)) ** 0.5
        assert 0.95 * bound < table.abs().max() <= bound and torch.equal(table, again)
    assert not torch.equal(first.gain.weight, first.bias.weight)
    constant = resnet.build(make_config("none"))[0].stages["8x8"].norm1
    assert (constant.gain.weight == 1).all() and (constant.bias.weight == 0).all()


def test_every_normalised_weight_of_g_approaches_norm_one(make_config):
    g, _ = resnet.build(make_config("none"))
    for _ in range(60):
        g(torch.zeros(1, 128), torch.zeros(1, dtype=torch.long))
    for name in sn_weights(g):
        norm = torch.linalg.matrix_norm(g.get_submodule(name).weight.flatten(1), 2).item()
        assert norm == pytest.approx(1, abs=0.03), name


def test_sizes_that_do_not_exist_are_refused_with_the_possible_ones():
    with pytest.raises(SizeNotAvailable, match="64.*8, 16, 32"):
        Generator(32, 8, 5, attention_at=(64,))
    with pytest.raises(ValueError, match="32.*4, 8, 16"):
        Discriminator(32, 8, 5, residual_at=(32,))
    with pytest.raises(SizeNotAvailable, match="32.*choose from 8, 16"):
        Config(Recipe(), PRESETS["smoke"], attention_at=(32,))
    with pytest.raises(ReproError, match="resolution is 48"):
        import dataclasses

        dataclasses.replace(PRESETS["smoke"], resolution=48)


@pytest.mark.parametrize("row", [row.name for row in paper.TABLE1.rows])
def test_every_row_of_table_1_trains_at_128_pixels(row):
    """Two steps of the loop's own arithmetic at the paper's resolution: every gradient is finite, every
    weight moves.
    """
    import dataclasses

    preset = dataclasses.replace(PRESETS["imagenet"], channels=8, batch_size=2, precision="fp32")
    config = dataclasses.replace(study.configure(study.rows()[row], preset), num_classes=10)
    g, d = resnet.build(config)
    before = {
        n: p.detach().clone() for net in (g, d) for n, p in net.named_parameters(prefix=type(net).__name__)
    }
    optimiser_g, optimiser_d = updates.make_optimisers(config, g, d)
    for step in range(2):
        images = torch.randint(
            0, 256, (2, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(step)
        )
        z, labels = draws.latents_and_labels(config, step)
        loss_d, _, _ = updates.update_d(
            config, g, d, optimiser_d, "fp32", images, torch.tensor([1, 2]), z, labels
        )
        loss_g = updates.update_g(config, g, d, optimiser_g, z, labels, "fp32")
        assert torch.isfinite(loss_d) and torch.isfinite(loss_g)
    for net in (g, d):
        for n, p in net.named_parameters(prefix=type(net).__name__):
            assert torch.isfinite(p).all(), n
            moved = not torch.equal(p, before[n])
            classes = ".gain." in n or ".bias.weight" in n  # tables of classes: only those drawn move
            # while no logit is past its margin the hinge loss is flat in D's last bias
            assert moved or classes or n == "Discriminator.linear.bias", n
    assert len(g.inserted) == len(config.attention_at) + len(config.residual_at)
    assert all(abs(v) > 0 for v in {**resnet.gammas(g), **resnet.gammas(d)}.values())


def test_fused_resampling_equals_convolution_and_resampling():
    """Values and gradients in float64."""
    conv = torch.nn.Conv2d(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.double, requires_grad=True)
    plain = {
        resnet.conv3x3_then_mean_pool: lambda x: F.avg_pool2d(conv(x), 2),
        resnet.upsample_then_conv3x3: lambda x: conv(F.interpolate(x, scale_factor=2)),
    }
    for fused, expected in plain.items():
        ours, theirs = fused(x, conv), expected(x)
        torch.testing.assert_close(ours, theirs)
        towards = torch.randn_like(theirs)
        for one, other in zip(
            *(torch.autograd.grad((y * towards).sum(), (x, *conv.parameters())) for y in (ours, theirs)),
            strict=True,
        ):
            torch.testing.assert_close(one, other)
