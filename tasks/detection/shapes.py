"""The boxes of `shapes`, which are exact, since its images are drawn."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.data import shapes
from tasks.data.dataset import Source, Split, object_array
from tasks.detection import box_annotations


def load():
    """Returns the `Source` of `shapes`; images are drawn on first access."""
    parts = {}
    for split in shapes.SPLITS:
        scenes = _SceneImages(split)
        ground_truths = [_LazyGroundTruth(scenes, index) for index in range(len(scenes))]
        parts[split] = Split(split, scenes, object_array(ground_truths))
    return Source("shapes", tuple(shapes.SHAPES), parts)


class _SceneImages(Sequence):
    """The images of a split; the ground truth of those that were drawn is kept."""

    def __init__(self, split):
        self._scenes, self._ground_truths = shapes.Scenes(split, "scene"), {}

    def __len__(self):
        return len(self._scenes)

    def __getitem__(self, index):
        scene = self._scenes[index]
        rows = zip(scene.boxes, scene.box_labels, [False] * len(scene.boxes), strict=True)
        self._ground_truths[index] = box_annotations.ground_truth(list(rows))
        return scene.image

    def ground_truth(self, index):
        """Returns the objects of an image, drawing it on first access."""
        if index not in self._ground_truths:
            self[index]
        return self._ground_truths[index]


class _LazyGroundTruth:
    """A `box_annotations.GroundTruth` that is computed on first access."""

    def __init__(self, scenes, index):
        self._scenes, self._index = scenes, index

    boxes = property(lambda self: self._scenes.ground_truth(self._index).boxes)
    labels = property(lambda self: self._scenes.ground_truth(self._index).labels)
    ignored = property(lambda self: self._scenes.ground_truth(self._index).ignored)
    size = None
