"""Prepared images on disk: one memory-mapped uint8 array with labels, written once a machine."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock

from ..errors import ReproError
from .images import ImageData

log = logging.getLogger(__name__)

Rows = Iterable[tuple[np.ndarray, int]]  # images uint8 (R, R, 3), each with its label


def cache_folder() -> Path:
    """Where prepared data and reference statistics are kept: $REPRO_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("REPRO_CACHE") or user_cache_path("sagan-repro"))


def prepared(
    name: str, source: str, resolution: int, split: str, read: Callable[[], tuple[Rows, Iterable[str] | None]]
) -> ImageData:
    """A split from the cache, prepared there first where it is not.

    Args: source, what names its content; read, its images at the resolution, one after the other, and the
    class names where it has them.
    """
    wanted = hashlib.sha256(f"{source}|{resolution}|2".encode()).hexdigest()[:16]
    folder = cache_folder() / "data" / f"{name}-{resolution}-{wanted}"
    try:
        return _read(name, split, folder)
    except FileNotFoundError:
        pass
    except ValueError as error:
        log.warning("The prepared data in %s are damaged (%s): preparing them again.", folder.name, error)
        shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # runs that start together on one machine fetch and prepare once
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            _write(folder, *read())
    return _read(name, split, folder)


def _write(folder: Path, rows: Rows, class_names: Iterable[str] | None) -> None:
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
        if not labels:
            raise ReproError("The data hold no images: give --data a folder or a Parquet file that has some.")
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


def _read(name: str, split: str, folder: Path) -> ImageData:
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
