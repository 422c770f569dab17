"""Data sets as one memory-mapped uint8 array with labels, and the seeded batches that training draws from.

Any image data set comes in through Hugging Face `datasets` (a hub name, a folder of class folders, Parquet
files), is centre-cropped, resized once and cached. `symmetric_shapes` is drawn by this project and needs
nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from ..config import Config
from ..errors import ReproError, choose
from ..presets import Preset
from ..rng import stream
from ..runs import write_atomically

log = logging.getLogger(__name__)

HUB = {  # data set name in a preset -> its name on the Hugging Face hub
    "cifar10": "uoft-cs/cifar10",
    "tiny-imagenet": "zh-plus/tiny-imagenet",
    "imagenet": "ILSVRC/imagenet-1k",
    "celeba": "flwrlabs/celeba",
    "lsun-church": "tglcourse/lsun_church_train",
}
LOCAL = (
    "structure-texture-64",
)  # made for this study, on no hub: ten classes of Tiny-ImageNet, five of structure and five of texture
DATASETS = ("symmetric_shapes", *HUB, *LOCAL)
TEST_SPLITS = (
    "validation",
    "valid",
    "val",
    "test",
)  # names of test splits, the first that is there: ImageNet's own "test" has no labels
SHAPES_COUNT = 10_000  # training images of symmetric_shapes
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def _no_test_split() -> None:
    """Of data that have none. A function with a name: data go to other processes."""


@dataclass(frozen=True)
class ImageData:
    """A split: images uint8 (N, R, R, 3), labels int64 (N,), class names, and the SHA-256 of images and
    labels.

    Labels of a test split are the training split's, -1 where there is none.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str
    split: str = "train"
    # reads the test split when it is asked for; None where there is none
    test: Callable[[], ImageData | None] = _no_test_split

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


