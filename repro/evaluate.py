"""A generator to samples to scores."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from . import metrics, shapes
from .config import Config
from .data import ImageData, cache_folder
from .features import load_extractor
from .rng import normal, stream
from .runs import write_atomically

log = logging.getLogger(__name__)

BATCH = 100  # fixed, so that the arithmetic of a score does not depend on the training batch


def latents(z_dim: int, seed: int, first: int, count: int) -> Tensor:
    """Latents of the images first .. first + count - 1, (count, z_dim): one seed per image, so batching does not matter."""
    return torch.stack([normal((z_dim,), "sample", seed, i) for i in range(first, first + count)])


@torch.no_grad()
def sample(generator: torch.nn.Module, config: Config, count: int, precision: str, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, R, R, 3) and labels (count,) of G in evaluation mode (moving averages of batch norm).

    Image i has class i modulo the number of classes, and its own latent.
    """
    was_training = generator.training
    generator.eval()
    images = []
    labels = torch.arange(count) % config.num_classes
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"), parametrize.cached():
        for first in range(0, count, BATCH):
            y = labels[first : first + BATCH]
            z = latents(config.preset.z_dim, config.preset.sampling_seed, first, len(y))
            x = generator(z.to(device), y.to(device)).float()
            images.append(((x + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu())
    generator.train(was_training)
    return torch.cat(images).numpy(), labels.numpy()


def sheet_png(images: np.ndarray, labels: np.ndarray, columns: int = 10, rows: int = 8) -> bytes:
    """A PNG of images uint8 (N, R, R, 3): a column for each of the first classes, the first images of each from the top."""
    from PIL import Image

    blank = np.full((rows, *images.shape[1:]), 255, np.uint8)
    chosen = [np.concatenate([images[np.flatnonzero(labels == k)[:rows]], blank])[:rows] for k in np.unique(labels)[:columns]]
    sheet = np.concatenate([np.concatenate(list(column), axis=0) for column in chosen], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def extract(extractor: torch.nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and class probabilities (N, classes) of uint8 images (N, H, W, 3), on the extractor's device."""
    device = next(extractor.parameters()).device
    parts = [
        extractor(torch.from_numpy(np.ascontiguousarray(images[i : i + BATCH])).to(device).permute(0, 3, 1, 2))
        for i in range(0, len(images), BATCH)
    ]
    features, probabilities = zip(*parts, strict=True)
    return torch.cat(features).cpu().numpy(), torch.cat(probabilities).cpu().numpy()


class Scorer:
    """Scores sets of generated images against the training images of one data set.

    The reference statistics are computed once and cached by all that decides them: data, count, extractor and resizer.
    """

    def __init__(self, config: Config, data: ImageData, device: str = "cpu"):
        preset = config.preset
        self.extractor = load_extractor(preset.extractor).to(device)
        self.symmetric = data.name == "symmetric_shapes"
        count = min(preset.references, len(data.images))
        chosen = stream("references", preset.sampling_seed).permutation(len(data.images))[:count]
        identity = (1, data.fingerprint, count, preset.sampling_seed, self.extractor.name, self.extractor.resizer)
        path = cache_folder() / "references" / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}.npz"
        chosen = np.sort(chosen)
        self.reference, self.real_diversity = _cached_reference(path, data, chosen, self.extractor)
        self.definition = {
            "extractor": self.extractor.name,
            "resizer": self.extractor.resizer,
            "references": count,
            "reference_split": "train",
            "inception_score_splits": 1,
        }

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Scores by name: fid and is (of this extractor), diversity (1 is as varied as real), on the embedded set consistency.

        Consistency is also given for the mirrored and for the turned classes alone: at the mirror's seam neighbouring pixels
        agree, so convolutions get there early; a half turned by 180 degrees has its partner far away only.
        """
        features, probabilities = extract(self.extractor, images)
        scores = {
            "fid": metrics.frechet_distance(self.reference, metrics.Statistics.of(features)),
            "is": metrics.inception_score(probabilities),
            "diversity": metrics.diversity(images, labels) / self.real_diversity,
        }
        if self.symmetric:
            turned = shapes.is_turned(labels)
            scores["consistency"] = shapes.consistency(images, labels)
            scores["consistency_mirrored"] = shapes.consistency(images[~turned], labels[~turned])
            scores["consistency_turned"] = shapes.consistency(images[turned], labels[turned])
        return scores


def _cached_reference(path: Path, data: ImageData, chosen: np.ndarray, extractor) -> tuple[metrics.Statistics, float]:
    """Feature statistics and diversity of the chosen real images, from `path` where an earlier run left them."""
    try:
        with np.load(path) as f:
            return metrics.Statistics(f["mean"], f["covariance"], int(f["count"])), float(f["diversity"])
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        log.warning("The reference statistics %s are damaged (%s): computing them again.", path.name, error)
    images, labels = data.images[chosen], data.labels[chosen]
    statistics = metrics.Statistics.of(extract(extractor, images)[0])
    diversity = metrics.diversity(images, labels)
    buffer = io.BytesIO()
    np.savez(buffer, mean=statistics.mean, covariance=statistics.covariance, count=statistics.count, diversity=diversity)
    write_atomically(path, buffer.getvalue())
    return statistics, diversity
