"""The loop people start from, written without `repro`: eager float32, NCHW, PyTorch's own spectral norm, real
and generated images through D apart, every layer as the paper draws it. The baseline of `repro bench`, the
oracle of tests/checks/test_bench.py, and the pattern for a peer: `repro bench --peer FILE` times any file
that has a function `build(width)` such as the last one here.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

CLASSES, Z_DIM = 10, 128


def conv(c_in, c_out, kernel, bias=True):
    return spectral_norm(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=bias))


class ConditionalBatchNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.bias = nn.Embedding(CLASSES, channels), nn.Embedding(CLASSES, channels)
        nn.init.ones_(self.gain.weight), nn.init.zeros_(self.bias.weight)

    def forward(self, x, labels):
        return self.norm(x) * self.gain(labels)[:, :, None, None] + self.bias(labels)[:, :, None, None]


class Up(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.norm1, self.norm2 = ConditionalBatchNorm(c_in), ConditionalBatchNorm(c_out)
        self.conv1, self.conv2, self.conv_shortcut = (
            conv(c_in, c_out, 3),
            conv(c_out, c_out, 3),
            conv(c_in, c_out, 1),
        )

    def forward(self, x, labels):
        residual = self.conv1(F.interpolate(F.relu(self.norm1(x, labels)), scale_factor=2))
        return self.conv2(F.relu(self.norm2(residual, labels))) + self.conv_shortcut(
            F.interpolate(x, scale_factor=2)
        )


class Down(nn.Module):
    def __init__(self, c_in, c_out, first=False, pool=True):
        super().__init__()
        self.conv1, self.conv2 = conv(c_in, c_out, 3), conv(c_out, c_out, 3)
        self.first, self.conv_shortcut = first, conv(c_in, c_out, 1) if pool else None

    def forward(self, x):
        residual = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        return (
            F.avg_pool2d(residual, 2) + F.avg_pool2d(self.conv_shortcut(x), 2)
            if self.conv_shortcut
            else residual + x
        )


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.query, self.key = (
            conv(channels, channels // 8, 1, bias=False),
            conv(channels, channels // 8, 1, bias=False),
        )
        self.value, self.output = (
            conv(channels, channels // 2, 1, bias=False),
            conv(channels // 2, channels, 1, bias=False),
        )
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        query, key, value = self.query(x), F.max_pool2d(self.key(x), 2), F.max_pool2d(self.value(x), 2)
        attention = torch.softmax(query.flatten(2).transpose(1, 2) @ key.flatten(2), dim=-1)  # (B, HW, HW/4)
        attended = value.flatten(2) @ attention.transpose(1, 2)
        return x + self.gamma * self.output(attended.unflatten(2, x.shape[2:]))


class Generator(nn.Module):
    """32 px with attention at 16."""

    def __init__(self, ch):
        super().__init__()
        self.stem = spectral_norm(nn.Linear(Z_DIM, 4 * ch * 16))
        self.stages = nn.ModuleDict(
            {"8x8": Up(4 * ch, 4 * ch), "16x16": Up(4 * ch, 2 * ch), "32x32": Up(2 * ch, ch)}
        )
        self.inserted = nn.ModuleDict({"16x16": Attention(2 * ch)})
        self.last_norm, self.last_conv = nn.BatchNorm2d(ch), conv(ch, 3, 3)

    def forward(self, z, labels):
        x = self.stem(z).view(len(z), -1, 4, 4)
        x = self.inserted["16x16"](self.stages["16x16"](self.stages["8x8"](x, labels), labels))
        return torch.tanh(self.last_conv(F.relu(self.last_norm(self.stages["32x32"](x, labels)))))


class Discriminator(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.stages = nn.ModuleDict(
            {"16x16": Down(3, ch, first=True), "8x8": Down(ch, 2 * ch), "4x4": Down(2 * ch, 4 * ch)}
        )
        self.inserted = nn.ModuleDict({"16x16": Attention(ch)})
        self.last_stage = Down(4 * ch, 4 * ch, pool=False)
        self.linear, self.embedding = (
            spectral_norm(nn.Linear(4 * ch, 1)),
            spectral_norm(nn.Embedding(CLASSES, 4 * ch)),
        )

    def forward(self, x, labels):
        x = self.inserted["16x16"](self.stages["16x16"](x))
        h = F.relu(self.last_stage(self.stages["4x4"](self.stages["8x8"](x)))).sum(dim=(2, 3))
        return self.linear(h).squeeze(1) + (h * self.embedding(labels)).sum(dim=1)


class Loop:
    def __init__(self, width, lr_g=1e-4, lr_d=4e-4):
        self.g, self.d = Generator(width), Discriminator(width)
        self.adam_g = torch.optim.Adam(self.g.parameters(), lr_g, betas=(0.0, 0.999))
        self.adam_d = torch.optim.Adam(self.d.parameters(), lr_d, betas=(0.0, 0.999))

    def update_d(self, images, labels, z, fake_labels):
        """images: (B, 3, 32, 32) uint8; z: (B, 128); labels: (B,). Returns the hinge loss."""
        real, fake = images.float() / 127.5 - 1, self.g(z, fake_labels).detach()
        loss = F.relu(1 - self.d(real, labels)).mean() + F.relu(1 + self.d(fake, fake_labels)).mean()
        self.adam_d.zero_grad()
        loss.backward()
        self.adam_d.step()
        return loss.item()

    def update_g(self, z, labels):
        loss = -self.d(self.g(z, labels), labels).mean()
        self.adam_g.zero_grad()
        loss.backward()
        self.adam_g.step()
        return loss.item()


def build(width):
    """A function that trains one update of D and one of G on uint8 images (B, 3, 32, 32) with labels (B,), at
    this base width.
    """
    loop = Loop(width)

    def step(images, labels):
        z = lambda: torch.randn(len(images), Z_DIM)
        loop.update_d(images, labels, z(), labels)
        loop.update_g(z(), labels)

    return step
