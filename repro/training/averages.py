"""Averages of G's weights over the steps, and how far they are from the present ones."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..config import Config
from ..networks.layers import BatchNorm
from ..rng import normal
from .updates import arithmetic

OWN_BATCHES = 50  # behind the batch-norm statistics of averaged weights


def make_averages(config: Config, g: nn.Module) -> tuple[AveragedModel | None, AveragedModel]:
    """The average of G that is sampled from, None where the recipe has none, and the one that every run keeps
    beside its training.

    Spectral-norm vectors and batch-norm averages are copied, not averaged, unless the recipe says otherwise.
    """
    ema = (
        AveragedModel(
            g, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=config.recipe.ema_buffers
        )
        if config.recipe.ema_decay
        else None
    )
    return ema, AveragedModel(g, multi_avg_fn=get_ema_multi_avg_fn(config.shadow_decay))


def with_own_statistics(generator: nn.Module, config: Config, precision: str, device: str) -> nn.Module:
    """A copy of an averaged G whose batch-norm statistics are those of its own samples: averaged ones, and
    those of the raw G, misfit.

    They are plain means over OWN_BATCHES batches of as many images as are normalised together in training.
    """
    generator = copy.deepcopy(generator).train()
    norms = [module for module in generator.modules() if isinstance(module, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    together = min(config.recipe.bn_batch or config.preset.batch_size, config.preset.batch_size)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's word for a plain mean
    with torch.no_grad(), arithmetic(device, precision):
        for i in range(OWN_BATCHES):
            z = normal((together, config.preset.z_dim), config.preset.sampling_seed, "own statistics", i)
            generator(
                z.to(device), (torch.arange(i * together, (i + 1) * together) % config.num_classes).to(device)
            )
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return generator


@torch.no_grad()
def average_lag(ema: AveragedModel, g: nn.Module) -> float:
    """Distance of the averaged parameters from the present ones, relative to the present ones' norm."""
    pairs = list(zip(ema.module.parameters(), g.parameters(), strict=True))
    squares = sum((a - b).square().sum() for a, b in pairs), sum(b.square().sum() for _, b in pairs)
    return math.sqrt(squares[0] / squares[1])
