"""The second codebase's pair and its loss: shapes and parameter counts by hand, the gradient penalty, a whole
run.
"""

import dataclasses

import pytest
import torch

from repro.data.images import Batches
from repro.errors import ReproError
from repro.networks import dcgan, losses, resnet
from repro.networks.spectral_norm import SpectralNorm
from repro.presets import PRESETS
from repro.recipes import RECIPES
from repro.training import draws, updates

HEYKEETAE = RECIPES["heykeetae"]


def shapes_of(network, *inputs):
    """Output shapes of the stages and blocks in the order of the forward pass."""
    seen = []
    parts = [*network.stages.items(), *((f"attention {n}", block) for n, block in network.inserted.items())]
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: seen.append((name, tuple(out.shape[1:]))))
        for name, part in parts
    ]
    network(*inputs)
    for hook in hooks:
        hook.remove()
    return seen


def test_the_pair_at_64_pixels_is_the_codebases():
    g, d = dcgan.Generator(64, 64, HEYKEETAE), dcgan.Discriminator(64, 64, HEYKEETAE)
    z, labels = torch.randn(2, 128), torch.zeros(2, dtype=torch.int64)
    images = g(z, labels)
    assert images.shape == (2, 3, 64, 64) and images.abs().max() <= 1
    assert shapes_of(g, z, labels) == [
        ("4x4", (512, 4, 4)),
        ("8x8", (256, 8, 8)),
        ("16x16", (128, 16, 16)),
        ("attention 16x16", (128, 16, 16)),
        ("32x32", (64, 32, 32)),
        ("attention 32x32", (64, 32, 32)),
    ]
    assert shapes_of(d, images, labels) == [
        ("32x32", (64, 32, 32)),
        ("16x16", (128, 16, 16)),
        ("8x8", (256, 8, 8)),
        ("attention 8x8", (256, 8, 8)),
        ("4x4", (512, 4, 4)),
        ("attention 4x4", (512, 4, 4)),
    ]
    logits, classes = d(images, labels)
    assert logits.shape == (2,) and classes is None

    def attention(c):  # query and key of C/8, value of C, all with biases; gamma; no output convolution
        return 2 * (c * c // 8 + c // 8) + c * c + c + 1

    convolutions = [(128, 512), (512, 256), (256, 128), (128, 64), (64, 3)]
    norms = 2 * (512 + 256 + 128 + 64)
    wanted_g = sum(16 * a * b + b for a, b in convolutions) + norms + attention(128) + attention(64)
    wanted_d = (
        sum(16 * a * b + b for a, b in [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1)])
        + attention(256)
        + attention(512)
    )
    assert (wanted_g, wanted_d) == (3_832_885, 3_175_299)
    assert (resnet.parameter_count(g), resnet.parameter_count(d)) == (wanted_g, wanted_d)


def test_spectral_norm_is_on_all_convolutions_but_the_last_and_those_of_attention():
    for network in (dcgan.Generator(64, 8, HEYKEETAE), dcgan.Discriminator(64, 8, HEYKEETAE)):
        normalised = {
            name.split(".parametrizations")[0]
            for name, module in network.named_modules()
            if isinstance(module, SpectralNorm)
        }
        convolutions = {
            name
            for name, m in network.named_modules()
            if isinstance(m, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))
        }
        assert (
            normalised == {name for name in convolutions if name.startswith("stages")}
            and len(normalised) == 4
        )


def test_the_gradient_penalty_of_a_linear_critic():
    """|grad| is the weights' norm wherever the images are mixed, so the penalty is (norm - 1)^2."""
    weights = torch.randn(3 * 4 * 4)
    images = torch.randn(2, 5, 3, 4, 4)
    penalty = losses.gradient_penalty(lambda x: x.flatten(1) @ weights, *images, torch.rand(5))
    assert penalty.item() == pytest.approx((weights.norm().item() - 1) ** 2, rel=1e-5)


def test_the_gradient_penalty_is_taken_at_the_mixed_images():
    seen = []
    real, fake, mix = torch.ones(3, 3, 4, 4), torch.zeros(3, 3, 4, 4), torch.tensor([0.0, 0.25, 1.0])
    losses.gradient_penalty(lambda x: seen.append(x) or x.square().sum((1, 2, 3)), real, fake, mix)
    assert torch.equal(seen[0][:, 0, 0, 0], mix)


