"""`shapes` is as specified in `docs/shapes.md`, to the bit."""

import dataclasses
import hashlib
import itertools
import math
import re

import numpy as np
import pytest

from tasks.data import shapes
from tests.support.paths import ROOT
from zoo.errors import UsageError

PAGE = (ROOT / "docs" / "shapes.md").read_text(encoding="utf-8")
SHAPES, COLOURS, SIZES = list(shapes.SHAPES), list(shapes.COLOURS), list(shapes.SIZES)


@pytest.fixture(scope="module")
def scenes():
    return [shapes.draw("train", index) for index in range(64)]


@pytest.fixture(scope="module")
def layouts():
    return {split: list(shapes.Scenes(split, "objects")) for split in shapes.SPLITS}


def corners(shape):
    """Returns the outline as a polygon in radii, from the table of the page."""

    def ring(count, *radii):
        angles = [2 * math.pi * k / count for k in range(count)]
        return [
            (radii[k % len(radii)] * math.sin(a), -radii[k % len(radii)] * math.cos(a))
            for k, a in enumerate(angles)
        ]

    return {
        "square": [(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)],
        "triangle": ring(3, 1.35),
        "star": ring(10, 1.40, 1.40 * 0.45),
        "cross": [
            *((-0.4, -1.08), (0.4, -1.08), (0.4, -0.4), (1.08, -0.4), (1.08, 0.4), (0.4, 0.4)),
            *((0.4, 1.08), (-0.4, 1.08), (-0.4, 0.4), (-1.08, 0.4), (-1.08, -0.4), (-0.4, -0.4)),
        ],
    }[shape]


def silhouette(thing, pixels=128):
    """Returns the mask of an object, as if it were alone: bool `(pixels, pixels)`."""
    y, x = (np.indices((pixels, pixels)) + 0.5) * 128 / pixels
    x, y = (x - thing.centre[0]) / thing.radius, (y - thing.centre[1]) / thing.radius
    if thing.shape in ("circle", "ring"):
        inner, outer = {"circle": (-1, 0.95), "ring": (0.52, 1.08)}[thing.shape]
        return (np.hypot(x, y) > inner) & (np.hypot(x, y) < outer)
    angle = -2 * math.atan(thing.turn / 32)
    x, y = (
        x * math.cos(angle) - y * math.sin(angle),
        x * math.sin(angle) + y * math.cos(angle),
    )
    inside = np.zeros(x.shape, bool)
    ends = corners(thing.shape)
    for (x0, y0), (x1, y1) in zip(ends, ends[1:] + ends[:1], strict=True):
        if y0 != y1:  # even-odd rule: count the edges to the right
            inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def test_the_page_states_the_digests():
    first = [shapes.draw("train", index) for index in range(8)]
    images, ground_truth = hashlib.sha256(), hashlib.sha256()
    for scene in first:
        images.update(scene.image.tobytes())
        for part in (scene.mask, scene.instances, scene.boxes.astype("<i4")):
            ground_truth.update(part.tobytes())
        ground_truth.update("\n".join(scene.sentences).encode())
    stated = dict(re.findall(r"^    (images|ground truth) +([0-9a-f]{64})$", PAGE, re.MULTILINE))
    assert stated == {"images": images.hexdigest(), "ground truth": ground_truth.hexdigest()}


@pytest.mark.xdist_group("shapes_layouts")
def test_the_page_states_the_tables(layouts):
    assert f"version {shapes.VERSION}\n" in PAGE
    for label, name in enumerate(SHAPES):
        assert f"| {label} | {name} |" in PAGE
    for name, levels in shapes.COLOURS.items():
        assert f"| {name} | {', '.join(map(str, levels))} |" in PAGE
    for name, (low, high) in shapes.SIZES.items():
        assert f"| {name} | {low} to {high} |" in PAGE
    for split, scenes in layouts.items():
        things = [thing for objects in scenes for thing in objects]
        hidden = 100 * sum(thing.hidden > 0 for thing in things) / len(things)
        assert f"| `{split}` | {len(scenes)} | {len(things)} | {hidden:.1f} % |" in PAGE
    unseen = ", ".join(f"{colour} {shape}" for shape, colour in shapes.UNSEEN.items())
    assert unseen in PAGE.replace("\n", " ")