def cache_folder() -> Path:
    """Where prepared data and reference statistics are kept: $REPRO_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("REPRO_CACHE") or user_cache_path("sagan-repro"))


class Batches:
    """An endless, shuffled pass over the data; `batch(i)` depends on the seed and on i only, so it resumes
    anywhere.
    """

    def __init__(self, data: ImageData, batch_size: int, seed: int, flip: bool):
        if len(data.images) < batch_size:
            raise ReproError(
                f"The data hold {len(data.images)} images, fewer than one batch of {batch_size}: use more"
                " images."
            )
        self.data, self.size, self.seed, self.flip = data, batch_size, seed, flip
        self.per_epoch = len(data.images) // batch_size
        self._epoch, self._order = None, None

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        """Real images (B, 3, R, R) uint8 in channels-last memory, and labels (B,)."""
        epoch, position = divmod(i, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = (
                epoch,
                stream(self.seed, "epoch", epoch).permutation(len(self.data.images)),
            )
        chosen = np.sort(
            self._order[position * self.size : (position + 1) * self.size]
        )  # sorted: one pass forward through the memory map
        images = torch.from_numpy(self.data.images[chosen]).permute(0, 3, 1, 2)
        if self.flip:
            flipped = torch.from_numpy(stream(self.seed, "flip", i).random(len(images)) < 0.5)
            images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        return images, torch.from_numpy(self.data.labels[chosen])


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
        return _prepared(
            name, None, f"seed 0, {SHAPES_COUNT} images, {_code_hash()}", preset.resolution, "train"
        )
    if path is None and name in LOCAL:
        raise ReproError(
            f"The data set {name} is on no hub: give --data its folder of Parquet files or of class folders."
        )
    name, path = (name, HUB[name]) if path is None else (Path(path).name, path)
    source = _source_id(path)
    train = _prepared(name, path, source, preset.resolution, "train")

    def test() -> ImageData | None:
        split = _test_split(path, source)
        if split is None:
            log.info("%s has no test split: training images that are no reference stand for real ones.", name)
            return None
        found = _prepared(name, path, f"{source}|{split}", preset.resolution, split)
        numbers = {class_name: k for k, class_name in enumerate(train.class_names)}
        known = np.array(
            [*(numbers.get(class_name, -1) for class_name in found.class_names), -1]
        )  # the last for labels of -1
        return dataclasses.replace(found, class_names=train.class_names, labels=known[found.labels])

    return dataclasses.replace(train, test=functools.cache(test))


def _prepared(name: str, path: str | Path | None, source: str, resolution: int, split: str) -> ImageData:
    """A split from the cache, prepared there first where it is not. path: None for the embedded set; source:
    what names its content.
    """
    wanted = hashlib.sha256(f"{source}|{resolution}|2".encode()).hexdigest()[:16]
    folder = cache_folder() / "data" / f"{name}-{resolution}-{wanted}"
    try:
        return _read_cache(name, split, folder)
    except FileNotFoundError:
        pass
    except ValueError as error:
        log.warning("The prepared data in %s are damaged (%s): preparing them again.", folder.name, error)
        shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(
        folder.with_suffix(".lock")
    ):  # runs that start together on one machine fetch and prepare once
        if not folder.exists():
            if path is None:
                from .shapes import CLASS_NAMES, symmetric_shapes

                _write_cache(
                    folder, zip(*symmetric_shapes(SHAPES_COUNT, resolution), strict=True), CLASS_NAMES
                )
            else:
                _write_cache(folder, *_prepare(path, resolution, split))
    return _read_cache(name, split, folder)


def read_images(source: str | Path, resolution: int | None = None) -> ImageData:
    """Images to score: an .npz of uint8 images (N, R, R, 3) with labels (N,) where it has them, a folder of
    image files at any depth (classes are its sub-folders, where all are in one), or what `load` reads. Not
    cached; resized only when a resolution is given.

    Raises ReproError when there is nothing to read, or images differ in size and no resolution is given.
    """
    root, names = Path(source), ("all",)
    if root.suffix == ".npz":
        images, labels = _read_npz(root)
        if resolution and images.shape[1] != resolution:
            images = np.stack([_decode({"bytes": _png(image)}, str(root), resolution) for image in images])
    else:
        files = (
            sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES) if root.is_dir() else []
        )
        if files:
            decoded = [_decode({"path": str(p)}, str(p), resolution) for p in files]
            parents = [p.relative_to(root).parts[0] if p.parent != root else None for p in files]
            names = tuple(sorted(set(parents))) if None not in parents else names
            labels = np.array([names.index(parent) if parent in names else 0 for parent in parents])
        else:
            rows, given = _prepare(source, resolution)
            decoded, found = zip(*rows, strict=True)
            labels = np.array(found)
            names = tuple(given or map(str, range(int(labels.max()) + 1)))
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


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        with np.load(path) as f:
            arrays = list(dict(f).values())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ReproError(f"{path} cannot be read as an .npz file of images ({error}).") from error
    images = next(
        (
            a
            for a in arrays
            if a.ndim == 4 and a.dtype == np.uint8 and a.shape[1] == a.shape[2] and a.shape[3] == 3
        ),
        None,
    )
    if images is None:
        raise ReproError(f"{path} holds no uint8 array of square images (N, R, R, 3).")
    labels = next(
        (
            a.astype(np.int64)
            for a in arrays
            if a.shape == (len(images),) and np.issubdtype(a.dtype, np.integer)
        ),
        None,
    )
    return images, labels


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def _code_hash() -> str:
    from . import shapes

    return hashlib.sha256(Path(shapes.__file__).read_bytes()).hexdigest()[:16]


def _source_id(source: str | Path) -> str:
    """What names the source's content without reading it all: hub name, or each file's relative path, size
    and time.
    """
    root = Path(source)
    if not root.exists():
        return f"hub {source}"
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    return repr([(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files])


def _test_split(source: str | Path, identity: str) -> str | None:
    """The name of the source's test split, one of TEST_SPLITS, or None. A hub is asked once; its answer is
    kept under `identity`.

    Raises ReproError when the hub cannot be asked: a study must not take other real images when the network
    is down.
    """
    root = Path(source)
    if root.is_file():
        return None
    if root.exists():
        there = lambda split: (
            any(root.glob(f"{split}*.parquet")) or (root / "train").is_dir() and (root / split).is_dir()
        )
        return next((split for split in TEST_SPLITS if there(split)), None)
    answer = cache_folder() / "data" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.splits.json"
    if not answer.exists():
        import datasets

        try:
            names = datasets.get_dataset_split_names(str(source))
        except Exception as error:
            raise _unreachable(source, error) from error
        write_atomically(answer, json.dumps(names).encode())
    return next((split for split in TEST_SPLITS if split in json.loads(answer.read_text())), None)


def _unreachable(source: str | Path, error: Exception) -> ReproError:
    return ReproError(
        f"The data set {source} could not be fetched from the Hugging Face hub ({type(error).__name__}):"
        " give --data a local folder of images or Parquet files instead."
    )


def _open_source(source: str | Path, split: str):
    """A streaming `datasets` data set of a split, images not yet decoded."""
    import datasets

    root = Path(source)
    if not root.exists():
        if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
            raise ReproError(
                f"There is no folder or file {str(source)!r}: give --data a folder of images, of Parquet"
                " files, or a hub name."
            )
        try:
            return datasets.load_dataset(str(source), split=split, streaming=True)
        except Exception as error:
            raise _unreachable(source, error) from error
    parquet = [root] if root.is_file() else sorted(root.glob("*.parquet"))
    if parquet:
        files = [str(p) for p in parquet if root.is_file() or p.name.startswith(split)]
        if not files:
            raise ReproError(
                f"The folder {root} has Parquet files but none named {split}*.parquet: name the training"
                " split so."
            )
        return datasets.load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    root = root / split if (root / "train").is_dir() else root
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) or [root]
    for file in (
        p
        for folder in folders
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    ):
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            raise ReproError(f"{file} is not an image file: remove it from the class folders.")
        if file.is_symlink() and not file.resolve().is_relative_to(root.resolve()):
            raise ReproError(f"{file} is a link out of the data folder: put the image itself there.")
    if not any(p.is_file() for folder in folders for p in folder.rglob("*")):
        raise ReproError(
            f"The folder {root} holds no images: give --data a folder of class folders or of Parquet files."
        )
    return datasets.load_dataset(
        "imagefolder", data_dir=str(root), split="train", streaming=True, drop_labels=False
    )


def _prepare(
    source: str | Path, resolution: int | None, split: str = "train"
) -> tuple[Iterator[tuple[np.ndarray, int]], list[str] | None]:
    """The images uint8 (R, R, 3) with their labels, one after the other, and the class names where the source
    has them.
    """
    import datasets

    opened = _open_source(source, split)
    features = opened.features or {}
    images_in = [n for n, f in features.items() if isinstance(f, datasets.Image)]
    labels_in = [n for n, f in features.items() if isinstance(f, datasets.ClassLabel)] or [
        n for n in features if n == "label"
    ]
    if not images_in:
        raise ReproError(f"{source} has no image column: its columns are {', '.join(features) or 'unknown'}.")
    image, label = images_in[0], labels_in[0] if labels_in else None
    opened = opened.cast_column(image, datasets.Image(decode=False))
    number = lambda row: 0 if label is None else -1 if row[label] is None else row[label]
    decoded = (
        (_decode(row[image], f"image {i} of {source}", resolution), number(row))
        for i, row in enumerate(opened)
    )
    return decoded, getattr(features[label], "names", None) if label else ("all",)


def _decode(cell: dict, where: str, resolution: int | None) -> np.ndarray:
    """Bytes or a path to uint8 (R, R, 3): RGB, centre-cropped to a square, resized by Pillow's antialiased
    bicubic (None: as large as it is).
    """
    from PIL import Image

    where = cell.get("path") or where
    try:
        with Image.open(io.BytesIO(cell["bytes"]) if cell.get("bytes") else cell["path"]) as image:
            if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow's own conversion would clip
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ReproError(
            f"{where} is not an image that can be read ({error}): replace or remove it."
        ) from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if resolution and side != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _write_cache(
    folder: Path, rows: Iterable[tuple[np.ndarray, int]], class_names: Iterable[str] | None
) -> None:
    """Write images one after the other (memory does not grow with their number), labels, and what is known of
    them.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".part-"))
    try:
        labels, fingerprint = [], hashlib.sha256()
        with (part / "images.bin").open("wb") as f:
            for image, label in rows:
                f.write(image.tobytes())
                fingerprint.update(image.tobytes())
                labels.append(label)
        labels = np.asarray(labels, dtype=np.int64)
        fingerprint.update(labels)
        names = list(class_names or (str(k) for k in range(int(labels.max(initial=0)) + 1)))
        np.save(part / "labels.npy", labels)
        meta = {
            "class_names": names,
            "fingerprint": fingerprint.hexdigest(),
            "shape": [len(labels), *image.shape],
        }
        (part / "meta.json").write_text(json.dumps(meta))
        part.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was quicker, with the same bytes
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read_cache(name: str, split: str, folder: Path) -> ImageData:
    """Raises FileNotFoundError when there is no such cache entry, ValueError when it is damaged."""
    meta = json.loads((folder / "meta.json").read_text())
    return ImageData(
        name=name,
        images=np.memmap(folder / "images.bin", np.uint8, "r", shape=tuple(meta["shape"])),
        labels=np.load(folder / "labels.npy"),
        class_names=tuple(meta["class_names"]),
        fingerprint=meta["fingerprint"],
        split=split,
    )


def with_data(config: Config, data: ImageData) -> Config:
    """The configuration with the number of classes and the fingerprint of these data.

    Raises ReproError when it is class-conditional and the data have one class, or one image of a class.
    """
    classes, counts = np.unique(data.labels, return_counts=True)
    if config.recipe.conditioning != "unconditional":
        if len(classes) < 2:
            raise ReproError(
                f"{data.name} holds one class only ({data.class_names[data.labels[0]]}): class-conditional"
                " training needs at least two; the row recipe_heykeetae needs none."
            )
        if 1 in counts:
            alone = data.class_names[classes[counts == 1][0]]
            raise ReproError(
                f"{data.name} holds one image of the class {alone}: class-conditional training needs at least"
                " two of each; add images or remove the class."
            )
    return dataclasses.replace(config, num_classes=data.num_classes, data_fingerprint=data.fingerprint)