def config_of(make_config, **changes):
    return dataclasses.replace(make_config("none"), recipe=dataclasses.replace(HEYKEETAE, **changes))


def updated(config, data, own_precision="fp32"):
    g, d = resnet.build(config)
    before = [p.detach().clone() for p in d.parameters()]
    _, optimiser = updates.make_optimisers(config, g, d)
    of_d, _ = draws.draws(config, Batches(data, 8, 0, False), 0)
    updates.update_d(config, g, d, optimiser, own_precision, *of_d)
    steps = {int(state["step"]) for state in optimiser.state.values()}
    return g, d, before, of_d, steps


def test_the_penalty_in_the_loss_and_in_a_step_of_its_own(make_config, shapes_data):
    """One Adam step against two, but for the last bias, which no slope depends on; hinge has no penalty and
    draws no mix.
    """
    assert updated(config_of(make_config), shapes_data)[4] == {1, 2}
    assert updated(config_of(make_config, gp_own_step=False), shapes_data)[4] == {1}
    *_, of_d, steps = updated(config_of(make_config, loss="hinge"), shapes_data)
    assert steps == {1} and len(of_d) == 4


def test_the_loss_with_its_penalty_against_a_second_account(make_config, shapes_data):
    """The gradients of one update by hand: critic loss plus 10 times the penalty, the fake images held."""
    config = config_of(make_config, gp_own_step=False, sn_discriminator=False)
    g, d, _, (images, labels, z, _, mix), _ = updated(config, shapes_data)
    found = [p.grad for p in d.parameters()]
    g, d = resnet.build(config)
    with torch.no_grad():
        fake = g(z, labels)
    real = images.float() / 127.5 - 1
    middle = (mix.view(-1, 1, 1, 1) * real + (1 - mix.view(-1, 1, 1, 1)) * fake).requires_grad_()
    slope = torch.autograd.grad(d(middle, labels)[0].sum(), middle, create_graph=True)[0]
    penalty = ((slope.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
    (d(fake, labels)[0].mean() - d(real, labels)[0].mean() + 10 * penalty).backward()
    for wanted, have in zip(d.parameters(), found, strict=True):
        assert torch.allclose(wanted.grad, have, rtol=1e-3, atol=1e-6)


def test_framework_default_init_is_pytorchs(make_config):
    """The bounds of torch's own Conv2d and Linear, filled to their edges; biases are not zero."""
    g, _ = resnet.build(config_of(make_config))
    conv = g.last_conv
    bound = 1 / (conv.weight[0].numel() ** 0.5)
    for tensor, least in ((conv.weight, 0.95), (conv.bias, 0.05)):
        assert least * bound < tensor.abs().max() <= bound
    twin = torch.nn.ConvTranspose2d(conv.in_channels, 3, 4)
    assert twin.weight.abs().max().item() == pytest.approx(conv.weight.abs().max().item(), rel=0.05)


def test_blocks_have_places_of_their_own(make_config):
    with pytest.raises(ReproError, match="attention_at.*places of their own"):
        dataclasses.replace(config_of(make_config), attention_at=(16,))


def test_a_run_from_a_folder_of_faces(tmp_path, rehearsal, monkeypatch):
    """Images without classes end to end at 64 px: scored, with no score by class, attention measured in both
    networks.
    """
    from PIL import Image

    from repro import cli, runs
    from repro.data.shapes import symmetric_shapes

    (tmp_path / "faces").mkdir()
    for i, image in enumerate(symmetric_shapes(220, 64)[0]):
        Image.fromarray(image).save(tmp_path / "faces" / f"{i}.png")
    small = dataclasses.replace(
        rehearsal, name="celeba", dataset="celeba", resolution=64, steps=2, references=120, samples=30
    )
    monkeypatch.setitem(PRESETS, "celeba", small)
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    words = [
        "train",
        "recipe_heykeetae",
        "--preset",
        "celeba",
        "--data",
        str(tmp_path / "faces"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.run(words) == 0
    record = runs.Run(runs.run_folder(tmp_path / "out", "celeba", "recipe_heykeetae", 0)).read()
    assert (
        record["status"] in runs.FINISHED
        and "intra_fid" not in record["final"]
        and "consistency" not in record["final"]
    )
    assert set(record["attention"][-1]["distance"]) == {"G 16x16", "G 32x32", "D 8x8", "D 4x4"}
    assert cli.run([words[0], "none", *words[2:]]) == 2  # a class-conditional row
