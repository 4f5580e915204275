"""Calibration of classifiers: expected calibration error, reliability diagram, temperature.

Guo et al., "On Calibration of Modern Neural Networks", 2017: https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

from tasks.report import axes, cross_entropy, svg
from zoo.lazy import np

BINS = 15  # of equal width, as in the paper

_WIDTH, _HEIGHT = 440, 340  # of the figure; this and all lengths below are in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 416, 10, 222  # the axes of the accuracy plot
_BASE, _MAX_BAR_HEIGHT = 294, 56  # the histogram of confidences below it
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 1e-2, 1e2  # the search range
_GOLDEN_RATIO = (5**0.5 - 1) / 2


def expected_calibration_error(confidences, hits) -> float:
    """Returns the expected calibration error (ECE) in [0, 1].

    It is the mean of |accuracy - mean confidence| over bins of confidence, weighted by the number
    of examples in each bin. It is NaN if a confidence is NaN.

    Args:
        confidences: The probability of the predicted class `(examples,)`.
        hits: Whether the prediction is correct `(examples,)`.
    """
    if np.isnan(confidences).any():
        return float("nan")
    counts, confidence_sums, num_correct = _bins(confidences, hits)
    return float(np.abs(confidence_sums - num_correct).sum() / counts.sum())


def reliability_diagram(confidences, hits) -> str:
    """Draws accuracy against confidence as an HTML figure.

    The bars of a well calibrated classifier end at the diagonal.

    Args:
        confidences: The probability of the predicted class `(examples,)`; NaN is ignored.
        hits: Whether the prediction is correct `(examples,)`.

    Returns:
        HTML, a `<figure>` with an inline SVG.
    """
    confidences, hits = np.asarray(confidences), np.asarray(hits)
    valid = ~np.isnan(confidences)
    counts, confidence_sums, num_correct = _bins(confidences[valid], hits[valid])
    across = axes.Axis(0.0, 1.0, [(step / 5, f"{step / 5:.0%}") for step in range(6)])
    parts = [*_frame(across), *_bars(counts, confidence_sums, num_correct)]
    parts.append(svg.path(f"M{_LEFT} {_BOTTOM}L{_RIGHT} {_TOP}", kind="line ideal"))
    note = (
        "Top: accuracy of the predictions in each bin of confidence. Bars below the dashed line "
        "are overconfident, bars above it underconfident. Bottom: the number of predictions."
    )
    if counts.sum():
        overconfidence = (confidence_sums.sum() - num_correct.sum()) / counts.sum()
        note += f" On average, confidence is {abs(overconfidence):.1%} "
        note += "above accuracy." if overconfidence >= 0 else "below accuracy."
    drawn = svg.inline_svg(_WIDTH, _HEIGHT, parts, "accuracy by confidence")
    return f'<figure class="reliability"><figcaption>{note}</figcaption>{drawn}</figure>'


def fit_temperature(logits, labels) -> float:
    """Returns the temperature T for which the cross-entropy of `logits / T` is minimal.

    The order of the classes, and so the accuracy, does not change. Fit the temperature on
    validation data: on training data the confidence of the model matches its accuracy, so nothing
    is corrected. The loss is convex in `1 / T`, so a golden-section search over its logarithm
    finds the minimum. Examples with a NaN are ignored.

    Where every prediction is correct, the loss falls with T without a minimum: there are too few
    examples to fit a temperature, and 1 is returned.

    Args:
        logits: `(examples, classes)`.
        labels: Class indices `(examples,)`, or multi-hot `(examples, classes)` for a multi-label
            model with sigmoid outputs.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    finite = np.isfinite(logits).all(axis=1)
    logits, labels = logits[finite], labels[finite]
    if not len(logits):
        return 1.0
    losses = (
        cross_entropy.sigmoid_cross_entropy
        if labels.ndim == 2
        else cross_entropy.softmax_cross_entropy
    )

    def loss(log_temperature):
        return losses(logits * np.exp(-log_temperature), labels).mean()

    log_best = _golden_section_search(loss, np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE))
    best = float(np.exp(log_best))
    improves = best > 1.01 * _MIN_TEMPERATURE and loss(np.log(best)) < loss(0.0) * (1 - 1e-12)
    return best if improves else 1.0


def _bins(confidences, hits):
    """Returns the number of examples in each bin and the sums of their confidences and hits."""
    # A confidence on an edge belongs to the lower bin, as in the paper: (0, 1/15], (1/15, ...
    numbers = np.clip(np.ceil(np.asarray(confidences, np.float64) * BINS) - 1, 0, BINS - 1)
    numbers = numbers.astype(np.int64)
    values = (None, confidences, np.asarray(hits, np.float64))
    return [np.bincount(numbers, weights=value, minlength=BINS) for value in values]


def _frame(across):
    """Yields the axes of both plots."""
    for value, label in across.ticks:
        y, x = _y_position(value), _LEFT + (_RIGHT - _LEFT) * across.at(value)
        yield svg.path(f"M{_LEFT} {y:.1f}H{_RIGHT}", kind="grid")
        yield svg.text(_LEFT - 8, y + 4, label, anchor="end")
        yield svg.text(x, _BASE + 18, label)
    yield svg.path(f"M{_LEFT} {_BASE}H{_RIGHT}", kind="grid")
    yield svg.text(14, (_TOP + _BOTTOM) / 2, "accuracy", turn=-90)
    yield svg.text(14, _BASE - _MAX_BAR_HEIGHT / 2, "examples", turn=-90)
    yield svg.text((_LEFT + _RIGHT) / 2, _HEIGHT - 6, "confidence of the prediction")


def _bars(counts, confidence_sums, num_correct):
    """Yields the bars of accuracy and of the number of examples for each bin that is not empty."""
    bar_width = (_RIGHT - _LEFT) / BINS
    for index in np.flatnonzero(counts):
        count, accuracy = counts[index], num_correct[index] / counts[index]
        x = _LEFT + bar_width * index + 1
        predictions = f"{count:,} prediction{'' if count == 1 else 's'}"
        confidence = confidence_sums[index] / count
        hint = f"{predictions}, mean confidence {confidence:.1%}, accuracy {accuracy:.1%}"
        height, y = _MAX_BAR_HEIGHT * count / counts.max(), _y_position(accuracy)
        bar = {"kind": "bar", "hint": hint}
        yield svg.rectangle(x, y, bar_width - 2, _BOTTOM - y, **bar)
        yield svg.rectangle(x, _BASE - height, bar_width - 2, height, **bar)
        yield svg.circle(x - 1 + bar_width / 2, y, 2.5, kind="validation", hint=hint)


def _y_position(share):
    return _BOTTOM - (_BOTTOM - _TOP) * share


def _golden_section_search(function, low, high, steps=48):
    """Returns the minimizer of a unimodal function, to `_GOLDEN_RATIO**steps` of the range."""
    left, right = high - _GOLDEN_RATIO * (high - low), low + _GOLDEN_RATIO * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN_RATIO * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN_RATIO * (high - low)
            at_right = function(right)
    return (low + high) / 2
