"""A generator to samples to scores."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from . import metrics, shapes
from .config import Config, Preset, ReproError
from .data import ImageData, cache_folder
from .features import load_extractor
from .rng import normal, stream
from .runs import write_atomically

log = logging.getLogger(__name__)

BATCH = 100  # fixed, so that the arithmetic of a score does not depend on the training batch
MINIMUM_REAL = 100  # fewer real images say nothing about the scores
KEPT = 10_000  # features used for KID, precision and recall, which compare image with image
MINIMUM_DIVERSITY = 1.0  # grey levels by which real images of a class differ at least


def latents(z_dim: int, seed: int, first: int, count: int) -> Tensor:
    """Latents of the images first .. first + count - 1, (count, z_dim): one seed per image, so batching does not matter."""
    return torch.stack([normal((z_dim,), "sample", seed, i) for i in range(first, first + count)])


def to_uint8(x: Tensor) -> np.ndarray:
    """Images (B, 3, R, R) in -1 .. 1 as uint8 (B, R, R, 3)."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def sample(
    generator: torch.nn.Module, config: Config, count: int, precision: str, device: str = "cpu", seed: int | None = None, label: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, R, R, 3) and labels (count,) of G in evaluation mode (moving averages of batch norm).

    Image i has class i modulo the number of classes, or the class `label`, and its own latent, of the preset's sampling seed or another.
    """
    was_training = generator.training
    generator.eval()
    images = []
    seed = config.preset.sampling_seed if seed is None else seed
    labels = torch.arange(count) % config.num_classes if label is None else torch.full((count,), label)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"), parametrize.cached():
        for first in range(0, count, BATCH):
            y = labels[first : first + BATCH]
            z = latents(config.preset.z_dim, seed, first, len(y))
            images.append(to_uint8(generator(z.to(device), y.to(device))))
    generator.train(was_training)
    return np.concatenate(images), labels.numpy()


@torch.no_grad()
def interpolations(generator: torch.nn.Module, config: Config, precision: str, device: str = "cpu", rows: int = 4, columns: int = 9) -> np.ndarray:
    """Images uint8 (2 * rows, columns, R, R, 3) of G in evaluation mode: `rows` lines from one latent to another of a class, along the
    great circle between them, then as many from a class to the next with one latent, mixing the classes' gains and biases.
    """
    share = torch.linspace(0, 1, columns)[:, None]
    z = latents(config.preset.z_dim, config.preset.sampling_seed, 0, 2 * rows)
    classes = torch.eye(config.num_classes)[torch.arange(2 * rows) % config.num_classes]  # one-hot
    lines = []
    for k in range(rows):
        angle = torch.arccos(torch.cosine_similarity(z[k], z[k + rows], dim=0))
        between = (torch.sin((1 - share) * angle) * z[k] + torch.sin(share * angle) * z[k + rows]) / torch.sin(angle)
        lines.append((between, classes[k].expand(columns, -1)))
    lines += [(z[k].expand(columns, -1), torch.lerp(classes[k], classes[(k + 1) % len(classes)], share)) for k in range(rows)]
    was_training = generator.training
    generator.eval()
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"), parametrize.cached():
        images = np.stack([to_uint8(generator(x.to(device), y.to(device))) for x, y in lines])
    generator.train(was_training)
    return images


def nearest_training_images(scorer: Scorer, data: ImageData, images: np.ndarray, count: int = 5) -> tuple[np.ndarray, dict[str, float]]:
    """The training images whose features are nearest to each sample's, and how near: a check for memorised images.

    Searched are the first KEPT of the reference images. images: uint8 (N, R, R, 3). Returns uint8 (N, count, R, R, 3), and the
    medians over samples, and over training images that are not searched where there are as many, of the distance to the nearest.
    """
    chosen = scorer.chosen[:KEPT]
    training = extract_reference(scorer.extractor, data, chosen, len(chosen)).kept[""]

    def distances(of: np.ndarray) -> Tensor:
        return torch.cdist(torch.from_numpy(extract(scorer.extractor, of, len(of)).kept[""]), torch.from_numpy(training))

    near = distances(images).topk(count, largest=False)
    medians = {"samples": near.values[:, 0].median().item()}
    others = np.setdiff1d(np.arange(len(data.images)), chosen)[: len(images)]
    if len(others) == len(images):
        medians["real"] = distances(data.images[others]).min(1).values.median().item()
    return data.images[chosen[near.indices.numpy()]], medians


@dataclass
class Extracted:
    """What the scores need of a set of images, gathered batch by batch."""

    statistics: dict[str, metrics.Statistics]  # by resizer: "" and, of Inception, "clean"
    kept: dict[str, np.ndarray]  # features (K, D) of the first images, for scores that compare image with image
    inception_score: tuple[float, float]  # in one split and in ten

    def arrays(self) -> dict[str, np.ndarray]:
        """As plain arrays, for a file."""
        out = {"inception_score": np.array(self.inception_score)}
        for name, s in self.statistics.items():
            out |= {f"mean {name}": s.mean, f"covariance {name}": s.covariance, f"count {name}": np.array(s.count)}
            out[f"kept {name}"] = self.kept[name]
        return out

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> Extracted:
        names = [key.removeprefix("mean ") for key in arrays if key.startswith("mean ")]
        statistics = {n: metrics.Statistics(arrays[f"mean {n}"], arrays[f"covariance {n}"], int(arrays[f"count {n}"])) for n in names}
        return cls(statistics, {n: arrays[f"kept {n}"] for n in names}, tuple(arrays["inception_score"].tolist()))


def extract(extractor: torch.nn.Module, images: np.ndarray, keep: int = 0) -> Extracted:
    """Pass uint8 images (N, H, W, 3) through the extractor once, on its device. Memory grows with `keep`, not with N."""
    device = next(extractor.parameters()).device
    moments, kept, predictions = {}, {}, metrics.Predictions(len(images))
    for i in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.array(images[i : i + BATCH])).to(device).permute(0, 3, 1, 2)
        features, probabilities = extractor(batch)
        predictions.add(probabilities)
        for name, x in features.items():
            moments.setdefault(name, metrics.Moments()).add(x)
            kept.setdefault(name, []).append(x[: max(keep - i, 0)].cpu().numpy())
    return Extracted(
        {name: m.statistics() for name, m in moments.items()},
        {name: np.concatenate(parts) for name, parts in kept.items()},
        predictions.scores(),
    )


def score(reference: Extracted, generated: Extracted, extended: bool) -> dict[str, float]:
    """Scores by name: fid and is, in one split; extended: is_10 (in ten splits), kid, precision and recall too.

    A second resizer's scores carry its name, such as fid_clean.
    """
    scores = {"is": generated.inception_score[0]}
    for name, statistics in generated.statistics.items():
        end = f"_{name}" if name else ""
        scores[f"fid{end}"] = metrics.frechet_distance(reference.statistics[name], statistics)
        if extended:
            scores[f"kid{end}"] = metrics.kernel_distance(reference.kept[name][:KEPT], generated.kept[name][:KEPT])
    if extended:
        scores["is_10"] = generated.inception_score[1]
        scores["precision"], scores["recall"] = metrics.precision_recall(reference.kept[""][:KEPT], generated.kept[""][:KEPT])
    return scores


def extract_reference(extractor: torch.nn.Module, data: ImageData, chosen: np.ndarray, keep: int) -> Extracted:
    """`extract` of real images, cached by all that decides it: data, split, resolution, which images, extractor and resizer."""
    split = "train"  # all that the data layer gives
    identity = (3, data.fingerprint, split, data.images.shape[1:], hashlib.sha256(chosen.tobytes()).hexdigest(), extractor.name, extractor.resizer, keep)
    return Extracted.of_arrays(_cached(identity, lambda: extract(extractor, data.images[chosen], keep).arrays()))


def _cached(identity: tuple, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays stored under `identity`; computed and stored where there are none or they are damaged."""
    path = cache_folder() / "references" / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}.npz"
    try:
        with np.load(path) as f:
            return dict(f)
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        log.warning("The reference statistics %s are damaged (%s): computing them again.", path.name, error)
    arrays = compute()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
    return arrays


