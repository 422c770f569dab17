"""Training losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's hinge loss (paper, equation 4): E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]. Logits
    (B,); a scalar.
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def adversarial_g(fake: Tensor) -> Tensor:
    """Generator's loss of the hinge pair (paper, equation 4) and of WGAN-GP: -E[D(G(z))]. Logits (B,); a
    scalar.
    """
    return -fake.mean()


def wasserstein_d(real: Tensor, fake: Tensor) -> Tensor:
    """Critic's loss (Arjovsky et al. 2017, arXiv 1701.07875): E[D(G(z))] - E[D(x)]. Logits (B,); a scalar."""
    return fake.mean() - real.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E[(|grad D(x)| - 1)^2] at x = mix * real + (1 - mix) * fake (Gulrajani et al. 2017, arXiv 1704.00028,
    equation 3).

    real, fake: images (B, 3, R, R); mix: (B,) uniform in 0 .. 1. A scalar that can be differentiated.
    """
    x = torch.lerp(fake, real, mix[:, None, None, None]).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def auxiliary_classifier(class_logits: Tensor, labels: Tensor) -> Tensor:
    """AC-GAN's classification loss (Odena et al. 2017, arXiv 1610.09585): cross-entropy of D's class head. A
    scalar.
    """
    return F.cross_entropy(class_logits, labels)
