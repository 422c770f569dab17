"""Scores that compare image with image: KID, and precision and recall, from one pass over the pairs.

Both need the products of the same features, so a block of them is computed once for both. Products are
float32, sums float64. Distances are squared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

ROWS = 500  # images whose pairs are in memory at once
NEIGHBOURS = 3  # Kynkaanniemi et al.'s, and torch-fidelity's


@dataclass(frozen=True)
class Within:
    """What the pairs of different images of one set say."""

    kernel: float  # mean of KID's kernel
    # (N,): squared distance of each image to its third nearest, where wanted
    radii: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


def within(features: np.ndarray, device: str = "cpu", radii: bool = False) -> Within:
    """features: (N, D), N at least 2. Each pair is computed once."""
    x = _tensor(features, device)
    lengths = (x * x).sum(1)
    total = -_kernel(lengths.clone(), x.shape[1]).sum(dtype=torch.float64)  # no pair of an image with itself
    nearest = x.new_full((len(x), NEIGHBOURS), torch.inf)
    for start in range(0, len(x), ROWS):
        end = min(start + ROWS, len(x))
        products = x[start:end] @ x[start:].T
        if radii:
            apart = lengths[start:end, None] + lengths[start:] - 2 * products
            apart[:, : end - start].fill_diagonal_(torch.inf)
            nearest[start:end] = _smallest(nearest[start:end], apart)
            nearest[end:] = _smallest(nearest[end:], apart[:, end - start :].T)
        values = _kernel(products, x.shape[1])
        total += 2 * values.sum(dtype=torch.float64)
        total -= values[:, : end - start].sum(dtype=torch.float64)  # a pair of this block is in it twice
    kernel = float(total / (len(x) * (len(x) - 1)))
    return Within(kernel, nearest[:, -1].cpu().numpy()) if radii else Within(kernel)


def scores(
    real: np.ndarray,
    generated: np.ndarray,
    of_real: Within | None = None,
    device: str = "cpu",
    extended: bool = False,
) -> dict[str, float]:
    """kid, and with `extended` precision and recall, of features (N, D) and (M, D), two rows at least.

    kid: the squared maximum mean discrepancy with the kernel (x . y / D + 1)^3 (Binkowski et al. 2018, arXiv
    1801.01401). The unbiased estimate over all pairs; the literature's mean over 100 subsets of 1,000
    estimates the same with more spread and three times the work. About 0, or just below, for sets of one
    distribution.

    precision, recall: the share of generated images inside the real ones' manifold, and of real ones inside
    the generated ones', each in 0 .. 1 (Kynkaanniemi et al. 2019, arXiv 1904.06991). An image is inside when
    it is no farther from one of the others than that one's third nearest. On the extractor's own features
    (Inception's or Lite0's); the authors took VGG-16's.

    of_real: `within` of `real`, where it is known.
    """
    if of_real is None or (extended and not len(of_real.radii)):
        of_real = within(real, device, extended)
    of_generated = within(generated, device, extended)
    x, y = _tensor(generated, device), _tensor(real, device)
    lengths_x, lengths_y = (x * x).sum(1), (y * y).sum(1)
    radii_x, radii_y = (_tensor(of.radii, device) for of in (of_generated, of_real))
    total, precise = 0.0, 0
    recalled = torch.zeros(len(y), dtype=torch.bool, device=device)
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        products = x[rows] @ y.T
        if extended:
            apart = lengths_x[rows, None] + lengths_y - 2 * products
            precise += int((apart <= radii_y).any(1).sum())
            recalled |= (apart <= radii_x[rows, None]).any(0)
        total += float(_kernel(products, x.shape[1]).sum(dtype=torch.float64))
    kid = of_real.kernel + of_generated.kernel - 2 * total / (len(x) * len(y))
    if not extended:
        return {"kid": kid}
    return {"kid": kid, "precision": precise / len(x), "recall": float(recalled.double().mean())}


def _tensor(features: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(features, np.float32)).to(device)


def _kernel(products: torch.Tensor, width: int) -> torch.Tensor:
    """KID's kernel of products of features, in their place."""
    return products.div_(width).add_(1).pow_(3)


def _smallest(known: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
    """The NEIGHBOURS smallest of each row of both, in order."""
    return torch.cat([known, more], 1).topk(NEIGHBOURS, 1, largest=False).values
