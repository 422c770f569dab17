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

from ..config import Config
from ..data import shapes
from ..data.cache import cache_folder
from ..data.images import ImageData
from ..errors import ReproError
from ..presets import Preset
from ..rng import normal, stream
from ..runs import write_atomically
from . import metrics
from .features import SECOND, EfficientNetLite, check_extractor, load_extractor

log = logging.getLogger(__name__)

BATCH = 100  # fixed, so that the arithmetic of a score does not depend on the training batch
MINIMUM_REAL = 100  # fewer real images say nothing about the scores
# one in so many training images is no reference where all were wanted and there is no test split
HELD_OUT = 4
FEW = 2000  # references; with fewer FID is mostly bias
KEPT = 10_000  # features used for KID, precision and recall, which compare image with image
MINIMUM_DIVERSITY = 1.0  # grey levels by which real images of a class differ at least


def latents(z_dim: int, seed: int, first: int, count: int) -> Tensor:
    """Latents of the images first .. first + count - 1, (count, z_dim): one seed per image, so batching does
    not matter.
    """
    return torch.stack([normal((z_dim,), "sample", seed, i) for i in range(first, first + count)])


def to_uint8(x: Tensor) -> np.ndarray:
    """Images (B, 3, R, R) in -1 .. 1 as uint8 (B, R, R, 3)."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def sample(
    generator: torch.nn.Module,
    config: Config,
    count: int,
    precision: str,
    device: str = "cpu",
    seed: int | None = None,
    label: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, R, R, 3) and labels (count,) of G in evaluation mode (moving averages of batch
    norm).

    Image i has class i modulo the number of classes, or the class `label`, and its own latent, of the
    preset's sampling seed or another.
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
def interpolations(
    generator: torch.nn.Module,
    config: Config,
    precision: str,
    device: str = "cpu",
    rows: int = 4,
    columns: int = 9,
) -> np.ndarray:
    """Images uint8 (2 * rows, columns, R, R, 3) of G in evaluation mode: `rows` lines from one latent to
    another of a class, along the great circle between them, then as many from a class to the next with one
    latent, mixing the classes' gains and biases.
    """
    share = torch.linspace(0, 1, columns)[:, None]
    z = latents(config.preset.z_dim, config.preset.sampling_seed, 0, 2 * rows)
    classes = torch.eye(config.num_classes)[torch.arange(2 * rows) % config.num_classes]  # one-hot
    lines = []
    for k in range(rows):
        angle = torch.arccos(torch.cosine_similarity(z[k], z[k + rows], dim=0))
        between = (
            torch.sin((1 - share) * angle) * z[k] + torch.sin(share * angle) * z[k + rows]
        ) / torch.sin(angle)
        lines.append((between, classes[k].expand(columns, -1)))
    lines += [
        (z[k].expand(columns, -1), torch.lerp(classes[k], classes[(k + 1) % len(classes)], share))
        for k in range(rows)
    ]
    was_training = generator.training
    generator.eval()
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"), parametrize.cached():
        images = np.stack([to_uint8(generator(x.to(device), y.to(device))) for x, y in lines])
    generator.train(was_training)
    return images


def nearest_training_images(
    scorer: Scorer, data: ImageData, images: np.ndarray, count: int = 5
) -> tuple[np.ndarray, dict[str, float]]:
    """The training images whose features are nearest to each sample's, and how near: a check for memorised
    images.

    Searched are KEPT of the reference images, a seeded random choice. images: uint8 (N, R, R, 3). Returns
    uint8 (N, count, R, R, 3), and the medians over samples, and over training images that are no reference
    where there are as many, of the distance to the nearest.
    """
    references, others = np.split(scorer.order, [len(scorer.chosen)])
    chosen, others = np.sort(references[:KEPT]), np.sort(others[: len(images)])
    training = extract_reference(scorer.extractor, data, chosen, len(chosen)).in_order("")

    def distances(of: np.ndarray) -> Tensor:
        return torch.cdist(
            torch.from_numpy(extract(scorer.extractor, of, len(of)).in_order("")), torch.from_numpy(training)
        )

    near = distances(images).topk(count, largest=False)
    medians = {"samples": near.values[:, 0].median().item()}
    if len(others) == len(images):
        medians["real"] = distances(data.images[others]).min(1).values.median().item()
    return data.images[chosen[near.indices.numpy()]], medians


@dataclass
class Extracted:
    """What the scores need of a set of images, gathered batch by batch."""

    statistics: dict[str, metrics.Statistics]  # by resizer: "" and, of Inception, "clean"
    kept: dict[str, np.ndarray]  # features (K, D) of `images`, for scores that compare image with image
    images: np.ndarray  # (K,) the numbers of the kept images, the first ones of `metrics.shuffled`
    inception_score: tuple[float, float]  # in one split and in ten
    kernel: dict[str, float]  # metrics.kernel_mean of the first KEPT of `kept`, where it was computed

    def in_order(self, resizer: str) -> np.ndarray:
        """The kept features (K, D) in the images' own order."""
        return self.kept[resizer][np.argsort(self.images)]

    def by_class(self, labels: np.ndarray) -> dict[int, np.ndarray]:
        """The kept features (K_c, D) of each class, in the images' own order. labels: (N,), of all images."""
        labels, features = labels[np.sort(self.images)], self.in_order("")
        return {int(k): features[labels == k] for k in np.unique(labels)}

    def arrays(self) -> dict[str, np.ndarray]:
        """As plain arrays, for a file."""
        out = {"inception_score": np.array(self.inception_score), "images": self.images}
        for name, s in self.statistics.items():
            out |= {
                f"mean {name}": s.mean,
                f"covariance {name}": s.covariance,
                f"count {name}": np.array(s.count),
            }
            out |= {f"kept {name}": self.kept[name], f"kernel {name}": np.array(self.kernel[name])}
        return out

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> Extracted:
        """What `arrays` was made of. Raises KeyError where an array is missing."""
        names = [key.removeprefix("mean ") for key in arrays if key.startswith("mean ")]
        statistics = {
            n: metrics.Statistics(arrays[f"mean {n}"], arrays[f"covariance {n}"], int(arrays[f"count {n}"]))
            for n in names
        }
        kept, kernel = ({n: arrays[f"{what} {n}"] for n in names} for what in ("kept", "kernel"))
        return cls(
            statistics,
            kept,
            arrays["images"],
            tuple(arrays["inception_score"].tolist()),
            {n: float(v) for n, v in kernel.items()},
        )


