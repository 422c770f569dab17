"""Data sets by name or path.

Any image data set comes in through `sources`, is centre-cropped, resized once and cached. `symmetric_shapes`
is drawn by this project and needs nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import ReproError, choose
from ..presets import Preset
from . import cache, shapes, sources
from .decoding import decode, read_npz
from .images import ImageData

log = logging.getLogger(__name__)

HUB = {  # data set name in a preset -> its name on the Hugging Face hub
    "cifar10": "uoft-cs/cifar10",
    "tiny-imagenet": "zh-plus/tiny-imagenet",
    "imagenet": "ILSVRC/imagenet-1k",
    "celeba": "flwrlabs/celeba",
    "lsun-church": "tglcourse/lsun_church_train",
}
# made for this study, on no hub: ten classes of Tiny-ImageNet, five of structure and five of texture
LOCAL = ("structure-texture-64",)
DATASETS = ("symmetric_shapes", *HUB, *LOCAL)
SHAPES_COUNT = 10_000  # training images of symmetric_shapes


def load(preset: Preset, path: str | Path | None = None) -> ImageData:
    """The training split of the preset's data set at its resolution, from the cache when it was prepared
    before; its `test` does the same for the test split.

    Args: path, a folder of Parquet files or of class folders, one Parquet file, or a hub name; None: the
    embedded set or the data set's place on the hub. Images without class folders or labels are of one class,
    "all": enough for an unconditional recipe. Raises ReproError when there is nothing to read or a file is
    not an image (named).
    """
    name = choose("data set", preset.dataset, DATASETS)
    if path is None and name == "symmetric_shapes":
        code = hashlib.sha256(Path(shapes.__file__).read_bytes()).hexdigest()[:16]
        source = f"seed 0, {SHAPES_COUNT} images, {code}"
        return cache.prepared(name, source, preset.resolution, "train", lambda: _drawn(preset.resolution))
    if path is None and name in LOCAL:
        raise ReproError(
            f"The data set {name} is on no hub: give --data its folder of Parquet files or of class folders."
        )
    name, path = (name, HUB[name]) if path is None else (Path(path).name, path)
    source = sources.identity(path)

    def split_of(split: str, content: str) -> ImageData:
        read = lambda: sources.read(path, preset.resolution, split)
        return cache.prepared(name, content, preset.resolution, split, read)

    train = split_of("train", source)

    def test() -> ImageData | None:
        split = sources.test_split(path, source)
        if split is None:
            log.info("%s has no test split: training images that are no reference stand for real ones.", name)
            return None
        found = split_of(split, f"{source}|{split}")
        numbers = {class_name: k for k, class_name in enumerate(train.class_names)}
        # the last for labels of -1
        known = np.array([*(numbers.get(class_name, -1) for class_name in found.class_names), -1])
        return dataclasses.replace(found, class_names=train.class_names, labels=known[found.labels])

    return dataclasses.replace(train, test=functools.cache(test))


def _drawn(resolution: int) -> tuple[Iterator[tuple[np.ndarray, int]], tuple[str, ...]]:
    return zip(*shapes.symmetric_shapes(SHAPES_COUNT, resolution), strict=True), shapes.CLASS_NAMES


def read_images(source: str | Path, resolution: int | None = None) -> ImageData:
    """Images to score: an .npz of uint8 images (N, R, R, 3) with labels (N,) where it has them, a folder of
    image files at any depth (classes are its sub-folders, where all are in one), or what `load` reads. Not
    cached; resized only when a resolution is given.

    Raises ReproError when there is nothing to read, or images differ in size and no resolution is given.
    """
    root, names = Path(source), ("all",)
    if root.suffix == ".npz":
        images, labels = read_npz(root, resolution)
    else:
        files = (
            sorted(p for p in root.rglob("*") if p.suffix.lower() in sources.IMAGE_SUFFIXES)
            if root.is_dir()
            else []
        )
        if files:
            decoded = [decode({"path": str(p)}, str(p), resolution) for p in files]
            parents = [p.relative_to(root).parts[0] if p.parent != root else None for p in files]
            names = tuple(sorted(set(parents))) if None not in parents else names
            labels = np.array([names.index(parent) if parent in names else 0 for parent in parents])
        else:
            rows, given = sources.read(source, resolution)
            rows = list(rows)
            if not rows:
                raise ReproError(f"There are no images in {source}: name a folder or file that has some.")
            decoded, found = zip(*rows, strict=True)
            labels = np.array(found)
            names = tuple(given or ())
        sizes = {image.shape[0] for image in decoded}
        if len(sizes) > 1:
            raise ReproError(
                f"The images in {source} have sizes from {min(sizes)} to {max(sizes)}: give --resolution to"
                " resize them to one."
            )
        images = np.stack(decoded)
    if labels is None:
        labels = np.zeros(len(images), np.int64)
    elif len(names) <= labels.max():
        names = tuple(map(str, range(int(labels.max()) + 1)))
    fingerprint = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return ImageData(root.stem, images, labels, names, fingerprint)
