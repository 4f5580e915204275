"""RetinaNet: a dense one-stage detector, to be trained with the focal loss."""

from __future__ import annotations

import math

from zoo.catalog import register
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import boxes, fpn

PAPER = "https://arxiv.org/abs/1708.02002"

COUNTS = {  # trainable parameters, FLOPs
    "retinanet": (1_207_044, 3_024_603_136),
}


@register(
    {"retinanet": {}},
    input_shape=(128, 128, 3),
    min_size=32,
    kind="detector",
    preprocessing="none",
    paper=PAPER,
    counts=COUNTS,
)
def retinanet(
    image,
    num_classes=80,
    *,
    backbone="resnet20.cifar10",
    backbone_weights=None,
    levels=(2, 6),
    channels=64,
    depth=2,
    batch_norm=True,
    anchor_scale=4,
    octave=3,
    ratios=(0.5, 1, 2),
    prior=0.01,
    candidates=400,
    detections=100,
    least=0.05,
    threshold=0.5,
):
    """Builds a RetinaNet (Lin et al., 2017, section 4).

    The paper has `levels=(3, 7), channels=256, depth=4, candidates=1000, batch_norm=False` and
    `backbone="resnet50.imagenet"`, for images of 600 pixels or more. Departures: the defaults suit
    images of 128 pixels on a CPU; the pyramid's convolutions have batch normalization; levels that
    the backbone lacks are part of the top-down pathway; candidates are the best of all levels
    together.

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        num_classes: the number of classes; there is none for background.
        backbone: name of a model with stages.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        levels: first and last level of the pyramid, N for a stride of `2**N`.
        channels: width of the pyramid's maps and of the heads.
        depth: the number of convolutions of each head before its output.
        batch_norm: whether the pyramid's convolutions are normalized.
        anchor_scale: size of a level's smallest anchors, in multiples of its stride.
        octave: the number of anchor sizes per level.
        ratios: aspect ratios of the anchors, height over width.
        prior: initial score of each class at each anchor, in (0, 1).
        candidates: the number of pairs of anchor and class that are decoded before suppression.
        detections: the maximum number of detections per image.
        least: minimum score of a detection, in [0, 1].
        threshold: IoU above which non-maximum suppression drops the lower-scoring of two boxes
            of a class.

    Returns:
        Endpoints `anchors`, `anchor_logits`, `anchor_deltas` and `detections`: a dict of `boxes`,
        `scores` and `classes`.
    """
    pyramid = fpn.feature_pyramid(
        image, backbone, backbone_weights, levels=levels, channels=channels, batch_norm=batch_norm
    )
    strides, maps = list(pyramid), list(pyramid.values())
    steps = [2 ** (step / octave) for step in range(octave)]
    sizes = [[anchor_scale * stride * step for step in steps] for stride in strides]
    num_anchors = octave * len(ratios)  # per cell
    bias = -math.log((1 - prior) / prior)
    logits = _head(maps, channels, depth, num_anchors * num_classes, bias, name="class")
    deltas = _head(maps, channels, depth, num_anchors * 4, 0.0, name="box")
    endpoints = {
        "anchors": layers.Anchors(sizes, strides, ratios, name="anchors")(maps),
        "anchor_logits": fpn.concatenate_levels(logits, num_classes, name="anchor_logits"),
        "anchor_deltas": fpn.concatenate_levels(deltas, 4, name="anchor_deltas"),
    }
    detect = layers.DecodeDetections(
        detections,
        candidates,
        least,
        threshold,
        ground=False,
        deviations=boxes.ANCHOR_BOX_STD,
        name="detections",
    )
    return endpoints | {"detections": detect(*endpoints.values(), image)}


def _head(maps, channels, depth, filters, bias, *, name):
    """Applies a head (figure 3, c and d) that all levels share; its output is float32."""
    options = {"padding": "same"}
    chain = [
        keras.layers.Conv2D(
            channels,
            3,
            activation="relu",
            kernel_initializer="he_normal",
            name=f"{name}_conv{index + 1}",
            **options,
        )
        for index in range(depth)
    ]
    output_conv = keras.layers.Conv2D(
        filters,
        3,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=f"{name}_answer",
        **options,
    )
    return fpn.apply_shared(maps, [*chain, output_conv])
