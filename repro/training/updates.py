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
from ..errors import ReproError
from ..execution import Execution
from ..networks import losses
from ..networks.layers import one_batch

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


def check_parts(config: Config, execution: Execution) -> None:
    """Raises ReproError when a batch cannot pass through the networks in so many parts and be the same
    batch.
    """
    recipe, batch, parts = config.recipe, config.preset.batch_size, execution.accumulate
    if parts == 1:
        return
    if execution.compiled or parallel.ranks() > 1 or recipe.d_passes > 1 or recipe.loss == "wgan_gp":
        raise ReproError(
            "--accumulate goes with one device, without --compile, and with recipes whose D sees real and"
            " generated images in one pass and has no gradient penalty: leave it out."
        )
    if (
        batch % parts
        or (recipe.bn_batch or batch) > batch // parts
        or batch // parts % (recipe.bn_batch or 1)
    ):
        raise ReproError(
            f"--accumulate is {parts}: a batch of {batch} has no such parts that batch norm of"
            f" {recipe.bn_batch or batch} images together (bn_batch) leaves whole."
        )


def update_d(
    config: Config,
    g: nn.Module,
    d: nn.Module,
    optimiser: torch.optim.Optimizer,
    precision: str,
    images: Tensor,
    labels: Tensor,
    z: Tensor,
    fake_labels: Tensor,
    mix: Tensor | None = None,
    *,
    parts: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """An update of D on real images (B, 3, R, R) uint8 with labels (B,), and as many generated from z (B,
    z_dim) and fake_labels.

    Real and generated images pass through D together: one power iteration an update, as the released code,
    which keeps that of the real pass only. With `recipe.d_passes` 2 they pass one after the other, with an
    iteration each (StudioGAN, mmgeneration, heykeetae). G is in training mode, as there. With loss "wgan_gp"
    the gradient penalty, at images mixed in the shares `mix` (B,), is part of the loss, or follows in an
    optimiser step of its own as in the second codebase. The batch passes through D in `parts`, whose
    gradients add up to the whole one's. Returns the loss and the logits (B,) of real and of generated images.
    """
    recipe, device = config.recipe, z.device.type
    real = images.to(z.dtype).div_(127.5).sub_(1.0)  # -1 .. 1
    with torch.no_grad(), arithmetic(device, precision, g):
        fake = g(z, fake_labels).to(z.dtype)
    batch = real, labels, fake, fake_labels
    if parts > 1:
        return _step_in_parts(optimiser, (d,), parts, batch, lambda *p: _loss_d(config, d, *p, precision))
    loss, logits_real, logits_fake = _loss_d(config, d, *batch, precision)

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


def _loss_d(
    config: Config,
    d: nn.Module,
    real: Tensor,
    labels: Tensor,
    fake: Tensor,
    fake_labels: Tensor,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """D's loss on images (B, 3, R, R) in -1 .. 1, but for a gradient penalty, and its logits (B,) of real and
    of generated ones.
    """
    recipe, passes = config.recipe, []
    for x, y in zip(
        torch.cat([real, fake]).chunk(recipe.d_passes),
        torch.cat([labels, fake_labels]).chunk(recipe.d_passes),
        strict=True,
    ):
        with arithmetic(real.device.type, precision, d):
            passes.append(d(x, y))
    logits, (class_logits, *_) = zip(*passes, strict=True)
    logits_real, logits_fake = torch.cat(logits).to(real.dtype).chunk(2)
    loss = {"hinge": losses.hinge_d, "wgan_gp": losses.wasserstein_d}[recipe.loss](logits_real, logits_fake)
    if class_logits is not None:  # D learns the classes of the real images
        on_real = class_logits.to(real.dtype)[: len(labels)]
        loss = loss + recipe.auxiliary_weight_d * losses.auxiliary_classifier(on_real, labels)
    return loss, logits_real, logits_fake


def update_g(
    config: Config,
    g: nn.Module,
    d: nn.Module,
    optimiser: torch.optim.Optimizer,
    z: Tensor,
    labels: Tensor,
    precision: str,
    parts: int = 1,
) -> Tensor:
    """An update of G on images from z (B, z_dim) and labels (B,), in `parts` as D's. Returns the loss.

    D gets no gradients of its weights. Unless the recipe says otherwise it is in evaluation mode, which keeps
    its power-iteration vectors (nothing else in it depends on the mode).
    """

    def loss_of(z: Tensor, labels: Tensor) -> tuple[Tensor]:
        with arithmetic(z.device.type, precision, g, d):
            logits, class_logits = d(g(z, labels), labels)
        loss = losses.adversarial_g(logits.to(z.dtype))
        if class_logits is not None:
            loss = loss + config.recipe.auxiliary_weight_g * losses.auxiliary_classifier(
                class_logits.to(z.dtype), labels
            )
        return (loss,)

    d.train(config.recipe.sn_d_in_g_step).requires_grad_(False)
    if parts > 1:
        (loss,) = _step_in_parts(optimiser, (g, d), parts, (z, labels), loss_of)
    else:
        (loss,) = loss_of(z, labels)
        _step(optimiser, loss)
    d.train().requires_grad_(True)
    return loss.detach()


def _step_in_parts(
    optimiser: torch.optim.Optimizer,
    networks: tuple[nn.Module, ...],
    parts: int,
    batch: tuple[Tensor, ...],
    loss_of: Callable[..., tuple[Tensor, ...]],
) -> tuple[Tensor, ...]:
    """An optimiser step on a batch that passes through the networks in parts, one after the other.

    loss_of: of a part of each tensor its loss, a mean over images, and logits. Returns the whole batch's.
    """
    optimiser.zero_grad()
    seen = []
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(one_batch(network))
        for part in zip(*(tensor.chunk(parts) for tensor in batch), strict=True):
            loss, *logits = loss_of(*part)
            (loss / parts).backward(retain_graph=True)  # the graph of the weights serves all parts
            seen.append((loss.detach(), *(x.detach() for x in logits)))
            del loss, logits  # and with them the part's own graph
    optimiser.step()
    of_parts, *logits = zip(*seen, strict=True)
    return torch.stack(of_parts).mean(), *map(torch.cat, logits)


def _step(
    optimiser: torch.optim.Optimizer, loss: Tensor, after_backward: Callable[[], None] = lambda: None
) -> None:
    optimiser.zero_grad()
    loss.backward()
    after_backward()
    optimiser.step()
