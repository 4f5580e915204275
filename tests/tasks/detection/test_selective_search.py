"""Selective search: what it finds, that it finds it again, and what is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tasks.data import shapes
from tasks.detection import box_annotations, dataset, selective_search
from zoo.errors import UsageError

pytest.importorskip("cv2.ximgproc", reason="needs opencv-contrib-python-headless")


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder in which boxes are kept."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    return tmp_path / "proposals"


@pytest.fixture(scope="module")
def examples():
    part = dataset.load("shapes").splits["test"].take(range(8))
    return dataset.decode(part, (128, 128, 3), "stretch")


def slow_overlap(one, other):
    """Intersection over union of two boxes of whole numbers, by counting pixels."""
    side = 200
    areas = []
    for box in (one, other):
        x0, y0, x1, y1 = map(int, box)
        areas.append(np.zeros((side, side), bool))
        areas[-1][y0:y1, x0:x1] = True
    either = (areas[0] | areas[1]).sum()
    return (areas[0] & areas[1]).sum() / either if either else 0


def test_overlaps_are_those_of_pixels():
    random = np.random.default_rng(0)
    start = random.integers(0, 60, (12, 2))
    some = np.concatenate([start, start + random.integers(0, 60, (12, 2))], 1)
    slow = [[slow_overlap(one, other) for other in some] for one in some]
    assert np.allclose(box_annotations.iou(some, some), slow)
    assert box_annotations.iou([0, 0, 2, 2], [1, 1, 3, 3]) == 1 / 7
    assert box_annotations.iou(np.zeros((0, 4)), some).shape == (0, 12)


def test_objects_of_shapes_are_found(examples):
    found = selective_search.add_proposals(examples)
    assert found.proposals.shape == (8, selective_search.MAX_PROPOSALS, 4)
    assert found.proposals.dtype == np.float32
    assert selective_search.recall(found) >= 0.9
    assert selective_search.recall(found, max_proposals=2) < selective_search.recall(found)
    assert selective_search.recall(found, iou_threshold=0.99) < selective_search.recall(found)
    hits = []
    for truth, some, labels in zip(found.boxes, found.proposals, found.labels, strict=True):
        for box in truth[labels >= 0]:
            hits.append(max(slow_overlap(box, other) for other in some) >= 0.5)
    assert selective_search.recall(found) == np.mean(hits)
    real = found.proposals[found.proposals.any(-1)]
    assert (real >= 0).all()
    assert (real <= 128).all()
    assert (real[:, 2:] > real[:, :2]).all()


def test_the_same_is_found_in_any_thread_and_order():
    images = [shapes.draw("train", index).image for index in range(4)]
    alone = [selective_search.search_image(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(selective_search.search_image, images[::-1]))[::-1]
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


def test_no_two_boxes_are_nearly_alike():
    found = selective_search.search_image(shapes.draw("train", 5).image, mode="quality")
    shared = box_annotations.iou(found, found)
    np.fill_diagonal(shared, 0)
    assert shared.max() <= selective_search.DUPLICATE_IOU
    assert len(found) > len(selective_search.search_image(shapes.draw("train", 5).image))


def test_boxes_are_those_of_the_image_though_it_is_searched_at_another_size(monkeypatch):
    image = np.full((120, 240, 3), 90, "uint8")
    image[30:90, 40:100] = (255, 0, 0)
    monkeypatch.setattr(selective_search, "MAX_SIDE", 100)
    assert box_annotations.iou(selective_search.search_image(image), [40, 30, 100, 90]).max() > 0.85


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_of_other_channels_are_searched_too(channels):
    image = np.full((60, 60, channels), 90, "uint8")
    image[20:40, 10:30] = 250
    assert box_annotations.iou(selective_search.search_image(image), [10, 20, 30, 40]).max() > 0.8


def test_what_was_found_is_kept(examples, kept, monkeypatch):
    first = selective_search.propose(examples, max_proposals=50)
    [file] = kept.iterdir()
    monkeypatch.setattr(
        selective_search, "search_image", lambda *_, **__: pytest.fail("searched again")
    )
    assert np.array_equal(selective_search.propose(examples, max_proposals=50), first)
    assert np.array_equal(selective_search.propose(examples, max_proposals=20), first[:, :20])
    monkeypatch.undo()
    monkeypatch.setenv("ZOO_HOME", str(kept.parent))
    for damaged in (b"", b"no archive", file.read_bytes()[:-40]):
        file.write_bytes(damaged)
        assert np.array_equal(selective_search.propose(examples, max_proposals=50), first)
    other = dataset.decode(
        dataset.load("shapes").splits["test"].take([9]), (128, 128, 3), "stretch"
    )
    selective_search.propose(other)
    selective_search.propose(other, mode="quality")
    assert len(list(kept.iterdir())) == 3


def test_a_folder_that_cannot_be_written_to_is_done_without(examples, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    assert selective_search.propose(examples).any()


def test_an_image_in_which_there_is_nothing_to_find():
    blank = np.zeros((64, 64, 3), "uint8")
    nothing = dataset.DetectionExamples(
        "blank",
        np.stack([blank] * 2),
        np.full((2, 1), -1, "int32"),
        boxes=np.zeros((2, 1, 4), "float32"),
        ignored=np.zeros((2, 1), bool),
    )
    found = selective_search.add_proposals(nothing, max_proposals=5)
    assert found.proposals.shape == (2, 5, 4)
    assert np.isnan(selective_search.recall(found))


def test_a_wrong_mode_is_refused(examples):
    with pytest.raises(UsageError, match="no mode of selective search named 'quick'"):
        selective_search.propose(examples, mode="quick")


def test_a_missing_package_says_how_to_get_it(examples, monkeypatch):
    def broken(name, *arguments):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(selective_search.importlib, "import_module", broken)
    with pytest.raises(UsageError, match=r"pip install 'keras-zoo\[detection\]'"):
        selective_search.propose(examples)
