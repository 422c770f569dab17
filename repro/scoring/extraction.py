"""What scores need of a set of images: statistics of features, cached for real images."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..data.cache import cache_folder
from ..data.images import ImageData
from ..runs import write_atomically
from . import metrics, pairs
from .sampling import BATCH

log = logging.getLogger(__name__)


@dataclass
class Extracted:
    """What the scores need of a set of images, gathered batch by batch."""

    statistics: dict[str, metrics.Statistics]  # by resizer: "" and, of Inception, "clean"
    kept: dict[str, np.ndarray]  # features (K, D) of `images`, for scores that compare image with image
    images: np.ndarray  # (K,) the numbers of the kept images, the first ones of `metrics.shuffled`
    inception_score: tuple[float, float]  # in one split and in ten; not numbers where there are no classes
    within: dict[str, pairs.Within]  # of the first metrics.KEPT, where computed

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
            of = self.within[name]
            out |= {f"kept {name}": self.kept[name], f"kernel {name}": np.array(of.kernel)}
            out[f"radii {name}"] = of.radii
        return out

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray], device: str = "cpu") -> Extracted:
        """What `arrays` was made of, to be compared on the device. Raises KeyError for a missing array."""
        names = [key.removeprefix("mean ") for key in arrays if key.startswith("mean ")]
        statistics = {
            n: metrics.Statistics(
                arrays[f"mean {n}"], arrays[f"covariance {n}"], int(arrays[f"count {n}"]), device
            )
            for n in names
        }
        return cls(
            statistics,
            {n: arrays[f"kept {n}"] for n in names},
            arrays["images"],
            tuple(arrays["inception_score"].tolist()),
            {n: pairs.Within(float(arrays[f"kernel {n}"]), arrays[f"radii {n}"]) for n in names},
        )


def device_of(extractor: torch.nn.Module) -> str:
    """Where the extractor computes."""
    return next(extractor.parameters()).device.type


def exact_convolutions():
    """A block in which a GPU convolves in float32, not in TF32, and by one algorithm each time."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def extract(extractor: torch.nn.Module, images: np.ndarray, keep: int = 0) -> Extracted:
    """Pass uint8 images (N, H, W, 3) through the extractor once, on its device. Memory grows with `keep`, not
    with N.

    The features of `keep` images are kept, a seeded random choice: images may come in the order of their
    classes.
    """
    device = device_of(extractor)
    moments, kept, predictions = {}, {}, metrics.Predictions(len(images))
    order = metrics.shuffled(len(images))
    place = np.argsort(order)
    for i in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.array(images[i : i + BATCH])).to(device).permute(0, 3, 1, 2)
        with exact_convolutions():
            features, probabilities = extractor(batch)
        if probabilities is not None:
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


def extract_reference(
    extractor: torch.nn.Module, data: ImageData, chosen: np.ndarray, keep: int
) -> Extracted:
    """`extract` of real images, with what their pairs say, cached by all that decides it: data, split,
    resolution, which images, extractor and resizer.
    """
    device = device_of(extractor)
    identity = (
        6,
        data.fingerprint,
        data.split,
        data.images.shape[1:],
        hashlib.sha256(chosen.tobytes()).hexdigest(),
        extractor.name,
        extractor.resizer,
        keep,
        *([device] if device != "cpu" else []),
    )

    def compute() -> dict[str, np.ndarray]:
        found = extract(extractor, data.images[chosen], keep)
        found.within = {
            name: pairs.within(features[: metrics.KEPT], device, extractor.extended and not name)
            for name, features in found.kept.items()
        }
        return found.arrays()

    return Extracted.of_arrays(cached(identity, compute), device)


def cached(identity: tuple, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
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
