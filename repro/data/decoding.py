"""Image files and arrays to uint8."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from ..errors import ReproError


def decode(cell: dict, where: str, resolution: int | None) -> np.ndarray:
    """Bytes or a path to uint8 (R, R, 3): RGB, centre-cropped to a square, resized by Pillow's antialiased
    bicubic (None: as large as it is).

    Args: cell, a row's "bytes", or its "path"; where, names the image in an error. Raises ReproError when it
    is not an image.
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
    return np.asarray(_fitted(image, resolution))


def _fitted(image, resolution: int | None):
    """A Pillow image, cropped to its central square and resized."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if resolution and side != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return image


def read_npz(path: Path, resolution: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The images uint8 (N, R, R, 3) of an .npz file, resized as in `decode`, and its labels int64 (N,) where
    it has them.

    Raises ReproError when it cannot be read or holds no such images.
    """
    from PIL import Image

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
    if resolution and images.shape[1] != resolution:
        images = np.stack([np.asarray(_fitted(Image.fromarray(image), resolution)) for image in images])
    labels = next(
        (
            a.astype(np.int64)
            for a in arrays
            if a.shape == (len(images),) and np.issubdtype(a.dtype, np.integer)
        ),
        None,
    )
    return images, labels
