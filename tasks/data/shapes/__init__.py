"""`shapes`, synthetic images with exact labels, masks, boxes and captions; see `docs/shapes.md`.

A scene is a pure function of version, seed, split and index. Its objects are sampled first
(`scene_layout`), then described (`captions`) and rendered (`rendering`): labels and captions need
no pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tasks.data.shapes.captions import sentences
from tasks.data.shapes.distance_fields import SHAPES, UNITS
from tasks.data.shapes.rendering import render
from tasks.data.shapes.scene_layout import (
    COLOURS,
    SIZES,
    SPLITS,
    UNSEEN,
    VERSION,
    SceneObject,
    labels,
    layout,
    main_object,
    make_randint,
    random_words,
)
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np

__all__ = [
    "COLOURS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "UNITS",
    "UNSEEN",
    "VERSION",
    "Scene",
    "SceneObject",
    "Scenes",
    "describe",
    "draw",
    "labels",
    "layout",
    "main_object",
]

MIN_IMAGE_SIZE = 32  # pixels along a side at which all objects are still visible


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """An image and its ground truth.

    Attributes:
        image: uint8 `(image_size, image_size, 3)`, RGB.
        label: The index in `SHAPES` of the main object's shape, 0 to 5.
        mask: uint8 `(image_size, image_size)`; 0 is background, else 1 + index in `SHAPES`.
        instances: uint8 `(image_size, image_size)`; 0 is background, else 1 + index in `objects`.
        boxes: int32 `(objects, 4)`, `x0, y0, x1, y1` in pixels around the visible part of each
            object; x1 and y1 are exclusive.
        box_labels: int64 `(objects,)`, indices in `SHAPES`, 0 to 5.
        objects: The objects, from back to front.
        sentences: Five captions, one of each form.
    """

    image: np.ndarray
    label: int
    mask: np.ndarray
    instances: np.ndarray
    boxes: np.ndarray
    box_labels: np.ndarray
    objects: tuple[SceneObject, ...]
    sentences: tuple[str, ...]


SCENE_PARTS = ("scene", *(field.name for field in dataclasses.fields(Scene)))


@dataclasses.dataclass(frozen=True)
class Scenes(Sequence):
    """A split as a lazy sequence: items are rendered when indexed, and slices are sequences too.

    Attributes:
        split: A key of `SPLITS`.
        what: The field of `Scene` that an item is, or `"scene"` for the whole `Scene`.
        seed: The seed; each is another data set.
        image_size: Pixels along a side, 32 or more.
        indices: The indices of the scenes; `None` is the whole split.

    Raises:
        UsageError: There is no such split or field, the seed is negative, or the image is too
            small.
    """

    split: str
    what: str = "image"
    seed: int = 0
    image_size: int = UNITS
    indices: range | None = None

    def __post_init__(self):
        _check(self.split, 0, self.seed, self.image_size)
        if self.what not in SCENE_PARTS:
            raise unknown_name_error("part of a scene", self.what, SCENE_PARTS)
        if self.indices is None:
            object.__setattr__(self, "indices", range(SPLITS[self.split]))

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return dataclasses.replace(self, indices=self.indices[index])
        index = self.indices[index]
        if self.what in _LAYOUT_PARTS:
            return _LAYOUT_PARTS[self.what](self.split, index, seed=self.seed)
        scene = draw(self.split, index, seed=self.seed, image_size=self.image_size)
        return scene if self.what == "scene" else getattr(scene, self.what)


def draw(split, index, *, seed=0, image_size=UNITS):
    """Returns a `Scene`, which depends on the arguments alone, on all machines.

    Args:
        split: A key of `SPLITS`.
        index: 0 or more; it may exceed the size of the split.
        seed: The seed; each is another data set.
        image_size: Pixels along a side, 32 or more. It changes the pixels, not the scene.

    Raises:
        UsageError: There is no such split, the index or the seed is negative, or the image is too
            small.
    """
    _check(split, index, seed, image_size)
    objects, label = layout(split, index, seed=seed)
    image, instances = render(objects, random_words(split, index, seed, "paint"), image_size)
    box_labels = np.array([obj.label for obj in objects], "int64")
    classes = np.array([0, *(box_labels + 1)], "uint8")
    return Scene(
        image=image,
        label=label,
        mask=classes[instances],
        instances=instances,
        boxes=_boxes(instances, len(objects)),
        box_labels=box_labels,
        objects=objects,
        sentences=sentences(objects, make_randint(random_words(split, index, seed, "sentences"))),
    )


def describe(split, index, *, seed=0):
    """Returns the five captions of a scene, without rendering it.

    Args:
        split, index, seed: As in `draw`.

    Raises:
        UsageError: There is no such split, or the index or the seed is negative.
    """
    objects, _ = layout(split, index, seed=seed)
    return sentences(objects, make_randint(random_words(split, index, seed, "sentences")))


_LAYOUT_PARTS = {
    "label": lambda *scene, seed: layout(*scene, seed=seed)[1],
    "objects": lambda *scene, seed: layout(*scene, seed=seed)[0],
    "sentences": describe,
}


def _check(split, index, seed, image_size):
    """Raises `UsageError` for arguments that are not a scene."""
    random_words(split, index, seed, "layout")
    if image_size < MIN_IMAGE_SIZE:
        raise UsageError(
            f"shapes cannot be drawn at {image_size} pixels; the minimum is {MIN_IMAGE_SIZE}"
        )


def _boxes(instances, count):
    """Returns tight boxes around the pixels of each instance, int32 `(count, 4)`."""
    boxes = np.zeros((count, 4), "int32")
    for box, number in zip(boxes, range(1, count + 1), strict=True):
        rows, columns = np.nonzero(instances == number)
        box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes
