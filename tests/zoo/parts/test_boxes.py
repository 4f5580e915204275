"""Boxes, and the layers that work on them, against formulas written the slow way in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from zoo import layers
from zoo.errors import UsageError
from zoo.parts import boxes

IMAGE = np.zeros((1, 64, 64, 3), "float32")


def number(tensor):
    return keras.ops.convert_to_numpy(tensor)


def drawn(rng, shape, side=64.0, whole=False):
    """Random boxes in and somewhat outside an image."""
    low = rng.uniform(-5, side - 5, (*shape, 2))
    found = np.concatenate([low, low + rng.uniform(1, side / 2, (*shape, 2))], -1)
    return (np.round(found) if whole else found).astype("float32")


def slow_iou(a, b):
    """Counts of half-pixels that both, or either, have: exact where sides are whole."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both) if sum(areas) - both > 0 else 0.0


def slow_nms(found, threshold, classes):
    remain = []
    for i, box in enumerate(found):
        rivals = [j for j in remain if classes[j] == classes[i]]
        if all(not slow_iou(found[j], box) > threshold for j in rivals):
            remain.append(i)
    return [i in remain for i in range(len(found))]


def slow_align(x, region, size, stride, samples, margin=0.0):
    """The formula of torchvision's `roi_align(aligned=True)`, a point at a time."""
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
    """The maxima of cells, each of the pixels between its floor and its ceiling."""
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


def test_overlap_is_intersection_over_union():
    rng = np.random.default_rng(0)
    some, others = drawn(rng, (2, 7)), drawn(rng, (2, 5))
    some[0, 0] = 0  # padding
    others[0, 0] = 0
    got = number(boxes.box_iou(some, others))
    expected = [[[slow_iou(a, b) for b in others[i]] for a in some[i]] for i in range(2)]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert got[0, 0].max() == 0
    np.testing.assert_allclose(np.diag(number(boxes.box_iou(some[1], some[1]))), 1, rtol=1e-5)


def test_overlap_of_boxes_by_hand():
    one = np.array([[0, 0, 4, 4]], "float32")
    others = np.array([[2, 0, 6, 4], [4, 0, 8, 4], [1, 1, 3, 3], [0, 0, 4, 4]], "float32")
    np.testing.assert_allclose(
        number(boxes.box_iou(one, others)), [[8 / 24, 0, 4 / 16, 1]], rtol=1e-6
    )


@pytest.mark.parametrize("deviations", [boxes.ANCHOR_BOX_STD, boxes.REGION_BOX_STD])
def test_coding_is_that_of_the_paper_and_back(deviations):
    rng = np.random.default_rng(1)
    found, references = drawn(rng, (3, 6)), drawn(rng, (3, 6))
    deltas = number(boxes.encode_boxes(found, references, deviations))
    for index in np.ndindex(3, 6):
        (x0, y0, x1, y1), (a0, b0, a1, b1) = found[index], references[index]
        width, height = a1 - a0, b1 - b0
        expected = [
            ((x0 + x1) / 2 - (a0 + a1) / 2) / width / deviations[0],
            ((y0 + y1) / 2 - (b0 + b1) / 2) / height / deviations[1],
            np.log((x1 - x0) / width) / deviations[2],
            np.log((y1 - y0) / height) / deviations[3],
        ]
        np.testing.assert_allclose(deltas[index], expected, rtol=1e-3, atol=1e-4)
    back = number(boxes.decode_boxes(deltas, references, deviations))
    np.testing.assert_allclose(back, found, rtol=1e-4, atol=1e-3)


def test_no_delta_is_too_large_to_decode():
    wild = np.array([[0, 0, 1e4, 1e4]], "float32")
    got = number(boxes.decode_boxes(wild, np.array([[0, 0, 16, 16]], "float32")))
    np.testing.assert_allclose(got, [[-492, -492, 508, 508]], rtol=1e-4)


def test_boxes_are_cut_at_the_border():
    found = np.array([[-3, 2, 70, 90], [80, -9, 90, -1]], "float32")
    got = number(boxes.clip_boxes(found, 60, 64))
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
@pytest.mark.parametrize("whole", [False, True])
def test_suppression_is_exactly_greedy(threshold, classes, whole):
    """Whole sides make many boxes equal, and overlaps that are exactly the threshold."""
    rng = np.random.default_rng(2)
    found = drawn(rng, (4, 60), 24 if whole else 64, whole)
    found[:, 50:] = found[:, :10]
    found[0, 5] = 0
    kinds = rng.integers(0, classes, (4, 60)).astype("int32")
    got = number(boxes.nms(found, threshold, kinds))
    expected = [slow_nms(found[i], threshold, kinds[i]) for i in range(4)]
    np.testing.assert_array_equal(got, expected)
    assert 0 < got.sum() < got.size


