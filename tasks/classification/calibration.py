"""Whether a classifier is as sure as it is right, and the temperature that makes it so.

Guo et al., "On Calibration of Modern Neural Networks", 2017: https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

from tasks.report import axes, cross_entropy, svg
from zoo.lazy import np

BINS = 15  # of equal width, as in the paper

_WIDTH, _HEIGHT = 440, 340  # of the picture, in pixels, as all lengths below
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 416, 10, 222  # the axes of the upper part
_BASE, _MAX_BAR_HEIGHT = 294, 56  # the lower part, which says how many examples a bin has
_MIN_TEMPERATURE, _MAX_TEMPERATURE = (
    1e-2,
    1e2,
)  # temperatures between which the best one is looked for
_GOLDEN_RATIO = (5**0.5 - 1) / 2


def expected_calibration_error(confidences, hits) -> float:
    """Returns the expected calibration error in [0, 1]: how far confidence is from accuracy.

    It is the mean over the bins of |accuracy - mean confidence|, each weighted by its examples;
    NaN if a confidence is.

    Args:
        confidences: The probability of what was predicted `(examples,)`.
        hits: Whether it was right `(examples,)`.
    """
    if np.isnan(confidences).any():
        return float("nan")
    counts, confidence_sums, right = _bins(confidences, hits)
    return float(np.abs(confidence_sums - right).sum() / counts.sum())


def reliability_diagram(confidences, hits) -> str:
    """Draws accuracy by confidence as an HTML figure: bars on the diagonal are well calibrated.

    Args:
        confidences: The probability of what was predicted `(examples,)`; NaN is passed over.
        hits: Whether it was right `(examples,)`.
    """
    confidences, hits = np.asarray(confidences), np.asarray(hits)
    known = ~np.isnan(confidences)
    counts, confidence_sums, right = _bins(confidences[known], hits[known])
    across = axes.Axis(0.0, 1.0, [(step / 5, f"{step / 5:.0%}") for step in range(6)])
    parts = [*_frame(across), *_bars(counts, confidence_sums, right)]
    parts.append(svg.path(f"M{_LEFT} {_BOTTOM}L{_RIGHT} {_TOP}", kind="line ideal"))
    note = (
        "Above, how many of the predictions of a confidence are right: a bar below the dashed line "
        "was too sure of itself, one above it too modest. Below, how many predictions there are."
    )
    if counts.sum():
        overconfidence = (confidence_sums.sum() - right.sum()) / counts.sum()
        note += f" On average, confidence is {abs(overconfidence):.1%} "
        note += "above accuracy." if overconfidence >= 0 else "below accuracy."
    drawn = svg.inline_svg(_WIDTH, _HEIGHT, parts, "accuracy by confidence")
    return f'<figure class="reliability"><figcaption>{note}</figcaption>{drawn}</figure>'


def fit_temperature(logits, labels) -> float:
    """Returns what to divide logits by, so that their cross-entropy is the least.

    The ranks, and so the accuracy, stay. Fit it on validation data: on training data, of which
    the model is sure with reason, it finds nothing to mend. The loss is convex in `1 / T`, so a
    golden-section search over its logarithm finds the least one. An example with a NaN is left
    out. Where every example is right, the colder the better without an end: too few examples to
    tell, and the answer is 1.

    Args:
        logits: `(examples, classes)`.
        labels: Class numbers `(examples,)`, or 1 and 0 `(examples, classes)` where each class has
            a sigmoid of its own.
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

    def at(power):
        return losses(logits * np.exp(-power), labels).mean()

    best = float(
        np.exp(_golden_section_search(at, np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE)))
    )
    found = best > 1.01 * _MIN_TEMPERATURE and at(np.log(best)) < at(0.0) * (1 - 1e-12)
    return best if found else 1.0


def _bins(confidences, hits):
    """Returns for each bin its examples, and the sums of their confidences and hits."""
    # A confidence on an edge belongs to the bin below, as in the paper: (0, 1/15], (1/15, ...
    numbers = np.clip(np.ceil(np.asarray(confidences, np.float64) * BINS) - 1, 0, BINS - 1)
    numbers = numbers.astype(np.int64)
    values = (None, confidences, np.asarray(hits, np.float64))
    return [np.bincount(numbers, weights=value, minlength=BINS) for value in values]


def _frame(across):
    """Returns the axes of both parts."""
    for value, label in across.ticks:
        y, x = _y_position(value), _LEFT + (_RIGHT - _LEFT) * across.at(value)
        yield svg.path(f"M{_LEFT} {y:.1f}H{_RIGHT}", kind="grid")
        yield svg.text(_LEFT - 8, y + 4, label, anchor="end")
        yield svg.text(x, _BASE + 18, label)
    yield svg.path(f"M{_LEFT} {_BASE}H{_RIGHT}", kind="grid")
    yield svg.text(14, (_TOP + _BOTTOM) / 2, "accuracy", turn=-90)
    yield svg.text(14, _BASE - _MAX_BAR_HEIGHT / 2, "examples", turn=-90)
    yield svg.text((_LEFT + _RIGHT) / 2, _HEIGHT - 6, "confidence of the prediction")


def _bars(counts, confidence_sums, right):
    """Returns for each bin that is not empty its accuracy above and its examples below."""
    bar_width = (_RIGHT - _LEFT) / BINS
    for index in np.flatnonzero(counts):
        count, accuracy = counts[index], right[index] / counts[index]
        x = _LEFT + bar_width * index + 1
        many = f"{count:,} prediction{'' if count == 1 else 's'}"
        confidence = confidence_sums[index] / count
        hint = f"{many}, on average {confidence:.1%} sure, {accuracy:.1%} of them right"
        high, y = _MAX_BAR_HEIGHT * count / counts.max(), _y_position(accuracy)
        bar = {"kind": "bar", "hint": hint}
        yield svg.rectangle(x, y, bar_width - 2, _BOTTOM - y, **bar)
        yield svg.rectangle(x, _BASE - high, bar_width - 2, high, **bar)
        yield svg.circle(x - 1 + bar_width / 2, y, 2.5, kind="validation", hint=hint)


def _y_position(share):
    return _BOTTOM - (_BOTTOM - _TOP) * share


def _golden_section_search(function, low, high, steps=48):
    """Returns where a function with one valley is least, to `_GOLDEN**steps` of the range."""
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
