"""What is known of a task's model before it is built, from the flags `model` and `image_size`."""

from __future__ import annotations

import zoo
from zoo.errors import UsageError


def flops(task):
    """Returns the FLOPs of the model for one image of the task's size; 0 if they are not known."""
    spec = zoo.spec(task.model)
    height, width, _ = spec.input_shape
    return (spec.flops or 0) * (task.image_size**2 / (height * width) if task.image_size else 1)


def shape(task, kind):
    """Returns `(height, width, channels)` of the images that the model takes.

    Args:
        task: it has the flag `channels`, too.
        kind: what the model must be, such as `classifier`.

    Raises:
        UsageError: it is of another kind, or its images must be larger.
    """
    spec = zoo.spec(task.model)
    if spec.kind != kind:
        raise UsageError(
            f"{task.model} is a {spec.kind}; {task.name} needs a {kind}: see zoo list --kind {kind}"
        )
    height, width, channels = spec.input_shape
    size = (task.image_size or height, task.image_size or width)
    return spec.checked_shape((*size, task.channels or channels))