def extract(extractor: torch.nn.Module, images: np.ndarray, keep: int = 0) -> Extracted:
    """Pass uint8 images (N, H, W, 3) through the extractor once, on its device. Memory grows with `keep`, not
    with N.

    The features of `keep` images are kept, a seeded random choice: images may come in the order of their
    classes.
    """
    device = next(extractor.parameters()).device
    moments, kept, predictions = {}, {}, metrics.Predictions(len(images))
    order = metrics.shuffled(len(images))
    place = np.argsort(order)
    for i in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.array(images[i : i + BATCH])).to(device).permute(0, 3, 1, 2)
        features, probabilities = extractor(batch)
        predictions.add(probabilities)
        to = place[i : i + BATCH]
        for name, x in features.items():
            moments.setdefault(name, metrics.Moments()).add(x)
            if name not in kept:
                kept[name] = np.empty((min(keep, len(images)), x.shape[1]), np.float32)
            kept[name][to[to < keep]] = x.cpu().numpy()[to < keep]
    return Extracted(
        {name: m.statistics() for name, m in moments.items()}, kept, order[:keep], predictions.scores(), {}
    )


def score(reference: Extracted, generated: Extracted, extended: bool) -> dict[str, float]:
    """Scores by name: fid and is (in one split), and kid; extended: is_10 (in ten splits), precision and
    recall too.

    A second resizer's scores carry its name, such as fid_clean.
    """
    scores = {"is": generated.inception_score[0]}
    for name, statistics in generated.statistics.items():
        end = f"_{name}" if name else ""
        scores[f"fid{end}"] = metrics.frechet_distance(reference.statistics[name], statistics)
        scores[f"kid{end}"] = metrics.kernel_distance(
            reference.kept[name][:KEPT], generated.kept[name][:KEPT], reference.kernel.get(name)
        )
    if extended:
        scores["is_10"] = generated.inception_score[1]
        scores["precision"], scores["recall"] = metrics.precision_recall(
            reference.kept[""][:KEPT], generated.kept[""][:KEPT]
        )
    return scores


