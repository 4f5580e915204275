"""The backbone of a model and its weights, by the flags of a task.

The task has the flags `model`, `weights`, `backbone`, `backbone_weights` and `model_options`.
"""

from __future__ import annotations

import inspect

import zoo
from tasks.data import builder_options
from tasks.engine import plans
from zoo.catalog import RANDOM


def backbone_spec(task):
    """Returns the `Spec` of the backbone of a task's model, or `None` if it has none."""
    model = zoo.spec(task.model)
    parameter = inspect.signature(model.builder).parameters.get("backbone")
    known = {"backbone": parameter and parameter.default, **model.options}
    name = (
        task.backbone
        or {**known, **builder_options.parse_model_options(task.model_options)}["backbone"]
    )
    return zoo.spec(name) if name else None


def model_builder_options(task):
    """Returns the options of the model builder that a task's flags name."""
    found = {"backbone": task.backbone, "backbone_weights": task.backbone_weights}
    if task.weights == RANDOM and backbone_spec(task):
        found["backbone_weights"] = RANDOM
    return {
        **builder_options.parse_options(task.model_options),
        **{k: v for k, v in found.items() if v},
    }


def architecture_options(task):
    """Returns the builder options that define the architecture, without those for weights."""
    return {
        name: value
        for name, value in model_builder_options(task).items()
        if name != "backbone_weights"
    }


def is_pretrained(task):
    """Returns whether a task's model starts from pretrained weights."""
    if task.weights:
        return task.weights != RANDOM
    backbone, own = backbone_spec(task), zoo.spec(task.model).weights
    if own or not backbone:
        return bool(own)
    return task.backbone_weights != RANDOM and bool(task.backbone_weights or backbone.weights)


def plan_stages(task, scratch=plans.LEARNING_RATES["scratch"]):
    """Returns the plan of a task's flags, a tuple of `plans.Stage`.

    Args:
        task: A task.
        scratch: The learning rate for random weights.
    """
    backbone = backbone_spec(task)
    return plans.resolve_plan(
        task.plan,
        epochs=task.epochs,
        pretrained=is_pretrained(task),
        levels=backbone.stages if backbone else (),
        rate=task.learning_rate,
        optimizer=task.optimizer,
        own=backbone and backbone.weights and backbone.weights.learning_rate,
        scratch=scratch,
        batch_norm=task.batch_norm,
    )
