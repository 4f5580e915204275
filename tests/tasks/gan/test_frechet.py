"""Distances, precision and recall against loops in Python and published implementations."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.gan import frechet, precision_recall


def features(count=300, width=8, seed=0, shift=0.0, scale=1.0):
    random = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(width, width))
    return shift + scale * random.normal(size=(count, width)) @ mix


def published_distance(x, y, eps=1e-6):
    """As pytorch-fid 0.3.0 computes it (calculate_frechet_distance), with SciPy's square root."""
    linalg = pytest.importorskip("scipy.linalg")
    mu1, mu2 = x.mean(axis=0), y.mean(axis=0)
    sigma1, sigma2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    diff = mu1 - mu2
    covmean = linalg.sqrtm(sigma1.dot(sigma2))
    if not np.isfinite(covmean).all():
        offset = np.eye(sigma1.shape[0]) * eps
        covmean = linalg.sqrtm((sigma1 + offset).dot(sigma2 + offset))
    if np.iscomplexobj(covmean):
        assert np.allclose(np.diagonal(covmean).imag, 0, atol=1e-3)
        covmean = covmean.real
    return diff.dot(diff) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(covmean)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (features(), features(seed=1)),
        (features(), features(seed=1, shift=2.0, scale=0.5)),
        (features(count=500), features(count=60, seed=3)),
        (features(width=40), features(width=40, seed=1, scale=3.0)),
    ],
    ids=["same distribution", "shifted", "uneven", "wide"],
)
def test_frechet_distance_matches_pytorch_fid(x, y):
    assert frechet.frechet_distance(x, y) == pytest.approx(published_distance(x, y), rel=1e-6)


def test_frechet_distance_of_fewer_images_than_features_is_finite():
    x, y = features(count=10, width=40), features(count=12, width=40, seed=1)
    assert np.isfinite(frechet.frechet_distance(x, y))
    assert frechet.frechet_distance(x, x) == pytest.approx(0, abs=1e-5)


def test_frechet_distance_of_normal_distributions_and_its_symmetry():
    """Between N(0, 1) and N(m, s^2) it is m^2 + (1 - s)^2."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(200_000, 1)), random.normal(3, 2, size=(200_000, 1))
    assert frechet.frechet_distance(x, y) == pytest.approx(10, rel=0.02)
    assert frechet.frechet_distance(y, x) == pytest.approx(frechet.frechet_distance(x, y), rel=1e-9)


def test_interval_contains_the_value_and_shrinks_with_more_images():
    few = frechet.frechet_distance_interval(features(100), features(100, seed=1, shift=1.0), seed=0)
    many = frechet.frechet_distance_interval(
        features(2000), features(2000, seed=1, shift=1.0), seed=0
    )
    for value, low, high in (few, many):
        assert low <= value <= high
    assert many[2] - many[1] < (few[2] - few[1]) / 2
    assert few == frechet.frechet_distance_interval(
        features(100), features(100, seed=1, shift=1.0), seed=0
    )


def test_interval_matches_the_standard_deviation_over_independent_samples():
    """Over 60 pairs of independent sets."""
    distances = [
        frechet.frechet_distance(
            features(400, seed=2 * n), features(400, seed=2 * n + 1, shift=1.0)
        )
        for n in range(60)
    ]
    _, low, high = frechet.frechet_distance_interval(
        features(400), features(400, seed=1, shift=1.0), seed=0
    )
    assert (high - low) / (2 * 1.96) == pytest.approx(np.std(distances), rel=0.4)


def mmd_by_loops(x, y):
    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    total = 0.0
    for i in range(m):
        for j in range(m):
            total += kernel(x[i], x[j]) / (m * (m - 1)) if i != j else 0
    for i in range(n):
        for j in range(n):
            total += kernel(y[i], y[j]) / (n * (n - 1)) if i != j else 0
    return total - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n)


def test_squared_mmd_matches_loops():
    x, y = features(count=30, width=5), features(count=20, width=5, seed=1, shift=0.3)
    assert frechet.squared_mmd(x, y) == pytest.approx(mmd_by_loops(x, y), rel=1e-9)


def test_kernel_inception_distance_is_zero_for_the_same_distribution_only():
    value, low, high = frechet.kernel_inception_distance(
        features(600), features(600, seed=1), seed=0
    )
    assert low < 0 < high
    far, low, _ = frechet.kernel_inception_distance(
        features(600), features(600, seed=1, shift=1.0), seed=0
    )
    assert low > abs(value)
    assert far > 10 * abs(value)


def coverage_by_loops(points, others, k):
    """The share of points inside the ball of any of the others."""
    radii = []
    for i, centre in enumerate(others):
        distances = sorted(np.linalg.norm(centre - x) for j, x in enumerate(others) if j != i)
        radii.append(distances[k - 1])
    inside = [
        any(np.linalg.norm(x - c) <= r for c, r in zip(others, radii, strict=True)) for x in points
    ]
    return np.mean(inside)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_match_loops(k, monkeypatch):
    monkeypatch.setattr(precision_recall, "BLOCK_SIZE", 16)  # so that there are several blocks
    real, generated = features(60, 4), features(50, 4, seed=1, shift=0.7, scale=0.6)
    precision, recall = precision_recall.precision_recall(real, generated, neighbours=k)
    assert precision == coverage_by_loops(generated, real, k)
    assert recall == coverage_by_loops(real, generated, k)
    assert 0 < recall < 1


def test_a_single_mode_has_high_precision_but_no_recall_and_no_diversity():
    real = features(400)
    generated = real[0] + 1e-3 * features(400, seed=1)
    precision, recall = precision_recall.precision_recall(real, generated)
    assert precision > 0.9
    assert recall < 0.05
    assert precision_recall.diversity(real, generated) < 0.01
    assert precision_recall.diversity(real, features(400, seed=2)) == pytest.approx(1, abs=0.1)


def test_diversity_is_the_ratio_of_mean_pairwise_distances():
    x, y = features(12), features(9, seed=1)

    def mean_distance(points):
        pairs = [(a, b) for i, a in enumerate(points) for b in points[:i]]
        return np.mean([np.linalg.norm(a - b) for a, b in pairs])

    assert precision_recall.diversity(x, y) == pytest.approx(mean_distance(y) / mean_distance(x))
