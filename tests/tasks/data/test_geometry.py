"""Geometric augmentation: the same transform for image, mask and boxes; labels never mix."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tasks.data import geometry
from tasks.data.geometry import FILL_VALUE, IGNORE_LABEL
from zoo.errors import UsageError

SHAPE = (24, 32, 3)
MOVING = [level for level in geometry.LEVELS if level != "none"]


def sampled(level, seed=0, size=16):
    """Returns the parameters of one step."""
    return {k: v[0] for k, v in geometry.sample_params(seed, 0, size, 1, SHAPE, level).items()}


def parameters(factor, offset, count=1):
    """Returns given parameters, `(x, y)` each, for all images."""
    rows = {"factor": factor, "offset": offset}
    return {name: np.tile(np.float32(value), (count, 1)) for name, value in rows.items()}


def slow_nearest(mask, factor, offset):
    """Returns a transformed mask, computed pixel by pixel."""
    height, width = mask.shape
    moved = np.full_like(mask, IGNORE_LABEL)
    for row in range(height):
        for column in range(width):
            x = np.floor((column + 0.5 - offset[0]) / factor[0])
            y = np.floor((row + 0.5 - offset[1]) / factor[1])
            if 0 <= x < width and 0 <= y < height:
                moved[row, column] = mask[int(y), int(x)]
    return moved


def test_none_does_nothing_and_unknown_levels_are_rejected():
    images = np.zeros((2, *SHAPE), "uint8")
    assert geometry.sample_params(0, 0, 2, 1, SHAPE, "none") == {}
    assert geometry.transform_images(images, {}) is images
    assert geometry.transform_masks(images, {}) is images
    assert geometry.transform_boxes(images, {}) is images
    with pytest.raises(UsageError, match="no level of augmentation named 'lihgt'; did you mean"):
        geometry.sample_params(0, 0, 2, 1, SHAPE, "lihgt")


@pytest.mark.parametrize("level", MOVING)
def test_parameters_depend_on_seed_and_epoch_alone(level):
    def draw(seed, epoch):
        return geometry.sample_params(seed, epoch, 8, 3, SHAPE, level)

    first, again = draw(1, 2), draw(1, 2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert first["factor"].shape == first["offset"].shape == (3, 8, 2)
    assert first["factor"].dtype == first["offset"].dtype == np.float32
    for other in (draw(2, 2), draw(1, 3)):
        assert not np.array_equal(first["factor"], other["factor"])


def test_bounds_of_the_levels():
    mirror, light, strong = (sampled(level, size=4000) for level in ("mirror", "light", "strong"))
    assert set(np.unique(mirror["factor"])) == {-1, 1}
    assert 0.45 < (mirror["factor"][:, 0] < 0).mean() < 0.55
    assert (mirror["factor"][:, 1] == 1).all()
    for draws, largest in ((light, 1.25), (strong, 2)):
        scale = abs(draws["factor"])
        assert np.array_equal(scale[:, 0], scale[:, 1])
        assert 1 / largest <= scale.min() < 1.05 / largest
        assert 0.95 * largest < scale.max() <= largest
    boxes = np.tile(np.float32([0, 0, 32, 24]), (4000, 1, 1))
    grown = strong["factor"][:, 1] > 1
    x0, y0, x1, y1 = geometry.transform_boxes(boxes, strong).numpy()[:, 0].T
    # Shifts are integers: half a pixel may be missing.
    assert (x0[grown] <= 0.51).all()
    assert (x1[grown] >= 31.49).all()
    assert (y0[~grown] >= -0.51).all()
    assert (y1[~grown] <= 24.51).all()
    middle = geometry.transform_boxes(boxes, light).numpy()[:, 0].reshape(-1, 2, 2).mean(1)
    assert abs(middle - (16, 12)).max() > 0.12 * 32


def test_flips_and_shifts_are_exact():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (1, *SHAPE), "uint8")
    mask = random.integers(0, 7, (1, *SHAPE[:2]), "uint8")
    change = parameters((-1, 1), (32 + 5, -3))
    moved, labels = (
        geometry.transform_images(image, change).numpy(),
        geometry.transform_masks(mask, change).numpy(),
    )
    assert np.array_equal(moved[0, :-3, 5:], image[0, 3:, ::-1][:, :-5])
    assert np.array_equal(labels[0, :-3, 5:], mask[0, 3:, ::-1][:, :-5])
    assert (moved[0, -3:] == FILL_VALUE).all()
    assert (moved[0, :, :5] == FILL_VALUE).all()
    assert (labels[0, -3:] == IGNORE_LABEL).all()
    assert (labels[0, :, :5] == IGNORE_LABEL).all()


@pytest.mark.parametrize("level", MOVING)
def test_masks_use_nearest_neighbours(level):
    change = sampled(level)
    masks = np.random.default_rng(1).integers(0, 7, (16, *SHAPE[:2]), "uint8")
    moved = geometry.transform_masks(masks, change).numpy()
    assert set(np.unique(moved)) <= {*range(7), IGNORE_LABEL}
    expected = np.stack([slow_nearest(*each) for each in zip(masks, *change.values(), strict=True)])
    # A point on the edge between two pixels may be assigned to either.
    assert (moved != expected).mean() < 1e-3


def test_image_mask_and_box_have_the_same_transform():
    """An image that equals its mask is transformed like the mask and its box."""
    box = np.float32([8, 6, 20, 16])
    mask = np.zeros((16, *SHAPE[:2]), "uint8")
    mask[:, 6:16, 8:20] = 1
    change = sampled("strong", seed=3)
    images = geometry.transform_images(np.repeat(mask[..., None] * 200, 3, -1), change).numpy()
    labels = geometry.transform_masks(mask, change).numpy()
    boxes = geometry.transform_boxes(np.tile(box, (16, 1, 1)), change).numpy()[:, 0]
    seen = 0
    for image, label, (x0, y0, x1, y1) in zip(images, labels, boxes, strict=True):
        inside, known = label == 1, label != IGNORE_LABEL
        assert (image[inside] >= 49).all()  # a quarter of it, at a corner
        assert (image[known & ~inside] <= FILL_VALUE).all()
        rows, columns = np.nonzero(inside)
        if x0 >= 0 and y0 >= 0 and x1 <= 32 and y1 <= 24:
            edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert np.abs(np.subtract(edges, (x0, y0, x1, y1))).max() <= 0.5 + 1e-4
            seen += 1
    assert seen > 4


def test_bilinear_interpolation():
    row = np.uint8([0, 100, 200, 40]).reshape(1, 1, 4, 1)
    moved = geometry.transform_images(np.repeat(row, 2, 1), parameters((2, 1), (0, 0))).numpy()[
        0, 0, :, 0
    ]
    # Centers 0.5, 1.5, 2.5, 3.5 come from 0.25, 0.75, 1.25, 1.75; left of 0.5 is partly gray.
    assert moved.tolist() == [round(0.25 * FILL_VALUE), 25, 75, 125]


def test_boxes_are_transformed():
    boxes = np.float32([[[2, 3, 10, 9], [0, 0, 0, 0]]])
    moved = geometry.transform_boxes(tf.constant(boxes), parameters((-2, 2), (64, -4))).numpy()
    assert moved[0, 0].tolist() == [44, 2, 60, 14]


def test_transforms_run_inside_a_graph():
    data = tf.data.Dataset.from_tensor_slices(geometry.sample_params(0, 0, 4, 2, SHAPE, "light"))
    images = tf.zeros((4, *SHAPE), tf.uint8)
    data = data.map(
        lambda step: (
            geometry.transform_images(images, step),
            geometry.transform_masks(images[..., 0], step),
        )
    )
    for image, mask in data:
        assert image.shape == (4, *SHAPE)
        assert mask.shape == (4, *SHAPE[:2])
    assert data.element_spec[0].shape == (4, *SHAPE)
