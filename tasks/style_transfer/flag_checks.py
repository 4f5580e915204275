"""Checks of the flags of style transfer that depend on each other."""

from __future__ import annotations

import zoo
from tasks.style_transfer import gatys, style_images
from zoo.errors import UsageError, unknown_name_error

KIND = "stylizer"  # of the feed-forward networks in the zoo


def check(task):
    """Raises `UsageError` if flags of a `StyleTransfer` contradict each other."""
    style_images.parse_style_weights(task.style_weights, len(style_images.parse_names(task.style)))
    if not task.single_image:
        _check_model(task.model)
    lbfgs = task.optimizer_name == gatys.LBFGS
    network = not task.single_image
    conflicts = {
        "--strategy mirrored needs a network such as fast_style; gatys optimizes one image": (
            task.single_image and task.strategy == "mirrored"
        ),
        "--optimizer lbfgs is for gatys only, as it needs the same batch in each step; use adam": (
            lbfgs and network
        ),
        (
            "--optimizer lbfgs does not support --ema-decay, --gradient-accumulation-steps and "
            "--clip-norm; use adam"
        ): (lbfgs and (task.ema_decay or task.gradient_accumulation_steps > 1 or task.clip_norm)),
        "--preserve-colors match is for gatys only; use luminance for a network": (
            network and task.preserve_colors == "match"
        ),
        f"--patch-size {task.patch_size} is larger than --image-size {task.image_size}": (
            network and 0 < task.image_size < task.patch_size
        ),
    }
    for message, is_wrong in conflicts.items():
        if is_wrong:
            raise UsageError(message)


def _check_model(model):
    if model not in zoo.names():
        raise unknown_name_error("model", model, [gatys.NAME, *zoo.names(kind=KIND)])
    spec = zoo.spec(model)
    if spec.kind != KIND:
        raise UsageError(
            f"--model {model} is a {spec.kind}; style_transfer takes gatys or a network of "
            f"`zoo list --kind {KIND}`"
        )
