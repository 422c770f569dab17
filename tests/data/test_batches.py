"""Which images a step sees."""

import dataclasses

import numpy as np
import pytest
import torch

from repro.data.images import Batches
from repro.errors import ReproError
from repro.networks import resnet
from repro.training import draws


def test_batches_visit_every_image_once_an_epoch_and_flip_when_asked(shapes_data):
    batches = Batches(shapes_data, 1000, 0, False)
    ids = [label for i in range(batches.per_epoch) for label in batches.batch(i)[1].tolist()]
    assert np.bincount(ids).tolist() == np.bincount(shapes_data.labels).tolist()
    first, again, later = (batches.batch(i)[0] for i in (0, 0, batches.per_epoch))
    assert torch.equal(first, again) and not torch.equal(first, later)
    flipped = Batches(shapes_data, 1000, 0, True).batch(0)[0]
    same = (flipped == first).flatten(1).all(1)
    mirrored = (flipped == first.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all() and 400 < (same & ~mirrored).sum() + (same & mirrored).sum() < 900


def test_a_training_seed_is_three_streams_and_each_can_be_pinned(make_config, shapes_data):
    def parts(seed, *pinned, offset=0):
        config = dataclasses.replace(make_config(seed=seed, seed_offset=offset), pinned=pinned)
        weights = resnet.build(config)[0].stem.parametrizations.weight.original
        (real, labels, z, fake_labels), _ = draws.draws(
            config, Batches(shapes_data, 8, config.seed_of("order"), False), 0
        )
        return {"weights": (weights,), "order": (real, labels), "latents": (z, fake_labels)}

    def equal(a, b):
        return {name for name in a if all(torch.equal(x, y) for x, y in zip(a[name], b[name], strict=True))}

    zero = parts(0)
    assert equal(zero, parts(3)) == set()
    for name in zero:
        assert equal(zero, parts(3, name)) == {name} and equal(parts(3), parts(3, name)) == set(zero) - {name}
    assert equal(parts(3), parts(1, offset=2)) == set(zero)
    assert equal(parts(2), parts(1, *zero, offset=2)) == set(zero)
    assert make_config(seed=3).key != dataclasses.replace(make_config(seed=3), pinned=("order",)).key
    with pytest.raises(ReproError, match="Unknown stream of the training seed 'data'"):
        dataclasses.replace(make_config(), pinned=("data",))
