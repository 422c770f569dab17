"""A generator to images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from ..config import Config
from ..rng import normal

BATCH = 100  # fixed, so that the arithmetic of a score does not depend on the training batch


def latents(z_dim: int, seed: int, first: int, count: int) -> Tensor:
    """Latents of the images first .. first + count - 1, (count, z_dim): one seed per image, so batching does
    not matter.
    """
    return torch.stack([normal((z_dim,), "sample", seed, i) for i in range(first, first + count)])


def to_uint8(x: Tensor) -> np.ndarray:
    """Images (B, 3, R, R) in -1 .. 1 as uint8 (B, R, R, 3)."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def sample(
    generator: torch.nn.Module,
    config: Config,
    count: int,
    precision: str,
    device: str = "cpu",
    seed: int | None = None,
    label: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, R, R, 3) and labels (count,) of G in evaluation mode (moving averages of batch
    norm).

    Image i has class i modulo the number of classes, or the class `label`, and its own latent, of the
    preset's sampling seed or another.
    """
    was_training = generator.training
    generator.eval()
    images = []
    seed = config.preset.sampling_seed if seed is None else seed
    labels = torch.arange(count) % config.num_classes if label is None else torch.full((count,), label)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"), parametrize.cached():
        for first in range(0, count, BATCH):
            y = labels[first : first + BATCH]
            z = latents(config.preset.z_dim, seed, first, len(y))
            images.append(to_uint8(generator(z.to(device), y.to(device))))
    generator.train(was_training)
    return np.concatenate(images), labels.numpy()


@torch.no_grad()
def interpolations(
    generator: torch.nn.Module,
    config: Config,
    precision: str,
    device: str = "cpu",
    rows: int = 4,
    columns: int = 9,
) -> np.ndarray:
    """Images uint8 (2 * rows, columns, R, R, 3) of G in evaluation mode: `rows` lines from one latent to
    another of a class, along the great circle between them, then as many from a class to the next with one
    latent, mixing the classes' gains and biases.
    """
    share = torch.linspace(0, 1, columns)[:, None]
    z = latents(config.preset.z_dim, config.preset.sampling_seed, 0, 2 * rows)
    classes = torch.eye(config.num_classes)[torch.arange(2 * rows) % config.num_classes]  # one-hot
    lines = []
    for k in range(rows):
        angle = torch.arccos(torch.cosine_similarity(z[k], z[k + rows], dim=0))
        between = (
            torch.sin((1 - share) * angle) * z[k] + torch.sin(share * angle) * z[k + rows]
        ) / torch.sin(angle)
        lines.append((between, classes[k].expand(columns, -1)))
    lines += [
        (z[k].expand(columns, -1), torch.lerp(classes[k], classes[(k + 1) % len(classes)], share))
        for k in range(rows)
    ]
    was_training = generator.training
    generator.eval()
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"), parametrize.cached():
        images = np.stack([to_uint8(generator(x.to(device), y.to(device))) for x, y in lines])
    generator.train(was_training)
    return images
