"""The parts of fine-tuning plans for a model that is compiled and fitted by Keras alone.

They work with any functional `keras.Model` and with TensorFlow as the backend:

    tasks.transfer.freeze(model, "stage4")                    # trains stage4 and above
    optimizer = tasks.transfer.layerwise_optimizer(model, keras.optimizers.AdamW, 1e-3, decay=0.7)
    model.compile(optimizer, loss)
    unfreeze = tasks.transfer.gradual_unfreezing({0: "head", 2: "stage3", 4: "all"})
    model.fit(images, labels, epochs=6, callbacks=[unfreeze])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.engine import finetune
from tasks.engine.plans import BATCH_NORM_POLICIES, Stage
from zoo.errors import UsageError, unknown_name_error
from zoo.graphs import leaf_layers
from zoo.lazy import LazyModule, keras
from zoo.surgery import feature_stages

if TYPE_CHECKING:
    import keras as keras_types

__all__ = ["freeze", "gradual_unfreezing", "layerwise_optimizer"]

layerwise = LazyModule("tasks.api.layerwise")

POLICIES = tuple(policy for policy in BATCH_NORM_POLICIES if policy != "recalibrate")


def freeze(
    model: keras_types.Model, learn: str | int | float = "head", *, batch_norm: str = "frozen"
) -> None:
    """Freezes all layers of a model but some; compile it afterwards.

    Args:
        model: A built functional model, changed in place.
        learn: The layers that are trained: `all`, `head`, a stage such as `stage4` with everything
            above it, a number or a fraction of layers counted from the output, or a pattern of
            their names such as `conv5_*`.
        batch_norm: `frozen` keeps BatchNorm layers and their statistics as they are, also among the
            layers that are trained; `update` trains them.

    Raises:
        UsageError: The model has no such layers, or the policy is unknown.
    """
    if batch_norm not in POLICIES:
        raise unknown_name_error("policy of batch normalization", batch_norm, list(POLICIES))
    finetune.set_trainable(model, Stage(learn, batch_norm=batch_norm))


def layerwise_optimizer(
    model: keras_types.Model,
    make: Callable[[Any], keras_types.optimizers.Optimizer],
    learning_rate: float,
    *,
    decay: float = 0.7,
) -> keras_types.optimizers.Optimizer:
    """Returns an optimizer with a learning rate per stage of the network.

    The head has the learning rate, the stage below it `decay` times that, the next `decay ** 2`
    times, and so on (Howard & Ruder, 2018, arXiv:1801.06146).

    Args:
        model: A built functional model; the layers that are trainable now are trained, or may be.
        make: A function of a learning rate that returns an optimizer, such as
            `keras.optimizers.AdamW`, or a lambda that makes a schedule of it.
        learning_rate: The learning rate of the head.
        decay: The factor from each stage to the one below it, over 0 and up to 1.

    Raises:
        UsageError: `decay` is out of range, or no layer is trainable.
    """
    if not 0 < decay <= 1:
        raise UsageError(f"decay must be over 0 and up to 1, not {decay}")
    groups = {}
    depths = feature_stages.depths(model)
    for layer in leaf_layers(model):
        if layer.trainable_weights:
            depth = depths.get(layer.name, 0)
            groups.setdefault(depth, []).extend(layer.trainable_weights)
    if not groups:
        raise UsageError(f"{model.name} has no trainable layer; call tasks.transfer.freeze first")
    param_groups = [(make(learning_rate * decay**depth), groups[depth]) for depth in sorted(groups)]
    return layerwise.LayerwiseOptimizer(param_groups)


def gradual_unfreezing(
    stages: Mapping[int, str | int | float], *, batch_norm: str = "frozen"
) -> keras_types.callbacks.Callback:
    """Returns a callback for `fit` that trains more layers from given epochs on.

    Moments of the optimizer of layers that are unfrozen later start at zero, and those of the
    others go on.

    Args:
        stages: The layers that are trained, as in `freeze`, by the epoch, from 0, at which this
            begins: `{0: "head", 2: "stage4", 4: "all"}`.
        batch_norm: As in `freeze`.

    Raises:
        UsageError: There is no stage for epoch 0; or from `fit`, as `freeze`, or the backend is not
            TensorFlow.
    """
    if 0 not in stages:
        raise UsageError("gradual unfreezing needs the layers of epoch 0, such as {0: 'head'}")

    def build(logs=None):
        begun.clear()  # of an earlier call of `fit`
        model = callback.model
        if keras.backend.backend() != "tensorflow":
            raise UsageError("gradual unfreezing within fit needs the TensorFlow backend")
        kept = {}
        for learn in stages.values():  # the optimizer has variables for all that are ever trained
            freeze(model, learn, batch_norm=batch_norm)
            kept |= {id(variable): variable for variable in model.trainable_variables}
        if not model.optimizer.built:
            model.optimizer.build([v for v in model.variables if id(v) in kept])

    def begin(epoch, logs=None):
        model = callback.model
        start = max(first for first in stages if first <= epoch)
        if start == epoch or not begun:
            freeze(model, stages[start], batch_norm=batch_norm)
            model.make_train_function(force=True)
        begun.append(epoch)

    begun = []
    callback = keras.callbacks.LambdaCallback(on_train_begin=build, on_epoch_begin=begin)
    return callback
