"""Samples of a generator."""

import numpy as np
import torch

from repro.networks import resnet
from repro.scoring import sampling


def test_samples_do_not_depend_on_how_they_are_batched(make_config, monkeypatch):
    g, _ = resnet.build(make_config())
    config = make_config()
    whole, labels = sampling.sample(g, config, 30, "fp32")
    monkeypatch.setattr(sampling, "BATCH", 7)
    parts, _ = sampling.sample(g, config, 30, "fp32")
    assert np.abs(whole.astype(int) - parts.astype(int)).max() <= 1  # one grey level of rounding
    assert list(labels[:12]) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert len({image.tobytes() for image in whole}) == 30
    first = sampling.latents(128, 7, 0, 10)
    assert torch.equal(first[4:6], sampling.latents(128, 7, 4, 2)) and g.training


def test_sampling_keeps_nothing_for_gradients(make_config):
    class Drawn(torch.nn.Module):
        def forward(self, z, labels):
            assert not torch.is_grad_enabled()
            return torch.zeros(len(z), 3, 32, 32)

    sampling.sample(Drawn(), make_config(), 3, "fp32")
