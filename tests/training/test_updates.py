"""The updates of D and G."""

import collections
import copy
import weakref

import numpy as np
import pytest
import torch

from repro.data.images import Batches
from repro.errors import ReproError
from repro.execution import Execution
from repro.networks import losses, resnet, spectral_norm
from repro.training import draws, updates
from tests.training.helpers import changed, snapshot


def test_each_update_changes_its_own_network_and_power_iterations_run_as_in_the_released_code(
    make_config, shapes_data
):
    config = make_config("attention_16")
    g, d = resnet.build(config)
    optimiser_g, optimiser_d = updates.make_optimisers(config, g, d)
    of_d, of_g = draws.draws(config, Batches(shapes_data, 8, 0, False), 0)

    before_g, before_d = snapshot(g), snapshot(d)
    updates.update_d(config, g, d, optimiser_d, "fp32", *of_d)
    in_g, in_d = changed(g, before_g), changed(d, before_d)
    assert in_g and all(
        "parametrizations.weight.0." in k or "running" in k or "num_batches" in k for k in in_g
    )
    assert (
        "stages.16x16.conv1.parametrizations.weight.original" in in_d
        and "stages.16x16.conv1.parametrizations.weight.0.u" in in_d
    )

    before_g, before_d = snapshot(g), snapshot(d)
    updates.update_g(config, g, d, optimiser_g, *of_g, "fp32")
    assert changed(d, before_d) == set()  # neither weights nor power-iteration vectors
    assert "stem.parametrizations.weight.original" in changed(g, before_g)
    assert "stem.parametrizations.weight.0.u" in changed(g, before_g)
    assert d.training and all(p.requires_grad for p in d.parameters())


def test_an_update_of_g_computes_no_gradients_of_ds_weights(make_config):
    config = make_config()
    g, d = resnet.build(config)
    optimiser_g, _ = updates.make_optimisers(config, g, d)
    updates.update_g(config, g, d, optimiser_g, *draws.latents_and_labels(config, "g", 0), "fp32")
    assert all(p.grad is None for p in d.parameters())


def test_d_learns_the_auxiliary_classes_of_real_images_and_not_of_generated_ones(
    make_config, shapes_data, monkeypatch
):
    config = make_config("acgan")
    g, d = resnet.build(config)
    images, labels, z, fake_labels = draws.draws(config, Batches(shapes_data, 8, 0, False), 0)[0]
    with torch.no_grad():
        real = images.float() / 127.5 - 1
        both = torch.cat([real, copy.deepcopy(g)(z, fake_labels)])
        expected = copy.deepcopy(d)(both, torch.cat([labels, fake_labels]))[1]
    seen, original = [], losses.auxiliary_classifier
    monkeypatch.setattr(losses, "auxiliary_classifier", lambda *a: seen.append(a) or original(*a))
    optimiser = updates.make_optimisers(config, g, d)[1]
    updates.update_d(config, g, d, optimiser, "fp32", images, labels, z, fake_labels)
    ((logits, of),) = seen
    torch.testing.assert_close(logits.detach(), expected[: len(labels)])
    assert torch.equal(of, labels) and not torch.allclose(expected[: len(labels)], expected[len(labels) :])


def test_one_power_iteration_an_update_of_d(make_config, shapes_data):
    """After one D update each `u` is exactly one power iteration of the initial weight away, real and fake
    passes together.
    """
    config = make_config()
    g, d = resnet.build(config)
    _, optimiser_d = updates.make_optimisers(config, g, d)
    norm = d.linear.parametrizations.weight[0]
    weight, u = d.linear.parametrizations.weight.original.detach().clone(), norm.u.clone()
    v = torch.nn.functional.normalize(weight.T @ u, dim=0)
    expected = torch.nn.functional.normalize(weight @ v, dim=0)
    updates.update_d(
        config, g, d, optimiser_d, "fp32", *draws.draws(config, Batches(shapes_data, 8, 0, False), 0)[0]
    )
    torch.testing.assert_close(norm.u, expected)
    torch.testing.assert_close(norm.v, v)


