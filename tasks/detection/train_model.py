"""What a detector learns by: a graph of its layers, in which the truth comes in and losses out.

A detector answers with a few boxes, through steps that have no gradient. Its learner is built of
the same layers: it ends where those steps begin, in anchors and in regions, which it compares with
the truth. What must be random follows from a number for each image, so that a step is a function
of its batch and the weights alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tasks.detection import losses as detection_losses
from tasks.detection import matching
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras
from zoo.parts import boxes

lambda_layer = LazyModule("tasks.engine.lambda_layer")

RANDOM_INPUT = "draw"  # the input that all random choices of an image follow from
ANCHOR_LAYERS = ("anchors", "anchor_logits", "anchor_deltas")
REGION_LAYERS = ("proposals", "roi_logits", "roi_deltas")
HEAD_KEYS = ("references", "logits", "deltas")  # what those layers give to a loss
LOSSES_OF_LAYERS = {  # layers: what they learn by
    ANCHOR_LAYERS: ("anchor_class", "anchor_box"),
    REGION_LAYERS: ("region_class", "region_box"),
}


@dataclass(frozen=True)
class MatchingConfig:
    """How boxes are matched with objects, and how they learn.

    Attributes:
        high, low, rescue: as `matching.match` takes them.
        count: boxes of an image that learn; 0 for all.
        share: of `count`, which objects may have.
        beta: of `losses.smooth_l1`.
        gamma, alpha: of `losses.focal_loss`, for anchors that name classes.
    """

    high_threshold: float
    low_threshold: float
    allow_low_quality_matches: bool = False
    count: int = 0
    positive_fraction: float = 1.0
    beta: float = 1.0
    gamma: float = 2.0
    alpha: float = 0.25


# Ren et al., 2015, section 3.1; beta is that of their programs.
RPN_MATCHING = MatchingConfig(
    0.7, 0.3, allow_low_quality_matches=True, count=256, positive_fraction=0.5, beta=1 / 9
)
# Lin et al., 2017, section 4; that no object goes without, and beta, are of programs since.
DENSE_MATCHING = MatchingConfig(0.5, 0.4, allow_low_quality_matches=True, beta=0.1)
# Girshick, 2015, section 2.3; ground may also overlap an object by less than a tenth.
ROI_MATCHING = MatchingConfig(0.5, 0.5, count=64, positive_fraction=0.25)


def loss_names(model):
    """Returns the names of the losses that a detector's learner gives, in order.

    Raises:
        UsageError: the model has not the layers that a detector learns by.
    """
    known = _output_tensors(graphs.flatten(model))
    found = [
        loss for layers, names in LOSSES_OF_LAYERS.items() if layers[1] in known for loss in names
    ]
    if not found:
        raise UsageError(
            f"{model.name} is no detector: it has no {ANCHOR_LAYERS[1]} and no {REGION_LAYERS[1]}"
        )
    return found


def build_training_model(
    model, objects, *, dense=DENSE_MATCHING, proposing=RPN_MATCHING, classifying=ROI_MATCHING
):
    """Returns what a detector learns as: a model from images and truth to losses.

    Args:
        model: a detector of the zoo, with layers called as in `ANCHORS`, `REGIONS` or both.
        objects: places for objects of an image.
        dense: `Rules` for anchors that name classes.
        proposing: for anchors that tell objects from ground.
        classifying: for regions.

    Returns:
        A functional `keras.Model` of the same layers. It takes a dict: the model's image and, if
        it takes any, proposals; `boxes` `(batch, objects, 4)`, `labels` int32 `(batch, objects)`,
        -1 where there is none; and `draw` float32 `(batch, 1)`, random in [0, 1). It gives
        float32 `(batch, losses)`, a column for each of `losses`.

    Raises:
        UsageError: as `losses`.
    """
    loss_names(model)
    net = graphs.flatten(model)
    ends, tensor_dict, ground_truth = (
        _output_tensors(net),
        _cloned_inputs(net),
        _ground_truth_inputs(objects),
    )
    replacements = {id(old): new for old, new in tensor_dict.values()}
    last, found = _box_std(net, "detections"), []
    if REGION_LAYERS[1] in ends:
        proposed = ends["proposals"]
        regions = _replay_to(net, replacements, [proposed])
        sampler = _lambda_layer(_sample_regions, "chosen", config=classifying)
        sampled = sampler({"regions": regions[0], **ground_truth})
        replacements[id(proposed)] = sampled.pop("regions")
        heads = dict(
            zip(
                HEAD_KEYS,
                _replay_to(net, replacements, [ends[n] for n in REGION_LAYERS]),
                strict=True,
            )
        )
        loss_layer = _lambda_layer(
            _roi_losses, "region_losses", config=classifying, deviations=last
        )
        found.append(loss_layer({**sampled, **heads}))
    if ANCHOR_LAYERS[1] in ends:
        heads = dict(
            zip(
                HEAD_KEYS,
                _replay_to(net, replacements, [ends[n] for n in ANCHOR_LAYERS]),
                strict=True,
            )
        )
        options = {"rules": dense, "deviations": last}
        if REGION_LAYERS[1] in ends:
            options = {"rules": proposing, "deviations": _box_std(net, "proposals")}
        loss_layer = _lambda_layer(
            _rpn_losses if REGION_LAYERS[1] in ends else _dense_losses, "anchor_losses", **options
        )
        found.insert(0, loss_layer({**heads, **ground_truth}))
    output = keras.layers.Concatenate(dtype="float32")(found) if len(found) > 1 else found[0]
    inputs = {name: new for name, (_, new) in tensor_dict.items()} | ground_truth
    return keras.Model(inputs, output, name=f"{model.name}_learner")


def compile_losses(training_model, optimizer, *, jit_compile="auto"):
    """Compiles a learner to make the sum of its losses small, with each of them as a metric.

    Args:
        training_model: what `training_model` returned.
        optimizer: of Keras.
        jit_compile: as `keras.Model.compile` takes it.
    """

    def total(_, found):
        return keras.ops.sum(found, axis=-1)

    def part(index):
        return lambda _, found: found[..., index]

    metrics = [
        keras.metrics.MeanMetricWrapper(part(n), name)
        for n, name in enumerate(loss_names(training_model))
    ]
    training_model.compile(
        optimizer=optimizer, loss=total, metrics=metrics, jit_compile=jit_compile
    )


def _rpn_losses(tensor_dict, config, deviations):
    """Returns the losses `(batch, 2)` of anchors that tell objects from ground."""
    ops = keras.ops
    assignments, objects = _match_to_objects(config, tensor_dict["references"], tensor_dict)
    priorities = matching.random_uniform(_seeds(tensor_dict), ops.shape(assignments)[1])
    indices, found = matching.sample_boxes(
        assignments, priorities, config.count, config.positive_fraction
    )
    weights = _mean_weights(found)
    positive = ops.cast(boxes.gather(assignments, indices) == matching.POSITIVE, "float32")
    logits = boxes.gather(tensor_dict["logits"], indices)
    class_loss = detection_losses.binary_cross_entropy(positive[..., None], logits, weights)
    anchors = boxes.gather(tensor_dict["references"], indices)
    ground_truth = boxes.gather(tensor_dict["boxes"], boxes.gather(objects, indices))
    targets = boxes.encode_boxes(ground_truth, anchors, deviations)
    deltas = boxes.gather(tensor_dict["deltas"], indices)
    box_loss = detection_losses.smooth_l1(targets, deltas, weights * positive, beta=config.beta)
    return ops.stack([class_loss, box_loss], axis=-1)


def _dense_losses(tensor_dict, config, deviations):
    """Returns the losses `(batch, 2)` of anchors that name classes, per anchor of an object."""
    ops = keras.ops
    assignments, objects = _match_to_objects(config, tensor_dict["references"], tensor_dict)
    positive = ops.cast(assignments == matching.POSITIVE, "float32")
    count = ops.maximum(ops.sum(positive, axis=-1), 1)
    labels = boxes.gather(tensor_dict["labels"], objects)
    ground_truth = (
        ops.one_hot(labels, tensor_dict["logits"].shape[-1], dtype="float32") * positive[..., None]
    )
    weights = ops.cast(assignments != matching.IGNORED, "float32")
    focus = {"alpha": config.alpha, "gamma": config.gamma}
    class_loss = detection_losses.focal_loss(ground_truth, tensor_dict["logits"], weights, **focus)
    targets = boxes.encode_boxes(
        boxes.gather(tensor_dict["boxes"], objects), tensor_dict["references"], deviations
    )
    box_loss = detection_losses.smooth_l1(
        targets, tensor_dict["deltas"], positive, beta=config.beta
    )
    return ops.stack([class_loss, box_loss], axis=-1) / count[:, None]


def _sample_regions(tensor_dict, config):
    """Chooses the regions that learn, among those proposed and the objects themselves.

    Returns:
        A dict: the `regions` `(batch, rules.count, 4)`, the deltas to be coded against are of
        `objects`, boxes likewise; `labels` int32 `(batch, rules.count)`, 0 for ground and else a
        class from 1; and `factors` `(batch, rules.count)`.
    """
    ops = keras.ops
    regions = ops.concatenate([tensor_dict["regions"], tensor_dict["boxes"]], axis=1)
    assignments, objects = _match_to_objects(config, regions, tensor_dict)
    assignments = ops.where(boxes.box_area(regions) > 0, assignments, matching.IGNORED)
    # Another stream than that of the anchors.
    priorities = matching.random_uniform(-1 - _seeds(tensor_dict), ops.shape(assignments)[1])
    indices, found = matching.sample_boxes(
        assignments, priorities, config.count, config.positive_fraction
    )
    positive = boxes.gather(assignments, indices) == matching.POSITIVE
    objects = boxes.gather(objects, indices)
    labels = ops.where(positive, boxes.gather(tensor_dict["labels"], objects) + 1, 0)
    sampled = {
        "regions": boxes.gather(regions, indices),
        "objects": boxes.gather(tensor_dict["boxes"], objects),
        "labels": labels,
        "factors": _mean_weights(found),
    }
    return keras.tree.map_structure(ops.stop_gradient, sampled)


def _roi_losses(tensor_dict, config, deviations):
    """Returns the losses `(batch, 2)` of regions."""
    ops = keras.ops
    labels, weights, deltas = tensor_dict["labels"], tensor_dict["factors"], tensor_dict["deltas"]
    class_loss = detection_losses.softmax_cross_entropy(labels, tensor_dict["logits"], weights)
    positive = ops.cast(labels > 0, "float32")
    targets = boxes.encode_boxes(
        tensor_dict["objects"], _replace_empty_boxes(tensor_dict["references"]), deviations
    )
    # Each class has a box of its own, and that of the true one learns.
    true = ops.one_hot(labels - 1, deltas.shape[2], dtype="float32")
    deltas = ops.sum(deltas * true[..., None], axis=2)
    box_loss = detection_losses.smooth_l1(targets, deltas, weights * positive, beta=config.beta)
    return ops.stack([class_loss, box_loss], axis=-1)


def _match_to_objects(config, candidates, tensor_dict):
    """Returns kinds and objects of boxes, as `matching.match` does."""
    overlaps = boxes.box_iou(candidates, tensor_dict["boxes"])
    present = tensor_dict["labels"] >= 0
    return matching.match(
        overlaps,
        present,
        config.high_threshold,
        config.low_threshold,
        allow_low_quality_matches=config.allow_low_quality_matches,
    )


def _seeds(tensor_dict):
    """Returns whole numbers `(batch,)` made of the random ones, which have 24 bits."""
    return keras.ops.cast(tensor_dict[RANDOM_INPUT][:, 0] * 2**24, "int32")


def _mean_weights(found):
    """Returns for each box that was sampled its share of the mean over its image."""
    found = keras.ops.cast(found, "float32")
    return found / keras.ops.maximum(keras.ops.sum(found, axis=-1, keepdims=True), 1)


def _replace_empty_boxes(regions):
    """Returns boxes to divide by: those that pad have a pixel."""
    empty = (boxes.box_area(regions) <= 0)[..., None]
    return keras.ops.where(empty, keras.ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]), regions)


def _lambda_layer(function, name, **options):
    """Returns a layer without weights that computes in float32."""
    return lambda_layer.LambdaLayer(partial(function, **options), name=name, dtype="float32")


def _ground_truth_inputs(objects):
    """Returns the inputs that only a learner has."""
    return {
        "boxes": keras.Input((objects, 4), name="boxes"),
        "labels": keras.Input((objects,), dtype="int32", name="labels"),
        RANDOM_INPUT: keras.Input((1,), dtype="float32", name=RANDOM_INPUT),
    }


def _cloned_inputs(net):
    """Returns the inputs of a detector by name, each with a new one like it."""
    tensor_dict = net.input if isinstance(net.input, dict) else {"image": net.input}
    new = {
        k: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=k) for k, x in tensor_dict.items()
    }
    return {name: (x, new[name]) for name, x in tensor_dict.items()}


def _output_tensors(net):
    """Returns the tensors of a graph that a detector learns by, by the names of their layers."""
    wanted = {*ANCHOR_LAYERS, *REGION_LAYERS}
    found = {node.operation.name: node.output_tensors[0] for node in graphs.nodes(net)}
    return {name: x for name, x in found.items() if name in wanted}


def _replay_to(net, replacements, tensors):
    """Returns what stands for tensors of a graph, and calls the layers that it takes."""
    if any(id(x) not in replacements for x in tensors):
        graphs.replay(keras.Model(net.input, tensors), replacements, graphs.call_node)
    return [replacements[id(x)] for x in tensors]


def _box_std(net, name):
    """Returns what a layer divides its deltas by."""
    [layer] = [n.operation for n in graphs.nodes(net) if n.operation.name == name]
    return layer.deviations
