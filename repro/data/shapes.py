"""SymmetricShapes: the embedded data set, drawn by this file in seconds at any resolution, the same on every
machine.

Ten classes: five shapes, each in pictures that are mirrored left to right, or turned by 180 degrees. One half
is drawn (an anti-aliased shape of random place, size, angle and colour on a soft background) and the other
half is its exact symmetric partner: a rule between far apart pixels, of the kind the paper says
self-attention helps with, that `consistency` measures.
"""

from __future__ import annotations

import numpy as np

SHAPES = ("disc", "square", "triangle", "ring", "cross")
SYMMETRIES = ("mirrored", "turned")
CLASS_NAMES = tuple(f"{shape}, {symmetry}" for symmetry in SYMMETRIES for shape in SHAPES)


def is_turned(labels: np.ndarray) -> np.ndarray:
    """True for the classes turned by 180 degrees, False for those mirrored left to right. labels: (N,)."""
    return labels >= len(SHAPES)


def partner(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each image under its class's symmetry. images: (N, R, R, C); labels: (N,)."""
    mirrored, turned = images[:, :, ::-1], images[:, ::-1, ::-1]
    return np.where(is_turned(labels)[:, None, None, None], turned, mirrored)


def _distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance (up to a factor near 1) from a shape of size 1 at the origin; negative inside."""
    square = np.maximum(np.abs(x), np.abs(y))
    if shape == "disc":
        return np.sqrt(x * x + y * y) - 1.0
    if shape == "square":
        return square - 0.9
    if shape == "triangle":
        return np.maximum(np.abs(x) * 0.866 + y * 0.5, -y) - 0.55
    if shape == "ring":
        return np.abs(np.sqrt(x * x + y * y) - 0.75) - 0.3
    arm_x, arm_y = (
        np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.35),
        np.maximum(np.abs(y) - 1.0, np.abs(x) - 0.35),
    )
    return np.minimum(arm_x, arm_y)  # cross


def symmetric_shapes(n: int, resolution: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw `n` images. Returns uint8 (n, resolution, resolution, 3) and labels int64 (n,); class i % 10 for
    image i.

    Only IEEE-exact operations (no sine or exponential), so that every machine draws the same bytes.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % len(CLASS_NAMES)
    half = resolution // 2
    rows, columns = np.meshgrid(
        (np.arange(resolution) + 0.5) / resolution, (np.arange(half) + 0.5) / resolution, indexing="ij"
    )
    down, across = rows[..., None], 2 * columns[..., None]  # 0 .. 1 over the half
    images = np.empty((n, resolution, resolution, 3), np.uint8)
    for i in range(n):
        top, bottom, inner, colour = rng.uniform(0, 1, (4, 3))
        t = 2 * rng.uniform() - 1
        cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)  # a random angle without trigonometry
        centre_x, centre_y = rng.uniform(0.2, 0.3), rng.uniform(0.25, 0.75)
        size = rng.uniform(0.11, 0.17)
        u, v = (columns - centre_x) / size, (rows - centre_y) / size
        distance = _distance(SHAPES[labels[i] % len(SHAPES)], cos * u + sin * v, cos * v - sin * u)
        cover = np.clip(0.5 - distance * size * resolution, 0, 1)[..., None]
        # a soft background: two colours from top to bottom, and a tint towards the inner edge
        ground = top + (bottom - top) * down + 0.4 * (inner - 0.5) * across
        # the shape's colour is kept apart from the background's, so that it is seen
        colour = np.where(np.abs(colour - ground.mean((0, 1))) < 0.25, (colour + 0.5) % 1, colour)
        drawn = np.clip(ground * (1 - cover) + colour * cover, 0, 1)
        images[i, :, :half] = np.floor(drawn * 255 + 0.5)
    other = partner(images, labels)
    images[:, :, half:] = other[:, :, half:]
    return images, labels


def consistency(images: np.ndarray, labels: np.ndarray) -> float:
    """How well the two halves of each image obey its class's symmetry: 1 for real images, 0 for unrelated
    halves.

    1 minus the mean squared error between each image's left half and its symmetric partner's, over the same
    error between mismatched pairs (the partner taken from the next image of the class). Each half's mean
    colour is taken out first: an image of one flat colour shows no structure that could be consistent. 0
    where nothing varies.

    images: uint8 (N, R, R, 3), at least two of some class; labels: (N,).
    """
    half = images.shape[2] // 2
    own = images[:, :, :half].astype(np.float64)
    other = partner(images, labels)[:, :, :half].astype(np.float64)
    own -= own.mean((1, 2), keepdims=True)
    other -= other.mean((1, 2), keepdims=True)
    matched = mismatched = 0.0
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < 2:
            continue
        matched += ((own[of_class] - other[of_class]) ** 2).mean((1, 2, 3)).sum()
        mismatched += ((own[of_class] - other[np.roll(of_class, 1)]) ** 2).mean((1, 2, 3)).sum()
    return float(1 - matched / mismatched) if mismatched > 0 else 0.0
