"""Averages of G's weights."""

import math

import pytest
import torch

from repro.networks import resnet
from repro.networks.layers import BatchNorm
from repro.scoring.sampling import sample
from repro.training import averages, checkpoint, loop
from tests.training.helpers import snapshot, train_in


@pytest.fixture
def states(monkeypatch):
    """G's state after each step from here on."""
    seen, original = [], loop.update_g

    def watch(config, g, *a):
        out = original(config, g, *a)
        seen.append(snapshot(g))
        return out

    monkeypatch.setattr(loop, "update_g", watch)
    return seen


def test_every_run_keeps_an_average_beside_its_training(
    make_config, shapes_data, tmp_path, light_scores, states
):
    config = make_config(average_scale=1e-4)  # a decay of 0.37: an average of few steps
    plain = train_in(tmp_path / "plain", make_config(average_scale=1.0), shapes_data)
    states.clear()
    record = train_in(tmp_path / "short", config, shapes_data)
    assert record["history"] == plain["history"] and record["scores"] == plain["scores"]  # never in training
    average, *rest = (state["last_conv.bias"] for state in states)
    for weights in rest:
        average = torch.lerp(weights, average, config.shadow_decay)
    torch.testing.assert_close(
        checkpoint.read_checkpoint(tmp_path / "short" / "checkpoint.pt")["shadow"]["module.last_conv.bias"],
        average,
    )
    assert record["shadow"]["decay"] == config.shadow_decay == pytest.approx(math.exp(-1), rel=1e-3)
    assert record["shadow"]["fid"] != record["final"]["fid"] and (tmp_path / "short" / "shadow.jpg").exists()


def test_batch_norm_statistics_of_an_average_are_those_of_its_own_samples(make_config):
    config = make_config(batch_size=8)
    g, _ = resnet.build(config)
    with torch.no_grad():
        for weight in g.parameters():
            weight.mul_(1.5)  # other weights than its averages belong to
    for norm in (m for m in g.modules() if isinstance(m, BatchNorm)):
        norm.num_batches_tracked.fill_(1000), norm.running_mean.fill_(7)
    own = averages.with_own_statistics(g, config, "fp32", "cpu")
    inputs, hook = [], own.last_norm.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    own.eval()
    sample(own, config, 400, "fp32")
    hook.remove()
    x = torch.cat(inputs)
    torch.testing.assert_close(own.last_norm.running_mean, x.mean((0, 2, 3)), atol=0.05, rtol=0.2)
    torch.testing.assert_close(own.last_norm.running_var, x.var((0, 2, 3)), atol=0.0, rtol=0.3)
    assert (g.last_norm.running_mean == 7).all()  # a copy
    assert [m.momentum for m in own.modules() if isinstance(m, BatchNorm)] == [
        m.momentum for m in g.modules() if isinstance(m, BatchNorm)
    ]


def test_ema_averages_parameters_and_copies_the_rest(
    make_config, shapes_data, tmp_path, light_scores, states
):
    train_in(tmp_path, make_config(ema_decay=0.9, ema_start=2, steps=4), shapes_data)
    state = checkpoint.read_checkpoint(tmp_path / "checkpoint.pt")
    # ema_start 2: the average begins with the weights after step 2
    _, average, *rest = (state["last_conv.bias"] for state in states)
    for weights in rest:
        average = 0.9 * average + 0.1 * weights
    torch.testing.assert_close(state["ema"]["module.last_conv.bias"], average)
    for name in ("last_norm.running_mean", "stem.parametrizations.weight.0.u"):
        assert torch.equal(state["ema"][f"module.{name}"], state["g"][name])


def test_buffers_are_averaged_where_the_recipe_says_so(
    make_config, shapes_data, tmp_path, light_scores, states
):
    train_in(tmp_path, make_config(ema_decay=0.9, ema_start=2, ema_buffers=True, steps=4), shapes_data)
    state = checkpoint.read_checkpoint(tmp_path / "checkpoint.pt")
    for name in ("last_norm.running_mean", "stem.parametrizations.weight.0.u"):
        average = states[1][name]
        for buffers in states[2:]:
            average = 0.9 * average + 0.1 * buffers[name]
        torch.testing.assert_close(state["ema"][f"module.{name}"], average)
        assert not torch.equal(average, state["g"][name])


def test_samples_come_from_the_average_only_once_it_has_begun(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    seen, original = [], loop.sample
    monkeypatch.setattr(
        loop, "sample", lambda g, *a: seen.append(g.last_conv.bias.clone()) or original(g, *a)
    )
    record = train_in(tmp_path, make_config(ema_decay=0.5, ema_start=3, steps=4, score_every=2), shapes_data)
    state = checkpoint.read_checkpoint(tmp_path / "checkpoint.pt")
    assert ["average_lag" in entry for entry in record["history"]] == [False, False, True, True]
    assert not torch.equal(seen[0], state["ema"]["module.last_conv.bias"]) and torch.equal(
        seen[1], state["ema"]["module.last_conv.bias"]
    )
    # the present weights after two steps, not those of an untrained network, whose biases are 0
    assert seen[0].abs().max() > 0
    _, g, _, _ = checkpoint.trained(tmp_path)
    assert torch.equal(g.last_conv.bias, seen[1])