def test_a_scene_depends_on_its_arguments_alone(scenes):
    for index in (9, 3, 9):
        again = shapes.draw("train", np.int64(index))
        for field in dataclasses.fields(again):
            here, there = getattr(again, field.name), getattr(scenes[index], field.name)
            np.testing.assert_array_equal(np.array(here), np.array(there))
    other = shapes.draw("train", 9, seed=1)
    assert other.objects != again.objects
    assert (other.image != again.image).mean() > 0.5


def test_types_and_shapes(scenes):
    for scene in scenes:
        count = len(scene.objects)
        assert (scene.image.dtype, scene.image.shape) == ("uint8", (128, 128, 3))
        assert (scene.mask.dtype, scene.mask.shape) == ("uint8", (128, 128))
        assert (scene.instances.dtype, scene.instances.shape) == ("uint8", (128, 128))
        assert (scene.boxes.dtype, scene.boxes.shape) == ("int32", (count, 4))
        assert (scene.box_labels.dtype, scene.box_labels.shape) == ("int64", (count,))
        assert len(scene.sentences) == 5


@pytest.mark.parametrize("pixels", [128, 75])
def test_masks_equal_an_independent_drawing(pixels):
    for index in range(24):
        scene = shapes.draw("validation", index, image_size=pixels)
        expected = np.zeros((pixels, pixels), int)
        for number, thing in enumerate(scene.objects, start=1):
            expected[silhouette(thing, pixels)] = number
        # a center may be exactly on an outline, where the sines of floats decide either way
        assert (scene.instances != expected).sum() <= 2


def test_masks_match_instances_and_boxes_are_tight(scenes):
    for scene in scenes:
        classes = [0] + [1 + SHAPES.index(thing.shape) for thing in scene.objects]
        np.testing.assert_array_equal(scene.mask, np.take(classes, scene.instances))
        np.testing.assert_array_equal(scene.box_labels, np.array(classes[1:]) - 1)
        for number, (x0, y0, x1, y1) in enumerate(scene.boxes, start=1):
            held = scene.instances == number
            assert held.sum() == held[y0:y1, x0:x1].sum() > 0
            edges = held[y0, x0:x1], held[y1 - 1, x0:x1], held[y0:y1, x0], held[y0:y1, x1 - 1]
            assert all(edge.any() for edge in edges)
        assert not scene.mask[[0, 1, -2, -1]].any()
        assert not scene.mask[:, [0, 1, -2, -1]].any()


def test_hidden_is_the_fraction_of_occluded_pixels(scenes):
    for scene in scenes:
        alone = [silhouette(thing) for thing in scene.objects]
        for back, thing in enumerate(scene.objects):
            area = alone[back].sum()
            lost = 1 - (scene.instances == back + 1).sum() / area
            assert thing.hidden == pytest.approx(lost, abs=3 / area)
            for front in range(len(alone)):
                lost = (alone[front] & alone[back]).sum() / area
                if abs(lost - 1 / 16) > 3 / area:
                    assert (front in thing.hidden_by) == (front > back and lost > 1 / 16)


@pytest.mark.xdist_group("shapes_layouts")
def test_about_a_third_is_occluded_and_never_more_than_half(layouts):
    for scenes in layouts.values():
        hidden = np.array([thing.hidden for objects in scenes for thing in objects])
        assert 0.28 < (hidden > 0).mean() < 0.38
        assert hidden[hidden > 0].min() >= 1 / 16
        assert hidden.max() <= 1 / 2
        assert all(objects[-1].hidden == 0 for objects in scenes)


