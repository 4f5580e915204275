"""Faster R-CNN: region proposals and their classification from shared feature maps."""

from __future__ import annotations

from zoo.catalog import register
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import fpn, roi_head

PAPER = "https://arxiv.org/abs/1506.01497"

COUNTS = {  # trainable parameters, FLOPs
    "faster_rcnn": (1_632_944, 1_731_804_672),
}


@register(
    {"faster_rcnn": {}},
    input_shape=(128, 128, 3),
    min_size=32,
    kind="detector",
    preprocessing="none",
    paper=PAPER,
    counts=COUNTS,
)
def faster_rcnn(
    image,
    num_classes=80,
    *,
    backbone="resnet20.cifar10",
    backbone_weights=None,
    levels=(2, 6),
    channels=64,
    batch_norm=True,
    anchor_scale=4,
    ratios=(0.5, 1, 2),
    candidates=400,
    proposals=100,
    region_size=7,
    canonical=224,
    hidden=(256, 256),
    detections=100,
    least=0.05,
    threshold=0.5,
):
    """Builds a Faster R-CNN with a feature pyramid (Ren et al., 2015; Lin et al., 2016).

    Lin et al. have `channels=256, hidden=(1024, 1024), candidates=2000, proposals=1000,
    anchor_scale=8, batch_norm=False` and `backbone="resnet50.imagenet"`, for images of 800 pixels.
    Departures: the defaults suit images of 128 pixels on a CPU; the pyramid's convolutions have
    batch normalization; its top level is a strided convolution of the backbone's last stage and
    part of the top-down pathway; proposals are the best of all levels together; RoIAlign (He et
    al., 2017) replaces RoI pooling.

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        num_classes: the number of classes, without background.
        backbone: name of a model with a stage at the first of `levels`.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        levels: first and last level of the pyramid, N for a stride of `2**N`.
        channels: width of the pyramid's maps and of the region proposal network.
        batch_norm: whether the pyramid's convolutions are normalized.
        anchor_scale: size of a level's anchors, in multiples of its stride.
        ratios: aspect ratios of the anchors, height over width.
        candidates: the number of anchors that are decoded before suppression.
        proposals: the number of proposals per image.
        region_size: height and width of the maps that RoIAlign returns.
        canonical: size in pixels of the regions that are pooled at stride 16; half of it, at 8.
        hidden: units of the dense layers of the region head.
        detections: the maximum number of detections per image.
        least: minimum score of a detection, in [0, 1].
        threshold: IoU above which non-maximum suppression drops the lower-scoring of two boxes
            of a class.

    Returns:
        Endpoints `anchors`, `anchor_logits`, `anchor_deltas`, `proposals`, `roi_logits`,
        `roi_deltas` and `detections`: a dict of `boxes`, `scores` and `classes`.
    """
    pyramid = fpn.feature_pyramid(
        image, backbone, backbone_weights, levels=levels, channels=channels, batch_norm=batch_norm
    )
    strides, maps = list(pyramid), list(pyramid.values())
    sizes = [anchor_scale * stride for stride in strides]
    endpoints = {"anchors": layers.Anchors(sizes, strides, ratios, name="anchors")(maps)}
    endpoints |= _propose(maps, channels, len(ratios))
    select = layers.ProposalLayer(proposals, candidates, name="proposals")
    endpoints["proposals"] = select(*endpoints.values(), image)
    # The top level is used for its anchors only.
    pooled = [stride for stride in strides if stride <= 32] or strides[:1]
    align = layers.RoIAlign(region_size, pooled, canonical=canonical, name="roi_align")
    x = align([pyramid[stride] for stride in pooled], endpoints["proposals"])
    options = {"count": detections, "least": least, "threshold": threshold}
    found = roi_head.classify_regions(
        endpoints["proposals"], x, image, num_classes, hidden=hidden, **options
    )
    return endpoints | found


def _propose(maps, channels, ratios):
    """Applies the region proposal network (section 3.1), a head shared by all levels."""
    init = keras.initializers.RandomNormal(stddev=0.01)

    def conv(filters, size, name, **options):
        options = {"padding": "same", "kernel_initializer": init, "name": name, **options}
        return keras.layers.Conv2D(filters, size, **options)

    x = fpn.apply_shared(maps, [conv(channels, 3, "rpn_conv", activation="relu")])
    logits = fpn.apply_shared(x, [conv(ratios, 1, "rpn_logits", dtype="float32")])
    deltas = fpn.apply_shared(x, [conv(4 * ratios, 1, "rpn_deltas", dtype="float32")])
    return {
        "anchor_logits": fpn.concatenate_levels(logits, 1, name="anchor_logits"),
        "anchor_deltas": fpn.concatenate_levels(deltas, 4, name="anchor_deltas"),
    }
