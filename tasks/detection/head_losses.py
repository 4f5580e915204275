"""Losses of the heads of a detector: region proposal network (RPN), dense head and RoI head.

Each function takes a dict of tensors: `references` `(batch or 1, n, 4)`, the anchors or regions
that box deltas are relative to; `logits` and `deltas`, the outputs of the head; and the ground
truth, `boxes` `(batch, objects, 4)` and `labels` int32 `(batch, objects)`, -1 for padding. It
returns float32 `(batch, 2)`, the classification loss and the box regression loss per image.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.detection import losses, matching
from zoo.lazy import keras
from zoo.parts import boxes

RANDOM_INPUT = "random"  # an input in [0, 1) per image that seeds all sampling in it


@dataclass(frozen=True)
class MatchingConfig:
    """How boxes are matched with objects and sampled, and the parameters of their losses.

    Attributes:
        high_threshold, low_threshold, allow_low_quality_matches: as in `matching.match`.
        count: the number of boxes per image to sample; 0 for all.
        positive_fraction: the maximum share of positive boxes among them.
        beta: of `losses.smooth_l1`.
        gamma, alpha: of `losses.focal_loss`, for dense heads.
    """

    high_threshold: float
    low_threshold: float
    allow_low_quality_matches: bool = False
    count: int = 0
    positive_fraction: float = 1.0
    beta: float = 1.0
    gamma: float = 2.0
    alpha: float = 0.25


# Ren et al., 2015, section 3.1; beta is that of their code.
RPN_MATCHING = MatchingConfig(
    0.7, 0.3, allow_low_quality_matches=True, count=256, positive_fraction=0.5, beta=1 / 9
)
# Lin et al., 2017, section 4; low-quality matches and beta are those of later implementations.
DENSE_MATCHING = MatchingConfig(0.5, 0.4, allow_low_quality_matches=True, beta=0.1)
# Girshick, 2015, section 2.3; unlike there, background may overlap an object by less than 0.1.
ROI_MATCHING = MatchingConfig(0.5, 0.5, count=64, positive_fraction=0.25)


def rpn_losses(tensors, config, box_std):
    """Returns the losses of anchors that are classified as object or background.

    Args:
        tensors: as above, with `RANDOM_INPUT`.
        config: a `MatchingConfig` with a `count`.
        box_std: what box deltas are divided by, four numbers.
    """
    ops = keras.ops
    assignments, objects = _match_to_objects(config, tensors["references"], tensors)
    priorities = matching.random_uniform(_seeds(tensors), ops.shape(assignments)[1])
    indices, is_sampled = matching.sample_boxes(
        assignments, priorities, config.count, config.positive_fraction
    )
    weights = _mean_weights(is_sampled)
    positive = ops.cast(boxes.gather(assignments, indices) == matching.POSITIVE, "float32")
    logits = boxes.gather(tensors["logits"], indices)
    class_loss = losses.binary_cross_entropy(positive[..., None], logits, weights)
    anchors = boxes.gather(tensors["references"], indices)
    matched_boxes = boxes.gather(tensors["boxes"], boxes.gather(objects, indices))
    targets = boxes.encode_boxes(matched_boxes, anchors, box_std)
    deltas = boxes.gather(tensors["deltas"], indices)
    box_loss = losses.smooth_l1(targets, deltas, weights * positive, beta=config.beta)
    return ops.stack([class_loss, box_loss], axis=-1)


def dense_losses(tensors, config, box_std):
    """Returns the losses of anchors that are classified directly, per positive anchor.

    Args:
        tensors, box_std: as in `rpn_losses`.
        config: a `MatchingConfig`; all boxes are trained on.
    """
    ops = keras.ops
    assignments, objects = _match_to_objects(config, tensors["references"], tensors)
    positive = ops.cast(assignments == matching.POSITIVE, "float32")
    count = ops.maximum(ops.sum(positive, axis=-1), 1)
    labels = boxes.gather(tensors["labels"], objects)
    class_targets = ops.one_hot(labels, tensors["logits"].shape[-1], dtype="float32")
    class_targets = class_targets * positive[..., None]
    weights = ops.cast(assignments != matching.IGNORED, "float32")
    focal = {"alpha": config.alpha, "gamma": config.gamma}
    class_loss = losses.focal_loss(class_targets, tensors["logits"], weights, **focal)
    matched_boxes = boxes.gather(tensors["boxes"], objects)
    targets = boxes.encode_boxes(matched_boxes, tensors["references"], box_std)
    box_loss = losses.smooth_l1(targets, tensors["deltas"], positive, beta=config.beta)
    return ops.stack([class_loss, box_loss], axis=-1) / count[:, None]


def sample_regions(tensors, config):
    """Samples the regions that the RoI head is trained on.

    The ground truth boxes are added to the proposals, as is usual.

    Args:
        tensors: `regions` `(batch, n, 4)`, the ground truth, and `RANDOM_INPUT`.
        config: a `MatchingConfig` with a `count`.

    Returns:
        A dict without gradients: `regions` `(batch, count, 4)`; `objects`, the ground truth boxes
        to code deltas for, of the same shape; `labels` int32 `(batch, count)`, 0 for background
        and else 1 plus the class; and `weights` `(batch, count)`.
    """
    ops = keras.ops
    regions = ops.concatenate([tensors["regions"], tensors["boxes"]], axis=1)
    assignments, objects = _match_to_objects(config, regions, tensors)
    assignments = ops.where(boxes.box_area(regions) > 0, assignments, matching.IGNORED)
    # Negative seeds: other random numbers than for anchors.
    priorities = matching.random_uniform(-1 - _seeds(tensors), ops.shape(assignments)[1])
    indices, is_sampled = matching.sample_boxes(
        assignments, priorities, config.count, config.positive_fraction
    )
    positive = boxes.gather(assignments, indices) == matching.POSITIVE
    objects = boxes.gather(objects, indices)
    sampled = {
        "regions": boxes.gather(regions, indices),
        "objects": boxes.gather(tensors["boxes"], objects),
        "labels": ops.where(positive, boxes.gather(tensors["labels"], objects) + 1, 0),
        "weights": _mean_weights(is_sampled),
    }
    return keras.tree.map_structure(ops.stop_gradient, sampled)


def roi_losses(tensors, config, box_std):
    """Returns the losses of sampled regions.

    Args:
        tensors: what `sample_regions` returned, and `references`, `logits` and `deltas` of the
            RoI head.
        config: a `MatchingConfig`.
        box_std: as in `rpn_losses`.
    """
    ops = keras.ops
    labels, weights, deltas = tensors["labels"], tensors["weights"], tensors["deltas"]
    class_loss = losses.softmax_cross_entropy(labels, tensors["logits"], weights)
    positive = ops.cast(labels > 0, "float32")
    regions = _replace_empty_boxes(tensors["references"])
    targets = boxes.encode_boxes(tensors["objects"], regions, box_std)
    # Deltas are class-specific; those of the true class are trained.
    one_hot = ops.one_hot(labels - 1, deltas.shape[2], dtype="float32")
    deltas = ops.sum(deltas * one_hot[..., None], axis=2)
    box_loss = losses.smooth_l1(targets, deltas, weights * positive, beta=config.beta)
    return ops.stack([class_loss, box_loss], axis=-1)


def _match_to_objects(config, candidates, tensors):
    """Returns the assignments and objects of boxes, as `matching.match` does."""
    overlaps = boxes.box_iou(candidates, tensors["boxes"])
    present = tensors["labels"] >= 0
    return matching.match(
        overlaps,
        present,
        config.high_threshold,
        config.low_threshold,
        allow_low_quality_matches=config.allow_low_quality_matches,
    )


def _seeds(tensors):
    """Returns integer seeds `(batch,)` from the random inputs, which have 24 bits."""
    return keras.ops.cast(tensors[RANDOM_INPUT][:, 0] * 2**24, "int32")


def _mean_weights(is_sampled):
    """Returns weights of sampled boxes that make a sum over an image a mean."""
    is_sampled = keras.ops.cast(is_sampled, "float32")
    return is_sampled / keras.ops.maximum(keras.ops.sum(is_sampled, axis=-1, keepdims=True), 1)


def _replace_empty_boxes(regions):
    """Returns regions in which padding is a unit box, since `encode_boxes` divides by its sides."""
    empty = (boxes.box_area(regions) <= 0)[..., None]
    return keras.ops.where(empty, keras.ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]), regions)
