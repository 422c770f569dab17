"""What the updates of a step draw: images, latents and labels. All of it follows from seed and step."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .. import parallel
from ..config import Config
from ..data.images import Batches
from ..rng import normal, stream


def latents_and_labels(config: Config, *purpose) -> tuple[Tensor, Tensor]:
    """Z (B, z_dim) standard normal and uniform labels (B,) of one update."""
    batch = config.preset.batch_size
    seed = config.seed_of("latents")
    z = normal((batch, config.preset.z_dim), seed, "z", *purpose)
    return z, torch.from_numpy(stream(seed, "label", *purpose).integers(config.num_classes, size=batch))


def draws(config: Config, batches: Batches, step: int) -> list[tuple[Tensor, ...]]:
    """All that step number `step` draws: for each D update real images, their labels, z, its labels and,
    where there is a gradient penalty, the shares (B,) in which it mixes the images; for G's z and its
    labels.
    """

    def of_d(i: int) -> tuple[Tensor, ...]:
        drawn = (*batches.batch(i), *latents_and_labels(config, "d", i))
        if config.recipe.loss != "wgan_gp":
            return drawn
        return *drawn, torch.from_numpy(
            stream(config.seed_of("latents"), "mix", i).random(batches.size, dtype=np.float32)
        )

    updates = range(step * config.recipe.d_steps, (step + 1) * config.recipe.d_steps)
    return [of_d(i) for i in updates] + [latents_and_labels(config, "g", step)]


def prefetched(
    config: Config, batches: Batches, first_step: int, device: str
) -> Iterator[list[tuple[Tensor, ...]]]:
    """The share of this rank in the `draws` of each step from `first_step` on, on the device; a thread makes
    the next step's meanwhile.

    A GPU copies them from pinned memory, so that the loop never waits for it.
    """
    cuda = device == "cuda"

    def ready(t: Tensor) -> Tensor:
        return parallel.share(t).pin_memory() if cuda else parallel.share(t)

    def make(step: int) -> list[tuple[Tensor, ...]]:
        return [tuple(map(ready, update)) for update in draws(config, batches, step)]

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, first_step)
        for step in range(first_step, config.preset.steps):
            made, coming = coming.result(), pool.submit(make, step + 1)
            yield [tuple(t.to(device, non_blocking=cuda) for t in update) for update in made]
