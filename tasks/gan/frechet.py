"""How far painted images are from real ones, by what a network sees in them.

Frechet distance (Heusel et al., 2017) and kernel distance (Binkowski et al., 2018) of two sets of
features, each with how far it may be trusted. Both depend on the network, and the first on how
many images there are: it falls as they grow more.
"""

from __future__ import annotations

from zoo.lazy import np

RESAMPLES, RESAMPLES_WIDE = 50, 10  # for an interval; of features wider than the next number
WIDE_FEATURES = 256
SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance, as its authors have it
Z_95 = 1.96  # deviations within which 95 % lie


def frechet_distance(real, generated):
    """Returns the Frechet distance of two sets of features, `(count, width)` each.

    `|m - n|^2 + tr(C + D - 2 (C D)^(1/2))`, with means and covariances over `count - 1`.
    """
    return _frechet_distance(*_moments(real), *_moments(generated))


def frechet_distance_interval(real, generated, *, seed):
    """Returns the Frechet distance and the ends of its interval at 95 %.

    The interval is 1.96 deviations of resampled sets to both sides. What resamples lie around is
    not used: they have fewer different images, and so a larger distance.

    Args:
        real, generated: features, `(count, width)`.
        seed: of the resamples.
    """
    value, random = frechet_distance(real, generated), np.random.default_rng(seed)
    resamples = RESAMPLES if real.shape[1] <= WIDE_FEATURES else RESAMPLES_WIDE
    found = []
    for _ in range(resamples):
        parts = (_moments(x, random.integers(0, len(x), len(x))) for x in (real, generated))
        found.append(_frechet_distance(*next(parts), *next(parts)))
    margin = Z_95 * float(np.std(found, ddof=1))
    return value, max(0.0, value - margin), value + margin


def kernel_inception_distance(real, generated, *, seed):
    """Returns the kernel inception distance and the ends of its interval at 95 %.

    The squared maximum mean discrepancy with the kernel `(x y / width + 1)^3`, unbiased, so that
    it may be negative; the mean over `SUBSETS` of 1,000 images, or of half as many as there are.
    The deviation of subsets, scaled to all images, gives the interval.

    Args:
        real, generated: features, `(count, width)`.
        seed: of the subsets.
    """
    random, count = np.random.default_rng(seed), min(len(real), len(generated))
    size = min(SUBSET_SIZE, max(2, count // 2))
    found = []
    for _ in range(SUBSETS):
        x, y = (part[random.choice(len(part), size, replace=False)] for part in (real, generated))
        found.append(squared_mmd(x, y))
    margin = Z_95 * float(np.std(found, ddof=1)) * (size / count) ** 0.5
    value = float(np.mean(found))
    return value, value - margin, value + margin


def squared_mmd(x, y):
    """Returns the unbiased squared maximum mean discrepancy of two sets, `(count, width)`."""
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    m, n = len(x), len(y)
    own = [_kernel(x, x), _kernel(y, y)]
    within = [(k.sum() - np.trace(k)) / (c * (c - 1)) for k, c in zip(own, (m, n), strict=True)]
    return float(sum(within) - 2 * _kernel(x, y).mean())


def _kernel(x, y):
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # a third of the time of a power


def _moments(features, chosen=None):
    """Returns mean and covariance of features, or of those that are chosen, some several times."""
    features = np.asarray(features, "float64")
    if chosen is None:
        return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))
    times = np.bincount(chosen, minlength=len(features)).astype("float64")
    mean = times @ features / len(chosen)
    centred = features - mean
    return mean, (centred * times[:, None]).T @ centred / (len(chosen) - 1)


def _frechet_distance(m, c, n, d):
    # The eigenvalues of C D are those of the symmetric C^(1/2) D C^(1/2), which has real ones.
    values, vectors = np.linalg.eigh(c)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ d @ root)
    trace = np.trace(c) + np.trace(d) - 2 * np.sqrt(np.maximum(eigenvalues, 0)).sum()
    return max(0.0, float(((m - n) ** 2).sum() + trace))