@pytest.mark.xdist_group("shapes_layouts")
def test_the_label_is_the_shape_of_the_largest_object(scenes, layouts):
    for split, held in layouts.items():
        mains = []
        for objects in held:
            *others, main = sorted(objects, key=lambda thing: SIZES.index(thing.size))
            assert all(SIZES.index(o.size) < SIZES.index(main.size) for o in others)
            ranges = [shapes.SIZES[thing.size] for thing in objects]
            assert all(a <= t.radius <= b for t, (a, b) in zip(objects, ranges, strict=True))
            mains.append(SHAPES.index(main.shape))
        np.testing.assert_array_equal(shapes.labels(split), mains)
        assert np.bincount(mains, minlength=6).min() > len(mains) / 6 * 0.7
    for scene in scenes:
        seen = np.bincount(scene.instances.ravel(), minlength=len(scene.objects) + 1)[1:]
        assert (seen == seen.max()).sum() == 1
        assert SHAPES.index(scene.objects[seen.argmax()].shape) == scene.label


@pytest.mark.xdist_group("shapes_layouts")
def test_splits_share_no_scene_and_keep_the_unseen_pairs_apart(layouts):
    every = list(itertools.chain(*layouts.values()))
    assert len(set(every)) == len(every) == sum(shapes.SPLITS.values())
    assert sorted(shapes.UNSEEN) == sorted(SHAPES)
    assert sorted(shapes.UNSEEN.values()) == sorted(COLOURS)
    for split, scenes in layouts.items():
        for objects in scenes:
            new = [t.radius for t in objects if shapes.UNSEEN[t.shape] == t.colour]
            assert new == ([max(t.radius for t in objects)] if split == "unseen" else [])
            assert len({(t.shape, t.colour) for t in objects}) == len(objects)
    pairs = {(t.shape, t.colour) for objects in layouts["train"] for t in objects}
    assert len(pairs) == 30


def test_objects_have_their_stated_colour(scenes):
    palette = np.array(list(shapes.COLOURS.values()))
    for scene in scenes:
        for number, thing in enumerate(scene.objects, start=1):
            mean = np.median(scene.image[scene.instances == number], axis=0)
            nearest = np.abs(palette - mean).sum(axis=1).argmin()
            assert COLOURS[nearest] == thing.colour


def test_labels_and_sentences_render_nothing(monkeypatch):
    expected = shapes.draw("test", 5)
    monkeypatch.setattr(shapes, "render", None)
    assert shapes.labels("test")[5] == shapes.Scenes("test", "label")[5] == expected.label
    assert shapes.Scenes("test", "sentences")[5] == expected.sentences
    assert shapes.Scenes("test", "objects")[5] == expected.objects


def test_scenes_are_a_sequence(scenes):
    images = shapes.Scenes("train")
    assert len(images) == 2048
    assert len(images[10:20:3]) == 4
    np.testing.assert_array_equal(images[10:20:3][-1], scenes[19].image)
    np.testing.assert_array_equal(images[-2048], scenes[0].image)
    assert shapes.Scenes("train", "scene", image_size=32)[3].mask.shape == (32, 32)
    assert [mask.shape for mask in shapes.Scenes("train", "mask")[:2]] == [(128, 128)] * 2
    with pytest.raises(IndexError):
        images[2048]


def test_size_changes_the_pixels_and_not_the_scene(scenes):
    for index, scene in enumerate(scenes):
        small = shapes.draw("train", index, image_size=32)
        assert (small.objects, small.sentences) == (scene.objects, scene.sentences)
        assert set(np.unique(small.instances)) == set(range(len(scene.objects) + 1))
        assert (small.instances != scene.instances[2::4, 2::4]).mean() < 0.03
        shrunk = scene.image.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
        assert np.abs(shrunk - small.image).mean() < 12


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: shapes.draw("trian", 0), "did you mean train"),
        (lambda: shapes.draw("train", -1), "scene -1"),
        (lambda: shapes.draw("train", 0, seed=-1), "seed -1"),
        (lambda: shapes.draw("train", 0, image_size=16), "the minimum is 32"),
        (lambda: shapes.labels("val"), "validation"),
        (lambda: shapes.Scenes("train", "maks"), "did you mean mask"),
        (lambda: shapes.Scenes("tset"), "did you mean test"),
    ],
)
def test_invalid_arguments_are_rejected(call, words):
    with pytest.raises(UsageError, match=words):
        call()
