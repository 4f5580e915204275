"""Assignment of images to splits by a hash of their content, stratified by class."""

from __future__ import annotations

from collections import defaultdict

from zoo.lazy import np

PERCENTILES = {"validation": (80, 90), "test": (90, 100)}  # of the hash; the rest is for training
SMALL_CLASS_SIZE = 10  # smaller classes give at most one image each to validation and test


def assign_roles(keys, strata, missing):
    """Returns the role of each image: `train` or one of `missing`.

    Args:
        keys: A key for each image, `bytes`; images with the same key get the same role.
        strata: The class of each image, as from `strata`.
        missing: The roles besides `train`, of `PERCENTILES`.
    """
    role_of = {key: _role_of_hash(key, missing) for key in keys}
    keys_of = defaultdict(set)
    for label, key in zip(strata, keys, strict=True):
        keys_of[label].add(key)
    for _, own in sorted(keys_of.items()):
        _balance_roles(role_of, sorted(own), ["train", *missing])
    return [role_of[key] for key in keys]


def strata(labels):
    """Returns the class by which each example is stratified.

    It is the rarest of several classes, and -1 without any. Annotations that are more than a
    class, such as boxes, all count as the same class.
    """
    if labels.dtype == object:
        return [0] * len(labels)
    if labels.ndim == 1:
        return labels.tolist()
    rarity = np.where(labels > 0, labels.sum(0, dtype="int64"), len(labels) + 1)
    return np.where(labels.any(1), rarity.argmin(1), -1).tolist()


def _role_of_hash(key, missing):
    """Returns the role of an image from the hash of its content alone."""
    percentile = int.from_bytes(key, "big") % 100
    bands = ((role, range(*PERCENTILES[role])) for role in missing)
    return next((role for role, band in bands if percentile in band), "train")


def _balance_roles(role_of, keys, roles):
    """Moves images of a class between roles until each has one, as far as there are enough."""
    for role in roles[1:] if len(keys) < SMALL_CLASS_SIZE else ():
        for key in [key for key in keys if role_of[key] == role][1:]:
            role_of[key] = roles[0]
    roles_to_fill = roles[: len(keys)]
    for role in roles_to_fill:
        keys_by_role = {other: [key for key in keys if role_of[key] == other] for other in roles}
        if not keys_by_role[role]:
            spare = {other: len(keys_by_role[other]) - (other in roles_to_fill) for other in roles}
            donor = max(roles, key=spare.get)
            role_of[keys_by_role[donor][-1]] = role
