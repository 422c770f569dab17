"""Faults planted in the code: the regression check sees each one and names it."""

import contextlib
import dataclasses

import pytest
import torch

from repro import paper, provenance, runs
from repro.checks import regression
from repro.config import Config
from repro.data import images
from repro.networks import layers, resnet, spectral_norm
from repro.scoring import sampling
from repro.studies.study import Study
from repro.training import averages, loop


@pytest.fixture
def checked(reference, shapes_data, trained_by_check, tmp_path):
    """Train a row of the rehearsal in this process and compare it with the committed reference. A run of
    `make check` is taken where nothing is planted.
    """

    def train_and_compare(row, planted=True):
        now = Study("rehearsal", out=str(tmp_path))
        (task,) = [task for task in now.tasks(paper.ALL_TABLES) if task.row == row]
        if not planted:
            trained_by_check(now, [task])
        with contextlib.suppress(runs.Interrupted):
            loop.train(images.with_data(task.config, shapes_data), shapes_data, now.run(row, 0), row)
        return regression.compare(reference, now, [task], regression.read_tolerances(reference))

    return train_and_compare


def gamma_frozen(monkeypatch):
    def build(config, original=loop.build):
        networks = original(config)
        for network in networks:
            for block in network.inserted.values():
                block.gamma.register_hook(torch.zeros_like)
        return networks

    monkeypatch.setattr(loop, "build", build)


def spectral_norm_dropped_from_g(monkeypatch):
    def build(config, original=loop.build):
        plain = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, sn_generator=False))
        return original(plain)[0], original(config)[1]

    monkeypatch.setattr(loop, "build", build)


def learning_rates_swapped(monkeypatch):
    rates = Config.lr_g, Config.lr_d
    monkeypatch.setattr(Config, "lr_g", rates[1])
    monkeypatch.setattr(Config, "lr_d", rates[0])


def average_decay_changed(monkeypatch, original=averages.get_ema_multi_avg_fn):
    monkeypatch.setattr(averages, "get_ema_multi_avg_fn", lambda decay: original(0.99))


def softmax_over_queries(monkeypatch, original=torch.softmax):
    monkeypatch.setattr(layers.torch, "softmax", lambda x, dim: original(x, dim=1))


def labels_shuffled(monkeypatch, original=images.Batches.batch):
    def batch(self, i):
        images, labels = original(self, i)
        return images, labels.roll(1)

    monkeypatch.setattr(images.Batches, "batch", batch)


def batch_norm_evaluated_with_the_batch(monkeypatch):
    monkeypatch.setattr(resnet.Generator, "eval", lambda self: self)
    # which takes any number of images
    monkeypatch.setattr(layers.BatchNorm, "forward", torch.nn.BatchNorm2d.forward)


def batch_norm_momentum_changed(monkeypatch, original=Config.resolved_recipe):
    monkeypatch.setattr(
        Config, "resolved_recipe", lambda self: dataclasses.replace(original(self), bn_momentum=0.11)
    )


def no_power_iteration(monkeypatch, original=spectral_norm.SpectralNorm.__init__):
    def init(self, weight, eps, iterations, *more):
        original(self, weight, eps, 0, *more)

    monkeypatch.setattr(spectral_norm.SpectralNorm, "__init__", init)


def other_samples(monkeypatch, original=sampling.latents):
    monkeypatch.setattr(
        sampling, "latents", lambda z_dim, seed, first, count: original(z_dim, seed, first + 1, count)
    )


FAULTS = [  # a fault, the row it is planted in, and where the check first has to see it
    (gamma_frozen, "attention_16", "history.gamma_d.16x16", 1),
    (gamma_frozen, "residual_8", "history.gamma_g.8x8", 1),
    (spectral_norm_dropped_from_g, "none", "history.loss_d", 1),
    (learning_rates_swapped, "none", "history.loss_g", 1),
    (average_decay_changed, "weight_average", "history.average_lag", 2),
    (softmax_over_queries, "attention_16", "history.gamma_d.16x16", 1),
    (softmax_over_queries, "attention_8", "history.gamma_g.8x8", 1),
    (labels_shuffled, "none", "history.loss_d", 1),
    (batch_norm_evaluated_with_the_batch, "none", "scores.fid", 2),
    (batch_norm_momentum_changed, "none", "scores.diversity", 4),
    (no_power_iteration, "none", "history.loss_d", 1),
    (other_samples, "none", "scores.consistency", 2),
]


@pytest.mark.parametrize("row", sorted({row for _, row, _, _ in FAULTS}))
def test_the_code_as_it_is_passes(checked, row):
    frame = checked(row, planted=False)
    assert len(frame) > 90 and frame["passed"].all(), frame[~frame["passed"]]


def stop_here(*_):
    raise runs.Interrupted


@pytest.mark.parametrize("plant, row, quantity, step", FAULTS, ids=lambda v: getattr(v, "__name__", None))
def test_a_planted_fault_fails_by_name(checked, monkeypatch, plant, row, quantity, step):
    plant(monkeypatch)
    if quantity.startswith("history"):
        monkeypatch.setattr(loop.Training, "_score", stop_here)  # the history has every step to here
    frame = checked(row)
    failed = frame[~frame["passed"]]
    found = failed[failed["quantity"] == quantity]["step"]
    table = failed[["quantity", "step", "reference", "now", "tolerance"]]
    assert len(found) and found.min() <= step, table
    # on another processor than the reference's it may stand out sooner
    made = Study("rehearsal", executor="none", out="results").run("none", 0).read()["provenance"]["processor"]
    assert found.min() == step or made != provenance.processor(), table