@pytest.mark.parametrize(
    "row, changes, passes",
    [
        ("none", {}, 1),
        ("none", {"d_passes": 2}, 2),
        ("acgan", {"d_passes": 2}, 2),
        ("recipe_heykeetae", {}, 3),
        ("recipe_biggan_pytorch", {}, 1),
    ],
)
def test_passes_of_d_in_its_update(row, changes, passes, make_config, shapes_data):
    """Each evaluates every weight once, with the recipe's power iterations. The third of heykeetae is the
    penalty's.
    """
    config = make_config(row, **changes)
    g, d = resnet.build(config)
    seen = []
    norm = next(module for module in d.modules() if isinstance(module, spectral_norm.SpectralNorm))
    norm.register_forward_hook(lambda module, *_: seen.append(module.training))
    of_d, _ = draws.draws(config, Batches(shapes_data, 8, 0, False), 0)[-2:]
    updates.update_d(config, g, d, updates.make_optimisers(config, g, d)[1], "fp32", *of_d)
    assert seen == [True] * passes
    assert norm.iterations == (2 if row == "recipe_biggan_pytorch" else 1)


def test_the_second_pass_of_d_sees_the_generated_images_one_iteration_later(make_config, shapes_data):
    config = make_config("sngan_projection", d_passes=2)
    (images, labels, z, fake_labels), *_ = draws.draws(config, Batches(shapes_data, 8, 0, False), 0)
    g, d = resnet.build(config)
    with torch.no_grad():
        fake = g(z, fake_labels)
        real_by_hand, fake_by_hand = d(images.float() / 127.5 - 1, labels)[0], d(fake, fake_labels)[0]
    g, d = resnet.build(config)
    _, real, fake = updates.update_d(
        config, g, d, updates.make_optimisers(config, g, d)[1], "fp32", images, labels, z, fake_labels
    )
    torch.testing.assert_close(real, real_by_hand, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fake, fake_by_hand, rtol=1e-4, atol=1e-4)


def test_learning_rates_are_those_of_the_recipe_times_the_presets_scale(make_config):
    config = make_config(learning_rate_scale=4.0)
    optimiser_g, optimiser_d = updates.make_optimisers(config, *resnet.build(config))
    assert optimiser_g.param_groups[0]["lr"] == pytest.approx(4e-4)
    assert optimiser_d.param_groups[0]["lr"] == pytest.approx(16e-4)
    assert optimiser_d.param_groups[0]["betas"] == (0.0, 0.999)


def test_compiled_networks_compute_the_same(make_config, shapes_data, monkeypatch):
    """Traced whole, with spectral norm's and batch norm's state in them; without the compiler proper, which
    takes minutes.
    """
    config = make_config("attention_16")

    def losses_of(compiled):
        g, d = (
            torch.compile(n, backend="aot_eager", fullgraph=True) if compiled else n
            for n in resnet.build(config)
        )
        g.train(), d.train()
        optimisers, out = updates.make_optimisers(config, g, d), []
        for step in range(3):
            of_d, of_g = draws.draws(config, Batches(shapes_data, 8, 0, False), step)
            out.append(updates.update_d(config, g, d, optimisers[1], "fp32", *of_d)[0].item())
            out.append(updates.update_g(config, g, d, optimisers[0], *of_g, "fp32").item())
        return out, g.state_dict()

    (plain, state), (compiled, other) = losses_of(False), losses_of(True)
    assert compiled == pytest.approx(plain, abs=1e-4)
    for (
        name,
        value,
    ) in state.items():  # one power iteration and one step of the averages an update, as without
        if name.endswith((".0.u", "running_mean", "num_batches_tracked")):
            torch.testing.assert_close(other[f"_orig_mod.{name}"], value, atol=1e-3, rtol=1e-2)


