"""The training loop: its updates, its record, and that stopping it changes nothing."""

import copy
import dataclasses
import json
import math
import os
import signal

import numpy as np
import pytest
import torch

from repro import runs
from repro.config import ReproError
from repro.networks import layers, losses, resnet
from repro.training import checkpoint, loop


@pytest.fixture
def light_scores(monkeypatch):
    """Scores without an extractor, for tests of the loop itself: numbers that depend on every sample."""

    class Light:
        definition = {"extractor": "none"}
        real = noise = {"fid": 0.0}

        def __init__(self, config, data, device):
            pass

        def __call__(self, images, labels, last=False):
            scores = {
                "fid": float(images.astype(np.float64).var()),
                "is": float(images.mean()),
                "diversity": 1.0,
                "kid_by_class": {"a": 0.5},
            }
            return scores | ({"fid_lite2": 1.0} if last else {})

    monkeypatch.setattr(loop, "Scorer", Light)
    monkeypatch.setattr(
        loop, "nearest_training_images", lambda scorer, data, images: (images[:, None], {"samples": 0.0})
    )


def train_in(folder, config, data, row="none"):
    return loop.train(config, data, runs.Run(folder), row)


def steady(record):
    """The record without what may differ between two equal runs: times and machine."""
    return {k: v for k, v in record.items() if k != "provenance"}


def same_weights(a, b):
    a, b = (checkpoint.read_checkpoint(folder / "checkpoint.pt") for folder in (a, b))
    for name in ("g", "d"):
        assert all(torch.equal(x, y) for x, y in zip(a[name].values(), b[name].values(), strict=True)), name


def test_hinge_losses_in_numbers():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 3.0])
    assert losses.hinge_d(real, fake).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 4) / 3)
    assert losses.adversarial_g(fake).item() == pytest.approx(-1 / 3)
    assert losses.auxiliary_classifier(torch.zeros(4, 10), torch.arange(4)).item() == pytest.approx(
        math.log(10)
    )


