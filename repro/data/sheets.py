"""Pictures made of images: sample sheets, attention maps over samples, nearest training images,
interpolations. No plotting.

Those of a run are JPEG: lossy WebP halves the resolution of colour, and nbconvert and what builds on it do
not show WebP in a notebook.
"""

from __future__ import annotations

import io
import math

import numpy as np

GAP = 2  # white pixels between the parts of a sheet
QUERIES = (
    (0.5, 0.5),
    (0.25, 0.25),
    (0.25, 0.75),
    (0.75, 0.25),
    (0.75, 0.75),
)  # (row, column) of an image of side 1
MARK = np.array([255, 0, 0], np.uint8)  # the query


def _encoded(sheet: np.ndarray, kind: str, **options) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()


def picture(sheet: np.ndarray) -> bytes:
    """A run's picture (`runs.PICTURE`) from uint8 (H, W, 3): a fifth of a PNG, and like it at more than twice
    the size.

    Colour keeps its full resolution, else the edges of 32 px images smear. A block is 8x8 pixels: none spans
    two images of a grid.
    """
    return _encoded(sheet, "jpeg", quality=80, subsampling="4:4:4", progressive=True)


def png(sheet: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as it is."""
    return _encoded(sheet, "png")


def by_class(images: np.ndarray, labels: np.ndarray, columns: int = 10, rows: int | None = None) -> bytes:
    """Images uint8 (N, R, R, 3): a column for each of the first classes, the first images of each from the
    top.

    By default 8 rows at 32 px and 2 of larger images, so that a sheet takes about 35 kB.
    """
    rows = rows or (8 if images.shape[1] <= 32 else 2)
    blank = np.full((rows, *images.shape[1:]), 255, np.uint8)
    chosen = [
        np.concatenate([images[np.flatnonzero(labels == k)[:rows]], blank])[:rows]
        for k in np.unique(labels)[:columns]
    ]
    return picture(np.concatenate([np.concatenate(list(column), axis=0) for column in chosen], axis=1))


def _joined(images: np.ndarray) -> np.ndarray:
    rows, columns, r, _, _ = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * r, columns * r, 3)


def grid(images: np.ndarray) -> bytes:
    """Images uint8 (rows, columns, R, R, 3) as they stand."""
    return picture(_joined(images))


def square(images: np.ndarray) -> bytes:
    """Images uint8 (N, R, R, 3) in as many columns as rows, line by line; white where none are left. A PNG:
    pixels as drawn.
    """
    side = math.ceil(math.sqrt(len(images)))
    full = np.full((side * -(-len(images) // side), *images.shape[1:]), 255, np.uint8)
    full[: len(images)] = images
    return png(_joined(full.reshape(-1, side, *images.shape[1:])))


def at_queries(attention_map: np.ndarray) -> np.ndarray:
    """The lines of maps (B, H*W, K) that belong to the points QUERIES: (B, points, K)."""
    side = math.isqrt(attention_map.shape[1])
    return attention_map[:, [int(row * side) * side + int(column * side) for row, column in QUERIES]]


def attention(images: np.ndarray, of_points: np.ndarray, height: int = 96) -> bytes:
    """A line an image, as the paper's Figure 5: the image with its query points, then for each point what it
    attends to.

    images: uint8 (B, R, R, 3); of_points: the maps of the points QUERIES (B, points, K). In a query's panel
    each pixel keeps its brightness by the weight of the key it lies under (white where there is none); keys
    pooled 2x2 are drawn at the size of what they stand for.
    """
    from PIL import Image

    keys = math.isqrt(of_points.shape[2])

    def enlarged(array: np.ndarray, how) -> np.ndarray:
        return np.asarray(Image.fromarray(array).resize((height, height), how), np.float32)

    def marked(panel: np.ndarray, row: float, column: float) -> np.ndarray:
        y, x, half = int(row * height), int(column * height), max(height // 32, 2)
        panel[y - half - 1 : y + half + 1, x - half - 1 : x + half + 1] = 255
        panel[y - half : y + half, x - half : x + half] = MARK
        return panel

    lines = []
    for image, of_image in zip(images, of_points, strict=True):
        large = enlarged(image, Image.Resampling.NEAREST)
        first = large.copy()
        panels = [first]
        for (row, column), weights in zip(QUERIES, of_image, strict=True):
            marked(first, row, column)
            weights = weights.reshape(keys, keys).astype(np.float32)
            weights = enlarged(weights / weights.max(), Image.Resampling.BILINEAR)[..., None]
            panels.append(marked(weights * large + (1 - weights) * 255, row, column))
        gap = np.full((height, GAP, 3), 255, np.float32)
        lines.append(np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1))
    gap = np.full((GAP, lines[0].shape[1], 3), 255, np.float32)
    return picture(
        np.concatenate([part for line in lines for part in (line, gap)][:-1]).round().astype(np.uint8)
    )


def neighbours(images: np.ndarray, nearest: np.ndarray) -> bytes:
    """A line a sample: the sample, a gap, and its nearest training images, the nearest first. uint8 (B, R, R,
    3) and (B, N, R, R, 3).
    """
    lines = np.concatenate([images[:, None], np.full_like(images[:, None], 255), nearest], axis=1)
    return grid(lines)
