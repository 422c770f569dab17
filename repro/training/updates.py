"""The updates of D and G, their optimisers and their arithmetic."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from .. import parallel
from ..config import Config
from ..networks import losses

log = logging.getLogger(__name__)


def native_precision(wanted: str) -> str:
    """bf16 only where the processor computes in it natively; else fp32 (slower, other last digits; recorded
    in run.json).

    A processor told to compute as a lesser one (ATEN_CPU_CAPABILITY, see checks.regression.ARITHMETICS)
    counts as that one.
    """
    native = torch.cpu._is_avx512_bf16_supported() and torch.backends.cpu.get_cpu_capability().startswith(
        "AVX512"
    )
    if wanted == "bf16" and not torch.cuda.is_available() and not native:
        log.warning(
            "This processor has no bf16 arithmetic: training in fp32, so scores differ in the last digits."
        )
        return "fp32"
    return wanted


def set_up_gpu() -> None:
    """How a GPU convolves while it trains: by the algorithm that is fastest for each shape unless determinism
    was asked for, and fp32 as fp32, not as TF32.
    """
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.allow_tf32 = False


def arithmetic(device: str, precision: str, *networks: nn.Module) -> ExitStack:
    """Autocast to the run's precision, and each weight's spectral norm evaluated once for all its uses in the
    block.

    Compiled networks use each weight once and know no such cache: every new value in it would compile them
    again.
    """
    stack = ExitStack()
    stack.enter_context(torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"))
    if not any(parallel.is_compiled(network) for network in networks):
        stack.enter_context(parametrize.cached())
    return stack


def make_optimisers(
    config: Config, g: nn.Module, d: nn.Module, graphed: bool = False
) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    """Adam for G and Adam for D, each with its own learning rate; `graphed` where a CUDA graph holds them."""
    recipe = config.recipe
    adam = dict(
        betas=(float(recipe.beta1), float(recipe.beta2)), eps=recipe.adam_eps, fused=True, capturable=graphed
    )
    return torch.optim.Adam(g.parameters(), config.lr_g, **adam), torch.optim.Adam(
        d.parameters(), config.lr_d, **adam
    )


def update_d(
    config: Config,
    g: nn.Module,
    d: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    z: Tensor,
    fake_labels: Tensor,
    precision: str,
    mix: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """An update of D on real images (B, 3, R, R) uint8 with labels (B,), and as many generated from z (B,
    z_dim) and fake_labels.

    Real and generated images pass through D together: one power iteration an update, as the released code,
    which keeps that of the real pass only. With `recipe.d_passes` 2 they pass one after the other, with an
    iteration each (StudioGAN, mmgeneration, heykeetae). G is in training mode, as there. With loss "wgan_gp"
    the gradient penalty, at images mixed in the shares `mix` (B,), is part of the loss, or follows in an
    optimiser step of its own as in the second codebase. Returns the loss and the logits (B,) of real and of
    generated images.
    """
    recipe, device = config.recipe, z.device.type
    real = images.float().div_(127.5).sub_(1.0)  # -1 .. 1
    with torch.no_grad(), arithmetic(device, precision, g):
        fake = g(z, fake_labels).float()
    passes = []
    for x, y in zip(
        torch.cat([real, fake]).chunk(recipe.d_passes),
        torch.cat([labels, fake_labels]).chunk(recipe.d_passes),
        strict=True,
    ):
        with arithmetic(device, precision, d):
            passes.append(d(x, y))
    logits, (class_logits, *_) = zip(*passes, strict=True)
    logits_real, logits_fake = torch.cat(logits).float().chunk(2)
    loss = {"hinge": losses.hinge_d, "wgan_gp": losses.wasserstein_d}[recipe.loss](logits_real, logits_fake)
    if class_logits is not None:  # D learns the classes of the real images
        on_real = class_logits.float()[: len(labels)]
        loss = loss + recipe.auxiliary_weight_d * losses.auxiliary_classifier(on_real, labels)

    def penalty() -> Tensor:
        # PyTorch's fused attention has no second derivative
        with arithmetic(device, precision), sdpa_kernel(SDPBackend.MATH):
            return recipe.gp_weight * losses.gradient_penalty(
                lambda x: parallel.unwrap(d)(x, labels)[0].float(), real, fake, mix
            )

    if recipe.loss == "wgan_gp" and not recipe.gp_own_step:
        loss = loss + penalty()
    _step(optimiser, loss)
    if recipe.loss == "wgan_gp" and recipe.gp_own_step:
        _step(optimiser, penalty(), after_backward=lambda: parallel.average_gradients(d))
    return loss.detach(), logits_real.detach(), logits_fake.detach()


def update_g(
    config: Config,
    g: nn.Module,
    d: nn.Module,
    optimiser: torch.optim.Optimizer,
    z: Tensor,
    labels: Tensor,
    precision: str,
) -> Tensor:
    """An update of G on images from z (B, z_dim) and labels (B,). Returns the loss.

    D gets no gradients of its weights. Unless the recipe says otherwise it is in evaluation mode, which keeps
    its power-iteration vectors (nothing else in it depends on the mode).
    """
    d.train(config.recipe.sn_d_in_g_step).requires_grad_(False)
    with arithmetic(z.device.type, precision, g, d):
        logits, class_logits = d(g(z, labels), labels)
    loss = losses.adversarial_g(logits.float())
    if class_logits is not None:
        loss = loss + config.recipe.auxiliary_weight_g * losses.auxiliary_classifier(
            class_logits.float(), labels
        )
    _step(optimiser, loss)
    d.train().requires_grad_(True)
    return loss.detach()


def _step(
    optimiser: torch.optim.Optimizer, loss: Tensor, after_backward: Callable[[], None] = lambda: None
) -> None:
    optimiser.zero_grad()
    loss.backward()
    after_backward()
    optimiser.step()
