"""One generator and one discriminator, composed by feature-map size (the released code's ResNet pair), and
the start of every network.

At 128 px and base width ch, G's stages are 8x8 .. 128x128 with 16ch .. ch channels and D's are 64x64 .. 4x4
with ch .. 16ch. A smaller resolution keeps the last stages of G and the first of D. Blocks are inserted after
the stage of their size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..recipes import Recipe
from ..rng import torch_generator
from . import dcgan
from .layers import BatchNorm, ConditionalBatchNorm, insertions, stage_name
from .spectral_norm import spectral_norm

DEFAULT_RECIPE = Recipe()


def conv(c_in: int, c_out: int, kernel: int, recipe: Recipe, sn: bool) -> nn.Module:
    """A convolution that keeps height and width, with spectral norm where `sn` says so."""
    return spectral_norm(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), recipe, sn)


def mean_of_shifts(kernel: Tensor) -> Tensor:
    """The mean of a 3x3 kernel's four shifts by at most one pixel: (A, B, 3, 3) to (A, B, 4, 4)."""
    return F.avg_pool2d(F.pad(kernel, (1, 1, 1, 1)), 2, stride=1)


def conv3x3_then_mean_pool(x: Tensor, conv3x3: nn.Conv2d) -> Tensor:
    """`F.avg_pool2d(conv3x3(x), 2)` as one 4x4 convolution of stride 2: 16 multiplications for 36.

    x: (B, C, S, S). Returns (B, C', S/2, S/2).
    """
    return F.conv2d(x, mean_of_shifts(conv3x3.weight), conv3x3.bias, stride=2, padding=1)


def upsample_then_conv3x3(x: Tensor, conv3x3: nn.Conv2d) -> Tensor:
    """`conv3x3(F.interpolate(x, scale_factor=2))` as one transposed 4x4 convolution of stride 2: 16
    multiplications for 36.

    x: (B, C, S, S). Returns (B, C', 2S, 2S).
    """
    kernel = 4 * mean_of_shifts(conv3x3.weight.flip(2, 3).transpose(0, 1))
    return F.conv_transpose2d(x, kernel, conv3x3.bias, stride=2, padding=1)


class UpBlock(nn.Module):
    """Residual block of G: cBN, ReLU, nearest 2x, 3x3, cBN, ReLU, 3x3; shortcut nearest 2x and 1x1."""

    def __init__(self, c_in: int, c_out: int, num_classes: int, recipe: Recipe):
        super().__init__()
        sn = recipe.sn_generator
        self.norm1 = ConditionalBatchNorm(c_in, num_classes, recipe, sn)
        self.conv1 = conv(c_in, c_out, 3, recipe, sn)
        self.norm2 = ConditionalBatchNorm(c_out, num_classes, recipe, sn)
        self.conv2 = conv(c_out, c_out, 3, recipe, sn)
        self.conv_shortcut = conv(c_in, c_out, 1, recipe, sn)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """x: (B, c_in, S, S); labels: (B,). Returns (B, c_out, 2S, 2S)."""
        residual = upsample_then_conv3x3(F.relu(self.norm1(x, labels)), self.conv1)
        residual = self.conv2(F.relu(self.norm2(residual, labels)))
        # a 1x1 convolution commutes with nearest upsampling: the same values at a quarter of the work
        return residual + F.interpolate(self.conv_shortcut(x), scale_factor=2)


