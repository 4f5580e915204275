"""Folds: stratified, and no key on both sides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tasks.data import folds
from zoo.errors import UsageError


@pytest.mark.parametrize("seed", range(30))
def test_no_key_is_in_two_folds_and_each_image_in_one(seed):
    random = np.random.default_rng(seed)
    count, number = int(random.integers(20, 200)), int(random.integers(2, 7))
    keys = [f"key {n}" for n in random.integers(0, max(number, count // 4), count)]
    if len(set(keys)) < number:
        pytest.skip("fewer keys than folds")
    found = folds.assign_folds(keys, random.integers(0, 3, count).tolist(), number)
    assert set(found.tolist()) <= set(range(number))
    for key in set(keys):
        assert len({fold for own, fold in zip(keys, found, strict=True) if own == key}) == 1


def test_classes_are_divided_evenly():
    labels = [0] * 50 + [1] * 25 + [2] * 10
    found = folds.assign_folds(range(85), labels, 5)
    for label, each in ((0, 10), (1, 5), (2, 2)):
        counts = Counter(found[np.array(labels) == label].tolist())
        assert counts == dict.fromkeys(range(5), each)


def test_order_of_images_does_not_matter():
    random = np.random.default_rng(0)
    keys, labels = [f"{n:03}" for n in range(60)], random.integers(0, 4, 60)
    order = random.permutation(60)
    first = folds.assign_folds(keys, labels.tolist(), 5)
    second = folds.assign_folds([keys[n] for n in order], labels[order].tolist(), 5)
    np.testing.assert_array_equal(first[order], second)


@pytest.mark.parametrize(("keys", "number"), [("abc", 4), ("abc", 1), ("aaa", 2)])
def test_too_few_groups_are_refused(keys, number):
    with pytest.raises(UsageError, match="cannot be divided"):
        folds.assign_folds(keys, [0, 0, 1], number)
