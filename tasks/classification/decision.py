"""Flags that adjust the logits of a trained classifier: temperature and decision threshold."""

from __future__ import annotations

from tasks.classification import calibration
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

threshold = LazyModule("tasks.classification.threshold")


def check_flags(task):
    """Raises `UsageError` for flags of a task that are invalid or exclude each other."""
    if task.class_weight != "none" and task.balance == "sample":
        raise UsageError("--class-weight balanced and --balance sample exclude each other")
    if task.error_costs:
        threshold.parse_costs(task.error_costs)


def check_labels(task, source):
    """Raises `UsageError` for flags that suit one label per image, or two classes, only."""
    several = " labels" if source.multi_label else ""
    if task.error_costs and (several or len(source.classes) != 2):
        raise UsageError(
            f"--error-costs is for two classes; {source.name} has {len(source.classes)}{several}"
        )
    if task.balance == "sample" and several:
        raise UsageError("--balance sample is for one label per image; use --balance loss")


def check_validation(task, data):
    """Returns whether flags adjust the logits; raises `UsageError` without a validation split."""
    used = {"--calibrate temperature": task.calibrate != "none", "--error-costs": task.error_costs}
    flags = [name for name, value in used.items() if value]
    if flags and not data.validation:
        raise UsageError(f"{flags[0]} needs a validation split")
    return bool(flags)


def adjusted(task, output, logits, labels):
    """Returns the output of a model after the layers that the flags ask for.

    Args:
        task: A `Classification`.
        output: The logits of the model, a `KerasTensor`.
        logits, labels: Those of the validation split.
    """
    if task.calibrate == "temperature":
        scale = 1 / calibration.fit_temperature(logits, labels)
        output = keras.layers.Rescaling(scale, name="temperature", dtype="float32")(output)
        logits = scale * logits
    if task.error_costs:
        shift = threshold.best_shift(logits, labels, threshold.parse_costs(task.error_costs))
        options = {"offset": [0.0, -shift], "name": threshold.LAYER, "dtype": "float32"}
        output = keras.layers.Rescaling(1.0, **options)(output)
    return output
