"""What of the painted images is real, and what of the real ones is painted: by neighbourhoods.

Improved precision and recall (Kynkaanniemi et al., 2019): a set of features covers the balls round
each of them that reach to its k-th neighbour in the set.
"""

from __future__ import annotations

from zoo.lazy import np

NUM_NEIGHBOURS = 3
MAX_FEATURES = 5000  # features of either set; the first ones
BLOCK_SIZE = 1000  # compared at a time


def precision_recall(real, generated, neighbours=NUM_NEIGHBOURS):
    """Returns the share of painted images among the real ones, and of real among the painted.

    Args:
        real, generated: features, `(count, width)`, more than `neighbours` of each.
        neighbours: the k of the radius.
    """
    real, generated = (np.asarray(x, "float64")[:MAX_FEATURES] for x in (real, generated))
    return _coverage(generated, real, neighbours), _coverage(real, generated, neighbours)


def diversity(real, generated):
    """Returns how different painted images are from each other, in parts of how the real ones are.

    It is the mean distance of the features of two images; 0 if all are alike.
    """
    spread = [_mean_distance(np.asarray(x, "float64")[:BLOCK_SIZE]) for x in (real, generated)]
    return spread[1] / spread[0] if spread[0] else float("nan")


def _coverage(points, others, neighbours):
    """Returns the share of points that lie in the ball of one of the others, or of several."""
    radii = np.concatenate(
        [
            # The nearest one of a point is the point itself.
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
    """Returns the squared distances of all pairs."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return np.maximum(squares, 0)
