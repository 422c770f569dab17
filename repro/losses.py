"""Training losses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's hinge loss (paper, equation 4): E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]. Logits (B,); a scalar."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_g(fake: Tensor) -> Tensor:
    """Generator's hinge loss (paper, equation 4): -E[D(G(z))]. Logits (B,); a scalar."""
    return -fake.mean()


def auxiliary_classifier(class_logits: Tensor, labels: Tensor) -> Tensor:
    """AC-GAN's classification loss (Odena et al. 2017, arXiv 1610.09585): cross-entropy of D's class head. A scalar."""
    return F.cross_entropy(class_logits, labels)
