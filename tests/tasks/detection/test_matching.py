"""Matching, sampling and losses of boxes, against slow formulas."""

import keras
import numpy as np
import pytest

from tasks.detection import losses, matching

TENSOR = keras.ops.convert_to_tensor


def slow_match(overlaps, present, high, low, allow_low_quality_matches):
    """The rules of Faster R-CNN, section 3.1.2, box by box."""
    assignments, objects = [], []
    for box in range(overlaps.shape[0]):
        known = [o if p else -1 for o, p in zip(overlaps[box], present, strict=True)]
        best = max(known)
        assignment = 1 if best >= high else 0 if best < low else -1
        for number, overlap in enumerate(known):
            most = max(overlaps[:, number])
            if allow_low_quality_matches and present[number] and overlap == most and overlap > 0:
                assignment = 1
        assignments.append(assignment)
        objects.append(known.index(best))
    return assignments, objects


@pytest.mark.parametrize("allow_low_quality_matches", [False, True])
def test_boxes_are_matched_as_in_the_paper(allow_low_quality_matches):
    random = np.random.default_rng(0)
    overlaps = random.random((20, 15, 4)).round(1).astype("float32")  # with ties
    overlaps[3] *= 0.2
    present = random.random((20, 4)) < 0.6
    present[0], present[1] = False, True
    assignments, objects = matching.match(
        TENSOR(overlaps),
        TENSOR(present),
        0.7,
        0.3,
        allow_low_quality_matches=allow_low_quality_matches,
    )
    for number in range(20):
        expected = slow_match(
            overlaps[number], present[number], 0.7, 0.3, allow_low_quality_matches
        )
        np.testing.assert_array_equal(np.array(assignments)[number], expected[0])
        if present[number].any():
            np.testing.assert_array_equal(np.array(objects)[number], expected[1])


def test_without_objects_all_boxes_are_background():
    assignments, _ = matching.match(
        TENSOR(np.ones((1, 9, 2), "float32")), TENSOR([[False] * 2]), 0.5, 0.4
    )
    assert (np.array(assignments) == matching.NEGATIVE).all()


def slow_random_uniform(seed, count):
    """The hash with Python integers, which do not overflow."""
    for number in range(1, count + 1):
        x = (seed + number * 0x9E3779B9) % 2**32
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
        yield ((x ^ (x >> 16)) >> 8) / 2**24


def test_random_numbers_depend_on_the_seed_and_are_uniform():
    seeds = np.array([0, 1, 12345, 2**31 - 1], "int32")
    found = np.array(matching.random_uniform(TENSOR(seeds), 5000))
    for row, seed in zip(found, seeds, strict=True):
        np.testing.assert_array_equal(
            row[:100], np.float32(list(slow_random_uniform(int(seed), 100)))
        )
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.apply_along_axis(lambda row: np.histogram(row, 10, (0, 1))[0], 1, found)
    assert abs(counts - 500).max() < 5 * 500**0.5
    assert abs(np.corrcoef(found) - np.eye(4)).max() < 0.05
    assert abs(np.corrcoef(found[:, 1:], found[:, :-1]) - np.eye(8)).max() < 0.05


def slow_sample(assignments, priorities, count, share):
    order = sorted(range(len(assignments)), key=lambda box: -priorities[box])
    objects = [box for box in order if assignments[box] == 1][: max(1, round(count * share))]
    background = [box for box in order if assignments[box] == 0]
    return (objects + background)[:count]


@pytest.mark.parametrize("count", [3, 8, 16, 40])
def test_a_sample_has_its_positive_fraction_and_no_box_twice(count):
    random = np.random.default_rng(1)
    assignments = random.choice([1, 0, -1], (30, 20), p=[0.4, 0.4, 0.2]).astype("int32")
    assignments[0], assignments[1], assignments[2] = 1, 0, -1
    priorities = random.random((30, 20)).astype("float32")
    indices, found = matching.sample_boxes(TENSOR(assignments), TENSOR(priorities), count, 0.25)
    assert indices.shape == found.shape == (30, count)
    for number in range(30):
        chosen = np.array(indices)[number][np.array(found)[number]]
        expected = slow_sample(assignments[number], priorities[number], count, 0.25)
        np.testing.assert_array_equal(chosen, expected)


def random_weights(random, shape):
    weights = (random.random(shape) < 0.6) * random.random(shape)
    return weights.astype("float32")


@pytest.mark.parametrize("beta", [1.0, 1 / 9, 0.0])
def test_smooth_l1(beta):
    random = np.random.default_rng(2)
    one, two = random.normal(size=(2, 3, 5, 4)).astype("float32")
    weights = random_weights(random, (3, 5))
    expected = np.zeros(3)
    for image, box, side in np.ndindex(3, 5, 4):
        difference = abs(float(one[image, box, side]) - float(two[image, box, side]))
        quadratic = difference < beta
        loss = 0.5 * difference**2 / beta if quadratic else difference - 0.5 * beta
        expected[image] += loss * weights[image, box]
    found = losses.smooth_l1(TENSOR(one), TENSOR(two), TENSOR(weights), beta=beta)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_softmax_cross_entropy():
    random = np.random.default_rng(3)
    logits = random.normal(size=(3, 5, 4)).astype("float32") * 5
    labels, weights = random.integers(0, 4, (3, 5)).astype("int32"), random_weights(random, (3, 5))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = [
        sum(-np.log(p[image, box, labels[image, box]]) * weights[image, box] for box in range(5))
        for image in range(3)
    ]
    found = losses.softmax_cross_entropy(TENSOR(labels), TENSOR(logits), TENSOR(weights))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_binary_cross_entropy_and_focal_loss(gamma):
    random = np.random.default_rng(4)
    logits = random.normal(size=(3, 5, 4)) * 4
    targets, weights = random.integers(0, 2, (3, 5, 4)), random_weights(random, (3, 5))
    expected, plain = np.zeros(3), np.zeros(3)
    for image, box, name in np.ndindex(3, 5, 4):
        p = 1 / (1 + np.exp(-logits[image, box, name]))
        p, alpha = (p, 0.25) if targets[image, box, name] else (1 - p, 0.75)
        expected[image] -= alpha * (1 - p) ** gamma * np.log(p) * weights[image, box]
        plain[image] -= np.log(p) * weights[image, box]
    inputs = [TENSOR(x.astype("float32")) for x in (targets, logits, weights)]
    np.testing.assert_allclose(losses.focal_loss(*inputs, gamma=gamma), expected, rtol=1e-4)
    np.testing.assert_allclose(losses.binary_cross_entropy(*inputs), plain, rtol=1e-4)


def test_losses_of_large_logits_are_finite():
    logits = TENSOR(np.array([[[200.0, -200.0]]], "float32"))
    for wrong in ([[[0.0, 1.0]]], [[[1.0, 0.0]]]):
        for loss in (losses.binary_cross_entropy, losses.focal_loss):
            assert np.isfinite(loss(TENSOR(np.float32(wrong)), logits, TENSOR([[1.0]]))).all()
