"""R-CNN and Fast R-CNN: networks that look at regions which something else proposed."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import encoder, roi_head

RCNN_PAPER = "https://arxiv.org/abs/1311.2524"
FAST_RCNN_PAPER = "https://arxiv.org/abs/1504.08083"

COUNTS = {  # trainable parameters, FLOPs; the backbone of `rcnn` counts for one region alone
    "rcnn": (1_343_861, 631_209_984),
    "fast_rcnn": (1_163_893, 1_755_447_296),
}

FILL_VALUE = 127.5  # stands for what a region has outside the image


@register(
    {"rcnn": {}},
    input_shape=(128, 128, 3),
    min_size=32,
    kind="detector",
    preprocessing="none",
    paper=RCNN_PAPER,
    counts=COUNTS,
    inputs=("proposals",),
)
def rcnn(
    image,
    num_classes=20,
    *,
    backbone="resnet20.cifar10",
    backbone_weights=None,
    proposals=256,
    crop_size=32,
    context=2,
    hidden=(256,),
    detections=100,
    least=0.05,
    threshold=0.3,
):
    """Builds an R-CNN (Girshick et al., 2014, section 2): a network for each region's pixels.

    Each proposal is warped to a square, as its pixels are needed (section 2.1, appendix A), and
    goes through the whole backbone by itself. The paper has AlexNet, `crop_size=227, context=16,
    hidden=(4096, 4096), proposals=2000`. Departures: class scores are the network's own softmax,
    where the paper trains support vector machines on its features, and boxes are corrected by a
    layer beside it, where the paper fits ridge regressions: both in one training, as Girshick,
    2015, does.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255].
        num_classes: classes besides the ground.
        backbone: a name of `zoo.names()` with stages.
        backbone_weights: a weights file for it, or `"random"`.
        proposals: regions an image, or `None` for any number; those of noughts are no regions.
        crop_size: side of the warped regions.
        context: how many of the pixels at each side of those are surroundings.
        hidden: units of the dense layers after the backbone.
        detections: objects an image at most.
        least: score below which there is no object.
        threshold: intersection over union above which two objects of a class are one.

    Returns:
        Endpoints `proposals`, an input `(batch, proposals, 4)`, `roi_logits`, `roi_deltas` and
        `detections`: a dict of `boxes`, `scores` and `classes`.
    """
    if crop_size <= 2 * context:
        raise UsageError(f"crop_size must be over twice the context of {context}, not {crop_size}")
    proposal_boxes = roi_head.proposals_input(image, proposals)
    margin = context / (crop_size - 2 * context)
    x = keras.layers.Rescaling(1.0, -FILL_VALUE, dtype="float32", name="centred")(image)
    x = layers.RoIAlign(crop_size, [1], margin=margin, name="warp")([x], proposal_boxes)
    x = keras.layers.Rescaling(1.0, FILL_VALUE, dtype="float32", name="crops")(x)
    x = layers.FlattenRegions(dtype="float32", name="fold")(x)
    [*_, x] = encoder.backbone_features(x, backbone, backbone_weights).values()
    x = layers.UnflattenRegions(name="unfold")(x, proposal_boxes)
    options = {"count": detections, "least": least, "threshold": threshold}
    found = roi_head.classify_regions(
        proposal_boxes, x, image, num_classes, hidden=hidden, **options
    )
    return {"proposals": proposal_boxes, **found}


@register(
    {"fast_rcnn": {}},
    input_shape=(128, 128, 3),
    min_size=32,
    kind="detector",
    preprocessing="none",
    paper=FAST_RCNN_PAPER,
    counts=COUNTS,
    inputs=("proposals",),
)
def fast_rcnn(
    image,
    num_classes=20,
    *,
    backbone="resnet20.cifar10",
    backbone_weights=None,
    level=None,
    proposals=256,
    region_size=7,
    hidden=(256, 256),
    detections=100,
    least=0.05,
    threshold=0.3,
):
    """Builds a Fast R-CNN (Girshick, 2015, section 2): one map of the image for all its regions.

    It is `rcnn` with the backbone before the regions are cut out, and no more. The paper has
    VGG16 with `level=4, hidden=(4096, 4096), proposals=2000`. Departure: a region has every pixel
    of the map that it touches; the paper does not say how it rounds.

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        num_classes: classes besides the ground.
        backbone: a name of `zoo.names()` with stages.
        backbone_weights: a weights file for it, or `"random"`.
        level: N of the stage whose map is used, of stride `2**N`; by default the last.
        proposals: regions an image, or `None` for any number; those of noughts are no regions.
        region_size: side of the grid that is laid over a region.
        hidden: units of the dense layers that look at a region.
        detections: objects an image at most.
        least: score below which there is no object.
        threshold: intersection over union above which two objects of a class are one.

    Returns:
        Endpoints `proposals`, an input `(batch, proposals, 4)`, `roi_logits`, `roi_deltas` and
        `detections`: a dict of `boxes`, `scores` and `classes`.
    """
    proposal_boxes = roi_head.proposals_input(image, proposals)
    levels = None if level is None else [level]
    [*_, x] = encoder.backbone_features(image, backbone, backbone_weights, levels).values()
    stride = encoder.stage_stride(backbone, level)
    x = layers.RoIPool(region_size, stride, name="roi_pool")(x, proposal_boxes)
    options = {"count": detections, "least": least, "threshold": threshold}
    found = roi_head.classify_regions(
        proposal_boxes, x, image, num_classes, hidden=hidden, **options
    )
    return {"proposals": proposal_boxes, **found}
