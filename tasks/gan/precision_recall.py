"""Precision and recall of generated images, by nearest neighbors in feature space.

Improved precision and recall (Kynkaanniemi et al., 2019): the manifold of a set of features is the
union of the balls around each of them whose radius is the distance to its k-th nearest neighbor.
"""

from __future__ import annotations

from zoo.lazy import np

NUM_NEIGHBOURS = 3
MAX_FEATURES = 5000  # features of either set that are used, the first ones
BLOCK_SIZE = 1000  # rows of a block of the distance matrix, to bound memory


def precision_recall(real, generated, neighbours=NUM_NEIGHBOURS):
    """Returns precision and recall of generated images.

    Args:
        real, generated: features, `(count, width)`, with more rows than `neighbours`.
        neighbours: the k of the nearest neighbors.

    Returns:
        The share of generated images in the manifold of the real ones, and the share of real
        images in the manifold of the generated ones.
    """
    real, generated = (np.asarray(x, "float64")[:MAX_FEATURES] for x in (real, generated))
    return _coverage(generated, real, neighbours), _coverage(real, generated, neighbours)


def diversity(real, generated):
    """Returns the mean pairwise distance of generated images, relative to that of real images.

    Distances are Euclidean, between features. The diversity is 0 if all images are equal.
    """
    spread = [_mean_distance(np.asarray(x, "float64")[:BLOCK_SIZE]) for x in (real, generated)]
    return spread[1] / spread[0] if spread[0] else float("nan")


def _coverage(points, others, neighbours):
    """Returns the share of points that lie in at least one ball of the others."""
    radii = np.concatenate(
        [
            # Index 0 is the point itself.
            np.partition(_squared_distances(block, others), neighbours, axis=1)[:, neighbours]
            for block in _blocks(others)
        ]
    )
    inside = [(_squared_distances(block, others) <= radii).any(axis=1) for block in _blocks(points)]
    return float(np.concatenate(inside).mean())


def _mean_distance(points):
    total = np.sqrt(_squared_distances(points, points)).sum()
    return float(total / (len(points) * (len(points) - 1)))


def _blocks(points):
    return [points[start : start + BLOCK_SIZE] for start in range(0, len(points), BLOCK_SIZE)]


def _squared_distances(x, y):
    """Returns the matrix of squared distances between the rows of two arrays."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return np.maximum(squares, 0)
