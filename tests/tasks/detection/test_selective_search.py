"""Selective search: its proposals, their reproducibility, and the cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tasks.data import shapes
from tasks.detection import box_annotations, dataset, selective_search
from zoo.errors import UsageError

pytest.importorskip("cv2.ximgproc", reason="needs opencv-contrib-python-headless")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Returns the folder of cached proposals."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    return tmp_path / "proposals"


def load_examples(indices, side):
    split = dataset.load("shapes").splits["test"].take(indices)
    return dataset.decode(split, (side, side, 3), "stretch")


@pytest.fixture(scope="module")
def examples():
    return load_examples(range(8), 128)


@pytest.fixture(scope="module")
def two_examples():
    return load_examples(range(2), 64)


def slow_iou(one, other):
    """Returns the intersection over union of two boxes of integers, by counting pixels."""
    side = 200
    areas = []
    for box in (one, other):
        x0, y0, x1, y1 = map(int, box)
        areas.append(np.zeros((side, side), bool))
        areas[-1][y0:y1, x0:x1] = True
    either = (areas[0] | areas[1]).sum()
    return (areas[0] & areas[1]).sum() / either if either else 0


def test_iou_matches_a_count_of_pixels():
    random = np.random.default_rng(0)
    start = random.integers(0, 60, (12, 2))
    boxes = np.concatenate([start, start + random.integers(0, 60, (12, 2))], 1)
    slow = [[slow_iou(one, other) for other in boxes] for one in boxes]
    assert np.allclose(box_annotations.iou(boxes, boxes), slow)
    assert box_annotations.iou([0, 0, 2, 2], [1, 1, 3, 3]) == 1 / 7
    assert box_annotations.iou(np.zeros((0, 4)), boxes).shape == (0, 12)


def test_proposals_cover_the_objects_of_shapes(examples):
    found = selective_search.add_proposals(examples)
    assert found.proposals.shape == (8, selective_search.MAX_PROPOSALS, 4)
    assert found.proposals.dtype == np.float32
    assert selective_search.recall(found) >= 0.9
    assert selective_search.recall(found, max_proposals=2) < selective_search.recall(found)
    assert selective_search.recall(found, iou_threshold=0.99) < selective_search.recall(found)
    hits = []
    for boxes, proposals, labels in zip(found.boxes, found.proposals, found.labels, strict=True):
        for box in boxes[labels >= 0]:
            hits.append(max(slow_iou(box, other) for other in proposals) >= 0.5)
    assert selective_search.recall(found) == np.mean(hits)
    valid = found.proposals[found.proposals.any(-1)]
    assert (valid >= 0).all()
    assert (valid <= 128).all()
    assert (valid[:, 2:] > valid[:, :2]).all()


def test_proposals_are_the_same_in_any_thread_and_order():
    images = [shapes.draw("train", index).image for index in range(4)]
    alone = [selective_search.search_image(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(selective_search.search_image, images[::-1]))[::-1]
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


def test_proposals_have_no_near_duplicates():
    found = selective_search.search_image(shapes.draw("train", 5).image, mode="quality")
    shared = box_annotations.iou(found, found)
    np.fill_diagonal(shared, 0)
    assert shared.max() <= selective_search.DUPLICATE_IOU
    assert len(found) > len(selective_search.search_image(shapes.draw("train", 5).image))


def test_boxes_of_a_large_image_are_in_pixels_of_the_image(monkeypatch):
    image = np.full((120, 240, 3), 90, "uint8")
    image[30:90, 40:100] = (255, 0, 0)
    monkeypatch.setattr(selective_search, "MAX_SIDE", 100)
    assert box_annotations.iou(selective_search.search_image(image), [40, 30, 100, 90]).max() > 0.85


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_with_other_numbers_of_channels_are_searched(channels):
    image = np.full((60, 60, channels), 90, "uint8")
    image[20:40, 10:30] = 250
    assert box_annotations.iou(selective_search.search_image(image), [10, 20, 30, 40]).max() > 0.8


def test_proposals_are_cached(two_examples, cache, monkeypatch):
    first = selective_search.propose(two_examples, max_proposals=50)
    [file] = cache.iterdir()
    monkeypatch.setattr(
        selective_search, "search_image", lambda *_, **__: pytest.fail("searched again")
    )
    assert np.array_equal(selective_search.propose(two_examples, max_proposals=50), first)
    assert np.array_equal(selective_search.propose(two_examples, max_proposals=20), first[:, :20])
    monkeypatch.undo()
    monkeypatch.setenv("ZOO_HOME", str(cache.parent))
    for damaged in (b"", b"no archive", file.read_bytes()[:-40]):
        file.write_bytes(damaged)
        assert np.array_equal(selective_search.propose(two_examples, max_proposals=50), first)
    other = load_examples([9], 64)
    selective_search.propose(other)
    selective_search.propose(other, mode="quality")
    assert len(list(cache.iterdir())) == 3


def test_the_cache_is_optional(two_examples, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    assert selective_search.propose(two_examples).any()


def test_an_image_without_structure_has_few_proposals_and_no_recall():
    blank = np.zeros((64, 64, 3), "uint8")
    empty = dataset.DetectionExamples(
        "blank",
        np.stack([blank] * 2),
        np.full((2, 1), -1, "int32"),
        boxes=np.zeros((2, 1, 4), "float32"),
        ignored=np.zeros((2, 1), bool),
    )
    found = selective_search.add_proposals(empty, max_proposals=5)
    assert found.proposals.shape == (2, 5, 4)
    assert np.isnan(selective_search.recall(found))


def test_a_wrong_mode_is_refused(examples):
    with pytest.raises(UsageError, match="no mode of selective search named 'quick'"):
        selective_search.propose(examples, mode="quick")


def test_a_missing_package_is_named_with_its_installation(examples, monkeypatch):
    def broken(name, *arguments):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(selective_search.importlib, "import_module", broken)
    with pytest.raises(UsageError, match=r"pip install 'keras-zoo\[detection\]'"):
        selective_search.propose(examples)
