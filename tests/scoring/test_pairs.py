"""KID, precision and recall against torch-fidelity's and against pairs written out."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from repro.scoring import pairs


@pytest.fixture(params=[(400, 400), (500, 500), (1203, 701)], ids=str)
def sets(request):
    """Real and generated features: fewer than a block of pairs, one block, and several with a rest."""
    rng = np.random.default_rng(0)
    of_real, of_generated = request.param
    return rng.normal(size=(of_real, 16)), 0.7 * rng.normal(size=(of_generated, 16)) + 0.3


def test_all_three_equal_torch_fidelitys(sets):
    real, generated = sets
    both = [torch.from_numpy(x.astype(np.float32)) for x in (generated, real)]
    theirs = prc_features_to_metric(*both, verbose=False)
    found = pairs.scores(real, generated, extended=True)
    assert (
        0.3 < found["precision"] < 1 and 0.1 < found["recall"] < 0.9 and found["precision"] != found["recall"]
    )
    assert found["precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert found["recall"] == pytest.approx(theirs["recall"], abs=1e-6)
    if len(real) == len(generated):  # theirs takes subsets of one size
        kid = kid_features_to_metric(*both, kid_subsets=1, kid_subset_size=len(real), verbose=False)
        assert found["kid"] == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-4, abs=1e-6)


def test_kid_is_the_kernels_means_over_different_pairs(sets):
    real, generated = sets
    kernel = lambda a, b: (a @ b.T / 16 + 1) ** 3
    own = lambda x: (kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1))
    expected = own(real) + own(generated) - 2 * kernel(real, generated).mean()
    assert pairs.scores(real, generated) == {"kid": pytest.approx(expected, rel=1e-5)}
    assert pairs.within(real).kernel == pytest.approx(own(real), rel=1e-6)


def test_radii_are_the_squared_distances_to_the_third_nearest_other_image(sets):
    for x in sets:
        apart = np.sort(((x[:, None] - x[None]) ** 2).sum(2), axis=1)
        np.testing.assert_allclose(pairs.within(x, radii=True).radii, apart[:, 3], rtol=1e-4)
        assert len(pairs.within(x).radii) == 0


def test_what_is_known_of_the_real_images_changes_nothing(sets):
    real, generated = sets
    expected = pairs.scores(real, generated, extended=True)
    for radii in (True, False):  # without radii they are computed
        known = pairs.within(real, radii=radii)
        assert pairs.scores(real, generated, known, extended=True) == expected


def test_the_ends_of_the_scales():
    rng = np.random.default_rng(0)
    real, same, far = (rng.normal(size=(400, 16)) + shift for shift in (0, 0, 1))
    assert abs(pairs.scores(real, same)["kid"]) < 0.05 < pairs.scores(real, far)["kid"]
    found = pairs.scores(real, same, extended=True)
    assert found["precision"] > 0.7 and found["recall"] > 0.7
    few = np.repeat(real[:10], 40, 0) + 1e-3 * rng.normal(size=(400, 16))
    found = pairs.scores(real, few, extended=True)
    assert found["precision"] > 0.95 and found["recall"] < 0.1  # real pictures, but ten only
