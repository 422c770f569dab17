"""What scores make of images whose quality is known: other real images, fewer of them, corrupted ones,
missing classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from .. import parallel, runs
from ..data.images import ImageData
from ..data.loading import load
from ..errors import ReproError
from ..rng import stream
from ..studies.study import Study

COLUMNS = ["set", "strength", "images", "fid", "kid", "is", "precision", "recall"]
DEFINITION = ("extractor", "references", "samples", "data_fingerprint")  # as in a run's record
FAMILIES = {  # set -> strengths, from nothing to strong
    "blur": (0.5, 1.0, 2.0),  # radius of a Gaussian, pixels
    "noise": (8.0, 20.0, 40.0),  # standard deviation of a Gaussian, grey levels
    "classes missing": (0.2, 0.5, 0.8),  # share of the classes
    "classes uneven": (2.0, 5.0, 20.0),  # how many times as frequent the first class is as the last
}
ANOTHER = "real, another number"
NUMBERS = (
    0.2,
    0.4,
    2.0,
)  # other numbers of real images, as shares of the usual one, for the bias of small samples


def corrupt(images: np.ndarray, labels: np.ndarray, family: str, strength: float) -> np.ndarray:
    """As many images uint8 (N, R, R, 3) with a family's fault at this strength."""
    rng = stream("validation", family, strength)
    if family == "blur":
        from scipy.ndimage import gaussian_filter

        return gaussian_filter(images.astype(np.float32), (0, strength, strength, 0)).round().astype(np.uint8)
    if family == "noise":
        noise = rng.standard_normal(images.shape, np.float32) * np.float32(strength)
        return np.clip(images + noise, 0, 255).round().astype(np.uint8)
    classes = np.unique(labels)
    if family == "classes missing":
        left = classes[: max(1, round(len(classes) * (1 - strength)))]
        weights = np.isin(labels, left).astype(float)
    else:
        weights = strength ** -(np.searchsorted(classes, labels) / max(1, len(classes) - 1))
    return images[np.sort(rng.choice(len(images), len(images), p=weights / weights.sum()))]


def sets(data: ImageData, pool: np.ndarray, count: int) -> Iterator[tuple[str, float, np.ndarray]]:
    """Name, strength and images uint8 (N, R, R, 3) of each set made of `count` of the images that `pool`
    indexes.
    """
    chosen = [
        np.sort(pool[-round(count * share) :]) for share in (1, *NUMBERS) if round(count * share) <= len(pool)
    ]
    for one in chosen:
        yield "real" if one is chosen[0] else ANOTHER, 0.0, data.images[one]
    images, labels = data.images[chosen[0]], data.labels[chosen[0]]
    yield (
        "real, drawn again",
        0.0,
        images[np.sort(stream("validation", "again").choice(len(images), len(images)))],
    )
    for family, strengths in FAMILIES.items():
        for strength in strengths:
            yield family, strength, corrupt(images, labels, family, strength)
    yield "uniform noise", 0.0, stream("validation", "uniform").integers(0, 256, images.shape, dtype=np.uint8)


