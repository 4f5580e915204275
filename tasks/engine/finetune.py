"""Which weights of a model learn, and what its batch normalisation does meanwhile."""

from __future__ import annotations

from tasks.engine import optimize
from zoo.catalog import HEAD
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.weights import leaves

PLANS = ("auto", "scratch", "probe", "full")
POLICIES = ("auto", "frozen", "update")
RATES = {"scratch": 1e-3, "probe": 1e-3, "full": 1e-4}  # peak rates of the Adam family
ADAM_FAMILY = ("adam", "adamw", "nadam", "adamax")


def plan(name, pretrained):
    """Returns the plan that `name` means: `auto` is `full` from pretrained weights."""
    return name if name != "auto" else ("full" if pretrained else "scratch")


def rate(value, plan, optimizer, facts=None):
    """Returns the peak learning rate.

    Args:
        value: the caller's; 0 for the plan's own.
        plan: what learns.
        optimizer: name of the optimiser; plans know a rate for Adam's family alone.
        facts: the `zoo.Weights` that a `full` plan starts from, which know their own.
    """
    optimize.find(optimizer)
    if value:
        return value
    if optimizer.lower() not in ADAM_FAMILY:
        raise UsageError(
            f"--optimizer {optimizer} needs a --learning-rate; plans know one for "
            f"{', '.join(ADAM_FAMILY)} only"
        )
    return facts.learning_rate if facts and plan == "full" else RATES[plan]


def freeze(model, plan, policy="auto"):
    """Lets the weights learn that the plan names.

    Args:
        model: a built `keras.Model`, changed in place before it is compiled.
        plan: `scratch` and `full` teach every layer, `probe` the logits alone.
        policy: what batch normalisation does in a `full` or `scratch` plan. `frozen` keeps
            its statistics, scale and shift; `update` goes on estimating them; `auto` freezes
            them where the weights are pretrained, because a few small batches of other
            images would ruin them.
    """
    frozen = policy == "frozen" or (policy == "auto" and plan != "scratch")
    for layer in leaves(model):
        if plan == "probe":
            layer.trainable = layer.name == HEAD
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = not frozen
