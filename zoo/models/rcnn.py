"""R-CNN and Fast R-CNN: classification of given region proposals."""

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

FILL_VALUE = 127.5  # pixels of a region outside the image


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
    """Builds an R-CNN (Girshick et al., 2014, section 2), which classifies cropped regions.

    Each proposal is cropped and warped to a square (section 2.1, appendix A), and goes through
    the whole backbone separately. The paper has AlexNet, `crop_size=227, context=16,
    hidden=(4096, 4096), proposals=2000`. Departures: class scores are the network's softmax, where
    the paper trains support vector machines on its features, and boxes are refined by a dense
    layer, where the paper fits ridge regressions: both are trained jointly, as in Girshick, 2015.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255].
        num_classes: the number of classes, without background.
        backbone: name of a model with stages.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        proposals: the number of proposals per image, or `None` for any number; boxes of zeros are
            padding.
        crop_size: height and width of the warped regions, in pixels.
        context: pixels of surroundings on each side of a warped region.
        hidden: units of the dense layers of the region head.
        detections: the maximum number of detections per image.
        least: minimum score of a detection, in [0, 1].
        threshold: IoU above which non-maximum suppression drops the lower-scoring of two boxes
            of a class.

    Returns:
        Endpoints `proposals`, an input `(batch, proposals, 4)`, `roi_logits`, `roi_deltas` and
        `detections`: a dict of `boxes`, `scores` and `classes`.
    """
    if crop_size <= 2 * context:
        raise UsageError(f"crop_size must exceed twice the context of {context}; got {crop_size}")
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
    """Builds a Fast R-CNN (Girshick, 2015, section 2), which pools regions from shared maps.

    It differs from `rcnn` only in that the backbone runs on the whole image, before regions are
    cropped. The paper has VGG16 with `level=4, hidden=(4096, 4096), proposals=2000`. Departure: a
    region includes every pixel of the map that it touches; the paper does not state its rounding.

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        num_classes: the number of classes, without background.
        backbone: name of a model with stages.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        level: N of the stage whose map is used, with stride `2**N`; by default the last.
        proposals: the number of proposals per image, or `None` for any number; boxes of zeros are
            padding.
        region_size: height and width of the maps that RoI pooling returns.
        hidden: units of the dense layers of the region head.
        detections: the maximum number of detections per image.
        least: minimum score of a detection, in [0, 1].
        threshold: IoU above which non-maximum suppression drops the lower-scoring of two boxes
            of a class.

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
