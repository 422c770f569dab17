"""Scores of a run's samples against its training images, and the bounds between which they lie."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..data import shapes
from ..data.images import ImageData
from ..errors import ReproError
from ..presets import Preset
from ..rng import stream
from . import extraction, metrics, pairs
from .features import SECOND, EfficientNetLite, check_extractor, load_extractor
from .scores import MINIMUM_REAL, score

log = logging.getLogger(__name__)

# one in so many training images is no reference where all were wanted and there is no test split
HELD_OUT = 4
FEW = 2000  # references; with fewer FID is mostly bias
MINIMUM_DIVERSITY = 1.0  # grey levels by which real images of a class differ at least


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
        self.keep = max(count, preset.samples) if self.per_class else metrics.KEPT
        of = (data.fingerprint, hashlib.sha256(chosen.tobytes()).hexdigest())
        diversity = lambda: {"diversity": np.array(metrics.diversity(data.images[chosen], self.labels))}
        self.real_diversity = float(extraction.cached(("diversity", *of), diversity)["diversity"])
        self._check_diversity()
        if count < min(FEW, preset.references):
            log.warning(
                "%s gives %d reference images: FID of so few reads high, so compare it only among equal"
                " numbers; KID is unbiased.",
                data.name,
                count,
            )
        self.reference = extraction.extract_reference(self.extractor, data, chosen, self.keep)
        self.real, self.noise = self._bounds(test, preset, of)
        self._check_real()
        self.definition = {
            "extractor": self.extractor.name,
            "resizer": self.extractor.resizer,
            "references": count,
            "reference_split": data.split,
            "real_split": test.split if test else f"{data.split}, no references",
            "inception_score_splits": 1,
            "kid": f"unbiased, all pairs of up to {metrics.KEPT:,} images a side",
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
        generated = extraction.extract(self.extractor, images, self.keep)
        scores = score(self.reference, generated, self.extractor.extended)
        if last:
            found = score(
                self.second_reference,
                extraction.extract(self.second_extractor, images, metrics.KEPT),
                extended=False,
            )
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

    def _scores_by_class(self, generated: extraction.Extracted, labels: np.ndarray) -> dict:
        """intra_kid, kid_by_class and intra_fid, as far as each of the data's classes has images enough on
        both sides.
        """
        fewest = np.bincount(labels, minlength=self.data.num_classes).min()
        if not self.per_class or fewest < metrics.KID_PER_CLASS:
            return {}
        features = generated.by_class(labels)
        kid = {
            self.data.class_names[k]: pairs.scores(real, features[k], self.class_pairs[k], self.device)["kid"]
            for k, real in self.reference_by_class.items()
        }
        scores = {"intra_kid": float(np.mean(list(kid.values()))), "kid_by_class": kid}
        if self.intra and fewest >= metrics.MINIMUM_PER_CLASS:
            per_class = metrics.intra_class_fid(
                self.class_statistics, {k: metrics.Statistics.of(f, self.device) for k, f in features.items()}
            )
            scores["intra_fid"] = float(np.mean(list(per_class.values())))
        return scores

    @functools.cached_property
    def reference_by_class(self) -> dict[int, np.ndarray]:
        """The references' kept features (K_c, D) of each class."""
        return self.reference.by_class(self.labels)

    @functools.cached_property
    def class_pairs(self) -> dict[int, pairs.Within]:
        """What the pairs of each class's references say."""
        return {k: pairs.within(features, self.device) for k, features in self.reference_by_class.items()}

    @functools.cached_property
    def class_statistics(self) -> dict[int, metrics.Statistics]:
        """Mean and covariance of the features of each class's references."""
        return {
            k: metrics.Statistics.of(features, self.device) for k, features in self.reference_by_class.items()
        }

    @functools.cached_property
    def second_extractor(self) -> torch.nn.Module:
        """The extractor SECOND on the scorer's device. Raises ReproError when its weights are missing."""
        return load_extractor(SECOND).to(self.device)

    @functools.cached_property
    def second_reference(self) -> extraction.Extracted:
        """The reference images as the second extractor sees them."""
        return extraction.extract_reference(self.second_extractor, self.data, self.chosen, metrics.KEPT)

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
            _code(),
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
            *([self.device] if self.device != "cpu" else []),
        )
        return tuple(json.loads(str(extraction.cached(identity, compute)["json"])))

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


@functools.cache
def _code() -> str:
    """A hash of what computes scores: kept scores are those of the present code."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


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
