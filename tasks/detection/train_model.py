"""The training model of a detector: a graph of its layers, from images and ground truth to losses.

A detector outputs a few boxes per image, after steps without a gradient (decoding, suppression of
duplicates). Its training model shares the layers, but stops before these steps, at anchors and
regions, which are matched with the ground truth. Random choices are seeded by an input per image,
so that a training step is a function of its batch and the weights alone.
"""

from __future__ import annotations

from functools import partial

from tasks.detection import head_losses
from tasks.detection.head_losses import DENSE_MATCHING, RANDOM_INPUT, ROI_MATCHING, RPN_MATCHING
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

lambda_layer = LazyModule("tasks.inference.lambda_layer")

ANCHOR_LAYERS = ("anchors", "anchor_logits", "anchor_deltas")
REGION_LAYERS = ("proposals", "roi_logits", "roi_deltas")
HEAD_KEYS = ("references", "logits", "deltas")  # names of these layers' outputs in a loss
LOSSES_OF_LAYERS = {  # layers: names of their losses
    ANCHOR_LAYERS: ("anchor_class", "anchor_box"),
    REGION_LAYERS: ("region_class", "region_box"),
}


def loss_names(model):
    """Returns the names of the losses that the training model of a detector outputs, in order.

    Raises:
        UsageError: the model has neither an anchor head nor a RoI head.
    """
    known = _head_outputs(graphs.flatten(model))
    found = [
        loss for layers, names in LOSSES_OF_LAYERS.items() if layers[1] in known for loss in names
    ]
    if not found:
        raise UsageError(
            f"{model.name} is not a detector: it has no layer {ANCHOR_LAYERS[1]} and no layer "
            f"{REGION_LAYERS[1]}"
        )
    return found


def build_training_model(
    model, max_objects, *, dense=DENSE_MATCHING, proposing=RPN_MATCHING, classifying=ROI_MATCHING
):
    """Returns the training model of a detector, from images and ground truth to losses.

    Args:
        model: a detector of the zoo, with layers named as in `ANCHOR_LAYERS`, `REGION_LAYERS` or
            both.
        max_objects: the number of rows for objects per image, padding included.
        dense: `head_losses.MatchingConfig` of anchors that are classified directly.
        proposing: that of anchors of a region proposal network.
        classifying: that of regions.

    Returns:
        A functional `keras.Model` of the same layers. It takes a dict: the model's `image` and, if
        it takes any, `proposals`; `boxes` `(batch, max_objects, 4)`; `labels` int32
        `(batch, max_objects)`, -1 for padding; and `RANDOM_INPUT`, float32 `(batch, 1)`, random in
        [0, 1). It outputs float32 `(batch, losses)`, a column for each of `loss_names`.

    Raises:
        UsageError: as `loss_names`.
    """
    loss_names(model)
    graph = _HeadGraph(graphs.flatten(model), max_objects)
    found = []
    if REGION_LAYERS[1] in graph.outputs:
        found.append(_add_roi_losses(graph, classifying))
    if ANCHOR_LAYERS[1] in graph.outputs:
        config = proposing if REGION_LAYERS[1] in graph.outputs else dense
        found.insert(0, _add_anchor_losses(graph, config))
    output = keras.layers.Concatenate(dtype="float32")(found) if len(found) > 1 else found[0]
    return keras.Model(graph.inputs, output, name=f"{model.name}_training")


def compile_losses(training_model, optimizer, *, jit_compile="auto"):
    """Compiles a training model to minimize the sum of its losses, with a metric for each of them.

    Args:
        training_model: what `build_training_model` returned.
        optimizer: a Keras optimizer.
        jit_compile: as in `keras.Model.compile`.
    """

    def total(_, found):
        return keras.ops.sum(found, axis=-1)

    def column(index):
        return lambda _, found: found[..., index]

    metrics = [
        keras.metrics.MeanMetricWrapper(column(n), name)
        for n, name in enumerate(loss_names(training_model))
    ]
    training_model.compile(
        optimizer=optimizer, loss=total, metrics=metrics, jit_compile=jit_compile
    )