def snapshot(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def changed(network, before):
    return {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}


def test_each_update_changes_its_own_network_and_power_iterations_run_as_in_the_released_code(
    make_config, shapes_data
):
    config = make_config("attention_16")
    g, d = resnet.build(config)
    optimiser_g, optimiser_d = loop.make_optimisers(config, g, d)
    of_d, of_g = loop.draws(config, loop.Batches(shapes_data, 8, 0, False), 0)

    before_g, before_d = snapshot(g), snapshot(d)
    loop.update_d(config, g, d, optimiser_d, *of_d, "fp32")
    in_g, in_d = changed(g, before_g), changed(d, before_d)
    assert in_g and all(
        "parametrizations.weight.0." in k or "running" in k or "num_batches" in k for k in in_g
    )
    assert (
        "stages.16x16.conv1.parametrizations.weight.original" in in_d
        and "stages.16x16.conv1.parametrizations.weight.0.u" in in_d
    )

    before_g, before_d = snapshot(g), snapshot(d)
    loop.update_g(config, g, d, optimiser_g, *of_g, "fp32")
    assert changed(d, before_d) == set()  # neither weights nor power-iteration vectors
    assert "stem.parametrizations.weight.original" in changed(g, before_g)
    assert "stem.parametrizations.weight.0.u" in changed(g, before_g)
    assert d.training and all(p.requires_grad for p in d.parameters())


def test_d_learns_the_auxiliary_classes_of_real_images_and_not_of_generated_ones(
    make_config, shapes_data, monkeypatch
):
    config = make_config("acgan")
    g, d = resnet.build(config)
    images, labels, z, fake_labels = loop.draws(config, loop.Batches(shapes_data, 8, 0, False), 0)[0]
    with torch.no_grad():
        real = images.float() / 127.5 - 1
        both = torch.cat([real, copy.deepcopy(g)(z, fake_labels)])
        expected = copy.deepcopy(d)(both, torch.cat([labels, fake_labels]))[1]
    seen, original = [], losses.auxiliary_classifier
    monkeypatch.setattr(losses, "auxiliary_classifier", lambda *a: seen.append(a) or original(*a))
    optimiser = loop.make_optimisers(config, g, d)[1]
    loop.update_d(config, g, d, optimiser, images, labels, z, fake_labels, "fp32")
    ((logits, of),) = seen
    torch.testing.assert_close(logits.detach(), expected[: len(labels)])
    assert torch.equal(of, labels) and not torch.allclose(expected[: len(labels)], expected[len(labels) :])


def test_one_power_iteration_an_update_of_d(make_config, shapes_data):
    """After one D update each `u` is exactly one power iteration of the initial weight away, real and fake
    passes together.
    """
    config = make_config()
    g, d = resnet.build(config)
    _, optimiser_d = loop.make_optimisers(config, g, d)
    norm = d.linear.parametrizations.weight[0]
    weight, u = d.linear.parametrizations.weight.original.detach().clone(), norm.u.clone()
    v = torch.nn.functional.normalize(weight.T @ u, dim=0)
    expected = torch.nn.functional.normalize(weight @ v, dim=0)
    loop.update_d(
        config, g, d, optimiser_d, *loop.draws(config, loop.Batches(shapes_data, 8, 0, False), 0)[0], "fp32"
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
    norm = next(module for module in d.modules() if isinstance(module, layers.SpectralNorm))
    norm.register_forward_hook(lambda module, *_: seen.append(module.training))
    of_d, _ = loop.draws(config, loop.Batches(shapes_data, 8, 0, False), 0)[-2:]
    loop.update_d(config, g, d, loop.make_optimisers(config, g, d)[1], *of_d[:4], "fp32", *of_d[4:])
    assert seen == [True] * passes
    assert norm.iterations == (2 if row == "recipe_biggan_pytorch" else 1)


def test_the_second_pass_of_d_sees_the_generated_images_one_iteration_later(make_config, shapes_data):
    config = make_config("sngan_projection", d_passes=2)
    (images, labels, z, fake_labels), *_ = loop.draws(config, loop.Batches(shapes_data, 8, 0, False), 0)
    g, d = resnet.build(config)
    with torch.no_grad():
        fake = g(z, fake_labels)
        real_by_hand, fake_by_hand = d(images.float() / 127.5 - 1, labels)[0], d(fake, fake_labels)[0]
    g, d = resnet.build(config)
    _, real, fake = loop.update_d(
        config, g, d, loop.make_optimisers(config, g, d)[1], images, labels, z, fake_labels, "fp32"
    )
    torch.testing.assert_close(real, real_by_hand, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fake, fake_by_hand, rtol=1e-4, atol=1e-4)


def test_learning_rates_are_those_of_the_recipe_times_the_presets_scale(make_config):
    config = make_config(learning_rate_scale=4.0)
    optimiser_g, optimiser_d = loop.make_optimisers(config, *resnet.build(config))
    assert optimiser_g.param_groups[0]["lr"] == pytest.approx(4e-4)
    assert optimiser_d.param_groups[0]["lr"] == pytest.approx(16e-4)
    assert optimiser_d.param_groups[0]["betas"] == (0.0, 0.999)


def test_updates_of_d_for_each_of_g_and_the_data_they_see(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    seen, original = [], loop.update_d
    monkeypatch.setattr(loop, "update_d", lambda *a: seen.append(a[4:8]) or original(*a))
    config = make_config("sngan_projection", steps=2)
    train_in(tmp_path, config, shapes_data)
    assert len(seen) == 10 and all(
        len({t[k].sum().item() for t in seen}) == 10 for k in (0, 2)
    )  # images and latents differ
    batches = loop.Batches(
        shapes_data, 8, 0, False
    )  # prefetched in a thread: the same as asked for one by one, from any step on
    wanted = [update for step in range(2) for update in loop.draws(config, batches, step)[:-1]]
    assert all(
        torch.equal(a, b)
        for one, other in zip(seen, wanted, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    later = next(loop.prefetched(config, batches, 1, "cpu"))
    assert all(
        torch.equal(a, b)
        for one, other in zip(later, loop.draws(config, batches, 1), strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_batches_visit_every_image_once_an_epoch_and_flip_when_asked(shapes_data):
    batches = loop.Batches(shapes_data, 1000, 0, False)
    ids = [label for i in range(batches.per_epoch) for label in batches.batch(i)[1].tolist()]
    assert np.bincount(ids).tolist() == np.bincount(shapes_data.labels).tolist()
    first, again, later = (batches.batch(i)[0] for i in (0, 0, batches.per_epoch))
    assert torch.equal(first, again) and not torch.equal(first, later)
    flipped = loop.Batches(shapes_data, 1000, 0, True).batch(0)[0]
    same = (flipped == first).flatten(1).all(1)
    mirrored = (flipped == first.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all() and 400 < (same & ~mirrored).sum() + (same & mirrored).sum() < 900


def test_the_record_of_a_run(make_config, shapes_data, tmp_path, light_scores):
    record = train_in(tmp_path, make_config("attention_16"), shapes_data, "attention_16")
    assert [s["step"] for s in record["scores"] if "fid_lite2" in s] == [4] and record["final"][
        "kid_by_class"
    ] == {"a": 0.5}
    assert json.loads((tmp_path / "run.json").read_text()) == record
    assert record["status"] == "complete" and record["step"] == 4
    assert [h["step"] for h in record["history"]] == [1, 2, 3, 4] and [
        s["step"] for s in record["scores"]
    ] == [2, 4]
    assert record["history"][-1]["gamma_g"]["16x16"] != 0 and record["history"][-1]["gamma_d"]["16x16"] != 0
    assert record["final"] == record["scores"][-1] and record["best"]["fid"] == min(
        s["fid"] for s in record["scores"]
    )
    assert record["provenance"]["data_fingerprint"] == shapes_data.fingerprint
    assert record["provenance"]["images_per_second"] > 0 and (tmp_path / "samples.jpg").exists()
    assert str(tmp_path) not in (tmp_path / "run.json").read_text()  # no path of this machine
    stamp = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert (
        train_in(tmp_path, make_config("attention_16"), shapes_data) == record
    )  # finished: nothing is trained again
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == stamp


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
        optimisers, out = loop.make_optimisers(config, g, d), []
        for step in range(3):
            of_d, of_g = loop.draws(config, loop.Batches(shapes_data, 8, 0, False), step)
            out.append(loop.update_d(config, g, d, optimisers[1], *of_d, "fp32")[0].item())
            out.append(loop.update_g(config, g, d, optimisers[0], *of_g, "fp32").item())
        return out, g.state_dict()

    (plain, state), (compiled, other) = losses_of(False), losses_of(True)
    assert compiled == pytest.approx(plain, abs=1e-4)
    for (
        name,
        value,
    ) in state.items():  # one power iteration and one step of the averages an update, as without
        if name.endswith((".0.u", "running_mean", "num_batches_tracked")):
            torch.testing.assert_close(other[f"_orig_mod.{name}"], value, atol=1e-3, rtol=1e-2)


def test_checkpoints_take_a_small_share_of_the_time(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    written, original = [], loop.write_checkpoint
    monkeypatch.setattr(loop, "write_checkpoint", lambda *a: written.append(a[3]["step"]) or original(*a))
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1e6)
    train_in(tmp_path / "often", make_config(steps=4, score_every=2), shapes_data)
    assert set(written) == {0, 1, 2, 3, 4}
    written.clear()
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1e-6)
    train_in(tmp_path / "seldom", make_config(steps=4, score_every=2), shapes_data)
    assert set(written) <= {0, 2, 4}


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"ema_decay": 0.5}, {"d_steps": 2, "flip": True}])
@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_stopped_run_ends_in_the_same_bits(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch, changes, stop_at
):
    config = make_config("attention_16", **changes)
    straight = train_in(tmp_path / "straight", config, shapes_data)

    original = loop.update_g

    calls = []

    def stop(*a):
        calls.append(a)
        if len(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*a)

    monkeypatch.setattr(loop, "update_g", stop)
    with pytest.raises(runs.Interrupted, match=f"stopped at step {stop_at} of 4"):
        train_in(tmp_path / "stopped", config, shapes_data)
    assert runs.Run(tmp_path / "stopped").read()["status"] == "interrupted"
    monkeypatch.setattr(loop, "update_g", original)
    resumed = train_in(tmp_path / "stopped", config, shapes_data)
    assert steady(resumed) == steady(straight)
    same_weights(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("moment", ["sample", "scorer"])
def test_a_save_comes_before_a_score_and_a_stop_is_heard_during_one(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch, moment
):
    config = make_config("attention_16", steps=4, score_every=2)
    straight = train_in(tmp_path / "straight", config, shapes_data)
    ended = []

    def stopped_in(original):
        def call(*a, **k):
            if not ended:
                os.kill(os.getpid(), signal.SIGTERM)
                ended.append("heard too late")  # a handler runs before the next line of Python
            return original(*a, **k)

        return call

    with monkeypatch.context() as during:
        during.setattr(
            *(
                (loop, "sample", stopped_in(loop.sample))
                if moment == "sample"
                else (loop.Scorer, "__call__", stopped_in(loop.Scorer.__call__))
            )
        )
        with pytest.raises(runs.Interrupted, match="stopped at step 2 of 4"):
            train_in(tmp_path / "stopped", config, shapes_data)
    assert ended == []
    record = runs.Run(tmp_path / "stopped").read()
    assert (
        record["status"] == "interrupted"
        and record["step"] == 2
        and record["scores"] == []
        and record["attention"] == []
    )
    assert steady(train_in(tmp_path / "stopped", config, shapes_data)) == steady(straight)
    same_weights(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("end", ["collapsed", "diverged", "complete"])
def test_a_run_killed_between_its_checkpoint_and_its_record_keeps_its_end(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch, end
):
    if end == "collapsed":
        monkeypatch.setattr(loop, "COLLAPSE_DIVERSITY", 1.5)
    if end == "diverged":
        original, calls = losses.hinge_d, []
        monkeypatch.setattr(
            losses,
            "hinge_d",
            lambda *a: calls.append(1) or original(*a) * (math.nan if len(calls) == 3 else 1),
        )
    record = train_in(tmp_path, make_config(), shapes_data)
    assert record["status"] == end and runs.unstable(record) == (end != "complete")
    (tmp_path / "run.json").write_text(
        json.dumps(record | {"status": "running", "error": None})
    )  # as it stood before
    stamp = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert steady(train_in(tmp_path, make_config(), shapes_data)) == steady(record)
    assert (
        steady(runs.Run(tmp_path).read()) == steady(record)
        and (tmp_path / "checkpoint.pt").stat().st_mtime_ns == stamp
    )


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
    for norm in (m for m in g.modules() if isinstance(m, loop.BatchNorm)):
        norm.num_batches_tracked.fill_(1000), norm.running_mean.fill_(7)
    own = loop.with_own_statistics(g, config, "fp32", "cpu")
    inputs, hook = [], own.last_norm.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    own.eval()
    loop.sample(own, config, 400, "fp32")
    hook.remove()
    x = torch.cat(inputs)
    torch.testing.assert_close(own.last_norm.running_mean, x.mean((0, 2, 3)), atol=0.05, rtol=0.2)
    torch.testing.assert_close(own.last_norm.running_var, x.var((0, 2, 3)), atol=0.0, rtol=0.3)
    assert (g.last_norm.running_mean == 7).all()  # a copy
    assert [m.momentum for m in own.modules() if isinstance(m, loop.BatchNorm)] == [
        m.momentum for m in g.modules() if isinstance(m, loop.BatchNorm)
    ]


def test_the_last_step_is_scored_with_further_sampling_seeds(
    make_config, shapes_data, tmp_path, light_scores
):
    record = train_in(tmp_path, make_config(resamples=2), shapes_data)
    assert [r["sampling_seed"] for r in record["resampled"]] == [2019, 2020]
    assert len({record["final"]["fid"], *(r["fid"] for r in record["resampled"])}) == 3


def test_a_training_seed_is_three_streams_and_each_can_be_pinned(make_config, shapes_data):
    def parts(seed, *pinned):
        config = dataclasses.replace(make_config(seed=seed), pinned=pinned)
        weights = resnet.build(config)[0].stem.parametrizations.weight.original
        (real, labels, z, fake_labels), _ = loop.draws(
            config, loop.Batches(shapes_data, 8, config.seed_of("order"), False), 0
        )
        return {"weights": (weights,), "order": (real, labels), "latents": (z, fake_labels)}

    def equal(a, b):
        return {name for name in a if all(torch.equal(x, y) for x, y in zip(a[name], b[name], strict=True))}

    zero = parts(0)
    assert equal(zero, parts(3)) == set()
    for name in zero:
        assert equal(zero, parts(3, name)) == {name} and equal(parts(3), parts(3, name)) == set(zero) - {name}
    assert make_config(seed=3).key != dataclasses.replace(make_config(seed=3), pinned=("order",)).key
    with pytest.raises(ReproError, match="Unknown stream of the training seed 'data'"):
        dataclasses.replace(make_config(), pinned=("data",))


def test_ema_averages_parameters_and_copies_the_rest(
    make_config, shapes_data, tmp_path, light_scores, states
):
    train_in(tmp_path, make_config(ema_decay=0.9, ema_start=2, steps=4), shapes_data)
    state = checkpoint.read_checkpoint(tmp_path / "checkpoint.pt")
    _, average, *rest = (
        state["last_conv.bias"] for state in states
    )  # ema_start 2: the average begins with the weights after step 2
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
    assert (
        seen[0].abs().max() > 0
    )  # the present weights after two steps, not those of an untrained network, whose biases are 0
    _, g, _, _ = checkpoint.trained(tmp_path)
    assert torch.equal(g.last_conv.bias, seen[1])


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    calls, original = [], losses.hinge_d
    monkeypatch.setattr(
        losses, "hinge_d", lambda *a: calls.append(1) or original(*a) * (math.nan if len(calls) == 3 else 1)
    )
    record = train_in(tmp_path, make_config(), shapes_data)
    assert record["status"] == "diverged" and record["step"] == 3 and "step 3" in record["error"]
    assert [s["step"] for s in record["scores"]] == [2]
    assert train_in(tmp_path, make_config(), shapes_data) == record  # a result, not trained again


def test_samples_that_no_longer_differ_end_the_run_as_collapsed(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    monkeypatch.setattr(loop, "COLLAPSE_DIVERSITY", 1.5)
    record = train_in(tmp_path, make_config(), shapes_data)
    assert record["status"] == "collapsed" and record["step"] == 2 and "no longer differ" in record["error"]


def scored(*fids, diversity=1.0):
    return [{"step": i, "fid": fid, "diversity": diversity} for i, fid in enumerate(fids)]


def test_when_a_run_has_collapsed():
    assert loop.collapse(scored(900)) is None and loop.collapse(scored(900, 400, 799)) is None
    assert loop.collapse(scored(400, 900)) is None  # one bad score may pass
    assert loop.collapse(scored(400, 900, 700, 900)) is None
    assert "FID past 2 times its best" in loop.collapse(scored(400, 900, 801))
    assert "no longer differ" in loop.collapse(scored(400, diversity=0.04))


def test_a_fid_past_its_bound_ends_the_run_and_the_best_checkpoint_stays(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    fids = iter([50, 40, 90, 100, 60])  # the last one of the averaged weights
    monkeypatch.setattr(loop.Scorer, "__call__", lambda *_: {"fid": next(fids), "is": 1.0, "diversity": 1.0})
    record = train_in(tmp_path, make_config(steps=5, score_every=1), shapes_data)
    assert record["status"] == "collapsed" and record["step"] == 4 and "FID past 2 times" in record["error"]
    assert (
        json.loads(checkpoint.read_checkpoint(tmp_path / "best.pt")["record"])["step"]
        == record["best"]["step"]
        == 2
    )
    (tmp_path / "run.json").unlink(), (tmp_path / "best.pt").unlink()
    (tmp_path / "previous.pt").replace(
        tmp_path / "checkpoint.pt"
    )  # killed before step 4 was scored: the best one is not the newest
    fids = iter([30, 30, 30])
    assert train_in(tmp_path, make_config(steps=5, score_every=1), shapes_data)["best"]["step"] == 4
    assert json.loads(checkpoint.read_checkpoint(tmp_path / "best.pt")["record"])["step"] == 4


def test_a_run_of_two_code_revisions_names_both(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    monkeypatch.setattr(runs, "code_revision", lambda: {"commit": "first", "dirty": False, "sources": "1"})
    with pytest.raises(runs.Interrupted):
        loop.train(make_config(), shapes_data, runs.Run(tmp_path), "none", max_minutes=0)
    monkeypatch.setattr(runs, "code_revision", lambda: {"commit": "second", "dirty": False, "sources": "2"})
    made = train_in(tmp_path, make_config(), shapes_data)["provenance"]
    assert made["code"]["commit"] == "second" and [code["commit"] for code in made["earlier_code"]] == [
        "first"
    ]


def test_a_folder_of_another_configuration_is_refused_by_field(
    make_config, shapes_data, tmp_path, light_scores
):
    train_in(tmp_path, make_config(), shapes_data)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ReproError, match="recipe.beta2 was 0.999 and is now 0.9"):
        train_in(tmp_path, make_config(beta2=0.9), shapes_data)
    assert (tmp_path / "run.json").read_bytes() == before
    (tmp_path / "run.json").unlink()
    with pytest.raises(ReproError, match="checkpoint.*seed was 0 and is now 1"):
        train_in(tmp_path, make_config(seed=1), shapes_data)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    make_config, shapes_data, tmp_path, light_scores, caplog
):
    straight = train_in(tmp_path / "straight", make_config(), shapes_data)
    whole = (tmp_path / "straight" / "checkpoint.pt").read_bytes()
    for damaged in (
        whole[:1000],
        b"",
        whole[:5000] + b"x" + whole[5001:],
        None,
    ):  # None: killed between the two renames
        folder = tmp_path / "damaged"
        train_in(folder, make_config(), shapes_data)
        (folder / "run.json").unlink()
        (
            (folder / "checkpoint.pt").unlink()
            if damaged is None
            else (folder / "checkpoint.pt").write_bytes(damaged)
        )
        caplog.clear()
        assert steady(train_in(folder, make_config(), shapes_data)) == steady(straight)
        same_weights(folder, tmp_path / "straight")
        assert damaged is None or f"{folder / 'checkpoint.pt'} is damaged" in caplog.text
    (folder / "run.json").unlink()
    for name in ("checkpoint.pt", "previous.pt"):
        (folder / name).write_bytes(b"nonsense")
    with pytest.raises(ReproError, match="Every checkpoint.*is damaged.*delete the folder"):
        train_in(folder, make_config(), shapes_data)


def test_a_checkpoint_that_carries_code_is_refused_and_the_code_not_run(
    make_config, shapes_data, tmp_path, light_scores
):
    import io
    import zlib

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    buffer = io.BytesIO()
    torch.save({"config": Hostile()}, buffer)
    data = buffer.getvalue()
    (tmp_path / "checkpoint.pt").write_bytes(zlib.crc32(data).to_bytes(4, "little") + data)
    with pytest.raises(ReproError, match="Every checkpoint.*damaged"):
        train_in(tmp_path, make_config(), shapes_data)
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_leaves_the_last_good_files(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    runs.write_atomically(path, b"good")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        runs.write_atomically(path, b"half")
    assert path.read_bytes() == b"good" and list(tmp_path.iterdir()) == [path]


def test_a_record_is_never_half_written(tmp_path, monkeypatch):
    run = runs.Run(tmp_path)
    run.write({"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        run.write({"step": 2})
    assert json.loads(run.json_path.read_text()) == {"step": 1} and list(tmp_path.iterdir()) == [
        run.json_path
    ]


def test_bf16_falls_back_loudly_where_the_processor_lacks_it(monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loop.native_precision("bf16") == "fp32" and "no bf16" in caplog.text
    assert loop.native_precision("fp32") == "fp32"


def test_the_step_learns(make_config, shapes_data):
    """Twenty updates of D alone separate real from generated images; G's updates then raise D's logits of its
    images.
    """
    config = make_config(batch_size=16, learning_rate_scale=1.0)
    g, d = resnet.build(config)
    optimiser_g, optimiser_d = loop.make_optimisers(config, g, d)
    batches = loop.Batches(shapes_data, 16, 0, False)
    of_d, of_g = zip(*(loop.draws(config, batches, step) for step in range(20)), strict=True)
    losses_d = [loop.update_d(config, g, d, optimiser_d, *drawn, "fp32")[0].item() for drawn in of_d]
    assert np.mean(losses_d[-5:]) < 0.75 * losses_d[0]
    losses_g = [loop.update_g(config, g, d, optimiser_g, *drawn, "fp32").item() for drawn in of_g]
    assert np.mean(losses_g[-3:]) < losses_g[0] - 0.25
