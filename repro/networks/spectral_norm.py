"""Spectral norm of a layer's weight, with its gradient written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..recipes import Recipe


class SpectralNorm(nn.Module):
    """Divide a weight by its largest singular value, estimated by power iteration (Miyato et al. 2018, arXiv
    1802.05957).

    A parametrisation: while the module is in training mode each evaluation runs `iterations` power iterations
    first, from the vector `u` kept between updates. Inside `parametrize.cached()` a weight is evaluated once,
    however often it is used.

    through: whether sigma's gradient flows through the iterations (the released code, which has no
    stop-gradient in `spectral_normed_weight`), or takes u and v as constants (Miyato et al., and PyTorch's
    own). in_evaluation: iterate from u in evaluation too, without keeping the result (BigGAN-PyTorch's
    `power_iteration`): u may then be of any length, as an average of unit vectors is.
    """

    def __init__(
        self, weight: Tensor, eps: float, iterations: int, through: bool, in_evaluation: bool = False
    ):
        super().__init__()
        self.eps, self.iterations, self.through, self.in_evaluation = eps, iterations, through, in_evaluation
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", F.normalize(matrix.new_ones(matrix.shape[0]), dim=0, eps=eps))
        self.register_buffer("v", F.normalize(matrix.T @ self.u, dim=0, eps=eps))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight (out, ...) divided by its spectral norm sigma, in the same shape."""
        iterations = self.iterations if self.training or self.in_evaluation else 0
        with torch.autocast(weight.device.type, enabled=False):
            normalised, u, v = _Normalise.apply(weight, self.u, self.v, iterations, self.eps, self.through)
        if self.training:
            # new tensors, not new values: backward needs the old ones, and a compiled graph would find them
            # overwritten
            self.u, self.v = u, v
        return normalised


class _Normalise(torch.autograd.Function):
    """W / sigma, sigma = u^T W v after some power iterations from u, with the gradient written out: less than
    half of the operations that autograd records for it.

    sigma's gradient is u v^T, and what comes through the iterations: each, from the last to the first, has
    v = a / |a|, a = W^T u' and u = b / |b|, b = W v, so that a gradient of v is one of a, which adds
    u' (da)^T to that of W, and goes on to u' as W da; likewise that of u. sigma does not change with the last
    u, which lies along W v.
    """

    @staticmethod
    def forward(ctx, weight, u, v, iterations: int, eps: float, through: bool):
        """weight: (out, ...); u: (out,); v: (in * k * k,). Returns W / sigma and the new u and v."""
        matrix = weight.flatten(1)
        steps = []
        for _ in range(iterations):
            before, a = u, torch.mv(matrix.T, u)
            length_a = torch.linalg.vector_norm(a).clamp_min(eps)
            v = a / length_a
            b = torch.mv(matrix, v)
            length_b = torch.linalg.vector_norm(b).clamp_min(eps)
            u = b / length_b
            steps += [before, v, length_a, u, length_b]
        # |W v| is u^T W v, where u lies along it
        sigma = length_b if iterations else torch.dot(u, torch.mv(matrix, v))
        normalised = weight / sigma
        ctx.save_for_backward(normalised, matrix, u, v, sigma, *(steps if through else ()))
        ctx.mark_non_differentiable(u, v)
        ctx.set_materialize_grads(False)
        return normalised, u, v

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, *_):
        """That of W; none of the vectors. Linear in `gradient`, and not differentiated again."""
        normalised, matrix, u, v, sigma, *steps = ctx.saved_tensors
        of_sigma = torch.outer(u, v)
        if steps:
            of_v, of_u = torch.mv(matrix.T, u), None
            for before, v, length_a, u, length_b in reversed(list(zip(*[iter(steps)] * 5, strict=True))):
                if of_u is not None:
                    of_b = (of_u - torch.dot(of_u, u) * u) / length_b
                    of_sigma = torch.addr(of_sigma, of_b, v)
                    of_v = torch.mv(matrix.T, of_b)
                of_a = (of_v - torch.dot(of_v, v) * v) / length_a
                of_sigma = torch.addr(of_sigma, before, of_a)
                if before is not steps[0]:
                    of_u = torch.mv(matrix, of_a)
        share = (gradient * normalised).sum()
        of_weight = (gradient - (share * of_sigma).view_as(gradient)) / sigma
        return of_weight, None, None, None, None, None


def spectral_norm(module: nn.Module, recipe: Recipe, enabled: bool) -> nn.Module:
    """Register `SpectralNorm` on `module.weight` when `enabled`."""
    if enabled:
        norm = SpectralNorm(
            module.weight,
            recipe.sn_eps,
            recipe.sn_iterations,
            recipe.sn_through_iteration,
            recipe.ema_buffers,
        )
        parametrize.register_parametrization(module, "weight", norm, unsafe=True)
    return module