def extract_reference(
    extractor: torch.nn.Module, data: ImageData, chosen: np.ndarray, keep: int
) -> Extracted:
    """`extract` of real images, with their kernel means, cached by all that decides it: data, split,
    resolution, which images, extractor and resizer.
    """
    identity = (
        5,
        data.fingerprint,
        data.split,
        data.images.shape[1:],
        hashlib.sha256(chosen.tobytes()).hexdigest(),
        extractor.name,
        extractor.resizer,
        keep,
    )

    def compute() -> dict[str, np.ndarray]:
        found = extract(extractor, data.images[chosen], keep)
        found.kernel = {name: metrics.kernel_mean(features[:KEPT]) for name, features in found.kept.items()}
        return found.arrays()

    return Extracted.of_arrays(_cached(identity, compute))


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

    The reference statistics are computed once and cached. With them come the scores of other real images
    (`real`) and of uniform noise (`noise`), as many as are generated: what a perfect and a useless generator
    would get. Real images are those of the data set's test split, or training images that are no reference.

    Raises ReproError when real images do not score as real images should, or an extractor is missing, before
    anything is trained.
    """

    def __init__(self, config: Config, data: ImageData, device: str = "cpu"):
        preset = config.preset
        check_extractor(SECOND)
        self.extractor = load_extractor(preset.extractor).to(device)
        self.data, self.device = data, device
        # else the labels of samples mean nothing
        self.by_label = config.recipe.conditioning != "unconditional"
        self.symmetric = self.by_label and data.name == "symmetric_shapes"
        test = self._test_split()
        count = _reference_count(preset, len(data.images), bool(test))
        self.order = stream("references", preset.sampling_seed).permutation(len(data.images))
        self.chosen = chosen = np.sort(self.order[:count])  # the reference images
        self.labels = data.labels[chosen]
        per_class = min(
            np.bincount(self.labels, minlength=data.num_classes).min(), preset.samples // data.num_classes
        )
        self.per_class = self.by_label and per_class >= metrics.KID_PER_CLASS
        self.intra = self.by_label and per_class >= metrics.MINIMUM_PER_CLASS
        self.keep = max(count, preset.samples) if self.per_class else KEPT
        of = (data.fingerprint, hashlib.sha256(chosen.tobytes()).hexdigest())
        diversity = lambda: {"diversity": np.array(metrics.diversity(data.images[chosen], self.labels))}
        self.real_diversity = float(_cached(("diversity", *of), diversity)["diversity"])
        self._check_diversity()
        if count < min(FEW, preset.references):
            log.warning(
                "%s gives %d reference images: FID of so few reads high, so compare it only among equal"
                " numbers; KID is unbiased.",
                data.name,
                count,
            )
        self.reference = extract_reference(self.extractor, data, chosen, self.keep)
        self.real, self.noise = self._bounds(test, preset, of)
        self._check_real()
        self.definition = {
            "extractor": self.extractor.name,
            "resizer": self.extractor.resizer,
            "references": count,
            "reference_split": data.split,
            "real_split": test.split if test else f"{data.split}, no references",
            "inception_score_splits": 1,
            "kid": f"unbiased, all pairs of up to {KEPT:,} images a side",
            "second_extractor": f"{SECOND}, {EfficientNetLite.resizer}",
        }

    def __call__(self, images: np.ndarray, labels: np.ndarray, last: bool = False) -> dict:
        """Scores by name: those of `score`; where there are enough images of each class kid_by_class (by
        class name), its mean intra_kid, and intra_fid; diversity (1 is as varied as real); on the embedded
        set consistency; of the last samples also the second extractor's, such as fid_lite2.

        labels: (N,), -1 where it is unknown: then there is nothing by class. Consistency is also given for
        the mirrored and for the turned classes alone: at the mirror's seam neighbouring pixels agree, so
        convolutions get there early; a half turned by 180 degrees has its partner far away only.
        """
        generated = extract(self.extractor, images, self.keep)
        scores = score(self.reference, generated, self.extractor.extended)
        if last:
            found = score(self.second_reference, extract(self.second_extractor, images, KEPT), extended=False)
            scores |= {f"{name}_{SECOND.rpartition('_')[2]}": value for name, value in found.items()}
        if labels.min() < 0:
            return scores
        scores |= self._scores_by_class(generated, labels)
        scores["diversity"] = metrics.diversity(images, labels) / self.real_diversity
        if self.symmetric:
            turned = shapes.is_turned(labels)
            scores["consistency"] = shapes.consistency(images, labels)
            scores["consistency_mirrored"] = shapes.consistency(images[~turned], labels[~turned])
            scores["consistency_turned"] = shapes.consistency(images[turned], labels[turned])
        return scores

    def _scores_by_class(self, generated: Extracted, labels: np.ndarray) -> dict:
        """intra_kid, kid_by_class and intra_fid, as far as each of the data's classes has images enough on
        both sides.
        """
        fewest = np.bincount(labels, minlength=self.data.num_classes).min()
        if not self.per_class or fewest < metrics.KID_PER_CLASS:
            return {}
        features = generated.by_class(labels)
        kid = {
            self.data.class_names[k]: metrics.kernel_distance(real, features[k], self.class_kernels[k])
            for k, real in self.reference_by_class.items()
        }
        scores = {"intra_kid": float(np.mean(list(kid.values()))), "kid_by_class": kid}
        if self.intra and fewest >= metrics.MINIMUM_PER_CLASS:
            per_class = metrics.intra_class_fid(
                self.class_statistics, {k: metrics.Statistics.of(f) for k, f in features.items()}
            )
            scores["intra_fid"] = float(np.mean(list(per_class.values())))
        return scores

    @functools.cached_property
    def reference_by_class(self) -> dict[int, np.ndarray]:
        """The references' kept features (K_c, D) of each class."""
        return self.reference.by_class(self.labels)

    @functools.cached_property
    def class_kernels(self) -> dict[int, float]:
        """`metrics.kernel_mean` of each class's references."""
        return {k: metrics.kernel_mean(features) for k, features in self.reference_by_class.items()}

    @functools.cached_property
    def class_statistics(self) -> dict[int, metrics.Statistics]:
        """Mean and covariance of the features of each class's references."""
        return {k: metrics.Statistics.of(features) for k, features in self.reference_by_class.items()}

    @functools.cached_property
    def second_extractor(self) -> torch.nn.Module:
        """The extractor SECOND on the scorer's device. Raises ReproError when its weights are missing."""
        return load_extractor(SECOND).to(self.device)

    @functools.cached_property
    def second_reference(self) -> Extracted:
        """The reference images as the second extractor sees them."""
        return extract_reference(self.second_extractor, self.data, self.chosen, KEPT)

    def _test_split(self) -> ImageData | None:
        """The data set's test split where it has one of enough images."""
        test = self.data.test()
        if test is not None and len(test.images) < MINIMUM_REAL:
            log.warning(
                "The split %s of %s holds %d images, %d are needed: other training images stand for real"
                " ones.",
                test.split,
                test.name,
                len(test.images),
                MINIMUM_REAL,
            )
            return None
        return test

    def _bounds(self, test: ImageData | None, preset: Preset, of: tuple) -> tuple[dict, dict]:
        """Scores of real images that are no reference and of noise; cached with the reference's identity
        `of`.
        """
        source = test or self.data
        others = (
            self.order[len(self.chosen) :]
            if test is None
            else stream("real", preset.sampling_seed).permutation(len(test.images))
        )
        chosen = np.sort(others[-preset.samples :])

        def compute() -> dict[str, np.ndarray]:
            noise = stream("noise", preset.sampling_seed).integers(
                0, 256, (preset.samples, *source.images.shape[1:]), dtype=np.uint8
            )
            labels = np.arange(preset.samples) % self.data.num_classes
            found = [
                self(images, of_images, last=True) | {"images": len(images)}
                for images, of_images in ((source.images[chosen], source.labels[chosen]), (noise, labels))
            ]
            return {"json": np.array(json.dumps(found))}

        identity = (
            "bounds",
            6,
            *of,
            source.fingerprint,
            source.split,
            hashlib.sha256(chosen.tobytes()).hexdigest(),
            preset.samples,
            self.extractor.name,
            self.extractor.resizer,
            SECOND,
            self.keep,
            self.by_label,
        )
        return tuple(json.loads(str(_cached(identity, compute)["json"])))

    def _check_diversity(self) -> None:
        if not self.real_diversity >= MINIMUM_DIVERSITY:
            raise ReproError(
                f"The training images of {self.data.name} hardly differ within a class (by"
                f" {self.real_diversity:.2f} grey levels): look at the images; nothing was trained."
            )

    def _check_real(self) -> None:
        """Real images have to score clearly better than noise, by KID, which few images do not bias."""
        real, noise = self.real["kid"], self.noise["kid"]
        if not real < noise / 2:
            raise ReproError(
                f"Real images of {self.data.name} have KID {real:.4g} to others of their kind and noise has"
                f" {noise:.4g}: no score could tell good samples from bad; look at the images and at the"
                " extractor's weights. Nothing was trained."
            )


