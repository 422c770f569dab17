"""Images with labels as arrays, and the seeded batches that training draws from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..errors import ReproError
from ..rng import stream


def _no_test_split() -> None:
    """Of data that have none. A function with a name: data go to other processes."""


@dataclass(frozen=True)
class ImageData:
    """A split: images uint8 (N, R, R, 3), labels int64 (N,), class names, and the SHA-256 of images and
    labels.

    Labels of a test split are the training split's, -1 where there is none.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str
    split: str = "train"
    # reads the test split when it is asked for; None where there is none
    test: Callable[[], ImageData | None] = _no_test_split

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


class Batches:
    """An endless, shuffled pass over the data; `batch(i)` depends on the seed and on i only, so it resumes
    anywhere.
    """

    def __init__(self, data: ImageData, batch_size: int, seed: int, flip: bool):
        if len(data.images) < batch_size:
            raise ReproError(
                f"The data hold {len(data.images)} images, fewer than one batch of {batch_size}: use more"
                " images."
            )
        self.data, self.size, self.seed, self.flip = data, batch_size, seed, flip
        self.per_epoch = len(data.images) // batch_size
        self._epoch, self._order = None, None

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        """Real images (B, 3, R, R) uint8 in channels-last memory, and labels (B,)."""
        epoch, position = divmod(i, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = stream(self.seed, "epoch", epoch).permutation(len(self.data.images))
        # sorted: one pass forward through the memory map
        chosen = np.sort(self._order[position * self.size : (position + 1) * self.size])
        images = torch.from_numpy(self.data.images[chosen]).permute(0, 3, 1, 2)
        if self.flip:
            flipped = torch.from_numpy(stream(self.seed, "flip", i).random(len(images)) < 0.5)
            images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        return images, torch.from_numpy(self.data.labels[chosen])


def with_data(config: Config, data: ImageData) -> Config:
    """The configuration with the number of classes and the fingerprint of these data.

    Raises ReproError when it is class-conditional and the data have one class, or one image of a class.
    """
    classes, counts = np.unique(data.labels, return_counts=True)
    if config.recipe.conditioning != "unconditional":
        if len(classes) < 2:
            raise ReproError(
                f"{data.name} holds one class only ({data.class_names[data.labels[0]]}): class-conditional"
                " training needs at least two; the row recipe_heykeetae needs none."
            )
        if 1 in counts:
            alone = data.class_names[classes[counts == 1][0]]
            raise ReproError(
                f"{data.name} holds one image of the class {alone}: class-conditional training needs at least"
                " two of each; add images or remove the class."
            )
    return dataclasses.replace(config, num_classes=data.num_classes, data_fingerprint=data.fingerprint)
