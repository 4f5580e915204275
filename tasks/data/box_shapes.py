"""The boxes of `shapes`, which are known when its images are drawn."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.data import boxes, shapes
from tasks.data.dataset import Source, Split, objects


def load():
    """Returns the `Source` of `shapes`; nothing is drawn yet."""
    parts = {}
    for split in shapes.SPLITS:
        scenes = _Scenes(split)
        truths = [_Inside(scenes, index) for index in range(len(scenes))]
        parts[split] = Split(split, scenes, objects(truths))
    return Source("shapes", tuple(shapes.SHAPES), parts)


class _Scenes(Sequence):
    """Images of a split; what is in one that was drawn is remembered."""

    def __init__(self, split):
        self._drawn, self._known = shapes.Scenes(split, "scene"), {}

    def __len__(self):
        return len(self._drawn)

    def __getitem__(self, index):
        scene = self._drawn[index]
        rows = zip(scene.boxes, scene.box_labels, [False] * len(scene.boxes), strict=True)
        self._known[index] = boxes.truth(list(rows))
        return scene.image

    def truth(self, index):
        """Returns what is in an image, drawing it if nobody has."""
        if index not in self._known:
            self[index]
        return self._known[index]


class _Inside:
    """A `boxes.Truth` that is looked up when asked for."""

    def __init__(self, scenes, index):
        self._scenes, self._index = scenes, index

    boxes = property(lambda self: self._scenes.truth(self._index).boxes)
    labels = property(lambda self: self._scenes.truth(self._index).labels)
    ignored = property(lambda self: self._scenes.truth(self._index).ignored)
    size = None
