"""Faster R-CNN: one network proposes regions and, from the same maps, says what is in them."""

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
    Departures: defaults are for images of 128 pixels on a processor; the pyramid's convolutions
    are normalised; its top level is convolved of the backbone's last and takes part in the way
    down; proposals are the best of all levels together; RoIAlign (He et al., 2017) stands in for
    RoI pooling.

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        num_classes: classes besides the ground.
        backbone: a name of `zoo.names()` with a stage of the first of `levels`.
        backbone_weights: a weights file for it, or `"random"`.
        levels: first and last level of the pyramid, N for a stride of `2**N`.
        channels: of the pyramid's maps and of the proposal network.
        batch_norm: whether the pyramid is normalised.
        anchor_scale: size of a level's anchors in strides.
        ratios: heights over widths of anchors.
        candidates: anchors that are decoded to find the proposals.
        proposals: regions an image.
        region_size: side of the grid that is laid over a region.
        canonical: size in pixels of a region that is looked up at stride 16; half of it, at 8.
        hidden: units of the dense layers that look at a region.
        detections: objects an image at most.
        least: score below which there is no object.
        threshold: intersection over union above which two objects of a class are one.

    Returns:
        Endpoints `anchors`, `anchor_logits`, `anchor_deltas`, `proposals`, `roi_logits`,
        `roi_deltas` and `detections`: a dict of `boxes`, `scores` and `classes`.
    """
    pyramid = fpn.feature_pyramid(
        image, backbone, backbone_weights, levels=levels, channels=channels, batch_norm=batch_norm
    )
    strides, maps = list(pyramid), list(pyramid.values())
    sizes = [anchor_scale * stride for stride in strides]
    ends = {"anchors": layers.Anchors(sizes, strides, ratios, name="anchors")(maps)}
    ends |= _propose(maps, channels, len(ratios))
    select = layers.ProposalLayer(proposals, candidates, name="proposals")
    ends["proposals"] = select(*ends.values(), image)
    # The top level is there for its anchors alone.
    looked = [stride for stride in strides if stride <= 32] or strides[:1]
    align = layers.RoIAlign(region_size, looked, canonical=canonical, name="roi_align")
    x = align([pyramid[stride] for stride in looked], ends["proposals"])
    options = {"count": detections, "least": least, "threshold": threshold}
    found = roi_head.classify_regions(
        ends["proposals"], x, image, num_classes, hidden=hidden, **options
    )
    return ends | found


def _propose(maps, channels, ratios):
    """The region proposal network (section 3.1): a small head, the same on every map."""
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