def validate(study: Study, loaded: ImageData, extractor: str, extended: bool = True) -> pd.DataFrame:
    """Scores of `sets` of the preset's held-out training images against its references. A line per set:
    COLUMNS, or without `extended` those of them that need no pairs of images; attrs: DEFINITION.
    """
    from ..scoring import extraction, metrics
    from ..scoring.features import load_extractor
    from ..scoring.scores import score

    preset = study.preset
    order = stream("references", preset.sampling_seed).permutation(len(loaded.images))
    count = min(preset.references, len(loaded.images) // 2)
    pool = order[count:]
    network = load_extractor(extractor).to(parallel.device())
    real = extraction.extract_reference(network, loaded, np.sort(order[:count]), metrics.KEPT)
    lines = []
    for name, strength, images in sets(loaded, pool, min(preset.samples, len(pool))):
        found = score(real, extraction.extract(network, images, metrics.KEPT), extended)
        lines.append(
            {"set": name, "strength": strength, "images": len(images)}
            | {c: found[c] for c in COLUMNS[3:] if c in found}
        )
    frame = pd.DataFrame(lines)
    frame.attrs = dict(
        zip(DEFINITION, (extractor, count, lines[0]["images"], loaded.fingerprint), strict=True)
    )
    return frame


def path_of(study: Study, extractor: str) -> Path:
    """Where `stored` keeps an extractor's scores."""
    return study.folder / f"metrics-{extractor}.json"


def read(study: Study, extractor: str) -> pd.DataFrame | None:
    """What `stored` left, or None."""
    path = path_of(study, extractor)
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    frame = pd.DataFrame(kept.pop("sets"), columns=COLUMNS)
    frame.attrs = kept
    return frame


def stored(study: Study, extractor: str = "efficientnet_lite0") -> pd.DataFrame:
    """`validate`, computed once and kept in the study's folder. Raises ReproError when it is not there and
    the study does not train, or is of other data.
    """
    frame, path = read(study, extractor), path_of(study, extractor)
    if study.executor == "none":
        if frame is None:
            raise ReproError(
                f"{path} does not exist: repro validate --preset {study.preset.name} computes it."
            )
        return frame
    loaded = load(study.preset, study.data)
    if frame is None:
        frame = validate(study, loaded, extractor)
        kept = frame.attrs | {"sets": frame.to_dict("records")}
        runs.write_atomically(path, (json.dumps(kept, indent=1) + "\n").encode())
    elif frame.attrs["data_fingerprint"] != loaded.fingerprint:
        raise ReproError(
            f"{path} holds scores of other data: move it away, or choose another folder with --out."
        )
    return frame


def generated(study: Study) -> pd.DataFrame:
    """The study's own samples at their scored steps, of the runs that were scored as the sets of `stored`
    were, by Lite0: scores by another definition never stand beside these.
    """
    lines, sets = [], read(study, "efficientnet_lite0")
    for run in runs.stored(study.folder):
        record = run.read()
        made = record.get("definition", {}) | {"data_fingerprint": record["config"]["data_fingerprint"]}
        if sets is None or any(made.get(name) != sets.attrs[name] for name in DEFINITION):
            continue
        for score in record["scores"]:
            lines.append(
                {
                    "set": record["row"],
                    "seed": record["config"]["seed"],
                    "step": score["step"],
                    "fid": score["fid"],
                    "is": score["is"],
                }
            )
    return pd.DataFrame(lines, columns=["set", "seed", "step", "fid", "is"])


def undamaged(frame: pd.DataFrame) -> pd.DataFrame:
    """The sets of real images, by how many they are."""
    return frame[frame["set"].isin(["real", ANOTHER])].sort_values("images")


def extrapolated(frame: pd.DataFrame) -> float:
    """FID of real images at an endless number of them: a line through FID over 1/N (Chong and Forsyth 2020,
    arXiv 1911.07023).
    """
    real = undamaged(frame)
    return float(np.polyfit(1 / real["images"], real["fid"], 1)[1])


def family(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A family's sets by strength, after the undamaged images it starts from (drawn again where it draws)."""
    start = "real, drawn again" if name.startswith("classes") else "real"
    return pd.concat([frame[frame["set"] == start], frame[frame["set"] == name].sort_values("strength")])


def orderly(frame: pd.DataFrame) -> pd.DataFrame:
    """Whether a score worsens with each step of a family's strength, from real images on: a line per
    family.
    """
    kept = {name: family(frame, name) for name in FAMILIES}
    return pd.DataFrame(
        {"set": name} | {c: bool((of[c].diff().dropna() > 0).all()) for c in ("fid", "kid") if c in of}
        for name, of in kept.items()
    )


def in_words(frame: pd.DataFrame) -> list[str]:
    """What the damaged sets say of the scores, in sentences."""
    order = orderly(frame).set_index("set")
    out = []
    for score in order:
        kept = list(order.index[order[score]])
        out.append(
            f"**{score.upper()} gets worse with every step of damage in {len(kept)} of {len(order)}"
            f" families**: {', '.join(kept) or 'none'}."
        )
    return [*out, f"FID of endless many real images would be {extrapolated(frame):.1f}, not 0."]


def beside_inception(study: Study) -> str:
    """How far the order of the sets by Lite0's FID is that by Inception's, where both were scored."""
    lite0, inception = read(study, "efficientnet_lite0"), read(study, "inception")
    if lite0 is None or inception is None:
        return "Not scored with Inception here: its weights were not on the machine that made this study."
    order = lite0["fid"].corr(inception["fid"], method="spearman")
    return f"Spearman's rank correlation of the two FIDs over {len(lite0)} sets: {order:.3f}"


def named_values(frame: pd.DataFrame) -> dict[str, float]:
    """FID by the name of a set, rounded to what a regression should notice; for checks of printed text."""
    return {
        f"{line.set} {line.strength:g} ({line.images})": float(f"{line.fid:.5g}")
        for line in frame.itertuples()
    }
