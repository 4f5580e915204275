"""Boxes, and the layers for them, against formulas written as loops in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from zoo import layers
from zoo.errors import UsageError
from zoo.parts import boxes

IMAGE = np.zeros((1, 64, 64, 3), "float32")


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def random_boxes(rng, shape, side=64.0, integer=False):
    """Returns random boxes inside and slightly outside an image."""
    low = rng.uniform(-5, side - 5, (*shape, 2))
    found = np.concatenate([low, low + rng.uniform(1, side / 2, (*shape, 2))], -1)
    return (np.round(found) if integer else found).astype("float32")


def slow_iou(a, b):
    """Returns the IoU of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both) if sum(areas) - both > 0 else 0.0


def slow_nms(found, threshold, classes):
    remain = []
    for i, box in enumerate(found):
        others = [j for j in remain if classes[j] == classes[i]]
        if all(not slow_iou(found[j], box) > threshold for j in others):
            remain.append(i)
    return [i in remain for i in range(len(found))]


def slow_align(x, region, size, stride, samples, margin=0.0):
    """The formula of torchvision's `roi_align(aligned=True)`, point by point."""
    height, width, channels = x.shape
    x0, y0, x1, y1 = (float(side) for side in region)
    x0, x1 = x0 - margin * (x1 - x0), x1 + margin * (x1 - x0)
    y0, y1 = y0 - margin * (y1 - y0), y1 + margin * (y1 - y0)
    x0, y0, x1, y1 = (side / stride - 0.5 for side in (x0, y0, x1, y1))
    found = np.zeros((size, size, channels))
    for i in range(size):
        for j in range(size):
            for k in range(samples * samples):
                y = y0 + (y1 - y0) / size * (i + (k // samples + 0.5) / samples)
                x_ = x0 + (x1 - x0) / size * (j + (k % samples + 0.5) / samples)
                found[i, j] += slow_point(x, y, x_, height, width) / samples**2
    return found


def slow_point(x, row, column, height, width):
    if row < -1 or row > height or column < -1 or column > width:
        return np.zeros(x.shape[-1])
    row, column = max(row, 0), max(column, 0)
    top, left = int(row), int(column)
    if top >= height - 1:
        top = row = height - 1
    if left >= width - 1:
        left = column = width - 1
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = row - top, column - left
    return (
        x[top, left] * (1 - down) * (1 - across)
        + x[top, right] * (1 - down) * across
        + x[bottom, left] * down * (1 - across)
        + x[bottom, right] * down * across
    )


def slow_pool(x, region, size, stride):
    """The maxima of cells, each from its floor to its ceiling."""
    x0, y0, x1, y1 = (float(side) / stride for side in region)
    height, width, channels = x.shape
    left, right = int(np.clip(np.floor(x0), 0, width)), int(np.clip(np.ceil(x1), 0, width))
    top, bottom = int(np.clip(np.floor(y0), 0, height)), int(np.clip(np.ceil(y1), 0, height))
    found = np.zeros((size, size, channels), x.dtype)
    if x1 <= x0 or y1 <= y0 or right <= left or bottom <= top:
        return found
    for i in range(size):
        for j in range(size):
            rows, columns = bottom - top, right - left
            a, b = top + (i * rows) // size, top + int(np.ceil((i + 1) * rows / size))
            c, d = left + (j * columns) // size, left + int(np.ceil((j + 1) * columns / size))
            found[i, j] = x[a:b, c:d].max((0, 1))
    return found


def test_iou_by_its_formula():
    rng = np.random.default_rng(0)
    some, others = random_boxes(rng, (2, 7)), random_boxes(rng, (2, 5))
    some[0, 0] = 0  # padding
    others[0, 0] = 0
    got = to_numpy(boxes.box_iou(some, others))
    expected = [[[slow_iou(a, b) for b in others[i]] for a in some[i]] for i in range(2)]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert got[0, 0].max() == 0
    np.testing.assert_allclose(np.diag(to_numpy(boxes.box_iou(some[1], some[1]))), 1, rtol=1e-5)


def test_iou_by_hand():
    one = np.array([[0, 0, 4, 4]], "float32")
    others = np.array([[2, 0, 6, 4], [4, 0, 8, 4], [1, 1, 3, 3], [0, 0, 4, 4]], "float32")
    np.testing.assert_allclose(
        to_numpy(boxes.box_iou(one, others)), [[8 / 24, 0, 4 / 16, 1]], rtol=1e-6
    )


@pytest.mark.parametrize("box_std", [boxes.ANCHOR_BOX_STD, boxes.REGION_BOX_STD])
def test_encoding_is_that_of_the_paper_and_is_inverted_by_decoding(box_std):
    rng = np.random.default_rng(1)
    found, references = random_boxes(rng, (3, 6)), random_boxes(rng, (3, 6))
    deltas = to_numpy(boxes.encode_boxes(found, references, box_std))
    for index in np.ndindex(3, 6):
        (x0, y0, x1, y1), (a0, b0, a1, b1) = found[index], references[index]
        width, height = a1 - a0, b1 - b0
        expected = [
            ((x0 + x1) / 2 - (a0 + a1) / 2) / width / box_std[0],
            ((y0 + y1) / 2 - (b0 + b1) / 2) / height / box_std[1],
            np.log((x1 - x0) / width) / box_std[2],
            np.log((y1 - y0) / height) / box_std[3],
        ]
        np.testing.assert_allclose(deltas[index], expected, rtol=1e-3, atol=1e-4)
    back = to_numpy(boxes.decode_boxes(deltas, references, box_std))
    np.testing.assert_allclose(back, found, rtol=1e-4, atol=1e-3)


def test_large_deltas_are_bounded():
    deltas = np.array([[0, 0, 1e4, 1e4]], "float32")
    got = to_numpy(boxes.decode_boxes(deltas, np.array([[0, 0, 16, 16]], "float32")))
    np.testing.assert_allclose(got, [[-492, -492, 508, 508]], rtol=1e-4)


def test_boxes_are_clipped_to_the_image():
    found = np.array([[-3, 2, 70, 90], [80, -9, 90, -1]], "float32")
    got = to_numpy(boxes.clip_boxes(found, 60, 64))
    np.testing.assert_array_equal(got, [[0, 2, 64, 60], [64, 0, 64, 0]])


def test_anchors_by_hand():
    got = boxes.generate_anchors([[4, 8], 16], [8, 16], [1, 4], [(1, 2), (1, 1)])
    expected = [  # a ratio of 4 is twice as high and half as wide
        [2, 2, 6, 6],
        [3, 0, 5, 8],
        [0, 0, 8, 8],
        [2, -4, 6, 12],
        [10, 2, 14, 6],
        [11, 0, 13, 8],
        [8, 0, 16, 8],
        [10, -4, 14, 12],
        [0, 0, 16, 16],
        [4, -8, 12, 24],
    ]
    np.testing.assert_allclose(got, expected)
    assert got.dtype == "float32"


def test_anchors_need_an_image_of_known_size():
    with pytest.raises(UsageError, match="fixed size"):
        boxes.generate_anchors([4], [8], [1], [(None, 2)])
    with pytest.raises(UsageError, match="got 1 sizes, 2 strides"):
        boxes.generate_anchors([4], [8, 16], [1], [(1, 2), (1, 1)])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("integer", [False, True])
def test_nms_is_exactly_greedy(threshold, classes, integer):
    """Integer coordinates give equal boxes, and overlaps of exactly the threshold."""
    rng = np.random.default_rng(2)
    found = random_boxes(rng, (4, 60), 24 if integer else 64, integer)
    found[:, 50:] = found[:, :10]
    found[0, 5] = 0
    kinds = rng.integers(0, classes, (4, 60)).astype("int32")
    got = to_numpy(boxes.nms(found, threshold, kinds))
    expected = [slow_nms(found[i], threshold, kinds[i]) for i in range(4)]
    np.testing.assert_array_equal(got, expected)
    assert 0 < got.sum() < got.size


def test_nms_follows_a_chain_to_its_end():
    """Each box overlaps only its neighbors, so every other one remains."""
    index = np.arange(40, dtype="float32")
    chain = np.stack([index * 4, 0 * index, index * 4 + 10, 0 * index + 10], -1)[None]
    got = to_numpy(boxes.nms(chain, 0.4))
    np.testing.assert_array_equal(got, [slow_nms(chain[0], 0.4, [0] * 40)])
    np.testing.assert_array_equal(got[0], index % 2 == 0)


def test_top_scores_are_in_descending_order_and_padded():
    scores = np.array([[1, 3, 3, 2], [0, -5, 7, -1]], "float32")
    top, indices = boxes.top_scores(scores, 3)
    np.testing.assert_array_equal(to_numpy(indices), [[1, 2, 3], [2, 0, 3]])
    np.testing.assert_array_equal(to_numpy(top), [[3, 3, 2], [7, 0, -1]])
    top, indices = boxes.top_scores(scores, 6)
    np.testing.assert_array_equal(to_numpy(indices)[:, 4:], 0)
    np.testing.assert_array_equal(to_numpy(top)[:, 4:], np.float32(boxes.PADDING_SCORE))


REGIONS = np.array(
    [
        [[4, 8, 20, 16], [0, 0, 32, 48], [-9, -6, 9, 11], [25, 40, 40, 60]],
        [[0, 0, 0, 0], [8, 8, 8.5, 8.5], [3.3, 1.7, 30.1, 46.2], [50, 60, 70, 90]],
    ],
    "float32",
)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_roi_align_is_the_published_formula(samples, margin):
    x = np.random.default_rng(3).standard_normal((2, 12, 8, 3)).astype("float32")
    layer = layers.RoIAlign(3, [4], samples=samples, margin=margin)
    got = to_numpy(layer([x], REGIONS))
    assert got.shape == layer.compute_output_spec([x], REGIONS).shape == (2, 4, 3, 3, 3)
    for i, j in np.ndindex(2, 4):
        expected = slow_align(x[i], REGIONS[i, j], 3, 4, samples, margin)
        np.testing.assert_allclose(got[i, j], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_roi_align_is_that_of_torchvision(samples):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    ops = pytest.importorskip("torchvision.ops", exc_type=ImportError)
    x = np.random.default_rng(3).standard_normal((2, 12, 8, 3)).astype("float32")
    inside = np.clip(REGIONS, 0, [32, 48, 32, 48]).astype("float32")
    got = to_numpy(layers.RoIAlign(3, [4], samples=samples)([x], inside))
    maps, regions = torch.tensor(x.transpose(0, 3, 1, 2)), [torch.tensor(each) for each in inside]
    expected = ops.roi_align(maps, regions, 3, 0.25, samples, aligned=True).numpy()
    expected = expected.transpose(0, 2, 3, 1).reshape(got.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_roi_align_of_a_linear_map_is_exact():
    """Bilinear interpolation is exact there, so a cell has the value at its center."""
    rows, columns = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    plane = (10 * (rows + 0.5) + (columns + 0.5)).astype("float32")[None, ..., None]
    got = to_numpy(layers.RoIAlign(2, [2])([plane], np.array([[[4, 8, 20, 24]]], "float32")))
    np.testing.assert_allclose(got[0, 0, ..., 0], [[64, 68], [104, 108]], rtol=1e-5)


def test_roi_align_pools_each_region_from_its_level():
    """Equation 1: regions of 224 pixels belong to stride 16, of 112 pixels to stride 8."""
    sides = [10, 55.9, 56.1, 111.9, 112.1, 223.9, 224.1, 447, 449, 2000]
    strides = [2, 2, 2, 2, 3, 3, 4, 4, 5, 5]
    maps = [np.full((1, 2**k, 2**k, 1), 7 - k, "float32") for k in (5, 4, 3, 2)]
    regions = np.array([[[0, 0, side, side] for side in sides]], "float32")
    layer = layers.RoIAlign(1, [4, 8, 16, 32])
    got = to_numpy(layer(maps, regions / 1e3))  # all tiny
    np.testing.assert_array_equal(got.ravel(), 2)
    scaled = layers.RoIAlign(1, [4, 8, 16, 32], canonical=0.224)
    got = to_numpy(scaled(maps, regions / 1e3))
    np.testing.assert_allclose(got.ravel(), strides, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_roi_pool_is_the_maximum_of_each_cell(size):
    x = np.random.default_rng(4).standard_normal((2, 12, 9, 3)).astype("float32")
    layer = layers.RoIPool(size, 4)
    got = to_numpy(layer(x, REGIONS))
    assert got.shape == layer.compute_output_spec(x, REGIONS).shape
    expected = [[slow_pool(x[i], REGIONS[i, j], size, 4) for j in range(4)] for i in range(2)]
    np.testing.assert_array_equal(got, expected)


def test_roi_pool_of_many_regions():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 16, 16, 1)).astype("float32")
    regions = random_boxes(rng, (1, 200))
    got = to_numpy(layers.RoIPool(4, 4)(x, regions))
    np.testing.assert_array_equal(got, [[slow_pool(x[0], r, 4, 4) for r in regions[0]]])


def test_proposals_are_the_best_after_suppression():
    anchors = np.array([[[0, 0, 16, 16], [1, 0, 17, 16], [30, 30, 46, 46], [60, 60, 76, 76],
                         [70, 0, 90, 10]]], "float32")  # fmt: skip
    logits = np.array([[[1], [2], [0], [3], [4]]], "float32")
    deltas = np.zeros((1, 5, 4), "float32")
    deltas[0, 2] = [0.5, 0, np.log(2), 0]
    got = to_numpy(layers.ProposalLayer(count=4, candidates=10)(anchors, logits, deltas, IMAGE))
    expected = [[60, 60, 64, 64], [1, 0, 17, 16], [30, 30, 62, 46], [0, 0, 0, 0]]
    np.testing.assert_allclose(got[0], expected, atol=1e-4)
    few = to_numpy(layers.ProposalLayer(count=4, candidates=3)(anchors, logits, deltas, IMAGE))
    np.testing.assert_allclose(few[0], [*expected[:2], [0] * 4, [0] * 4], atol=1e-4)


def test_detections_by_hand():
    """Overlapping boxes are suppressed within a class only; background gives no detection."""
    regions = np.array([[[0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 50, 50], [0, 0, 0, 0]]])
    probabilities = np.array([[[0.1, 0.7, 0.2], [0.25, 0.6, 0.15], [0.97, 0.02, 0.01], [0, 1, 0]]])
    logits = np.log(np.maximum(probabilities, 1e-9)).astype("float32")
    deltas = np.zeros((1, 4, 2, 4), "float32")
    deltas[0, 0, 1] = [5, 0, 0, 0]  # half a width, as the box_std is a tenth
    layer = layers.DecodeDetections(count=4, candidates=6)
    got = {
        k: to_numpy(v) for k, v in layer(regions.astype("float32"), logits, deltas, IMAGE).items()
    }
    np.testing.assert_allclose(got["scores"], [[0.7, 0.2, 0.15, 0]], rtol=1e-4)
    np.testing.assert_array_equal(got["classes"], [[0, 1, 1, -1]])
    expected = [[[0, 0, 20, 20], [10, 0, 30, 20], [1, 0, 21, 20], [0, 0, 0, 0]]]
    np.testing.assert_allclose(got["boxes"], expected, atol=1e-3)


def test_detections_without_background_are_sigmoids_of_anchors():
    anchors = np.array([[[0, 0, 20, 20], [40, 40, 90, 60]]], "float32")
    logits = np.array([[[-9, 0], [2, -9]], [[-9, -9], [-9, -9]]], "float32")
    deltas = np.zeros((2, 2, 4), "float32")
    layer = layers.DecodeDetections(3, 4, ground=False, deviations=boxes.ANCHOR_BOX_STD)
    got = {name: to_numpy(value) for name, value in layer(anchors, logits, deltas, IMAGE).items()}
    np.testing.assert_allclose(got["scores"], [[1 / (1 + np.exp(-2)), 0.5, 0], [0, 0, 0]], 1e-5)
    np.testing.assert_array_equal(got["classes"], [[0, 1, -1], [-1, -1, -1]])
    np.testing.assert_allclose(got["boxes"][0], [[40, 40, 64, 60], [0, 0, 20, 20], [0] * 4])
    assert {name: value.dtype.name for name, value in got.items()} == {
        "boxes": "float32",
        "scores": "float32",
        "classes": "int32",
    }


@pytest.mark.parametrize("count", [3, 40])
def test_detections_are_those_of_loops_in_numpy(count):
    rng = np.random.default_rng(6)
    regions = random_boxes(rng, (2, 12))
    logits = rng.normal(0, 2, (2, 12, 4)).astype("float32")
    deltas = rng.normal(0, 1, (2, 12, 3, 4)).astype("float32")
    layer = layers.DecodeDetections(count, candidates=99, least=0.1, threshold=0.4)
    got = {k: to_numpy(v) for k, v in layer(regions, logits, deltas, IMAGE).items()}
    for i in range(2):
        probabilities = np.exp(logits[i]) / np.exp(logits[i]).sum(-1, keepdims=True)
        found = np.array(
            to_numpy(boxes.decode_boxes(deltas[i], regions[i][:, None], layer.deviations))
        )
        found = np.clip(found, 0, 64)
        order = sorted(np.ndindex(12, 3), key=lambda at: -probabilities[at[0], at[1] + 1])
        order = [(r, c) for r, c in order if probabilities[r, c + 1] >= 0.1]
        remain = slow_nms([found[at] for at in order], 0.4, [c for _, c in order])
        order = [at for at, stays in zip(order, remain, strict=True) if stays][:count]
        assert (got["scores"][i] > 0).sum() == len(order)
        for j, (r, c) in enumerate(order):
            np.testing.assert_allclose(got["scores"][i, j], probabilities[r, c + 1], rtol=1e-4)
            np.testing.assert_allclose(got["boxes"][i, j], found[r, c], atol=1e-3)
            assert got["classes"][i, j] == c


LAYERS = [
    layers.Anchors([[4, 8], [16]], [8, 16], [0.5, 1]),
    layers.DecodeDetections(7, 9, 0.1, 0.4, False, boxes.ANCHOR_BOX_STD),
    layers.FlattenRegions(),
    layers.UnflattenRegions(),
    layers.ProposalLayer(7, 9, 0.6, 2.0, boxes.REGION_BOX_STD),
    layers.RoIAlign(5, [4, 8], 3, 112, 0.1),
    layers.RoIPool(5, 8),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_survive_saving(layer):
    packed = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(packed).get_config() == layer.get_config()


def test_regions_are_merged_into_the_batch_and_split_again():
    x = np.arange(48).reshape(2, 3, 2, 2, 2).astype("float32")
    folded = layers.FlattenRegions()(x)
    np.testing.assert_array_equal(to_numpy(folded), x.reshape(6, 2, 2, 2))
    back = layers.UnflattenRegions()(folded, np.zeros((2, 3, 4), "float32"))
    np.testing.assert_array_equal(to_numpy(back), x)
