"""Layers that Keras lacks, one kind a file. Importing this package loads Keras."""

from zoo.layers.absorbed import AbsorbedConv2D
from zoo.layers.anchors import Anchors
from zoo.layers.bilinear import Bilinear
from zoo.layers.borders import CutLike, MirrorPadding2D, ResizeLike
from zoo.layers.bounds import Bounded
from zoo.layers.canvas import Canvas
from zoo.layers.detections import Detections
from zoo.layers.dilated_pooling import DilatedPooling2D
from zoo.layers.dueling import Dueling
from zoo.layers.fold import FoldRegions, UnfoldRegions
from zoo.layers.lrn import LocalResponseNormalization
from zoo.layers.mix import MixChannels
from zoo.layers.pixels import PixelNormalization
from zoo.layers.proposals import Proposals
from zoo.layers.reflection import ReflectionPadding2D
from zoo.layers.roi_align import RoIAlign
from zoo.layers.roi_pool import RoIPool
from zoo.layers.shortcut import PaddedShortcut
from zoo.layers.spectral import SpectralConv2D, SpectralDense, SpectralEmbedding
from zoo.layers.telling import AttendingLSTM, TellingLSTM
from zoo.layers.tokens import ClassToken, PositionEmbedding
from zoo.layers.unpooling import ArgmaxPooling2D, MaxUnpooling2D

__all__ = [
    "AbsorbedConv2D",
    "Anchors",
    "ArgmaxPooling2D",
    "AttendingLSTM",
    "Bilinear",
    "Bounded",
    "Canvas",
    "ClassToken",
    "CutLike",
    "Detections",
    "DilatedPooling2D",
    "Dueling",
    "FoldRegions",
    "LocalResponseNormalization",
    "MaxUnpooling2D",
    "MirrorPadding2D",
    "MixChannels",
    "PaddedShortcut",
    "PixelNormalization",
    "PositionEmbedding",
    "Proposals",
    "ReflectionPadding2D",
    "ResizeLike",
    "RoIAlign",
    "RoIPool",
    "SpectralConv2D",
    "SpectralDense",
    "SpectralEmbedding",
    "TellingLSTM",
    "UnfoldRegions",
]
