"""Metrics against closed forms and other libraries."""

import numpy as np
import pytest
import torch

from repro.errors import ReproError
from repro.scoring import metrics
from repro.scoring.metrics import Statistics, frechet_distance, inception_score


def gaussian(mean, covariance):
    return Statistics(np.asarray(mean, float), np.asarray(covariance, float), 1000)


def test_frechet_distance_of_two_gaussians_in_closed_form():
    a = gaussian([0, 1, 2], np.diag([1.0, 4.0, 9.0]))
    b = gaussian([3, 1, -2], np.diag([4.0, 1.0, 9.0]))
    assert frechet_distance(a, b) == pytest.approx(9 + 16 + 1 + 1)  # |mu|^2 + sum of (sqrt a - sqrt b)^2
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_equals_the_matrix_square_root_also_when_singular():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 30)) @ rng.normal(size=(30, 30)), rng.normal(size=(300, 30)) + 0.5
    sa, sb = Statistics.of(a), Statistics.of(b)
    trace = np.trace(sa.covariance + sb.covariance - 2 * sqrtm(sa.covariance @ sb.covariance).real)
    assert frechet_distance(sa, sb) == pytest.approx(((sa.mean - sb.mean) ** 2).sum() + trace, rel=1e-6)
    few = Statistics.of(a[:10])  # rank 9 of 30
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(few, sb) == pytest.approx(frechet_distance(sb, few), rel=1e-9)


def test_inception_score_at_its_bounds():
    assert inception_score(np.full((50, 10), 0.1)) == pytest.approx((1, 1))
    assert inception_score(np.eye(10)[np.arange(100) % 10])[0] == pytest.approx(10)
    assert inception_score(np.eye(10)[np.zeros(100, int)]) == pytest.approx((1, 1))
    in_order = inception_score(np.eye(10)[np.arange(1000) // 100])  # classes one after the other
    assert in_order[0] == pytest.approx(10) and in_order[1] > 9


def test_the_inception_score_is_the_formula_and_does_not_depend_on_batches():
    p = np.random.default_rng(0).dirichlet(np.ones(20) / 5, 203)
    formula = lambda p: np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean())
    mixed = p[np.argsort(metrics.shuffled(203))]
    splits = [formula(mixed[i * 203 // 10 : (i + 1) * 203 // 10]) for i in range(10)]
    assert inception_score(p) == pytest.approx((formula(p), np.mean(splits)), rel=1e-12)
    predictions = metrics.Predictions(203)
    for i in range(0, 203, 17):
        predictions.add(torch.from_numpy(p[i : i + 17]))
    assert predictions.scores() == pytest.approx(inception_score(p), rel=1e-12)
    assert inception_score(p)[1] < inception_score(p)[0]  # ten splits of few images read lower


def test_statistics_do_not_depend_on_batches_or_order():
    # a mean far from 0: sums of squares would lose digits
    x = (np.random.default_rng(0).normal(size=(500, 40)) + 1000).astype(np.float32)
    one = Statistics.of(x)
    np.testing.assert_allclose(
        one.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10, atol=1e-12
    )
    moments = metrics.Moments()
    for part in np.split(np.random.default_rng(1).permutation(x), [1, 50, 51, 300]):
        moments.add(torch.from_numpy(part))
    many = moments.statistics()
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-12)
    np.testing.assert_allclose(many.covariance, one.covariance, rtol=1e-9, atol=1e-12)
    assert many.count == 500
    with pytest.raises(ValueError, match="at least 2"):
        metrics.Moments().statistics()


def test_the_distance_of_fewer_images_than_features_is_exact():
    """Against the singular values of the centred features themselves, where no covariance is squared and
    rooted.
    """
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(300, 300)) * np.exp(-np.arange(300) / 40)
    for n, m in ((40, 30), (600, 50), (50, 600)):
        a, b = rng.normal(size=(n, 300)) @ mixing, rng.normal(size=(m, 300)) @ mixing + 0.05
        centred_a, centred_b = (a - a.mean(0)) / np.sqrt(n - 1), (b - b.mean(0)) / np.sqrt(m - 1)
        nuclear = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum()
        exact = (
            ((a.mean(0) - b.mean(0)) ** 2).sum() + (centred_a**2).sum() + (centred_b**2).sum() - 2 * nuclear
        )
        assert frechet_distance(Statistics.of(a), Statistics.of(b)) == pytest.approx(exact, rel=1e-9)


def test_small_samples_read_high_and_the_extrapolation_mends_it():
    """FID's bias is about linear in 1/N (Chong and Forsyth 2020, arXiv 1911.07023): two sets of one
    distribution.
    """
    rng = np.random.default_rng(0)
    reference = Statistics.of(rng.normal(size=(20_000, 64)))
    x = rng.normal(size=(10_000, 64))
    fids = {n: frechet_distance(reference, Statistics.of(x[:n])) for n in (1000, 2000, 5000, 10_000)}
    assert list(fids.values()) == sorted(fids.values(), reverse=True) and fids[1000] > 5 * fids[10_000]
    slope, intercept = np.polyfit([1 / n for n in fids], list(fids.values()), 1)
    assert abs(intercept) < fids[10_000] / 2


def test_intra_class_fid_is_each_classes_own_and_refuses_few_images(monkeypatch):
    rng = np.random.default_rng(0)
    shifts = {0: 0.0, 1: 1.0, 2: 3.0}
    real = {k: Statistics.of(rng.normal(size=(600, 4))) for k in shifts}
    generated = {k: Statistics.of(rng.normal(size=(500, 4)) + shift) for k, shift in shifts.items()}
    found = metrics.intra_class_fid(real, generated)
    assert found[0] < 0.1 and found[1] == pytest.approx(4, abs=1) and found[2] == pytest.approx(36, abs=3)
    swapped = metrics.intra_class_fid(real, {0: generated[2], 1: generated[1], 2: generated[0]})
    assert swapped[0] == pytest.approx(found[2], abs=2) and swapped[2] < 0.5  # overall the same images
    generated[1] = Statistics.of(rng.normal(size=(499, 4)))
    with pytest.raises(ReproError, match="Class 1 has 499 generated images.*bias.*500 are needed"):
        metrics.intra_class_fid(real, generated)
    del generated[1]
    with pytest.raises(ReproError, match="Class 1 has 0 generated"):
        metrics.intra_class_fid(real, generated)


def test_diversity_sees_a_collapse_within_classes():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8), np.arange(100) % 10
    assert metrics.diversity(images, labels) > 60
    assert metrics.diversity(images[labels], labels) == 0  # one picture a class
