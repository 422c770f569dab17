"""Scores of a set of images, from features and class probabilities, in float64.

The matrix work goes through PyTorch, so that it uses the run's number of threads. Scores that compare image
with image are in pairs.py.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import ReproError
from ..rng import stream

KEPT = 10_000  # features used for KID, precision and recall, which compare image with image
# images of a class, real and generated, for its KID: unbiased for any number, so few only spread it. A random
# 50,000 of ImageNet hold 28 of its rarest class
KID_PER_CLASS = 20
# images of a class, real and generated, for an intra-class FID: our choice. Small samples read high (`repro
# validate --preset cifar10-cpu`: real images 251 at 1,000, 9 extrapolated to endless many), so these FIDs
# compare rows of equal counts only
MINIMUM_PER_CLASS = 500


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D) of the features of `count` images, float64; device: compares them."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int
    device: str = "cpu"

    @classmethod
    def of(cls, features: np.ndarray, device: str = "cpu") -> Statistics:
        """features: (N, D), N at least 2."""
        moments = Moments()
        moments.add(torch.from_numpy(np.asarray(features)).to(device))
        return moments.statistics()

    @functools.cached_property
    def root(self) -> torch.Tensor:
        """L with L L^T = covariance: its Cholesky factor, or a symmetric root from eigenvectors where it is
        singular.
        """
        covariance = torch.from_numpy(self.covariance).to(self.device)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            return factor
        values, vectors = torch.linalg.eigh(covariance)
        return vectors * values.clamp(min=0).sqrt() @ vectors.T


class Moments:
    """Mean and covariance of features that come batch by batch; memory does not grow with their number."""

    def __init__(self):
        self.count = 0

    def add(self, features: torch.Tensor) -> None:
        """features: (B, D), on any device. Batches are joined by their means (Chan et al. 1983), which keeps
        the digits.
        """
        x = features.double()
        count, mean = len(x), x.mean(0)
        scatter = (x - mean).T @ (x - mean)
        if self.count == 0:
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        total, step = self.count + count, mean - self.mean
        self.scatter += scatter + torch.outer(step, step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    def statistics(self) -> Statistics:
        """Raises ValueError for fewer than two images."""
        if self.count < 2:
            raise ValueError(f"Statistics of {self.count} images do not exist: at least 2 are needed.")
        covariance = self.scatter / (self.count - 1)
        device = covariance.device.type
        return Statistics(self.mean.cpu().numpy(), covariance.cpu().numpy(), self.count, device)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Fréchet distance between two Gaussians (FID when the features are Inception's; Heusel et al. 2017,
    arXiv 1706.08500).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)). A B has the eigenvalues of the symmetric L^T B L, where
    A = L L^T: no general matrix root, nothing imaginary to drop, and exact for singular covariances. L is
    kept with `a`: pass the reference first.
    """
    eigenvalues = torch.linalg.eigvalsh(a.root.T @ torch.from_numpy(b.covariance).to(a.device) @ a.root)
    # fewer images than features leave zeros, whose rounding errors the root would magnify
    rounding = eigenvalues.max() * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
    root = float(eigenvalues[eigenvalues > rounding].sqrt().sum())
    distance = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
    return float(max(distance, 0.0))  # rounding can leave -1e-13 for equal sets


def intra_class_fid(reference: dict[int, Statistics], generated: dict[int, Statistics]) -> dict[int, float]:
    """FID of each class by itself (Miyato and Koyama 2018; the paper's Table 2 is its mean over classes).

    Raises ReproError for a class with fewer than MINIMUM_PER_CLASS images on a side.
    """
    for side, statistics in (("real", reference), ("generated", generated)):
        few = {k: s.count for k, s in statistics.items() if s.count < MINIMUM_PER_CLASS}
        if few or statistics.keys() != reference.keys():
            k = min(few, default=min(reference.keys() ^ statistics.keys(), default=0))
            raise ReproError(
                f"Class {k} has {few.get(k, 0)} {side} images: its FID would be mostly the bias of a small"
                f" sample, {MINIMUM_PER_CLASS} are needed."
            )
    return {k: frechet_distance(reference[k], generated[k]) for k in sorted(reference)}


def shuffled(count: int) -> np.ndarray:
    """The numbers below `count` in a seeded random order: the same for every set of as many images."""
    return stream("shuffled", count).permutation(count)


class Predictions:
    """What the Inception score needs of class probabilities that come batch by batch, for `total` images in
    all.

    exp(E_x KL(p(y|x) || p(y))), in one split as the paper's authors' code, and in ten equal ones, their mean:
    the older custom, which reads lower (Salimans et al. 2016, arXiv 1606.03498). The ten are a seeded random
    choice, as images may come in the order of their classes. At least 1; the number of classes at most.
    """

    SPLITS = 10

    def __init__(self, total: int):
        self.seen = 0
        # split i has places i * total // SPLITS and on: of the images in order, whose sum is the one split,
        # and shuffled
        in_order = ((np.arange(total) + 1) * self.SPLITS - 1) // max(total, 1)
        self.splits = torch.from_numpy(np.stack([in_order, in_order[shuffled(total)]]))
        self.marginal, self.negative_entropy = ({}, {}), ({}, {})  # sums by split: in order, shuffled

    def add(self, probabilities: torch.Tensor) -> None:
        """probabilities: (B, classes), rows summing to 1."""
        p = probabilities.double()
        entropies = torch.special.xlogy(p, p).sum(1)
        now = self.splits[:, self.seen : self.seen + len(p)].to(p.device)
        for split, marginal, negative_entropy in zip(now, self.marginal, self.negative_entropy, strict=True):
            for i in split.unique().tolist():
                chosen = split == i
                marginal[i] = marginal.get(i, 0) + p[chosen].sum(0)
                negative_entropy[i] = negative_entropy.get(i, 0) + entropies[chosen].sum()
        self.seen += len(p)

    @staticmethod
    def _score(marginal: torch.Tensor, negative_entropy: torch.Tensor) -> float:
        count = marginal.sum()  # rows sum to 1
        mean = marginal / count
        return float(torch.exp(negative_entropy / count - torch.special.xlogy(mean, mean).sum()))

    def scores(self) -> tuple[float, float]:
        """In one split and in ten; not numbers where nothing was added."""
        if self.seen == 0:
            return math.nan, math.nan
        (marginals, mixed), (entropies, of_mixed) = self.marginal, self.negative_entropy
        splits = [self._score(mixed[i], of_mixed[i]) for i in sorted(mixed)]
        return self._score(sum(marginals.values()), sum(entropies.values())), float(np.mean(splits))


def inception_score(probabilities: np.ndarray) -> tuple[float, float]:
    """The Inception score of class probabilities (N, classes) in one split and in ten; see `Predictions`."""
    predictions = Predictions(len(probabilities))
    predictions.add(torch.from_numpy(np.asarray(probabilities)))
    return predictions.scores()


def diversity(images: np.ndarray, labels: np.ndarray) -> float:
    """How much images of one class differ: the standard deviation over images, mean over pixels and classes,
    in grey levels.

    images: uint8 (N, H, W, C); labels: (N,). 0 when each class shows one picture only, however the classes
    differ.
    """
    spread = [images[labels == k].std(axis=0, dtype=np.float64).mean() for k in np.unique(labels)]
    return float(np.mean(spread))
