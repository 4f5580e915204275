"""The boxes of `shapes`, which are known when its images are drawn."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.data import shapes
from tasks.data.dataset import Source, Split, object_array
from tasks.detection import box_annotations


def load():
    """Returns the `Source` of `shapes`; nothing is drawn yet."""
    parts = {}
    for split in shapes.SPLITS:
        scenes = _SceneImages(split)
        ground_truths = [_LazyGroundTruth(scenes, index) for index in range(len(scenes))]
        parts[split] = Split(split, scenes, object_array(ground_truths))
    return Source("shapes", tuple(shapes.SHAPES), parts)


class _SceneImages(Sequence):
    """Images of a split; what is in one that was drawn is remembered."""

    def __init__(self, split):
        self._drawn, self._cache = shapes.Scenes(split, "scene"), {}

    def __len__(self):
        return len(self._drawn)

    def __getitem__(self, index):
        scene = self._drawn[index]
        rows = zip(scene.boxes, scene.box_labels, [False] * len(scene.boxes), strict=True)
        self._cache[index] = box_annotations.ground_truth(list(rows))
        return scene.image

    def ground_truth(self, index):
        """Returns what is in an image, drawing it if nobody has."""
        if index not in self._cache:
            self[index]
        return self._cache[index]


class _LazyGroundTruth:
    """A `box_annotations.GroundTruth` that is looked up when asked for."""

    def __init__(self, scenes, index):
        self._scenes, self._index = scenes, index

    boxes = property(lambda self: self._scenes.ground_truth(self._index).boxes)
    labels = property(lambda self: self._scenes.ground_truth(self._index).labels)
    ignored = property(lambda self: self._scenes.ground_truth(self._index).ignored)
    size = None
