"""Backbones: a model of the catalog as the encoder of another one, in the same graph.

    stages = encoder.backbone_features(image, "resnet20.cifar10")
    x = keras.layers.Conv2D(num_classes, 1)(stages["stage2"])

The layers keep their names in the backbone, on which freezing, folding, the feature cache and
weights files depend. At the end of each stage there is an identity layer named `stageN`, by which
`zoo.surgery.stages` separates the encoder from the head.
"""

from __future__ import annotations

from zoo import graphs, weights
from zoo.builder import backbone
from zoo.catalog import RANDOM, models
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.surgery.dilation import dilate


def backbone_features(image, name, source=None, levels=None, output_stride=None, **options):
    """Applies a model of the catalog, without its head, to a symbolic image.

    Its preprocessing and its weights are included.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255].
        name: name of a model with stages.
        source: a weights file instead of the tag's source, or `"random"`, as `weights` in
            `zoo.build`.
        levels: numbers of the stages to return; all by default. Layers after the last of them
            are omitted.
        output_stride: the largest stride of a stage; stages beyond it are dilated and keep their
            names, see `zoo.surgery.dilation`. By default strides are not changed.
        **options: options of the model's builder.

    Returns:
        A dict of `stageN`, as in the model's spec, to maps of stride `2**N`, or of `output_stride`
        if that is less, in order.

    Raises:
        UsageError: as for `zoo.backbone`, or the model has no such stage.
    """
    net = backbone(name, input_shape=tuple(image.shape[1:]), weights=source, **options)
    if output_stride is not None and output_stride < stage_stride(name):
        net = dilate(net, output_stride)
    net = graphs.flatten(net)
    requested = select_stages(name, list(net.output), levels)
    kept = list(net.output)[: list(net.output).index(requested[-1]) + 1]
    endpoints = {id(net.output[stage]): stage for stage in kept}
    needed = {id(node) for node in graphs.ancestors(net, [net.output[stage] for stage in kept])}
    found = {}

    def call(node, *args, **kwargs):
        if id(node) not in needed:
            return node.output_tensors
        outputs = node.operation(*args, **kwargs)
        [x, *more] = node.output_tensors
        if id(x) in endpoints and not more:
            found[endpoints[id(x)]] = outputs = mark_stage(outputs, endpoints[id(x)])
        return outputs

    graphs.replay(net, {id(net.inputs[0]): image}, call)
    return {stage: found[stage] for stage in requested}


def mark_stage(x, stage):
    """Marks the end of a stage by an identity layer of its name, such as `stage2`."""
    return keras.layers.Identity(name=stage)(x)


def fetch_full_weights(name, source=None):
    """Returns the weights file of a model with its head, downloaded if necessary.

    Args:
        name: name of a model.
        source: a weights file instead of the tag's source, or `"random"`.

    Returns:
        A path, or `source` if the weights are random.
    """
    entry = models.get(name)
    return weights.fetch(name, entry.weights) if source is None and entry.weights else source


def load_weights_into(image, x, source):
    """Loads a weights file into the layers from `image` to `x`, unless the weights are random."""
    if source not in (None, RANDOM):
        weights.load(keras.Model(image, x), source)


def stage_stride(name, level=None):
    """Returns the stride of a stage; by default that of the last one."""
    stages = models.get(name).stages
    [stage] = select_stages(name, stages, stages[-1:] if level is None else [level])
    return 2 ** stage_level(stage)


def stage_level(stage):
    """Returns N of `stageN`."""
    return int(stage.removeprefix("stage"))


def select_stages(name, stages, levels):
    """Returns the names of the stages of some levels (numbers or names), in order; `None`, all."""
    if not stages:
        raise UsageError(f"{name} has no feature pyramid; see `zoo list` for models with stages")
    requested = {f"stage{str(level).removeprefix('stage')}" for level in levels or stages}
    if missing := sorted(requested - set(stages)):
        raise UsageError(f"{name} has no {', '.join(missing)}, only {', '.join(stages)}")
    return [stage for stage in stages if stage in requested]
