"""The building blocks: batch norm, conditional batch norm, self-attention and its residual control."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import parallel
from ..errors import ReproError, SizeNotAvailable
from ..recipes import Recipe
from .spectral_norm import spectral_norm


class BatchNorm(nn.BatchNorm2d):
    """Batch norm of so many images together (`recipe.bn_batch`), however many devices hold them; None is the
    whole batch.

    In training mode the batch, all ranks' parts after one another, is split into groups of that many images,
    each normalised by itself: the released code's batch norm is per device, of 64 images. The moving averages
    take the groups' mean. A group that several ranks hold is the whole batch: its mean and variance are then
    averaged over the ranks (PyTorch's SyncBatchNorm runs on GPUs only). Raises ReproError when groups and
    ranks do not fit.
    """

    def __init__(self, channels: int, recipe: Recipe, momentum: float, affine: bool = True):
        super().__init__(channels, eps=recipe.bn_eps, momentum=momentum, affine=affine)
        self.together = recipe.bn_batch
        # moving averages after each group of a batch that comes in parts (`one_batch`), else None
        self.groups: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W), this rank's part. Returns (B, C, H, W)."""
        here, ranks = len(x), parallel.ranks()
        together = min(self.together or here * ranks, here * ranks)
        if not self.training or (together == here and ranks == 1 and self.groups is None):
            return super().forward(x)
        if self.groups is not None:
            return self._in_groups(x, together)
        self.num_batches_tracked += 1
        if together == here * ranks:
            return self._synchronised(x)
        if here % together:
            raise ReproError(
                f"A batch of {here} images on each of {ranks} device(s) does not split into groups of"
                f" {together} (bn_batch): choose --devices so that it does."
            )
        return self._in_groups(x, together)

    def _in_groups(self, x: Tensor, together: int) -> Tensor:
        normalised, averages = [], []
        for group in x.split(together):
            average = self.running_mean.clone(), self.running_var.clone()
            normalised.append(
                F.batch_norm(group, *average, self.weight, self.bias, True, self.momentum, self.eps)
            )
            averages.append(torch.stack(average))
        if self.groups is None:
            self.take_mean_of(averages)
        else:
            self.groups += averages
        return torch.cat(normalised)

    def take_mean_of(self, groups: list[Tensor]) -> None:
        """Set the moving averages to the mean of those after each group, (2, C) each."""
        running_mean, running_var = parallel.mean(torch.stack(groups).mean(0))
        self.running_mean.copy_(running_mean), self.running_var.copy_(running_var)

    def _synchronised(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            mean = parallel.mean(wide.mean(dim=(0, 2, 3)))
            centred = wide - mean[:, None, None]
            variance = parallel.mean(centred.square().mean(dim=(0, 2, 3)))
            with torch.no_grad():
                count = parallel.ranks() * x.numel() // x.shape[1]
                (
                    self.running_mean.lerp_(mean, self.momentum),
                    self.running_var.lerp_(variance * (count / (count - 1)), self.momentum),
                )
            out = centred * torch.rsqrt(variance + self.eps)[:, None, None]
            if self.affine:
                out = out * self.weight[:, None, None] + self.bias[:, None, None]
            return out.to(x.dtype)


@contextmanager
def one_batch(network: nn.Module) -> Iterator[None]:
    """A block in which all that passes through the network are parts of one batch: each weight is evaluated
    once, with one power iteration, and batch norm's moving averages take the mean of all groups.
    """
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.groups = []
    try:
        with parametrize.cached():
            yield
    finally:
        groups = [norm.groups for norm in norms]
        for norm in norms:
            norm.groups = None
    for norm, of_norm in zip(norms, groups, strict=True):
        if of_norm:
            norm.take_mean_of(of_norm)
            norm.num_batches_tracked += 1


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias are looked up by class (de Vries et al. 2017); they start at 1 and 0.

    With `recipe.cbn_init` "init" a gain is 1 plus its table's entry and both tables start at random, as the
    other weights do (BigGAN-PyTorch's `ccbn`); so it is under spectral norm on the tables (`recipe.sn_cbn`,
    StudioGAN's way): a table of zeros has no direction to normalise.
    """

    def __init__(self, channels: int, num_classes: int, recipe: Recipe, sn: bool):
        super().__init__()
        self.norm = BatchNorm(channels, recipe, recipe.bn_momentum, affine=False)
        sn = sn and recipe.sn_cbn
        self.around_one = sn or recipe.cbn_init == "init"  # gains are 1 plus the table's entries
        self.gain = spectral_norm(nn.Embedding(num_classes, channels), recipe, sn)
        self.bias = spectral_norm(nn.Embedding(num_classes, channels), recipe, sn)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """x: (B, C, H, W); labels: (B,) int64, or shares (B, classes) of a mixture of classes. Returns (B, C,
        H, W).
        """
        gain, bias = (
            (table(labels) if labels.dim() == 1 else labels @ table.weight)
            for table in (self.gain, self.bias)
        )
        gain, bias = gain[:, :, None, None].to(x.dtype), bias[:, :, None, None].to(x.dtype)  # (B, C, 1, 1)
        return torch.addcmul(bias, self.norm(x), 1 + gain if self.around_one else gain)


def attention_channels(channels: int, recipe: Recipe) -> tuple[int, int]:
    """Channels of the queries and keys, and of the values, of attention at a feature map with `channels`."""
    return max(channels // recipe.key_divisor, recipe.key_channels_min), channels // recipe.value_divisor


class SelfAttention(nn.Module):
    """The paper's block (section 3): y = gamma * o + x, where o attends from every position to every key
    position.

    Query, key and value are 1x1 convolutions (the paper's f, g and h), and a last 1x1 convolution maps the
    attended values back to C channels. The released code pools keys and values 2x2, has values of C/2
    channels, and neither biases nor a 1/sqrt(d) scale; the second codebase has values of C channels and no
    last convolution. Each of these is a field of the recipe. `gamma` starts at 0, so a fresh block is the
    identity.
    """

    # positions: on a CPU the plain products are faster, but from here on their memory counts
    # (benchmarks/attention.py)
    FUSED_FROM = 64 * 64

    def __init__(self, channels: int, recipe: Recipe, sn: bool):
        super().__init__()
        self.pool = recipe.attention_pool
        sn = sn and recipe.attention_sn
        keys, values = attention_channels(channels, recipe)
        self.scale = keys**-0.5 if recipe.attention_scale else 1.0

        def conv1x1(c_in: int, c_out: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(c_in, c_out, 1, bias=recipe.attention_bias), recipe, sn)

        self.query = conv1x1(channels, keys)
        self.key = conv1x1(channels, keys)
        self.value = conv1x1(channels, values)
        self.output = conv1x1(values, channels) if recipe.attention_output else nn.Identity()
        self.gamma = nn.Parameter(torch.zeros(()))

    def _keys(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2) if self.pool else x

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x (B, C, H, W): (B, H*W, C/8), (B, K, C/8) and (B, K, C/2), the recipe's scale in the
        queries.
        """
        query, key, value = self.query(x), self._keys(self.key(x)), self._keys(self.value(x))
        if self.scale != 1:
            query = query * self.scale
        return tuple(t.flatten(2).transpose(1, 2) for t in (query, key, value))

    def attention_map(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). Returns (B, H*W, K): for each query position the weights over the K keys, summing
        to 1.

        K is H*W, or a quarter of it where keys are pooled.
        """
        query, key, _ = self._queries_keys_values(x)
        return attention_weights(query, key)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). Returns (B, C, H, W). The map itself is held for small feature maps only."""
        query, key, value = self._queries_keys_values(x)
        if x.is_cuda or query.shape[1] >= self.FUSED_FROM:
            attended = fused_attention(query, key, value)
        else:
            attended = attention_weights(query, key).to(value.dtype) @ value  # (B, HW, C/2)
        attended = attended.transpose(1, 2).unflatten(2, x.shape[2:])  # (B, C/2, H, W)
        return x + self.gamma.to(x.dtype) * self.output(attended)


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """softmax(query key^T), float32 whatever the precision, as the fused kernels keep it. (B, N, d), (B, K,
    d) to (B, N, K).
    """
    with torch.autocast(query.device.type, enabled=False):
        wide = torch.promote_types(query.dtype, torch.float32)
        return torch.softmax(query.to(wide) @ key.to(wide).transpose(1, 2), dim=-1)


def fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T) value in memory linear in the number of positions. (B, N, d), (B, K, d), (B, K, e)
    to (B, N, e).

    PyTorch's fused kernels want d = e: zeros that change no product make it so.
    """
    width = max(query.shape[-1], value.shape[-1])
    q, k, v = (
        t.unsqueeze(1) if t.shape[-1] == width else F.pad(t, (0, width - t.shape[-1])).unsqueeze(1)
        for t in (query, key, value)
    )
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)[..., : value.shape[-1]]


def residual_widths(channels: int, target: int) -> tuple[int, int]:
    """Widths (a, b) of a C -> a -> b -> C bottleneck (1x1, 3x3, 1x1) with `target` weights within 2 %.

    b - a is as small as that allows, up to 4; the nearest pair where none is within 2 % (few channels).
    """

    def miss(pair: tuple[int, int]) -> float:
        a, b = pair
        return abs(channels * a + 9 * a * b + channels * b - target) / target

    nearest = [min(((a, a + d) for a in range(1, channels + 1)), key=miss) for d in range(5)]
    return next((pair for pair in nearest if miss(pair) <= 0.02), min(nearest, key=miss))


class ResidualControl(nn.Module):
    """A convolutional block with the attention block's number of parameters (Table 1's "residual" rows).

    The paper does not give its shape. Ours is matched in all but the operation: no biases, spectral norm
    alike, and the same gate `gamma` from 0, so that a fresh block is the identity: y = x + gamma *
    conv1x1(relu(conv3x3(relu(conv1x1(x))))).
    """

    def __init__(self, channels: int, recipe: Recipe, sn: bool):
        super().__init__()
        a, b = residual_widths(channels, 2 * channels * sum(attention_channels(channels, recipe)))

        def conv(c_in: int, c_out: int, kernel: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False), recipe, sn)

        self.layers = nn.Sequential(
            conv(channels, a, 1), nn.ReLU(), conv(a, b, 3), nn.ReLU(), conv(b, channels, 1)
        )
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). Returns (B, C, H, W)."""
        return x + self.gamma.to(x.dtype) * self.layers(x)


def stage_name(size: int) -> str:
    """The name of the stage with feature maps of this size in pixels, such as 16x16."""
    return f"{size}x{size}"


def insertions(
    network: str,
    widths: dict[int, int],
    attention_at: Iterable,
    residual_at: Iterable,
    recipe: Recipe,
    sn: bool,
):
    """The attention and residual blocks by stage name, for a network whose stages have these `widths` by
    feature-map size.
    """
    blocks = nn.ModuleDict()
    for make, sizes in ((SelfAttention, attention_at), (ResidualControl, residual_at)):
        for size in sizes:
            if size not in widths:
                raise SizeNotAvailable(
                    f"The {network} has no {size}x{size} feature map: choose from"
                    f" {', '.join(map(str, sorted(widths)))}."
                )
            blocks[stage_name(size)] = make(widths[size], recipe, sn)
    return blocks
