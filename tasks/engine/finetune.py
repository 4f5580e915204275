"""Applies a plan to a model: trainable layers, parameter groups, and batch normalization."""

from __future__ import annotations

import contextlib
import functools

from tasks.engine import optimize
from zoo import graphs
from zoo.errors import UsageError
from zoo.graphs import leaf_layers
from zoo.lazy import LazyModule, keras, np
from zoo.surgery import feature_stages

param_groups = LazyModule("tasks.engine.param_groups")

RECALIBRATION_IMAGES = 1024  # for new BatchNorm statistics, or all if there are fewer


def set_trainable(model, stage):
    """Makes the layers of a model trainable that a stage of a plan names, and freezes the others.

    Layers that a model adds to its encoder are new: their BatchNorm statistics are always
    updated, whatever the policy for the encoder.

    Args:
        model: A built `keras.Model`, changed in place before it is compiled.
        stage: A `plans.Stage`.
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
    """Returns the BatchNormalization layers of a model."""
    return [x for x in leaf_layers(model) if isinstance(x, keras.layers.BatchNormalization)]


def optimizers(task, model, plan, steps):
    """Returns the optimizer of each stage of a plan.

    Weights that are trained in the same stages at the same learning rate form a parameter group,
    which has an optimizer of its own. Its moments survive from stage to stage; those of weights
    that are unfrozen later start at zero, with their own bias correction.

    Args:
        task: A `tasks.engine.task.Task`.
        model: The whole model.
        plan: The stages, `plans.Stage`.
        steps: Optimizer steps per epoch.
    """
    groups = _param_groups(model, plan)
    single_group = len(groups) == 1 and len(plan) == 1
    if task.clip_norm and task.gradient_accumulation_steps > 1 and not single_group:
        raise UsageError(
            "--clip-norm and --gradient-accumulation-steps together do not work with a plan of "
            "several groups of weights; leave one of them out"
        )
    made = {row: _group_optimizer(task, row, plan, steps, clip=single_group) for row in groups}
    for row, group in groups.items():
        optimize.exclude_embeddings_from_weight_decay(made[row], group)
    if single_group:
        for row, group in groups.items():
            made[row].build(group)
        return list(made.values())
    return [
        param_groups.ParamGroupOptimizer(
            [(made[row], group) for row, group in groups.items() if row[number] is not None],
            task.clip_norm,
        )
        for number in range(len(plan))
    ]


def recalibrate(model, pipeline, layers=None):
    """Estimates new BatchNorm statistics.

    Each layer gets the mean and variance of its inputs while the layers below it normalize by
    batch statistics, as in training. They are those of all images together: the variance is the
    mean of the variances within batches plus the variance of the batch means.

    Args:
        model: A `keras.Model`, changed in place.
        pipeline: The data pipeline of `Task.training`; its first `RECALIBRATION_IMAGES` images
            are used.
        layers: The layers; `None` for all BatchNormalization layers.
    """
    layers = batch_norm_layers(model) if layers is None else layers
    before = [(layer.trainable, layer.momentum) for layer in layers]
    seen = [[] for _ in layers]
    try:
        for layer in layers:
            layer.trainable, layer.momentum = True, 0.0  # to store those of each batch
        for images, _ in pipeline.epoch(0).take(-(-RECALIBRATION_IMAGES // pipeline.size)):
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
    """Restores the values of variables at the end of the block."""
    saved_values = [(variable, keras.ops.convert_to_numpy(variable)) for variable in variables]
    try:
        yield
    finally:
        for variable, value in saved_values:
            variable.assign(value)


def _new_layer_ids(model):
    """Returns the ids of the layers after the encoder, if a model has one."""
    net = graphs.functional_graph(model)
    if not (net and feature_stages.marked_stages(net)):
        return set()
    return {id(layer) for layer in feature_stages.learnable(model, "head")}


def _param_groups(model, plan):
    """Returns variables by the factor of their rate in each stage, `None` while they are frozen."""
    factors = {}
    for number, stage in enumerate(plan):
        set_trainable(model, stage)
        depths = feature_stages.depths(model) if stage.decay < 1 else {}
        for layer in leaf_layers(model):
            for variable in layer.trainable_weights:
                row = factors.setdefault(id(variable), [None] * len(plan))
                row[number] = stage.decay ** depths.get(layer.name, 0)
    groups = {}
    for variable in model.variables:
        if id(variable) in factors:
            groups.setdefault(tuple(factors[id(variable)]), []).append(variable)
    return groups


def _group_optimizer(task, row, plan, steps, *, clip):
    """Returns the optimizer of a parameter group, given its rate factor or `None` per stage."""
    parts = [
        task.learning_rates(stage.rate * factor, steps * stage.epochs * stage.passes, stage.epochs)
        for stage, factor in zip(plan, row, strict=True)
        if factor is not None
    ]
    return task.make_optimizer(functools.reduce(lambda a, b: a.then(b), parts), clip=clip)


def _to_float64(variable):
    return keras.ops.convert_to_numpy(variable).astype("float64")
