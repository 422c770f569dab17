"""Seeded random streams: everything random in a run draws from one of these, never from the global state."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def stream(*parts) -> np.random.Generator:
    """A generator seeded by `parts` alone (numbers and words): a training seed, a purpose, a step or an image
    number.

    So a resumed run needs no stored generator: the step says it all. NumPy's, because PyTorch's CPU generator
    takes 32 bits of a seed only, where a million streams would collide.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def normal(shape: tuple[int, ...], *parts) -> torch.Tensor:
    """Standard normal float32 numbers of the stream named by `parts`."""
    return torch.from_numpy(stream(*parts).standard_normal(shape, dtype=np.float32))


def torch_generator(*parts) -> torch.Generator:
    """The same for PyTorch's own functions, such as the initialisers."""
    return torch.Generator().manual_seed(int(stream(*parts).integers(2**32)))
