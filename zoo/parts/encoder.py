"""A network of the catalogue as the first part of another one, in one graph with the rest.

    ends = encoder.pyramid(image, "resnet20.cifar10")
    x = keras.layers.Conv2D(num_classes, 1)(ends["stage2"])

The layers are the network's own, under their own names: freezing, folding, the cache of features
and weights files go by those. Where a stage ends stands a layer that does nothing, called
`stageN`, by which `zoo.surgery.stages` knows what is encoder, and what is head.
"""

from __future__ import annotations

from zoo import graphs, weights
from zoo.builder import backbone
from zoo.catalog import RANDOM, models
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.surgery.dilation import dilate


def backbone_features(image, name, source=None, levels=None, output_stride=None, **options):
    """Puts the network called `name`, without its head, on a symbolic image.

    Its own preprocessing and its weights come with it.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255].
        name: a name of `zoo.names()` that has stages.
        source: a weights file in place of the tag's source, or `"random"`, as `weights` is in
            `zoo.build`.
        levels: numbers of the stages to return; all by default. What comes after the last of them
            is left out.
        output_stride: the largest stride that a stage shall have; stages beyond it keep their
            names, see `zoo.surgery.dilation`. By default, each has its own.
        **options: of the network's builder.

    Returns:
        `stageN`, as in the network's spec, to maps of stride `2**N`, or of `output_stride` if that
        is less; first to last. A stage beyond `output_stride` has the size of the one there.

    Raises:
        UsageError: as `zoo.backbone`; or the network has no such stage.
    """
    net = backbone(name, input_shape=tuple(image.shape[1:]), weights=source, **options)
    if output_stride is not None and output_stride < stage_stride(name):
        net = dilate(net, output_stride)
    net = graphs.flatten(net)
    wanted = select_stages(name, list(net.output), levels)
    kept = list(net.output)[: list(net.output).index(wanted[-1]) + 1]
    ends = {id(net.output[stage]): stage for stage in kept}
    needed = {id(node) for node in graphs.ancestors(net, [net.output[stage] for stage in kept])}
    found = {}

    def call(node, *args, **kwargs):
        if id(node) not in needed:
            return node.output_tensors
        outputs = node.operation(*args, **kwargs)
        [x, *more] = node.output_tensors
        if id(x) in ends and not more:
            found[ends[id(x)]] = outputs = mark_stage(outputs, ends[id(x)])
        return outputs

    graphs.replay(net, {id(net.inputs[0]): image}, call)
    return {stage: found[stage] for stage in wanted}


def mark_stage(x, stage):
    """Returns `x` by way of a layer that says that a stage ends here, such as `stage2`."""
    return keras.layers.Identity(name=stage)(x)


def fetch_full_weights(name, source=None):
    """Returns the file of a network's weights in which its head is too, fetching it if need be.

    Args:
        name: a name of the catalogue.
        source: a weights file in place of the tag's source, or `"random"`.

    Returns:
        A path, or `source` where the weights are random ones.
    """
    entry = models.get(name)
    return weights.fetch(name, entry.weights) if source is None and entry.weights else source


def load_weights_into(image, x, source):
    """Pours a weights file into the layers that make `x` of an image, where there is a file."""
    if source not in (None, RANDOM):
        weights.load(keras.Model(image, x), source)


def stage_stride(name, level=None):
    """Returns how many pixels of the image become one of a stage; by default of the last one."""
    stages = models.get(name).stages
    [stage] = select_stages(name, stages, stages[-1:] if level is None else [level])
    return 2 ** stage_level(stage)


def stage_level(stage):
    """Returns N of `stageN`."""
    return int(stage.removeprefix("stage"))


def select_stages(name, stages, levels):
    """Returns the names of stages, in order, that some numbers (or names) mean; `None`, all."""
    if not stages:
        raise UsageError(f"{name} has no feature pyramid; see `zoo list` for models with stages")
    wanted = {f"stage{str(level).removeprefix('stage')}" for level in levels or stages}
    if missing := sorted(wanted - set(stages)):
        raise UsageError(f"{name} has no {', '.join(missing)}, only {', '.join(stages)}")
    return [stage for stage in stages if stage in wanted]
