"""What a detector learns by: a graph of its layers, in which the truth comes in and losses out.

A detector answers with a few boxes, through steps that have no gradient. Its learner is built of
the same layers: it ends where those steps begin, in anchors and in regions, which it compares with
the truth. What must be random follows from a number for each image, so that a step is a function
of its batch and the weights alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tasks.engine import box_losses, matching
from zoo import boxes, graphs
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

computed = LazyModule("tasks.engine.computed")

DRAW = "draw"  # the input that all random choices of an image follow from
ANCHORS = ("anchors", "anchor_logits", "anchor_deltas")
REGIONS = ("proposals", "roi_logits", "roi_deltas")
HEADS = ("references", "logits", "deltas")  # what those layers give to a loss
LOSSES = {  # layers: what they learn by
    ANCHORS: ("anchor_class", "anchor_box"),
    REGIONS: ("region_class", "region_box"),
}


@dataclass(frozen=True)
class Rules:
    """How boxes are matched with objects, and how they learn.

    Attributes:
        high, low, rescue: as `matching.match` takes them.
        count: boxes of an image that learn; 0 for all.
        share: of `count`, which objects may have.
        beta: of `box_losses.smooth_l1`.
        gamma, alpha: of `box_losses.focal`, for anchors that name classes.
    """

    high: float
    low: float
    rescue: bool = False
    count: int = 0
    share: float = 1.0
    beta: float = 1.0
    gamma: float = 2.0
    alpha: float = 0.25


# Ren et al., 2015, section 3.1; beta is that of their programs.
PROPOSING = Rules(0.7, 0.3, rescue=True, count=256, share=0.5, beta=1 / 9)
# Lin et al., 2017, section 4; that no object goes without, and beta, are of programs since.
DENSE = Rules(0.5, 0.4, rescue=True, beta=0.1)
# Girshick, 2015, section 2.3; ground may also overlap an object by less than a tenth.
CLASSIFYING = Rules(0.5, 0.5, count=64, share=0.25)


def losses(model):
    """Returns the names of the losses that a detector's learner gives, in order.

    Raises:
        UsageError: the model has not the layers that a detector learns by.
    """
    known = _ends(graphs.flat(model))
    found = [loss for layers, names in LOSSES.items() if layers[1] in known for loss in names]
    if not found:
        raise UsageError(f"{model.name} is no detector: it has no {ANCHORS[1]} and no {REGIONS[1]}")
    return found


def learner(model, objects, *, dense=DENSE, proposing=PROPOSING, classifying=CLASSIFYING):
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
    losses(model)
    net = graphs.flat(model)
    ends, given, truth = _ends(net), _inputs(net), _truth(objects)
    made = {id(old): new for old, new in given.values()}
    last, found = _deviations(net, "detections"), []
    if REGIONS[1] in ends:
        proposed = ends["proposals"]
        regions = _reached(net, made, [proposed])
        choose = _function(_chosen, "chosen", rules=classifying)
        chosen = choose({"regions": regions[0], **truth})
        made[id(proposed)] = chosen.pop("regions")
        heads = dict(zip(HEADS, _reached(net, made, [ends[n] for n in REGIONS]), strict=True))
        judge = _function(_classifying, "region_losses", rules=classifying, deviations=last)
        found.append(judge({**chosen, **heads}))
    if ANCHORS[1] in ends:
        heads = dict(zip(HEADS, _reached(net, made, [ends[n] for n in ANCHORS]), strict=True))
        options = {"rules": dense, "deviations": last}
        if REGIONS[1] in ends:
            options = {"rules": proposing, "deviations": _deviations(net, "proposals")}
        judge = _function(_proposing if REGIONS[1] in ends else _dense, "anchor_losses", **options)
        found.insert(0, judge({**heads, **truth}))
    output = keras.layers.Concatenate(dtype="float32")(found) if len(found) > 1 else found[0]
    inputs = {name: new for name, (_, new) in given.items()} | truth
    return keras.Model(inputs, output, name=f"{model.name}_learner")


def compile_losses(learner, optimizer, *, jit_compile="auto"):
    """Compiles a learner to make the sum of its losses small, with each of them as a metric.

    Args:
        learner: what `learner` returned.
        optimizer: of Keras.
        jit_compile: as `keras.Model.compile` takes it.
    """

    def total(_, found):
        return keras.ops.sum(found, axis=-1)

    def part(index):
        return lambda _, found: found[..., index]

    metrics = [
        keras.metrics.MeanMetricWrapper(part(n), name) for n, name in enumerate(losses(learner))
    ]
    learner.compile(optimizer=optimizer, loss=total, metrics=metrics, jit_compile=jit_compile)


def _proposing(given, rules, deviations):
    """Returns the losses `(batch, 2)` of anchors that tell objects from ground."""
    ops = keras.ops
    kinds, objects = _matched(rules, given["references"], given)
    priorities = matching.draws(_seeds(given), ops.shape(kinds)[1])
    places, found = matching.sample(kinds, priorities, rules.count, rules.share)
    factors = _shares(found)
    positive = ops.cast(boxes.picked(kinds, places) == matching.POSITIVE, "float32")
    logits = boxes.picked(given["logits"], places)
    named = box_losses.binary(positive[..., None], logits, factors)
    anchors = boxes.picked(given["references"], places)
    truth = boxes.picked(given["boxes"], boxes.picked(objects, places))
    targets = boxes.encode(truth, anchors, deviations)
    deltas = boxes.picked(given["deltas"], places)
    placed = box_losses.smooth_l1(targets, deltas, factors * positive, beta=rules.beta)
    return ops.stack([named, placed], axis=-1)


def _dense(given, rules, deviations):
    """Returns the losses `(batch, 2)` of anchors that name classes, per anchor of an object."""
    ops = keras.ops
    kinds, objects = _matched(rules, given["references"], given)
    positive = ops.cast(kinds == matching.POSITIVE, "float32")
    count = ops.maximum(ops.sum(positive, axis=-1), 1)
    labels = boxes.picked(given["labels"], objects)
    truth = ops.one_hot(labels, given["logits"].shape[-1], dtype="float32") * positive[..., None]
    factors = ops.cast(kinds != matching.IGNORED, "float32")
    focus = {"alpha": rules.alpha, "gamma": rules.gamma}
    named = box_losses.focal(truth, given["logits"], factors, **focus)
    targets = boxes.encode(boxes.picked(given["boxes"], objects), given["references"], deviations)
    placed = box_losses.smooth_l1(targets, given["deltas"], positive, beta=rules.beta)
    return ops.stack([named, placed], axis=-1) / count[:, None]


def _chosen(given, rules):
    """Chooses the regions that learn, among those proposed and the objects themselves.

    Returns:
        A dict: the `regions` `(batch, rules.count, 4)`, the deltas to be coded against are of
        `objects`, boxes likewise; `labels` int32 `(batch, rules.count)`, 0 for ground and else a
        class from 1; and `factors` `(batch, rules.count)`.
    """
    ops = keras.ops
    regions = ops.concatenate([given["regions"], given["boxes"]], axis=1)
    kinds, objects = _matched(rules, regions, given)
    kinds = ops.where(boxes.areas(regions) > 0, kinds, matching.IGNORED)
    # Another stream than that of the anchors.
    priorities = matching.draws(-1 - _seeds(given), ops.shape(kinds)[1])
    places, found = matching.sample(kinds, priorities, rules.count, rules.share)
    positive = boxes.picked(kinds, places) == matching.POSITIVE
    objects = boxes.picked(objects, places)
    labels = ops.where(positive, boxes.picked(given["labels"], objects) + 1, 0)
    chosen = {
        "regions": boxes.picked(regions, places),
        "objects": boxes.picked(given["boxes"], objects),
        "labels": labels,
        "factors": _shares(found),
    }
    return keras.tree.map_structure(ops.stop_gradient, chosen)


def _classifying(given, rules, deviations):
    """Returns the losses `(batch, 2)` of regions."""
    ops = keras.ops
    labels, factors, deltas = given["labels"], given["factors"], given["deltas"]
    named = box_losses.softmax(labels, given["logits"], factors)
    positive = ops.cast(labels > 0, "float32")
    targets = boxes.encode(given["objects"], _solid(given["references"]), deviations)
    # Each class has a box of its own, and that of the true one learns.
    true = ops.one_hot(labels - 1, deltas.shape[2], dtype="float32")
    deltas = ops.sum(deltas * true[..., None], axis=2)
    placed = box_losses.smooth_l1(targets, deltas, factors * positive, beta=rules.beta)
    return ops.stack([named, placed], axis=-1)


def _matched(rules, candidates, given):
    """Returns kinds and objects of boxes, as `matching.match` does."""
    overlaps = boxes.iou(candidates, given["boxes"])
    present = given["labels"] >= 0
    return matching.match(overlaps, present, rules.high, rules.low, rescue=rules.rescue)


def _seeds(given):
    """Returns whole numbers `(batch,)` made of the random ones, which have 24 bits."""
    return keras.ops.cast(given[DRAW][:, 0] * 2**24, "int32")


def _shares(found):
    """Returns for each box that was sampled its share of the mean over its image."""
    found = keras.ops.cast(found, "float32")
    return found / keras.ops.maximum(keras.ops.sum(found, axis=-1, keepdims=True), 1)


def _solid(regions):
    """Returns boxes to divide by: those that pad have a pixel."""
    empty = (boxes.areas(regions) <= 0)[..., None]
    return keras.ops.where(empty, keras.ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]), regions)


def _function(function, name, **options):
    """Returns a layer without weights that computes in float32."""
    return computed.Computed(partial(function, **options), name=name, dtype="float32")


def _truth(objects):
    """Returns the inputs that only a learner has."""
    return {
        "boxes": keras.Input((objects, 4), name="boxes"),
        "labels": keras.Input((objects,), dtype="int32", name="labels"),
        DRAW: keras.Input((1,), dtype="float32", name=DRAW),
    }


def _inputs(net):
    """Returns the inputs of a detector by name, each with a new one like it."""
    given = net.input if isinstance(net.input, dict) else {"image": net.input}
    new = {k: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=k) for k, x in given.items()}
    return {name: (x, new[name]) for name, x in given.items()}


def _ends(net):
    """Returns the tensors of a graph that a detector learns by, by the names of their layers."""
    wanted = {*ANCHORS, *REGIONS}
    found = {node.operation.name: node.output_tensors[0] for node in graphs.nodes(net)}
    return {name: x for name, x in found.items() if name in wanted}


def _reached(net, made, tensors):
    """Returns what stands for tensors of a graph, and calls the layers that it takes."""
    if any(id(x) not in made for x in tensors):
        graphs.replay(keras.Model(net.input, tensors), made, graphs.again)
    return [made[id(x)] for x in tensors]


def _deviations(net, name):
    """Returns what a layer divides its deltas by."""
    [layer] = [n.operation for n in graphs.nodes(net) if n.operation.name == name]
    return layer.deviations
