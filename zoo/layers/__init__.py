"""Layers that Keras lacks, one kind per file. Importing this package loads Keras.

The name of a class with weights is part of the keys of its weights in files of Keras, so it is not
changed, even where the class is registered under another name.
"""

from zoo.layers.absorbed_conv import AbsorbedConv2D
from zoo.layers.anchors import Anchors
from zoo.layers.bilinear_initializer import BilinearInitializer
from zoo.layers.caption_decoders import AttendingLSTM, TellingLSTM
from zoo.layers.clip_at_inference import ClipAtInference
from zoo.layers.decode_detections import DecodeDetections
from zoo.layers.dilated_pooling import DilatedPooling2D
from zoo.layers.dueling import Dueling
from zoo.layers.flatten_regions import FlattenRegions, UnflattenRegions
from zoo.layers.lrn import LocalResponseNormalization
from zoo.layers.mix_channels import MixChannels
from zoo.layers.pad_crop_resize import CropLike, ReflectPadToMultiple2D, ResizeLike
from zoo.layers.padded_shortcut import PaddedShortcut
from zoo.layers.pixel_normalization import PixelNormalization
from zoo.layers.proposal_layer import ProposalLayer
from zoo.layers.reflection_padding import ReflectionPadding2D
from zoo.layers.roi_align import RoIAlign
from zoo.layers.roi_pool import RoIPool
from zoo.layers.sinusoidal_positions import SinusoidalPositions
from zoo.layers.spectral_norm import SpectralConv2D, SpectralDense, SpectralEmbedding
from zoo.layers.trainable_image import Canvas
from zoo.layers.unpooling import ArgmaxPooling2D, MaxUnpooling2D
from zoo.layers.vit_tokens import ClassToken, PositionEmbedding

__all__ = [
    "AbsorbedConv2D",
    "Anchors",
    "ArgmaxPooling2D",
    "AttendingLSTM",
    "BilinearInitializer",
    "Canvas",
    "ClassToken",
    "ClipAtInference",
    "CropLike",
    "DecodeDetections",
    "DilatedPooling2D",
    "Dueling",
    "FlattenRegions",
    "LocalResponseNormalization",
    "MaxUnpooling2D",
    "MixChannels",
    "PaddedShortcut",
    "PixelNormalization",
    "PositionEmbedding",
    "ProposalLayer",
    "ReflectPadToMultiple2D",
    "ReflectionPadding2D",
    "ResizeLike",
    "RoIAlign",
    "RoIPool",
    "SinusoidalPositions",
    "SpectralConv2D",
    "SpectralDense",
    "SpectralEmbedding",
    "TellingLSTM",
    "UnflattenRegions",
]
