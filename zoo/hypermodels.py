"""Models built from the hyperparameters of keras-tuner, for training loops of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.builder import build
from zoo.catalog import spec
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras

WIDTHS, UNITS, MAX_BLOCKS, MAX_DEPTH = (16, 32, 64, 128), (64, 128, 256, 512), 4, 3


def hypermodel(
    name: str,
    *,
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    weights: str | None = None,
    **options: Any,
) -> Callable[[Any], keras.Model]:
    """Returns a function of `keras_tuner.HyperParameters` that builds a model.

    `convnet` and `mlp` have ranges for their architecture, and models with the option `dropout` for
    its rate. The model is not compiled: loss, optimizer and training are the caller's.

    Args:
        name: Name of a model, with or without a tag of pretrained weights.
        input_shape, num_classes, weights: As for `zoo.build`.
        **options: Options of the builder with a fixed value, which are not searched.

    Raises:
        UsageError: There is no such model, or it has no option with a range.
    """
    ranges = SPACES.get(spec(name).name, _dropout_rate)
    if (
        ranges is _dropout_rate
        and "dropout" not in inspect.signature(spec(name).builder).parameters
    ):
        raise UsageError(
            f"{name} has no hyperparameters to search; use {', '.join(SPACES)}, a model with the "
            "option dropout, or pass options to zoo.build yourself"
        )

    def make(hp):
        return build(
            name,
            input_shape=input_shape,
            num_classes=num_classes,
            weights=weights,
            **{**ranges(hp, options), **options},
        )

    return make


def _convnet(hp, fixed):
    """Returns options of `convnet`: blocks of convolutions, then dense layers."""
    count = len(fixed.get("depths", ())) or hp.Int("blocks", 1, MAX_BLOCKS)
    found = {
        "depths": [hp.Int(f"depth{n}", 1, MAX_DEPTH) for n in range(1, count + 1)],
        "widths": [hp.Choice(f"width{n}", list(WIDTHS)) for n in range(1, count + 1)],
        "kernel_size": hp.Choice("kernel_size", [3, 5]),
        "pooling": hp.Choice("pooling", ["max", "average"]),
        "skip": hp.Boolean("skip"),
        "head": hp.Choice("head", ["flatten", "pool"]),
        "conv_dropout": hp.Float("conv_dropout", 0.0, 0.4, step=0.1),
    }
    return {**found, **_hidden(hp)}


def _mlp(hp, fixed):
    """Returns options of `mlp`: the widths of its hidden layers."""
    count = hp.Int("layers", 1, 3)
    return {"widths": [hp.Choice(f"width{n}", list(UNITS)) for n in range(1, count + 1)]}


def _hidden(hp):
    count = hp.Int("hidden_layers", 0, 2)
    return {
        "hidden": [hp.Choice(f"units{n}", list(UNITS)) for n in range(1, count + 1)],
        "hidden_dropout": hp.Float("hidden_dropout", 0.0, 0.6, step=0.1),
    }


def _dropout_rate(hp, fixed):
    """Returns the rate of dropout before the logits."""
    return {"dropout": hp.Float("dropout", 0.0, 0.5, step=0.1)}


SPACES = {"convnet": _convnet, "mlp": _mlp}
