"""What a plan does to a model: which weights learn, at which rate, and batch normalisation."""

from __future__ import annotations

import contextlib
import functools

from tasks.engine import optimize
from zoo.errors import UsageError
from zoo.graphs import leaf_layers
from zoo.lazy import LazyModule, keras, np
from zoo.surgery import feature_stages, graphs

param_groups = LazyModule("tasks.engine.param_groups")

RECALIBRATION_IMAGES = (
    1024  # images from which statistics are estimated anew, or all if there are fewer
)


def set_trainable(model, stage):
    """Lets those weights of a model learn that a stage of a plan names.

    What a model adds to an encoder that it begins with is fresh: its normalisation goes on
    estimating, whatever is done with that of the encoder.

    Args:
        model: a built `keras.Model`, changed in place before it is compiled.
        stage: a `plans.Stage`.
    """
    layers = (
        leaf_layers(model) if stage.learn == "all" else feature_stages.learnable(model, stage.learn)
    )
    learning = {id(layer) for layer in layers}
    if stage.batch_norm != "update":
        learning -= {id(layer) for layer in batch_norm_layers(model)} - _new_layer_ids(model)
    for layer in leaf_layers(model):
        layer.trainable = id(layer) in learning


def batch_norm_layers(model):
    """Returns the layers of a model that are batch normalisation."""
    return [x for x in leaf_layers(model) if isinstance(x, keras.layers.BatchNormalization)]


def optimizers(task, model, plan, steps):
    """Returns for each stage of a plan its optimiser.

    Weights that learn in the same stages at the same rate are a group, with an optimiser of its
    own: its moments survive from stage to stage, and those of weights that join later are new,
    bias correction included.

    Args:
        task: a `tasks.engine.task.Task`.
        model: the whole model.
        plan: the stages, `plans.Stage`.
        steps: optimiser steps in an epoch.
    """
    members = _param_groups(model, plan)
    single_group = len(members) == 1 and len(plan) == 1
    if task.clip_norm and task.gradient_accumulation_steps > 1 and not single_group:
        raise UsageError(
            "--clip-norm and --gradient-accumulation-steps together do not work with a plan of "
            "several groups of weights; leave one of them out"
        )
    made = {row: _group_optimizer(task, row, plan, steps, clip=single_group) for row in members}
    for row, group in members.items():
        optimize.exclude_embeddings_from_weight_decay(made[row], group)
    if single_group:
        for row, group in members.items():
            made[row].build(group)
        return list(made.values())
    return [
        param_groups.ParamGroupOptimizer(
            [(made[row], group) for row, group in members.items() if row[number] is not None],
            task.clip_norm,
        )
        for number in range(len(plan))
    ]


def recalibrate(model, stream, layers=None):
    """Estimates the statistics of batch normalisation anew.

    Each layer is given the mean and variance of what reaches it while those below it normalise
    by the statistics of their batch, as in training. They are those of all images together: the
    variance is the mean of that within the batches plus that of the batches' means.

    Args:
        model: a `keras.Model`, changed in place.
        stream: as `tasks.engine.task.Task.training` gives it; its first `CALIBRATED` examples
            are seen, as they are in training.
        layers: whose statistics; `None` for those of all batch normalisation.
    """
    layers = batch_norm_layers(model) if layers is None else layers
    before = [(layer.trainable, layer.momentum) for layer in layers]
    seen = [[] for _ in layers]
    try:
        for layer in layers:
            layer.trainable, layer.momentum = True, 0.0  # so that it stores those of each batch
        for images, _ in stream.epoch(0).take(-(-RECALIBRATION_IMAGES // stream.size)):
            model(images, training=True)
            for layer, found in zip(layers, seen, strict=True):
                found.append([_to_float64(layer.moving_mean), _to_float64(layer.moving_variance)])
    finally:
        for layer, (trainable, momentum) in zip(layers, before, strict=True):
            layer.trainable, layer.momentum = trainable, momentum
    for layer, found in zip(layers, seen, strict=True):
        if found:
            means, variances = np.stack(found, axis=1)
            layer.moving_mean.assign(means.mean(axis=0))
            layer.moving_variance.assign(variances.mean(axis=0) + means.var(axis=0))


@contextlib.contextmanager
def preserve_values(variables):
    """Gives variables the values back, afterwards, that they have now."""
    saved_values = [(variable, keras.ops.convert_to_numpy(variable)) for variable in variables]
    try:
        yield
    finally:
        for variable, value in saved_values:
            variable.assign(value)


def _new_layer_ids(model):
    """Returns the ids of the layers that come after an encoder, where a model begins with one."""
    net = graphs.functional_graph(model)
    if not (net and feature_stages.marked_stages(net)):
        return set()
    return {id(layer) for layer in feature_stages.learnable(model, "head")}


def _param_groups(model, plan):
    """Returns variables by the factors of their rate in each stage, `None` where they rest."""
    factors = {}
    for number, stage in enumerate(plan):
        set_trainable(model, stage)
        depths = feature_stages.depths(model) if stage.decay < 1 else {}
        for layer in leaf_layers(model):
            for variable in layer.trainable_weights:
                row = factors.setdefault(id(variable), [None] * len(plan))
                row[number] = stage.decay ** depths.get(layer.name, 0)
    members = {}
    for variable in model.variables:
        if id(variable) in factors:
            members.setdefault(tuple(factors[id(variable)]), []).append(variable)
    return members


def _group_optimizer(task, row, plan, steps, *, clip):
    """Returns the optimiser of weights whose rate has a factor in each stage, or `None`."""
    parts = [
        task.learning_rates(stage.rate * factor, steps * stage.epochs * stage.passes, stage.epochs)
        for stage, factor in zip(plan, row, strict=True)
        if factor is not None
    ]
    return task.make_optimizer(functools.reduce(lambda a, b: a.then(b), parts), clip=clip)


def _to_float64(variable):
    return keras.ops.convert_to_numpy(variable).astype("float64")
