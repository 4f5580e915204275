"""Stratified k-fold division of images that keeps images with a common key in one fold."""

from __future__ import annotations

from collections import defaultdict

from zoo.errors import UsageError
from zoo.lazy import np

MIN_FOLDS = 2


def assign_folds(keys, strata, folds):
    """Returns the fold of each image, int64 `(images,)` from 0 to `folds - 1`.

    Keys are assigned one after the other, the largest first, to the fold that has the fewest
    images of the classes of the key, and of equal folds to the smallest, as in
    `sklearn.model_selection.StratifiedGroupKFold`. Equal sizes are ordered by key, so that the
    result does not depend on the order of the images.

    Args:
        keys: A key for each image, `bytes` or `str`; images with the same key share a fold.
        strata: The class of each image, as from `hash_split.strata`.
        folds: The number of folds.

    Raises:
        UsageError: There are fewer than two folds, or fewer keys than folds.
    """
    images = defaultdict(list)
    for index, key in enumerate(keys):
        images[key].append(index)
    if folds < MIN_FOLDS or len(images) < folds:
        raise UsageError(
            f"{len(keys)} images in {len(images)} groups cannot be divided into {folds} folds; "
            f"folds are {MIN_FOLDS} or more, with a group or more each"
        )
    classes, codes = np.unique(np.asarray(strata), return_inverse=True)
    counts = np.zeros((folds, len(classes)), "int64")
    found = np.empty(len(keys), "int64")
    for key in sorted(images, key=lambda key: (-len(images[key]), key)):
        own, weights = np.unique(codes[images[key]], return_counts=True)
        crowded = counts[:, own] @ weights
        fold = min(range(folds), key=lambda n: (crowded[n], counts[n].sum()))
        counts[fold, own] += weights
        found[images[key]] = fold
    return found
