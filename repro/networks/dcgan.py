"""The second codebase's pair (heykeetae/Self-Attention-GAN): a DCGAN with attention after the last two
feature maps of each network.

At 64 px and base width 64, G goes from 512 channels at 4x4 to 64 at 32x32 and D back, with attention at 16
and 32 in G and at 8 and 4 in D. It knows no classes: labels are taken and ignored, so that one loop trains
both pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..recipes import Recipe
from .layers import BatchNorm, insertions, stage_name
from .spectral_norm import spectral_norm


class Generator(nn.Module):
    """z to an image: transposed 4x4 convolutions with batch norm and ReLU, the last one without, and tanh.

    Args: resolution 32, 64 or 128 (px); channels, the width of the last hidden feature map. Spectral norm is
    on all convolutions but the last; of a transposed one it takes the matrix whose rows are the input
    channels, as the codebase does.
    """

    def __init__(self, resolution: int, channels: int, recipe: Recipe, z_dim: int = 128):
        super().__init__()
        self.z_dim, self.resolution = z_dim, resolution
        widths = {s: channels * resolution // (2 * s) for s in (4, 8, 16, 32, 64) if s < resolution}
        self.stages = nn.ModuleDict()
        c_in = z_dim
        for size, c_out in widths.items():
            up = (
                nn.ConvTranspose2d(c_in, c_out, 4)
                if size == 4
                else nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1)
            )
            norm = BatchNorm(c_out, recipe, recipe.bn_momentum)
            self.stages[stage_name(size)] = nn.Sequential(
                spectral_norm(up, recipe, recipe.sn_generator), norm, nn.ReLU()
            )
            c_in = c_out
        self.inserted = insertions("generator", widths, sorted(widths)[-2:], (), recipe, recipe.sn_generator)
        self.last_conv = nn.ConvTranspose2d(c_in, 3, 4, stride=2, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """z: (B, z_dim) standard normal; labels are ignored. Returns images (B, 3, resolution, resolution) in
        -1 .. 1.
        """
        x = z[:, :, None, None].contiguous(memory_format=torch.channels_last)
        for name, stage in self.stages.items():
            x = stage(x)
            if name in self.inserted:
                x = self.inserted[name](x)
        return torch.tanh(self.last_conv(x))


class Discriminator(nn.Module):
    """4x4 convolutions of stride 2 with leaky ReLU (slope 0.1), and a last 4x4 convolution to one logit; no
    norm but the spectral one.
    """

    def __init__(self, resolution: int, channels: int, recipe: Recipe):
        super().__init__()
        widths = {s: channels * resolution // (2 * s) for s in (64, 32, 16, 8, 4) if s < resolution}
        self.stages = nn.ModuleDict()
        c_in = 3
        for size, c_out in widths.items():
            self.stages[stage_name(size)] = spectral_norm(
                nn.Conv2d(c_in, c_out, 4, stride=2, padding=1), recipe, recipe.sn_discriminator
            )
            c_in = c_out
        self.inserted = insertions(
            "discriminator", widths, sorted(widths)[1::-1], (), recipe, recipe.sn_discriminator
        )
        self.last_conv = nn.Conv2d(c_in, 1, 4)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        """x: images (B, 3, resolution, resolution) in -1 .. 1; labels are ignored. Returns the logits (B,)
        and no class logits.
        """
        for name, stage in self.stages.items():
            x = F.leaky_relu(stage(x), 0.1)
            if name in self.inserted:
                x = self.inserted[name](x)
        return self.last_conv(x).flatten(), None
