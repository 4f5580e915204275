"""The order of training examples in an epoch with class-balanced sampling."""

from __future__ import annotations

from zoo.lazy import np


def balanced_indices(labels, size, seed, epoch):
    """Returns indices as `batches.shuffled_indices` does, with equally many images of each class.

    An epoch has as many batches as without balancing. All images of a class are drawn in a random
    order before one is drawn again; some images of a large class are left out.

    Args:
        labels: Class indices `(examples,)`.
        size, seed, epoch: As in `batches.shuffled_indices`.
    """
    random = np.random.default_rng([seed, epoch])
    count = len(labels) // size * size
    members = [np.flatnonzero(np.asarray(labels) == label) for label in np.unique(labels)]
    shares = np.full(len(members), count // len(members))
    shares[random.permutation(len(members))[: count % len(members)]] += 1
    drawn = [
        np.concatenate([random.permutation(own) for _ in range(-(-share // len(own)))])[:share]
        for own, share in zip(members, shares, strict=True)
        if share
    ]
    return random.permutation(np.concatenate(drawn)).reshape(-1, size)
