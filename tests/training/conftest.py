"""Fixtures of the training tests."""

import numpy as np
import pytest

from repro.training import loop


@pytest.fixture
def light_scores(monkeypatch):
    """Scores without an extractor, for tests of the loop itself: numbers that depend on every sample."""

    class Light:
        definition = {"extractor": "none"}
        real = noise = {"fid": 0.0}

        def __init__(self, config, data, device):
            pass

        def __call__(self, images, labels, last=False):
            scores = {
                "fid": float(images.astype(np.float64).var()),
                "is": float(images.mean()),
                "diversity": 1.0,
                "kid_by_class": {"a": 0.5},
            }
            return scores | ({"fid_lite2": 1.0} if last else {})

    monkeypatch.setattr(loop, "Scorer", Light)
    monkeypatch.setattr(
        loop, "nearest_training_images", lambda scorer, data, images: (images[:, None], {"samples": 0.0})
    )
