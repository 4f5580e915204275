"""Pretrained weights: metadata, download and cache, file formats, and loading into a model.

zoo.weights.load(model, "resnet18-f37072fd.pth")  # any format of `formats.FORMATS`
zoo.weights.save(model, "mine.npz")
zoo.weights.fetch(name, zoo.spec(name).weights)   # downloads, verifies, returns the path

Names are imported on first use, so that importing a module of this package, such as
`zoo.weights.licences`, does not import all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import attach

if TYPE_CHECKING:
    from zoo.weights.loading import LoadResult, count_matching, load, match_by_name, save
    from zoo.weights.pretrained import ASSETS, Weights, class_names, fetch

__all__ = [
    "ASSETS",
    "LoadResult",
    "Weights",
    "class_names",
    "count_matching",
    "fetch",
    "load",
    "match_by_name",
    "save",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ASSETS": "zoo.weights.pretrained",
        "LoadResult": "zoo.weights.loading",
        "Weights": "zoo.weights.pretrained",
        "class_names": "zoo.weights.pretrained",
        "count_matching": "zoo.weights.loading",
        "fetch": "zoo.weights.pretrained",
        "load": "zoo.weights.loading",
        "match_by_name": "zoo.weights.loading",
        "save": "zoo.weights.loading",
    },
)
