"""Compares the outputs of an exported model with those of Keras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zoo.lazy import np

BOX_TOLERANCE = 1.0  # pixels by which two boxes may differ to count as equal


@dataclass(frozen=True)
class Comparison:
    """How an output is compared.

    Attributes:
        compare: a function of found and expected arrays that returns a dict of figures.
        figure: the figure that has a limit.
        limits: the limit by precision: a maximum, or a minimum for `equal`. Rounding to 8 bits
            has none for single images, since its effect on the metric is limited instead.
    """

    compare: Callable
    figure: str
    limits: dict[str, float]


def compare_outputs(exported, found, expected, precision):
    """Returns the figures of each output, and the reasons why the file fails.

    Args:
        exported: the `ExportModel`.
        found, expected: arrays by name.
        precision: `float32`, `float16` or `int8`.
    """
    figures, reasons = {}, []
    if missing := sorted(expected.keys() - found.keys()):
        return {}, [f"it has no output {missing[0]}"]
    for name, kind in exported.comparisons.items():
        if found[name].shape != expected[name].shape:
            reasons.append(f"{name} is {found[name].shape}, not {expected[name].shape}")
            continue
        comparison = COMPARISONS[kind]
        figures[name] = comparison.compare(found[name], expected[name])
        limit, value = comparison.limits.get(precision), figures[name][comparison.figure]
        figures[name]["limit"] = limit
        least = comparison.figure == "equal"
        if limit is not None and not (value >= limit if least else value <= limit):
            what = "equal values are" if least else "the largest difference is"
            reasons.append(f"{name}: {what} {value:.3g}, the limit is {limit:g}")
    return figures, reasons


def _differences(found, expected):
    difference = np.abs(found.astype("float64") - expected)
    return {"largest": float(difference.max()), "mean": float(difference.mean())}


def _probabilities(found, expected):
    equal = found.argmax(axis=-1) == expected.argmax(axis=-1)
    return {**_differences(found, expected), "equal_top1": float(equal.mean())}


def _relative(found, expected):
    """Compares values of any scale, relative to the largest."""
    scale = float(np.abs(expected).max()) or 1.0
    return {name: value / scale for name, value in _differences(found, expected).items()}


def _labels(found, expected):
    return {"equal": float((found == expected).mean())}


def _rows(found, expected):
    equal = (found == expected).reshape(len(found), -1).all(axis=1)
    return {"equal": float(equal.mean())}


def _boxes(found, expected):
    """Compares boxes `(images, count, 4)`: two of equal score may be in any order."""
    difference = np.abs(found.astype("float64") - expected).max(axis=-1)
    return {
        "mean": float(difference.mean()),
        "equal": float((difference <= BOX_TOLERANCE).mean()),
    }


COMPARISONS = {
    # Probabilities in [0, 1].
    "probabilities": Comparison(_probabilities, "largest", {"float32": 1e-3, "float16": 0.05}),
    # Values of any scale, such as action values or logits.
    "values": Comparison(_relative, "largest", {"float32": 1e-3, "float16": 0.05}),
    # Scores of detections in [0, 1], in descending order, and their boxes in pixels.
    "scores": Comparison(_differences, "largest", {"float32": 1e-3, "float16": 0.05}),
    "boxes": Comparison(_boxes, "equal", {"float32": 0.95, "float16": 0.8}),
    # Pixels in [0, 255].
    "pixels": Comparison(_differences, "largest", {"float32": 1.0, "float16": 16.0}),
    # Class indices, such as masks.
    "labels": Comparison(_labels, "equal", {"float32": 0.99, "float16": 0.95}),
    # Rows of integers that are right or wrong as a whole, such as captions.
    "rows": Comparison(_rows, "equal", {"float32": 0.95, "float16": 0.8}),
}
