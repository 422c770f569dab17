"""The scores of one set of images against another."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..data.images import ImageData
from ..errors import ReproError
from . import extraction, metrics, pairs

MINIMUM_REAL = 100  # fewer real images say nothing about the scores


def score(
    reference: extraction.Extracted, generated: extraction.Extracted, extended: bool
) -> dict[str, float]:
    """Scores by name: fid and is (in one split), and kid; extended: is_10 (in ten splits), precision and
    recall too. An extractor without classes has no is.

    A second resizer's scores carry its name, such as fid_clean.
    """
    in_one, in_ten = generated.inception_score
    scores, device = {"is": in_one}, generated.statistics[""].device
    for name, statistics in generated.statistics.items():
        end = f"_{name}" if name else ""
        scores[f"fid{end}"] = metrics.frechet_distance(reference.statistics[name], statistics)
        compared = pairs.scores(
            reference.kept[name][: metrics.KEPT],
            generated.kept[name][: metrics.KEPT],
            reference.within.get(name),
            device,
            extended and not name,
        )
        scores |= {f"{what}{end}": value for what, value in compared.items()}
    if extended:
        scores["is_10"] = in_ten
    return {name: value for name, value in scores.items() if not math.isnan(value)}


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
    keep = max(len(images.images), len(reference.images)) if classes else metrics.KEPT
    real = extraction.extract_reference(extractor, reference, np.arange(len(reference.images)), keep)
    generated = extraction.extract(extractor, images.images, keep)
    found, device = {}, generated.statistics[""].device
    if classes:
        sides = (e.by_class(data.labels) for e, data in ((real, reference), (generated, images)))
        found = metrics.intra_class_fid(
            *({k: metrics.Statistics.of(f, device) for k, f in side.items()} for side in sides)
        )
    return score(real, generated, extended=True), {
        reference.class_names[k]: value for k, value in found.items()
    }
