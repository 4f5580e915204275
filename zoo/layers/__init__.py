"""Layers that Keras lacks, one kind a file. Importing this package loads Keras."""

from zoo.layers.absorbed import AbsorbedConv2D
from zoo.layers.lrn import LocalResponseNormalization
from zoo.layers.mix import MixChannels
from zoo.layers.pixels import PixelNormalization
from zoo.layers.shortcut import PaddedShortcut
from zoo.layers.tokens import ClassToken, PositionEmbedding

__all__ = [
    "AbsorbedConv2D",
    "ClassToken",
    "LocalResponseNormalization",
    "MixChannels",
    "PaddedShortcut",
    "PixelNormalization",
    "PositionEmbedding",
]
