"""Layers that Keras lacks, one kind a file. Importing this package loads Keras."""

from zoo.layers.pixels import PixelNormalization
from zoo.layers.shortcut import PaddedShortcut

__all__ = ["PaddedShortcut", "PixelNormalization"]