class _HeadGraph:
    """The graph of a detector up to its heads, rebuilt on new inputs with the same layers.

    Args:
        net: a functional model without nested models.
        max_objects: as in `build_training_model`.

    Attributes:
        inputs: the inputs of the training model by name.
        ground_truth: those of them that a detector does not have.
        outputs: the original tensors of the head layers by name.
    """

    def __init__(self, net, max_objects):
        self.net, self.outputs = net, _head_outputs(net)
        self.ground_truth = _ground_truth_inputs(max_objects)
        originals, copies = _copy_inputs(net)
        self.inputs = {**copies, **self.ground_truth}
        self._replacements = {id(originals[name]): copies[name] for name in copies}

    def replace(self, name, tensor):
        """Makes later layers take another tensor in place of an output."""
        self._replacements[id(self.outputs[name])] = tensor

    def rebuild(self, names):
        """Returns the rebuilt outputs of layers, calling the layers that they depend on."""
        tensors = [self.outputs[name] for name in names]
        if any(id(x) not in self._replacements for x in tensors):
            graphs.replay(
                keras.Model(self.net.input, tensors), self._replacements, graphs.call_node
            )
        return [self._replacements[id(x)] for x in tensors]

    def head(self, layers):
        """Returns the rebuilt outputs of a head, as a loss takes them."""
        return dict(zip(HEAD_KEYS, self.rebuild(layers), strict=True))

    def box_std(self, name):
        """Returns the four numbers that a layer's deltas are divided by."""
        [layer] = [n.operation for n in graphs.nodes(self.net) if n.operation.name == name]
        return layer.deviations


def _add_roi_losses(graph, config):
    """Returns the losses of the RoI head, which from here on takes sampled regions."""
    [proposals] = graph.rebuild(REGION_LAYERS[:1])
    sample = _lambda_layer(head_losses.sample_regions, "sample_regions", config=config)
    sampled = sample({"regions": proposals, **graph.ground_truth})
    graph.replace(REGION_LAYERS[0], sampled.pop("regions"))
    options = {"config": config, "box_std": graph.box_std("detections")}
    loss = _lambda_layer(head_losses.roi_losses, "region_losses", **options)
    return loss({**sampled, **graph.head(REGION_LAYERS)})


def _add_anchor_losses(graph, config):
    """Returns the losses of the anchor head: region proposal network or dense."""
    is_rpn = REGION_LAYERS[1] in graph.outputs
    function = head_losses.rpn_losses if is_rpn else head_losses.dense_losses
    options = {"config": config, "box_std": graph.box_std("proposals" if is_rpn else "detections")}
    loss = _lambda_layer(function, "anchor_losses", **options)
    return loss({**graph.head(ANCHOR_LAYERS), **graph.ground_truth})


def _lambda_layer(function, name, **options):
    """Returns a layer without weights that computes in float32."""
    return lambda_layer.LambdaLayer(partial(function, **options), name=name, dtype="float32")


def _ground_truth_inputs(max_objects):
    """Returns the inputs that only a training model has."""
    return {
        "boxes": keras.Input((max_objects, 4), name="boxes"),
        "labels": keras.Input((max_objects,), dtype="int32", name="labels"),
        RANDOM_INPUT: keras.Input((1,), dtype="float32", name=RANDOM_INPUT),
    }


def _copy_inputs(net):
    """Returns the inputs of a detector by name, and new inputs like them."""
    originals = net.input if isinstance(net.input, dict) else {"image": net.input}
    copies = {
        name: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=name)
        for name, x in originals.items()
    }
    return originals, copies


def _head_outputs(net):
    """Returns the outputs of the head layers of a detector, by layer name."""
    wanted = {*ANCHOR_LAYERS, *REGION_LAYERS}
    found = {node.operation.name: node.output_tensors[0] for node in graphs.nodes(net)}
    return {name: x for name, x in found.items() if name in wanted}
