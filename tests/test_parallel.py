"""One run on several devices: two processes that share the batch are one process with all of it, and fail and
stop together.
"""

import dataclasses
import errno
import os
import signal
import time

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from repro import parallel, runs
from repro.data.images import Batches
from repro.errors import ReproError
from repro.networks import resnet
from repro.training import checkpoint, draws, loop, updates

STEPS, FEW = 10, 4
# of the batch of 16: normalised together, or each half by itself; and the second codebase, whose penalty is
# differentiated twice
CASES = {
    "synchronised": ("attention_16", dict(bn_batch=None, ema_decay=0.9)),
    "halves": ("attention_16", dict(bn_batch=8, ema_decay=0.9)),
    "penalty": ("recipe_heykeetae", dict(bn_batch=None, channels=16)),
    "penalty in the loss": ("recipe_heykeetae", dict(bn_batch=None, channels=16, gp_own_step=False)),
}


def after_steps(config, images, steps=STEPS, dtype=torch.float64):
    """All numbers of a training after some steps, and the losses on the way: this rank's view."""
    patch = pytest.MonkeyPatch()
    if dtype == torch.float64:
        # in float32 rounding alone grows by orders of magnitude in a few steps
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_num_threads(1)
    g, d = (network.to(dtype) for network in resnet.build(config))
    g.train(), d.train()
    optimiser_g, optimiser_d = updates.make_optimisers(config, g, d)
    ema = AveragedModel(g, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    trained_g, trained_d = parallel.wrap(g), parallel.wrap(d)
    batches, losses = Batches(images, config.preset.batch_size, 0, False), []
    for _step, drawn in zip(range(steps), draws.prefetched(config, batches, 0, "cpu"), strict=False):
        (x, y, z, labels, *mix), of_g = (
            [t.to(dtype) if t.is_floating_point() else t for t in update] for update in drawn
        )
        losses.append(
            parallel.mean(
                updates.update_d(config, g, trained_d, optimiser_d, "fp32", x, y, z, labels, *mix)[0]
            ).item()
        )
        losses.append(
            parallel.mean(updates.update_g(config, trained_g, d, optimiser_g, *of_g, "fp32")).item()
        )
        ema.update_parameters(g)
    patch.undo()
    state = {
        f"{name} {k}": v
        for name, network in (("g", g), ("d", d), ("ema", ema))
        for k, v in network.state_dict().items()
    }
    return state, torch.tensor(losses, dtype=torch.float64)


def of_all_ranks(configs, images):
    """`after_steps` of each configuration on every rank: [of rank 0, of rank 1]."""
    mine = {
        name: after_steps(config, images, FEW if name != "synchronised" else STEPS)
        for name, config in configs.items()
    }
    mine["fp32"] = after_steps(configs["synchronised"], images, FEW, torch.float32)
    everyones = [None] * parallel.ranks()
    torch.distributed.all_gather_object(everyones, mine)
    return everyones


@pytest.fixture(scope="module")
def images(shapes_data):
    return dataclasses.replace(shapes_data, images=shapes_data.images[:200], labels=shapes_data.labels[:200])


@pytest.fixture
def configs(make_config):
    return {
        name: make_config(row, batch_size=16, steps=STEPS, **changes)
        for name, (row, changes) in CASES.items()
    }


def furthest(a, b):
    return max(
        (x.double() - y.double()).abs().max().item() for x, y in zip(a.values(), b.values(), strict=True)
    )


def test_two_ranks_are_one_process_with_the_whole_batch(configs, images):
    one, two = parallel.launch(2, of_all_ranks, configs, images)
    for name in one:
        assert all(
            torch.equal(x, y) for x, y in zip(one[name][0].values(), two[name][0].values(), strict=True)
        ), name  # the ranks, bit for bit
        assert torch.equal(one[name][1], two[name][1])
    for name, config in configs.items():
        state, losses = after_steps(config, images, len(one[name][1]) // 2)
        assert furthest(one[name][0], state) < 1e-8 and (one[name][1] - losses).abs().max() < 1e-8, name
    apart = (one["halves"][1] - one["synchronised"][1][: 2 * FEW]).abs().max()
    assert apart > 1e-3  # what is normalised together matters
    losses = after_steps(configs["synchronised"], images, 1, torch.float32)[1]
    # of the first step: from there rounding grows as in float64 it does not
    assert (one["fp32"][1][:2] - losses).abs().max() < 1e-5


def test_groups_of_one_process_are_normalised_each_by_itself(make_config):
    norm = resnet.build(make_config(bn_batch=4))[0].last_norm
    plain = torch.nn.BatchNorm2d(8, momentum=norm.momentum, eps=norm.eps)
    x = torch.randn(8, 8, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    x = x * torch.arange(1, 9)[:, None, None, None]
    expected, averages = [], []
    for half in x.chunk(2):
        plain.reset_running_stats()
        expected.append(plain(half))
        averages.append((plain.running_mean.clone(), plain.running_var.clone()))
    torch.testing.assert_close(norm(x), torch.cat(expected))
    torch.testing.assert_close(
        (norm.running_mean, norm.running_var),
        tuple(torch.stack(a).mean(0) for a in zip(*averages, strict=True)),
    )
    with pytest.raises(ReproError, match="bn_batch.*--devices"):
        norm(x[:6])
    assert torch.equal(
        norm.eval()(x[:6]),
        torch.nn.functional.batch_norm(
            x[:6], norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        ),
    )


# scoring takes most of a rehearsal's time, and the same in every number of processes: few samples are enough
SCORED = dict(samples=20, references=100)


def run_with(config, images, folder, act, at, which):
    """Train in `folder`; rank `which` does `act` in its update of G at step `at`."""
    original, calls = loop.update_g, []

    def update_g(*arguments):
        calls.append(1)
        if len(calls) == at and parallel.rank() == which:
            act()
        return original(*arguments)

    loop.update_g = update_g
    try:
        return loop.train(config, images, runs.Run(folder), "attention_16")
    finally:
        loop.update_g = original


def ask_to_stop():
    os.kill(os.getpid(), signal.SIGTERM)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def nothing():
    pass


def in_turn(config, images, folders):
    return [loop.train(config, images, runs.Run(folder), "attention_16") for folder in folders]


def test_ranks_stop_together_and_one_device_continues(make_config, images, tmp_path):
    config = make_config("attention_16", batch_size=16, **SCORED)
    with pytest.raises(runs.Interrupted, match="stopped at step 2 of 4"):
        # the second rank alone is asked
        parallel.launch(2, run_with, config, images, tmp_path / "two", ask_to_stop, 2, 1)
    record = loop.train(config, images, runs.Run(tmp_path / "two"), "attention_16")
    whole = loop.train(config, images, runs.Run(tmp_path / "one"), "attention_16")
    for a, b in zip(record["history"], whole["history"], strict=True):
        assert a["loss_d"] == pytest.approx(b["loss_d"], abs=1e-3)
    assert record["status"] == "complete" and record["scores"][0]["step"] == 2
    assert whole["scores"][0]["diversity"] == pytest.approx(record["scores"][0]["diversity"], rel=0.01)


def test_a_rank_that_dies_ends_the_run_and_the_same_command_continues_it(make_config, images, tmp_path):
    config = make_config("attention_16", batch_size=16, bn_batch=8, ema_decay=0.9, **SCORED)
    start = time.monotonic()
    with pytest.raises(runs.RankDied, match="Process 1 of 2 ended with exit code -9"):
        parallel.launch(2, run_with, config, images, tmp_path / "killed", die, 3, 1)
    assert time.monotonic() - start < 60
    assert runs.Run(tmp_path / "killed").read()["step"] == 2
    ended, whole = parallel.launch(2, in_turn, config, images, [tmp_path / "killed", tmp_path / "whole"])
    assert ended["provenance"]["devices"] == 2 and {k: v for k, v in ended.items() if k != "provenance"} == {
        k: v for k, v in whole.items() if k != "provenance"
    }
    a, b = (checkpoint.read_checkpoint(tmp_path / f / "checkpoint.pt") for f in ("killed", "whole"))
    assert all(
        torch.equal(x, y)
        for name in ("g", "d", "ema")
        for x, y in zip(a[name].values(), b[name].values(), strict=True)
    )


def disk_full():
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


def on_the_first(call):
    parallel.on_first(call)


def test_what_fails_on_the_first_rank_ends_all_with_its_reason():
    with pytest.raises(OSError, match="No space left") as caught:
        parallel.launch(2, on_the_first, disk_full)
    assert caught.value.errno == errno.ENOSPC


def share_of_four():
    return parallel.on_first(lambda: len(parallel.share(torch.arange(4))))


def test_a_rank_takes_its_share_while_the_first_works_alone():
    """As the thread does that draws the next batch during a score or a checkpoint."""
    assert parallel.launch(2, share_of_four) == 2


def test_devices_that_do_not_fit_are_refused(make_config, images, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ReproError, match="has 1 GPU"):
        parallel.launch(2, nothing)
    monkeypatch.setattr(parallel, "ranks", lambda: 3)
    monkeypatch.setattr(parallel, "on_first", lambda call: call())
    with pytest.raises(ReproError, match="batch of 8 does not split into 3"):
        loop.train(make_config(), images, runs.Run(tmp_path), "none")


def bad():
    raise KeyError("something odd")


def test_a_crash_says_what_it_was():
    with pytest.raises(runs.RankDied, match="exit code 1 .KeyError: 'something odd'"):
        parallel.launch(2, bad)