class Scorer:
    """Scores sets of generated images against the training images of one data set.

    The reference statistics are computed once and cached. With them come the scores of other training images (`real`) and of
    uniform noise (`noise`), as many as are generated: what a perfect and a useless generator would get.

    Raises ReproError when real images do not score as real images should, before anything is trained.
    """

    def __init__(self, config: Config, data: ImageData, device: str = "cpu"):
        preset = config.preset
        self.extractor = load_extractor(preset.extractor).to(device)
        self.by_label = config.recipe.conditioning != "unconditional"  # else the labels of samples mean nothing
        self.symmetric = self.by_label and data.name == "symmetric_shapes"
        count = min(preset.references, len(data.images))
        order = stream("references", preset.sampling_seed).permutation(len(data.images))
        self.chosen = chosen = np.sort(order[:count])  # the reference images
        self.labels = data.labels[chosen]
        per_class = min(np.bincount(self.labels, minlength=data.num_classes).min(), preset.samples // data.num_classes)
        self.intra = self.by_label and per_class >= metrics.MINIMUM_PER_CLASS
        self.keep = max(count, preset.samples) if self.intra else KEPT if self.extractor.extended else 0
        of = (data.fingerprint, hashlib.sha256(chosen.tobytes()).hexdigest())
        diversity = lambda: {"diversity": np.array(metrics.diversity(data.images[chosen], self.labels))}
        self.real_diversity = float(_cached(("diversity", *of), diversity)["diversity"])
        self._check_diversity(data.name)
        self.reference = extract_reference(self.extractor, data, chosen, self.keep)
        self.real, self.noise = self._bounds(data, order, count, preset, of)
        self._check_real(data.name)
        self.definition = {
            "extractor": self.extractor.name,
            "resizer": self.extractor.resizer,
            "references": count,
            "reference_split": "train",
            "inception_score_splits": 1,
        }

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Scores by name: those of `score`; intra_fid, the mean over classes, where there are enough images of each; diversity
        (1 is as varied as real); on the embedded set consistency.

        Consistency is also given for the mirrored and for the turned classes alone: at the mirror's seam neighbouring pixels
        agree, so convolutions get there early; a half turned by 180 degrees has its partner far away only.
        """
        generated = extract(self.extractor, images, self.keep)
        scores = score(self.reference, generated, self.extractor.extended)
        if self.intra and np.unique(labels, return_counts=True)[1].min() >= metrics.MINIMUM_PER_CLASS:
            per_class = metrics.intra_class_fid(self.reference_by_class, by_class(generated.kept[""], labels))
            scores["intra_fid"] = float(np.mean(list(per_class.values())))
        scores["diversity"] = metrics.diversity(images, labels) / self.real_diversity
        if self.symmetric:
            turned = shapes.is_turned(labels)
            scores["consistency"] = shapes.consistency(images, labels)
            scores["consistency_mirrored"] = shapes.consistency(images[~turned], labels[~turned])
            scores["consistency_turned"] = shapes.consistency(images[turned], labels[turned])
        return scores

    @functools.cached_property
    def reference_by_class(self) -> dict[int, metrics.Statistics]:
        return by_class(self.reference.kept[""], self.labels)

    def _bounds(self, data: ImageData, order: np.ndarray, count: int, preset: Preset, of: tuple) -> tuple[dict, dict]:
        """Scores of real images after the first `count` of `order`, where there are enough, and of noise; cached with the reference's identity `of`."""
        held_out = len(order) - count >= MINIMUM_REAL
        chosen = np.sort((order[count:] if held_out else order)[-preset.samples :])

        def compute() -> dict[str, np.ndarray]:
            images, labels = data.images[chosen], data.labels[chosen]
            noise = stream("noise", preset.sampling_seed).integers(0, 256, images.shape, dtype=np.uint8)
            real = self(images, labels) | {"images": len(images), "held_out": int(held_out)}
            return {"json": np.array(json.dumps([real, self(noise, labels) | {"images": len(images)}]))}

        identity = ("bounds", 4, *of, hashlib.sha256(chosen.tobytes()).hexdigest(), self.extractor.name, self.extractor.resizer, self.keep, *(() if self.by_label else ("unconditional",)))
        return tuple(json.loads(str(_cached(identity, compute)["json"])))

    def _check_diversity(self, name: str) -> None:
        if not self.real_diversity >= MINIMUM_DIVERSITY:
            raise ReproError(
                f"The training images of {name} hardly differ within a class (by {self.real_diversity:.2f} grey levels): look at"
                " the images; nothing was trained."
            )

    def _check_real(self, name: str) -> None:
        """Real images have to score clearly better than noise."""
        real, noise = self.real["fid"], self.noise["fid"]
        if not real < noise / 2:
            raise ReproError(
                f"Training images of {name} have FID {real:.1f} to others of their kind and noise has {noise:.1f}: no score could"
                " tell good samples from bad; look at the images and at the extractor's weights. Nothing was trained."
            )


def score_images(
    extractor: torch.nn.Module, images: ImageData, reference: ImageData, classes: bool = False
) -> tuple[dict[str, float], dict[str, float]]:
    """Any set of images against any other: the scores of `score`, extended, and with `classes` the FID of each class by name.

    Raises ReproError for fewer images than MINIMUM_REAL on a side, and for `classes` when they differ or one has too few
    images (metrics.MINIMUM_PER_CLASS).
    """
    for data in (images, reference):
        if len(data.images) < MINIMUM_REAL:
            raise ReproError(f"{data.name} holds {len(data.images)} images: scores need at least {MINIMUM_REAL} on each side.")
    if classes and images.class_names != reference.class_names:
        raise ReproError(
            f"{images.name} has the classes {', '.join(images.class_names[:5])} ... and {reference.name} {', '.join(reference.class_names[:5])}"
            " ...: a FID by class needs the same on both sides."
        )
    keep = max(len(images.images), len(reference.images)) if classes else KEPT
    real = extract_reference(extractor, reference, np.arange(len(reference.images)), keep)
    generated = extract(extractor, images.images, keep)
    found = {}
    if classes:
        found = metrics.intra_class_fid(by_class(real.kept[""], reference.labels), by_class(generated.kept[""], images.labels))
    return score(real, generated, extended=True), {reference.class_names[k]: value for k, value in found.items()}


def by_class(features: np.ndarray, labels: np.ndarray) -> dict[int, metrics.Statistics]:
    """Feature statistics of each class. features: (N, D); labels: (N,)."""
    return {int(k): metrics.Statistics.of(features[labels == k]) for k in np.unique(labels)}
