"""A generator to samples to scores."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from . import metrics, shapes
from .config import Config, ReproError
from .data import ImageData, cache_folder
from .features import load_extractor
from .rng import normal, stream
from .runs import write_atomically

log = logging.getLogger(__name__)

BATCH = 100  # fixed, so that the arithmetic of a score does not depend on the training batch
MINIMUM_REAL = 100  # fewer real images say nothing about the scores
MINIMUM_DIVERSITY = 1.0  # grey levels by which real images of a class differ at least


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

    The reference statistics are computed once and cached by all that decides them: data, counts, extractor and resizer.
    With them come the scores of other training images (`real`) and of uniform noise (`noise`), as many as are generated:
    what a perfect and a useless generator would get.

    Raises ReproError when real images do not score as real images should, before anything is trained.
    """

    def __init__(self, config: Config, data: ImageData, device: str = "cpu"):
        preset = config.preset
        self.extractor = load_extractor(preset.extractor).to(device)
        self.symmetric = data.name == "symmetric_shapes"
        count = min(preset.references, len(data.images))
        order = stream("references", preset.sampling_seed).permutation(len(data.images))
        others = order[count:][-preset.samples :]
        held_out = len(others) >= MINIMUM_REAL
        if not held_out:  # too few images that are no reference: some of those then
            others = order[-preset.samples :]
        identity = (2, data.fingerprint, count, preset.samples, preset.sampling_seed, self.extractor.name, self.extractor.resizer)
        path = cache_folder() / "references" / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}.npz"
        if not self._read(path):
            images, labels = data.images[np.sort(order[:count])], data.labels[np.sort(order[:count])]
            self.reference = metrics.Statistics.of(extract(self.extractor, images)[0])
            self.real_diversity = metrics.diversity(images, labels)
            images, labels = data.images[np.sort(others)], data.labels[np.sort(others)]
            noise = stream("noise", preset.sampling_seed).integers(0, 256, images.shape, dtype=np.uint8)
            if self.real_diversity > 0:  # else check_real says so
                self.real = self(images, labels) | {"images": len(images), "held_out": int(held_out)}
                self.noise = self(noise, labels) | {"images": len(images)}
            self.check_real(data.name)
            self._write(path)
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

    def check_real(self, name: str) -> None:
        """Raises ReproError when training images are all alike, or score no better than half of what noise does."""
        if not self.real_diversity >= MINIMUM_DIVERSITY:
            raise ReproError(
                f"The training images of {name} hardly differ within a class (by {self.real_diversity:.2f} grey levels): look at"
                " the images; nothing was trained."
            )
        real, noise = self.real["fid"], self.noise["fid"]
        if not real < noise / 2:
            raise ReproError(
                f"Training images of {name} have FID {real:.1f} to others of their kind and noise has {noise:.1f}: no score could"
                " tell good samples from bad; look at the images and at the extractor's weights. Nothing was trained."
            )

    def _read(self, path: Path) -> bool:
        """Take the statistics from `path` where an earlier run left them."""
        try:
            with np.load(path) as f:
                self.reference = metrics.Statistics(f["mean"], f["covariance"], int(f["count"]))
                self.real_diversity = float(f["diversity"])
                self.real, self.noise = (json.loads(str(f[name])) for name in ("real", "noise"))
                return True
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            log.warning("The reference statistics %s are damaged (%s): computing them again.", path.name, error)
        return False

    def _write(self, path: Path) -> None:
        buffer = io.BytesIO()
        statistics = dict(mean=self.reference.mean, covariance=self.reference.covariance, count=self.reference.count)
        np.savez(buffer, **statistics, diversity=self.real_diversity, real=json.dumps(self.real), noise=json.dumps(self.noise))
        write_atomically(path, buffer.getvalue())