def _reference_count(preset: Preset, total: int, has_test: bool) -> int:
    """How many of the training images are references: as many as the preset wants, but some are left as real
    images to score where no test split has them.
    """
    if total < 2 * HELD_OUT:
        raise ReproError(
            f"The data hold {total} images: scores need at least {2 * HELD_OUT}, and say little below"
            f" {FEW:,}."
        )
    count = min(preset.references, total)
    if has_test or total - count >= MINIMUM_REAL:
        return count
    return min(count, total - min(preset.samples, total // HELD_OUT))


def score_images(
    extractor: torch.nn.Module, images: ImageData, reference: ImageData, classes: bool = False
) -> tuple[dict[str, float], dict[str, float]]:
    """Any set of images against any other: the scores of `score`, extended, and with `classes` the FID of
    each class by name.

    Raises ReproError for fewer images than MINIMUM_REAL on a side, and for `classes` when they differ or one
    has too few images (metrics.MINIMUM_PER_CLASS).
    """
    for data in (images, reference):
        if len(data.images) < MINIMUM_REAL:
            raise ReproError(
                f"{data.name} holds {len(data.images)} images: scores need at least {MINIMUM_REAL} on each"
                " side."
            )
    if classes and images.class_names != reference.class_names:
        raise ReproError(
            f"{images.name} has the classes {', '.join(images.class_names[:5])} ... and {reference.name}"
            f" {', '.join(reference.class_names[:5])} ...: a FID by class needs the same on both sides."
        )
    keep = max(len(images.images), len(reference.images)) if classes else KEPT
    real = extract_reference(extractor, reference, np.arange(len(reference.images)), keep)
    generated = extract(extractor, images.images, keep)
    found = {}
    if classes:
        sides = (e.by_class(data.labels) for e, data in ((real, reference), (generated, images)))
        found = metrics.intra_class_fid(
            *({k: metrics.Statistics.of(f) for k, f in side.items()} for side in sides)
        )
    return score(real, generated, extended=True), {
        reference.class_names[k]: value for k, value in found.items()
    }
