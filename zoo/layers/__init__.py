"""Layers that Keras lacks, one kind a file. Importing this package loads Keras."""

from zoo.layers.lrn import LocalResponseNormalization
from zoo.layers.pixels import PixelNormalization
from zoo.layers.shortcut import PaddedShortcut
from zoo.layers.tokens import ClassToken, PositionEmbedding

__all__ = [
    "ClassToken",
    "LocalResponseNormalization",
    "PaddedShortcut",
    "PixelNormalization",
    "PositionEmbedding",
]
