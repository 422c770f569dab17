"""Losses in numbers."""

import math

import pytest
import torch

from repro.networks import losses


def test_hinge_losses_in_numbers():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 3.0])
    assert losses.hinge_d(real, fake).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 4) / 3)
    assert losses.adversarial_g(fake).item() == pytest.approx(-1 / 3)
    assert losses.auxiliary_classifier(torch.zeros(4, 10), torch.arange(4)).item() == pytest.approx(
        math.log(10)
    )