def test_bf16_falls_back_loudly_where_the_processor_lacks_it(monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert updates.native_precision("bf16") == "fp32" and "no bf16" in caplog.text
    assert updates.native_precision("fp32") == "fp32"


def test_the_step_learns(make_config, shapes_data):
    """Twenty updates of D alone separate real from generated images; G's updates then raise D's logits of its
    images.
    """
    config = make_config(batch_size=16, learning_rate_scale=1.0)
    g, d = resnet.build(config)
    optimiser_g, optimiser_d = updates.make_optimisers(config, g, d)
    batches = Batches(shapes_data, 16, 0, False)
    of_d, of_g = zip(*(draws.draws(config, batches, step) for step in range(20)), strict=True)
    losses_d = [updates.update_d(config, g, d, optimiser_d, "fp32", *drawn)[0].item() for drawn in of_d]
    assert np.mean(losses_d[-5:]) < 0.75 * losses_d[0]
    losses_g = [updates.update_g(config, g, d, optimiser_g, *drawn, "fp32").item() for drawn in of_g]
    assert np.mean(losses_g[-3:]) < losses_g[0] - 0.25


@pytest.mark.parametrize("row", ["attention_16", "acgan"])
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_whole_batch(row, parts, make_config, shapes_data):
    """In float64: losses, logits, weights, power iterations and moving averages after three steps."""
    config = make_config(row, batch_size=8, bn_batch=2)

    def trained(parts):
        g, d = (network.double() for network in resnet.build(config))
        optimiser_g, optimiser_d = updates.make_optimisers(config, g, d)
        seen = []
        for step in range(3):
            *of_d, (z, labels) = draws.draws(config, Batches(shapes_data, 8, 0, False), step)
            for x in of_d:
                images, y, z_d, y_d = x
                seen += updates.update_d(
                    config, g, d, optimiser_d, "fp32", images, y, z_d.double(), y_d, parts=parts
                )
            seen.append(updates.update_g(config, g, d, optimiser_g, z.double(), labels, "fp32", parts))
        return seen, snapshot(g) | {f"d {name}": value for name, value in snapshot(d).items()}

    (whole, weights), (in_parts, others) = trained(1), trained(parts)
    for a, b in zip(whole, in_parts, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-9, atol=1e-9, msg=name)


def test_parts_of_a_batch_need_less_memory(make_config, shapes_data):
    """Counted as what autograd keeps between the passes."""
    config = make_config("none", batch_size=8, bn_batch=2)

    def most_kept(parts):
        g, d = resnet.build(config)
        optimiser = updates.make_optimisers(config, g, d)[1]
        kept, most = collections.Counter(), [0]

        def pack(x):
            kept["now"] += x.numel()
            most[0] = max(most[0], kept["now"])
            weakref.finalize(x, kept.subtract, now=x.numel())
            return x

        of_d, _ = draws.draws(config, Batches(shapes_data, 8, 0, False), 0)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: pack(x.detach()), lambda x: x):
            updates.update_d(config, g, d, optimiser, "fp32", *of_d, parts=parts)
        return most[0]

    assert most_kept(4) < 0.5 * most_kept(1)


@pytest.mark.parametrize(
    "row, changes, parts, message",
    [
        ("none", {"batch_size": 8, "bn_batch": None}, 2, "batch norm of 8 images"),
        ("none", {"batch_size": 8, "bn_batch": 4}, 4, "batch norm of 4 images"),
        ("none", {"batch_size": 8, "bn_batch": 2}, 3, "--accumulate is 3"),
        ("recipe_heykeetae", {"bn_batch": 2}, 2, "no gradient penalty"),
    ],
)
def test_parts_that_would_be_another_batch_are_refused(row, changes, parts, message, make_config):
    with pytest.raises(ReproError, match=message):
        updates.check_parts(make_config(row, **changes), Execution(accumulate=parts))
    updates.check_parts(make_config("none", batch_size=8, bn_batch=2), Execution(accumulate=4))
