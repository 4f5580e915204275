"""Distances between the features of real and of generated images.

Frechet distance (Heusel et al., 2017) and kernel inception distance (Binkowski et al., 2018), each
with a confidence interval. Both depend on the feature network. The Frechet distance also depends on
the number of images: it is biased upwards, and falls as there are more.
"""

from __future__ import annotations

from zoo.lazy import np

RESAMPLES, RESAMPLES_WIDE = 50, 10  # bootstrap resamples; of features wider than WIDE_FEATURES
WIDE_FEATURES = 256
SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel inception distance, as in Binkowski et al., 2018
Z_95 = 1.96  # standard deviations of a two-sided 95% interval


def frechet_distance(real, generated):
    """Returns the Frechet distance of two sets of features, `(count, width)` each.

    It is `|m - n|^2 + tr(C + D - 2 (C D)^(1/2))`, with the means `m` and `n` and the unbiased
    covariances `C` and `D`.
    """
    return _frechet_distance(*_moments(real), *_moments(generated))


def frechet_distance_interval(real, generated, *, seed):
    """Returns the Frechet distance and its 95% interval, as `(value, low, high)`.

    The interval is 1.96 standard deviations of bootstrap resamples to both sides of the value. The
    mean of the resamples is not used: they hold fewer distinct images, so it is biased upwards.

    Args:
        real, generated: features, `(count, width)`.
        seed: seed of the resamples.
    """
    value, random = frechet_distance(real, generated), np.random.default_rng(seed)
    resamples = RESAMPLES if real.shape[1] <= WIDE_FEATURES else RESAMPLES_WIDE
    distances = []
    for _ in range(resamples):
        moments = (_moments(x, random.integers(0, len(x), len(x))) for x in (real, generated))
        distances.append(_frechet_distance(*next(moments), *next(moments)))
    margin = Z_95 * float(np.std(distances, ddof=1))
    return value, max(0.0, value - margin), value + margin


def kernel_inception_distance(real, generated, *, seed):
    """Returns the kernel inception distance and its 95% interval, as `(value, low, high)`.

    It is the squared maximum mean discrepancy with the kernel `(x y / width + 1)^3`, averaged over
    `SUBSETS` subsets of `SUBSET_SIZE` images, or of half the images if there are fewer. The
    estimate is unbiased and may be negative. The interval comes from the standard deviation over
    the subsets, scaled to the full number of images.

    Args:
        real, generated: features, `(count, width)`.
        seed: seed of the subsets.
    """
    random, count = np.random.default_rng(seed), min(len(real), len(generated))
    size = min(SUBSET_SIZE, max(2, count // 2))
    values = []
    for _ in range(SUBSETS):
        x, y = (part[random.choice(len(part), size, replace=False)] for part in (real, generated))
        values.append(squared_mmd(x, y))
    margin = Z_95 * float(np.std(values, ddof=1)) * (size / count) ** 0.5
    value = float(np.mean(values))
    return value, value - margin, value + margin


def squared_mmd(x, y):
    """Returns the unbiased squared maximum mean discrepancy of two sets of features."""
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    m, n = len(x), len(y)
    kernels = [_kernel(x, x), _kernel(y, y)]
    within = [(k.sum() - np.trace(k)) / (c * (c - 1)) for k, c in zip(kernels, (m, n), strict=True)]
    return float(sum(within) - 2 * _kernel(x, y).mean())


def _kernel(x, y):
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # three times faster than a power


def _moments(features, indices=None):
    """Returns mean and covariance of features, or of a resample that some indices select."""
    features = np.asarray(features, "float64")
    if indices is None:
        return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))
    counts = np.bincount(indices, minlength=len(features)).astype("float64")
    mean = counts @ features / len(indices)
    centred = features - mean
    return mean, (centred * counts[:, None]).T @ centred / (len(indices) - 1)


def _frechet_distance(m, c, n, d):
    # C D has the eigenvalues of C^(1/2) D C^(1/2), which is symmetric, so that they are real.
    values, vectors = np.linalg.eigh(c)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ d @ root)
    trace = np.trace(c) + np.trace(d) - 2 * np.sqrt(np.maximum(eigenvalues, 0)).sum()
    return max(0.0, float(((m - n) ** 2).sum() + trace))
