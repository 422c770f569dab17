"""What several tests of training use."""

import torch

from repro import runs
from repro.training import checkpoint, loop


def train_in(folder, config, data, row="none"):
    return loop.train(config, data, runs.Run(folder), row)


def steady(record):
    """The record without what may differ between two equal runs: times and machine."""
    return {k: v for k, v in record.items() if k != "provenance"}


def same_weights(a, b):
    a, b = (checkpoint.read_checkpoint(folder / "checkpoint.pt") for folder in (a, b))
    for name in ("g", "d"):
        assert all(torch.equal(x, y) for x, y in zip(a[name].values(), b[name].values(), strict=True)), name


def snapshot(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def changed(network, before):
    return {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