def test_suppression_follows_a_chain_to_its_end():
    """Each box overlaps the next only, so that every other one remains."""
    places = np.arange(40, dtype="float32")
    chain = np.stack([places * 4, 0 * places, places * 4 + 10, 0 * places + 10], -1)[None]
    got = number(boxes.nms(chain, 0.4))
    np.testing.assert_array_equal(got, [slow_nms(chain[0], 0.4, [0] * 40)])
    np.testing.assert_array_equal(got[0], places % 2 == 0)


def test_the_best_are_found_and_what_is_missing_is_said():
    scores = np.array([[1, 3, 3, 2], [0, -5, 7, -1]], "float32")
    top, places = boxes.top_scores(scores, 3)
    np.testing.assert_array_equal(number(places), [[1, 2, 3], [2, 0, 3]])
    np.testing.assert_array_equal(number(top), [[3, 3, 2], [7, 0, -1]])
    top, places = boxes.top_scores(scores, 6)
    np.testing.assert_array_equal(number(places)[:, 4:], 0)
    np.testing.assert_array_equal(number(top)[:, 4:], np.float32(boxes.PADDING_SCORE))


REGIONS = np.array(
    [
        [[4, 8, 20, 16], [0, 0, 32, 48], [-9, -6, 9, 11], [25, 40, 40, 60]],
        [[0, 0, 0, 0], [8, 8, 8.5, 8.5], [3.3, 1.7, 30.1, 46.2], [50, 60, 70, 90]],
    ],
    "float32",
)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_align_is_the_published_formula(samples, margin):
    x = np.random.default_rng(3).standard_normal((2, 12, 8, 3)).astype("float32")
    layer = layers.RoIAlign(3, [4], samples=samples, margin=margin)
    got = number(layer([x], REGIONS))
    assert got.shape == layer.compute_output_spec([x], REGIONS).shape == (2, 4, 3, 3, 3)
    for i, j in np.ndindex(2, 4):
        expected = slow_align(x[i], REGIONS[i, j], 3, 4, samples, margin)
        np.testing.assert_allclose(got[i, j], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_align_is_torchvisions(samples):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    ops = pytest.importorskip("torchvision.ops", exc_type=ImportError)
    x = np.random.default_rng(3).standard_normal((2, 12, 8, 3)).astype("float32")
    inside = np.clip(REGIONS, 0, [32, 48, 32, 48]).astype("float32")
    got = number(layers.RoIAlign(3, [4], samples=samples)([x], inside))
    maps, given = torch.tensor(x.transpose(0, 3, 1, 2)), [torch.tensor(each) for each in inside]
    wanted = ops.roi_align(maps, given, 3, 0.25, samples, aligned=True).numpy()
    wanted = wanted.transpose(0, 2, 3, 1).reshape(got.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_align_of_a_slope_is_the_slope():
    """Bilinear interpolation is exact on a plane, so a cell gives the value at its centre."""
    rows, columns = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    plane = (10 * (rows + 0.5) + (columns + 0.5)).astype("float32")[None, ..., None]
    got = number(layers.RoIAlign(2, [2])([plane], np.array([[[4, 8, 20, 24]]], "float32")))
    np.testing.assert_allclose(got[0, 0, ..., 0], [[64, 68], [104, 108]], rtol=1e-5)


def test_align_looks_a_region_up_where_it_belongs():
    """Equation 1: 224 pixels belong to stride 16, and half as many to half the stride."""
    sides = [10, 55.9, 56.1, 111.9, 112.1, 223.9, 224.1, 447, 449, 2000]
    strides = [2, 2, 2, 2, 3, 3, 4, 4, 5, 5]
    maps = [np.full((1, 2**k, 2**k, 1), 7 - k, "float32") for k in (5, 4, 3, 2)]
    regions = np.array([[[0, 0, side, side] for side in sides]], "float32")
    layer = layers.RoIAlign(1, [4, 8, 16, 32])
    got = number(layer(maps, regions / 1e3))  # all tiny
    np.testing.assert_array_equal(got.ravel(), 2)
    scaled = layers.RoIAlign(1, [4, 8, 16, 32], canonical=0.224)
    got = number(scaled(maps, regions / 1e3))
    np.testing.assert_allclose(got.ravel(), strides, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pool_is_the_maximum_of_each_cell(size):
    x = np.random.default_rng(4).standard_normal((2, 12, 9, 3)).astype("float32")
    layer = layers.RoIPool(size, 4)
    got = number(layer(x, REGIONS))
    assert got.shape == layer.compute_output_spec(x, REGIONS).shape
    expected = [[slow_pool(x[i], REGIONS[i, j], size, 4) for j in range(4)] for i in range(2)]
    np.testing.assert_array_equal(got, expected)


def test_pool_of_many_regions():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 16, 16, 1)).astype("float32")
    regions = drawn(rng, (1, 200))
    got = number(layers.RoIPool(4, 4)(x, regions))
    np.testing.assert_array_equal(got, [[slow_pool(x[0], r, 4, 4) for r in regions[0]]])


def test_proposals_are_the_best_that_are_not_there_twice():
    anchors = np.array([[[0, 0, 16, 16], [1, 0, 17, 16], [30, 30, 46, 46], [60, 60, 76, 76],
                         [70, 0, 90, 10]]], "float32")  # fmt: skip
    logits = np.array([[[1], [2], [0], [3], [4]]], "float32")
    deltas = np.zeros((1, 5, 4), "float32")
    deltas[0, 2] = [0.5, 0, np.log(2), 0]
    got = number(layers.ProposalLayer(count=4, candidates=10)(anchors, logits, deltas, IMAGE))
    expected = [[60, 60, 64, 64], [1, 0, 17, 16], [30, 30, 62, 46], [0, 0, 0, 0]]
    np.testing.assert_allclose(got[0], expected, atol=1e-4)
    few = number(layers.ProposalLayer(count=4, candidates=3)(anchors, logits, deltas, IMAGE))
    np.testing.assert_allclose(few[0], [*expected[:2], [0] * 4, [0] * 4], atol=1e-4)


def test_detections_by_hand():
    """Two of a class that overlap are one; two of different classes are two; ground is none."""
    regions = np.array([[[0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 50, 50], [0, 0, 0, 0]]])
    shares = np.array([[[0.1, 0.7, 0.2], [0.25, 0.6, 0.15], [0.97, 0.02, 0.01], [0, 1, 0]]])
    logits = np.log(np.maximum(shares, 1e-9)).astype("float32")
    deltas = np.zeros((1, 4, 2, 4), "float32")
    deltas[0, 0, 1] = [5, 0, 0, 0]  # half a width, as deviations are a tenth
    layer = layers.DecodeDetections(count=4, candidates=6)
    got = {k: number(v) for k, v in layer(regions.astype("float32"), logits, deltas, IMAGE).items()}
    np.testing.assert_allclose(got["scores"], [[0.7, 0.2, 0.15, 0]], rtol=1e-4)
    np.testing.assert_array_equal(got["classes"], [[0, 1, 1, -1]])
    expected = [[[0, 0, 20, 20], [10, 0, 30, 20], [1, 0, 21, 20], [0, 0, 0, 0]]]
    np.testing.assert_allclose(got["boxes"], expected, atol=1e-3)


def test_detections_without_a_ground_are_sigmoids_of_anchors():
    anchors = np.array([[[0, 0, 20, 20], [40, 40, 90, 60]]], "float32")
    logits = np.array([[[-9, 0], [2, -9]], [[-9, -9], [-9, -9]]], "float32")
    deltas = np.zeros((2, 2, 4), "float32")
    layer = layers.DecodeDetections(3, 4, ground=False, deviations=boxes.ANCHOR_BOX_STD)
    got = {name: number(value) for name, value in layer(anchors, logits, deltas, IMAGE).items()}
    np.testing.assert_allclose(got["scores"], [[1 / (1 + np.exp(-2)), 0.5, 0], [0, 0, 0]], 1e-5)
    np.testing.assert_array_equal(got["classes"], [[0, 1, -1], [-1, -1, -1]])
    np.testing.assert_allclose(got["boxes"][0], [[40, 40, 64, 60], [0, 0, 20, 20], [0] * 4])
    assert {name: value.dtype.name for name, value in got.items()} == {
        "boxes": "float32",
        "scores": "float32",
        "classes": "int32",
    }


@pytest.mark.parametrize("count", [3, 40])
def test_detections_are_those_of_the_slow_way(count):
    rng = np.random.default_rng(6)
    regions = drawn(rng, (2, 12))
    logits = rng.normal(0, 2, (2, 12, 4)).astype("float32")
    deltas = rng.normal(0, 1, (2, 12, 3, 4)).astype("float32")
    layer = layers.DecodeDetections(count, candidates=99, least=0.1, threshold=0.4)
    got = {k: number(v) for k, v in layer(regions, logits, deltas, IMAGE).items()}
    for i in range(2):
        shares = np.exp(logits[i]) / np.exp(logits[i]).sum(-1, keepdims=True)
        found = np.array(
            number(boxes.decode_boxes(deltas[i], regions[i][:, None], layer.deviations))
        )
        found = np.clip(found, 0, 64)
        order = sorted(np.ndindex(12, 3), key=lambda at: -shares[at[0], at[1] + 1])
        order = [(r, c) for r, c in order if shares[r, c + 1] >= 0.1]
        remain = slow_nms([found[at] for at in order], 0.4, [c for _, c in order])
        order = [at for at, stays in zip(order, remain, strict=True) if stays][:count]
        assert (got["scores"][i] > 0).sum() == len(order)
        for j, (r, c) in enumerate(order):
            np.testing.assert_allclose(got["scores"][i, j], shares[r, c + 1], rtol=1e-4)
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


def test_regions_are_folded_into_the_batch_and_out_again():
    x = np.arange(48).reshape(2, 3, 2, 2, 2).astype("float32")
    folded = layers.FlattenRegions()(x)
    np.testing.assert_array_equal(number(folded), x.reshape(6, 2, 2, 2))
    back = layers.UnflattenRegions()(folded, np.zeros((2, 3, 4), "float32"))
    np.testing.assert_array_equal(number(back), x)
