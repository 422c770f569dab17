"""Where images come from: a hub, class folders or Parquet files, through Hugging Face `datasets`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import ReproError
from ..presets import TEST_SPLITS
from ..runs import write_atomically
from .cache import cache_folder
from .decoding import decode

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def read(
    source: str | Path, resolution: int | None, split: str = "train"
) -> tuple[Iterator[tuple[np.ndarray, int]], list[str] | None]:
    """The images uint8 (R, R, 3) with their labels, one after the other, and the class names where the source
    has them.

    Raises ReproError when there is nothing to read or a file is not an image (named).
    """
    import datasets
    import pyarrow

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

    def decoded() -> Iterator[tuple[np.ndarray, int]]:
        try:
            for i, row in enumerate(opened):
                yield decode(row[image], f"image {i} of {source}", resolution), number(row)
        except pyarrow.ArrowInvalid as error:
            raise _damaged(source, error) from error

    return decoded(), getattr(features[label], "names", None) if label else ("all",)


def _open_source(source: str | Path, split: str):
    """A streaming `datasets` data set of a split, images not yet decoded."""
    import datasets
    import pyarrow

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
        try:
            return datasets.load_dataset(
                "parquet", data_files={"train": files}, split="train", streaming=True
            )
        except pyarrow.ArrowInvalid as error:
            raise _damaged(source, error) from error
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


def identity(source: str | Path) -> str:
    """What names the source's content without reading it all: hub name, or each file's relative path, size
    and time.
    """
    root = Path(source)
    if not root.exists():
        return f"hub {source}"
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    return repr([(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files])


def test_split(source: str | Path, identity: str) -> str | None:
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


def _damaged(source: str | Path, error: Exception) -> ReproError:
    return ReproError(
        f"{source} has a damaged Parquet file, or a file that is none ({str(error)[:150]}): give --data a"
        " folder of images or of Parquet files."
    )


def _unreachable(source: str | Path, error: Exception) -> ReproError:
    return ReproError(
        f"The data set {source} could not be fetched from the Hugging Face hub ({type(error).__name__}):"
        " give --data a local folder of images or Parquet files instead."
    )
