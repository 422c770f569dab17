"""The training images nearest to a sample: a check for memorised images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.images import ImageData
from . import extraction, metrics
from .scorer import Scorer


def nearest_training_images(
    scorer: Scorer, data: ImageData, images: np.ndarray, count: int = 5
) -> tuple[np.ndarray, dict[str, float]]:
    """The training images whose features are nearest to each sample's, and how near: a check for memorised
    images.

    Searched are metrics.KEPT of the reference images, a seeded random choice. images: uint8 (N, R, R, 3).
    Returns uint8 (N, count, R, R, 3), and the medians over samples, and over training images that are no
    reference where there are as many, of the distance to the nearest.
    """
    references, others = np.split(scorer.order, [len(scorer.chosen)])
    chosen, others = np.sort(references[: metrics.KEPT]), np.sort(others[: len(images)])
    training = extraction.extract_reference(scorer.extractor, data, chosen, len(chosen)).in_order("")

    def distances(of: np.ndarray) -> Tensor:
        return torch.cdist(
            torch.from_numpy(extraction.extract(scorer.extractor, of, len(of)).in_order("")),
            torch.from_numpy(training),
        )

    near = distances(images).topk(count, largest=False)
    medians = {"samples": near.values[:, 0].median().item()}
    if len(others) == len(images):
        medians["real"] = distances(data.images[others]).min(1).values.median().item()
    return data.images[chosen[near.indices.numpy()]], medians
