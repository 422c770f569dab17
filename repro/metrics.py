"""Scores of a set of images, from features and class probabilities, in float64.

The matrix work goes through PyTorch, so that it uses the run's number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D) of the features of `count` images."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    @classmethod
    def of(cls, features: np.ndarray) -> Statistics:
        """features: (N, D), N at least 2."""
        x = torch.from_numpy(np.asarray(features, np.float64))
        return cls(x.mean(0).numpy(), torch.cov(x.T).numpy(), len(x))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Fréchet distance between two Gaussians (FID when the features are Inception's; Heusel et al. 2017, arXiv 1706.08500).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)). The trace of the root is the sum of the singular values of
    A^(1/2) B^(1/2), with the symmetric roots from eigenvectors: exact for singular covariances too, where a matrix square
    root of the product is not.
    """
    root_a, root_b = _symmetric_root(a.covariance), _symmetric_root(b.covariance)
    root = float(torch.linalg.svdvals(root_a @ root_b).sum())
    distance = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
    return float(max(distance, 0.0))  # rounding can leave -1e-13 for equal sets


def _symmetric_root(matrix: np.ndarray) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(torch.from_numpy(matrix))
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def inception_score(probabilities: np.ndarray) -> float:
    """exp(E_x KL(p(y|x) || p(y))) in one split, as the paper's authors' code (Salimans et al. 2016, arXiv 1606.03498).

    probabilities: (N, classes), rows summing to 1. At least 1; the number of classes at most.
    """
    p = np.asarray(probabilities, np.float64)
    marginal = p.mean(0, keepdims=True)
    divergence = (p * (np.log(p + 1e-16) - np.log(marginal + 1e-16))).sum(1)
    return float(np.exp(divergence.mean()))


def diversity(images: np.ndarray, labels: np.ndarray) -> float:
    """How much images of one class differ: the standard deviation over images, mean over pixels and classes, in grey levels.

    images: uint8 (N, H, W, C); labels: (N,). 0 when each class shows one picture only, however the classes differ.
    """
    spread = [images[labels == k].std(axis=0, dtype=np.float64).mean() for k in np.unique(labels)]
    return float(np.mean(spread))