class DownBlock(nn.Module):
    """Residual block of D: ReLU, 3x3, ReLU, 3x3, 2x mean-pool; shortcut 1x1 and pool.

    The first block of D has no ReLU before its first convolution; the last has no pooling and an identity
    shortcut.
    """

    def __init__(self, c_in: int, c_out: int, recipe: Recipe, first: bool = False, pool: bool = True):
        super().__init__()
        sn = recipe.sn_discriminator
        self.first, self.pool = first, pool
        self.conv1 = conv(c_in, c_out, 3, recipe, sn)
        self.conv2 = conv(c_out, c_out, 3, recipe, sn)
        self.conv_shortcut = conv(c_in, c_out, 1, recipe, sn) if pool else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, c_in, S, S). Returns (B, c_out, S/2, S/2), or (B, c_out, S, S) without pooling."""
        residual = F.relu(self.conv1(x if self.first else F.relu(x)))
        if not self.pool:
            return self.conv2(residual) + x
        # mean-pooling commutes with a 1x1 convolution: the same values at a quarter of the work
        return conv3x3_then_mean_pool(residual, self.conv2) + self.conv_shortcut(F.avg_pool2d(x, 2))


class Generator(nn.Module):
    """G: z and a class to an image.

    Args: resolution 32, 64 or 128 (px); channels, the base width; attention_at and residual_at, feature-map
    sizes. Raises SizeNotAvailable (a ValueError) for a size this network does not have.
    """

    def __init__(
        self,
        resolution: int,
        channels: int,
        num_classes: int,
        recipe: Recipe = DEFAULT_RECIPE,
        z_dim: int = 128,
        attention_at: Iterable = (),
        residual_at: Iterable = (),
    ):
        super().__init__()
        sn = recipe.sn_generator
        self.z_dim, self.num_classes = z_dim, num_classes
        self.resolution = resolution
        sizes = [s for s in (8, 16, 32, 64, 128) if s <= resolution]
        widths = {s: channels * resolution // s for s in sizes}
        stem = channels * resolution // 8
        self.stem = spectral_norm(nn.Linear(z_dim, stem * 4 * 4), recipe, sn)
        self.stages = nn.ModuleDict()
        c_in = stem
        for size, c_out in widths.items():
            self.stages[stage_name(size)] = UpBlock(c_in, c_out, num_classes, recipe)
            c_in = c_out
        self.inserted = insertions("generator", widths, attention_at, residual_at, recipe, sn)
        self.last_norm = BatchNorm(channels, recipe, recipe.last_bn_momentum)
        self.last_conv = conv(channels, 3, 3, recipe, sn)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """z: (B, z_dim) standard normal; labels: (B,) int64. Returns images (B, 3, resolution, resolution) in
        -1 .. 1.
        """
        x = self.stem(z).view(len(z), -1, 4, 4).contiguous(memory_format=torch.channels_last)
        for name, stage in self.stages.items():
            x = stage(x, labels)
            if name in self.inserted:
                x = self.inserted[name](x)
        return torch.tanh(self.last_conv(F.relu(self.last_norm(x))))


class Discriminator(nn.Module):
    """D with a projection head (Miyato and Koyama 2018, arXiv 1802.05637), or with an auxiliary classifier
    (AC-GAN).

    Raises SizeNotAvailable (a ValueError) for a feature-map size this network does not have.
    """

    def __init__(
        self,
        resolution: int,
        channels: int,
        num_classes: int,
        recipe: Recipe = DEFAULT_RECIPE,
        attention_at: Iterable = (),
        residual_at: Iterable = (),
    ):
        super().__init__()
        sn = recipe.sn_discriminator
        sizes = [s for s in (64, 32, 16, 8, 4) if s <= resolution // 2]
        widths = {s: channels * resolution // (2 * s) for s in sizes}
        self.stages = nn.ModuleDict()
        c_in = 3
        for size, c_out in widths.items():
            self.stages[stage_name(size)] = DownBlock(c_in, c_out, recipe, first=c_in == 3)
            c_in = c_out
        self.inserted = insertions("discriminator", widths, attention_at, residual_at, recipe, sn)
        self.last_stage = DownBlock(c_in, c_in, recipe, pool=False)
        self.linear = spectral_norm(nn.Linear(c_in, 1), recipe, sn)
        self.embedding = self.classifier = None
        if recipe.conditioning == "projection":
            self.embedding = spectral_norm(nn.Embedding(num_classes, c_in), recipe, sn)
        else:
            self.classifier = spectral_norm(nn.Linear(c_in, num_classes), recipe, sn)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """x: images (B, 3, resolution, resolution) in -1 .. 1; labels: (B,) int64.

        Returns the real/fake logits (B,) and, with an auxiliary classifier, the class logits (B, classes),
        else None.
        """
        for name, stage in self.stages.items():
            x = stage(x)
            if name in self.inserted:
                x = self.inserted[name](x)
        h = F.relu(self.last_stage(x)).sum(dim=(2, 3))  # (B, C): the released code sums over positions
        logits = self.linear(h).squeeze(1)
        if self.embedding is not None:
            return logits + (h * self.embedding(labels)).sum(dim=1), None
        return logits, self.classifier(h)


def initialise(network: nn.Module, init: str, *seed) -> nn.Module:
    """Set every weight from its own stream, seeded by `seed` and the weight's name.

    So two networks that differ by an inserted block share every other initial weight: rows with one seed are
    paired. Biases are 0 ("framework_default": as small as the weights, PyTorch's way), batch-norm gains 1,
    gamma 0.
    """
    default = functools.partial(nn.init.kaiming_uniform_, a=math.sqrt(5))
    cbns = [
        module
        for module in network.modules()
        if isinstance(module, ConditionalBatchNorm) and not module.around_one
    ]
    constant = {table for cbn in cbns for table in (cbn.gain, cbn.bias)}
    fill = {
        "xavier_uniform": nn.init.xavier_uniform_,
        "orthogonal": nn.init.orthogonal_,
        "framework_default": default,
    }[init]
    with torch.no_grad():
        for name, module in network.named_modules():
            generator = torch_generator(*seed, name)
            normalised = hasattr(module, "parametrizations")
            if module in constant:
                module.weight.fill_(1.0 if name.endswith("gain") else 0.0)
            elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
                fill(_raw(module), generator=generator)
                if getattr(module, "bias", None) is not None:
                    module.bias.zero_()
                    if init == "framework_default":
                        bound = _raw(module)[0].numel() ** -0.5
                        module.bias.uniform_(-bound, bound, generator=generator)
            if normalised:
                (norm,) = module.parametrizations.weight
                norm.u.copy_(F.normalize(torch.randn(norm.u.shape, generator=generator), dim=0))
                norm.v.copy_(F.normalize(_raw(module).flatten(1).T @ norm.u, dim=0))
    return network


def _raw(module: nn.Module) -> Tensor:
    """The trainable weight under a spectral norm, or the plain weight."""
    return module.parametrizations.weight.original if hasattr(module, "parametrizations") else module.weight


def build(config: Config) -> tuple[nn.Module, nn.Module]:
    """Both networks of a run, initialised from its seed. The global random state is left as it was."""
    recipe, preset = config.resolved_recipe(), config.preset
    places = dict(attention_at=config.attention_at, residual_at=config.residual_at)
    with torch.random.fork_rng(devices=[]):
        if recipe.network == "dcgan":
            g = dcgan.Generator(preset.resolution, preset.channels, recipe, preset.z_dim)
            d = dcgan.Discriminator(preset.resolution, preset.channels, recipe)
        else:
            g = Generator(
                preset.resolution, preset.channels, config.num_classes, recipe, preset.z_dim, **places
            )
            d = Discriminator(preset.resolution, preset.channels, config.num_classes, recipe, **places)
    seed = config.seed_of("weights")
    initialise(g, recipe.init, seed, "G")
    initialise(d, recipe.init, seed, "D")
    return g.to(memory_format=torch.channels_last), d.to(memory_format=torch.channels_last)


def gammas(network: nn.Module) -> dict[str, float]:
    """The gate of each inserted block by stage name."""
    return {name: float(block.gamma.detach()) for name, block in network.inserted.items()}


def parameter_count(network: nn.Module) -> int:
    """Trainable parameters; spectral norm's vectors and batch norm's averages are not counted."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
