"""The embedded data set."""

import hashlib

import numpy as np
import pytest

from repro.data.shapes import CLASS_NAMES, consistency, partner, symmetric_shapes


@pytest.fixture(scope="module")
def drawn():
    return symmetric_shapes(400, 32)


def test_the_halves_are_exact_partners(drawn):
    images, labels = drawn
    assert np.array_equal(partner(images, labels), images)
    assert not np.array_equal(partner(images, (labels + 5) % 10), images)  # mirrored is not turned


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_any_resolution_and_every_class_differs(resolution):
    images, labels = symmetric_shapes(20, resolution)
    assert images.shape == (20, resolution, resolution, 3) and images.dtype == np.uint8
    assert sorted(set(labels)) == list(range(len(CLASS_NAMES)))
    assert len({image.tobytes() for image in images}) == 20
    assert len(np.unique(images)) > 100  # anti-aliased colours, not a palette


def test_the_same_bytes_on_every_machine():
    images, labels = symmetric_shapes(100, 32)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16]
    assert digest == "949613ee4f686203", (
        "the embedded data changed: every committed smoke result is of other data"
    )


def test_consistency_is_one_for_real_images_and_zero_for_unrelated_halves(drawn):
    images, labels = drawn
    assert consistency(images, labels) == 1
    unrelated = images.copy()
    for k in range(10):
        of_class = np.flatnonzero(labels == k)
        unrelated[of_class, :, 16:] = images[np.roll(of_class, 3), :, 16:]
    assert abs(consistency(unrelated, labels)) < 0.1
    assert consistency(images, (labels + 5) % 10) < 0.6  # the other symmetry


def test_consistency_does_not_reward_flat_or_constant_images(drawn):
    images, labels = drawn
    flat = np.broadcast_to(images.mean((1, 2), keepdims=True).astype(np.uint8), images.shape)
    assert consistency(flat, labels) == 0
    assert consistency(np.zeros_like(images), labels) == 0
    rng = np.random.default_rng(0)
    assert abs(consistency(rng.integers(0, 256, images.shape, dtype=np.uint8), labels)) < 0.05


def test_consistency_falls_with_noise(drawn):
    images, labels = drawn
    noise = np.random.default_rng(0).normal(size=images.shape)
    scores = [consistency(np.clip(images + s * noise, 0, 255).astype(np.uint8), labels) for s in (0, 20, 60)]
    assert scores[0] > scores[1] > scores[2] > 0.2
