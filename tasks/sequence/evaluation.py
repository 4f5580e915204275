"""Metrics of sequence models: of the next token, of the next values, and of labels."""

from __future__ import annotations

import math

from tasks.data import batches
from tasks.data.decoding import Examples
from tasks.report import confidence_intervals
from tasks.report.cross_entropy import softmax_cross_entropy
from tasks.sequence.baselines import CharacterNGrams
from tasks.sequence.encoding import LABEL
from tasks.sequence.vocabulary import UNKNOWN
from zoo.lazy import np

MAX_OUTPUTS = 2**22  # numbers in memory at once: 32 MB in float64


def compute_metrics(model, encoding, part, *, batch_size, seed=None):
    """Returns the metrics of a model by name, and its predictions.

    The first half of each window is context only, so that every prediction has at least half a
    window before it; each window begins in the middle of the previous one. Characters that the
    training part lacks are not scored.

    Args:
        model: The `keras.Model`.
        encoding: The `Encoding` of its training data.
        part: The `Windows` or `LabelledSequences` to evaluate on.
        batch_size: Windows or sequences per batch.
        seed: The seed of intervals; `None` for none.

    Returns:
        A dict of metrics; and the logits of labels, the forecasts `(steps, channels)`, or `None`.
    """
    if encoding.objective == LABEL:
        return _label_metrics(model, part, batch_size, seed)
    if encoding.vocabulary:
        return _token_metrics(model, encoding, part, batch_size), None
    return _forecast_metrics(model, encoding, part, batch_size)


def baseline_metrics(encoding, train, test):
    """Returns metrics of predictions that no model is needed for, by name.

    Args:
        encoding: The `Encoding`.
        train, test: The `Windows` or `LabelledSequences` of the training and the test part.
    """
    if encoding.objective == LABEL:
        majority = np.bincount(train.labels).argmax()
        return {"majority_share": float((test.labels == majority).mean())}
    before, targets = scored_steps(test)
    if encoding.vocabulary:
        grams = CharacterNGrams(train.steps[:, 0], len(encoding.vocabulary))
        known = targets[:, 0] != UNKNOWN
        before, targets = before[known, 0], targets[known, 0]
        return {
            "unigram_loss": float(grams.unigram_entropy(targets).mean()),
            "bigram_loss": float(grams.bigram_entropy(before, targets).mean()),
        }
    found = _errors(encoding, before.astype("float64"), targets.astype("float64"))
    return {f"persistence_{name}": value for name, value in found.items() if name != "loss"}


def scored_steps(part):
    """Returns inputs and targets of all predictions of `Windows` that are scored.

    Args:
        part: The `Windows`.

    Returns:
        Two arrays `(steps, channels)`.
    """
    rows = [(x[:, _context(part) :], y[:, _context(part) :]) for x, y in _chunks(part, 1)]
    channels = part.steps.shape[1]
    return [np.concatenate(each).reshape(-1, channels) for each in zip(*rows, strict=True)]


def _context(part):
    return part.length - part.stride


def _chunks(part, outputs):
    """Yields inputs and targets of some windows at a time."""
    starts = part.stride * np.arange(len(part))
    size = max(1, MAX_OUTPUTS // (part.length * outputs))
    for first in range(0, len(starts), size):
        yield part.read(starts[first : first + size])


def _scored_predictions(model, part, batch_size, outputs):
    """Yields targets and outputs of the scored steps, `(steps, ...)`, chunk by chunk."""
    for inputs, targets in _chunks(part, outputs):
        found = _predict(model, part.name, inputs, targets, batch_size)
        scored = slice(_context(part), None)
        yield tuple(x[:, scored].reshape(-1, x.shape[-1]) for x in (targets, found))


def _predict(model, name, inputs, targets, batch_size):
    return batches.predict(model, Examples(name, inputs, targets), batch_size=batch_size)


def _token_metrics(model, encoding, part, batch_size):
    entropy = hits = count = 0
    for targets, logits in _scored_predictions(model, part, batch_size, encoding.num_outputs):
        known = targets[:, 0] != UNKNOWN
        targets, logits = targets[known, 0], logits[known]
        entropy += softmax_cross_entropy(logits, targets).sum()
        hits += (logits.argmax(axis=1) == targets).sum()
        count += len(targets)
    loss = float(entropy / max(1, count))
    return {
        "loss": loss,
        "accuracy": float(hits / max(1, count)),
        "perplexity": math.exp(min(loss, 700)),
        "bits_per_character": loss / math.log(2),
    }


def _forecast_metrics(model, encoding, part, batch_size):
    rows = list(_scored_predictions(model, part, batch_size, encoding.num_outputs))
    targets, forecasts = (np.concatenate(x).astype("float64") for x in zip(*rows, strict=True))
    return _errors(encoding, forecasts, targets), forecasts


def _errors(encoding, forecasts, targets):
    """Returns errors of forecasts, means over the channels.

    `mase` is the mean absolute error divided by that of repeating the last value on the training
    part (Hyndman & Koehler, 2006); channels that are constant there have none.
    """
    error = forecasts - targets
    absolute = np.abs(error).mean(axis=0)
    naive = np.array(encoding.naive_error)
    scaled = absolute[naive > 0] / naive[naive > 0]
    return {
        "loss": float(np.mean((error / encoding.std) ** 2)),
        "mae": float(absolute.mean()),
        "rmse": float(np.sqrt((error**2).mean(axis=0)).mean()),
        **({"mase": float(scaled.mean())} if len(scaled) else {}),
    }


def _label_metrics(model, part, batch_size, seed):
    logits = _predict(model, part.name, part.inputs, part.labels, batch_size)
    correct = logits.argmax(axis=1) == part.labels
    figures = {"accuracy": float(correct.mean())}
    if seed is not None:
        ends = confidence_intervals.mean_interval(correct, seed=seed)
        figures = confidence_intervals.with_interval("accuracy", figures["accuracy"], ends)
    loss = float(softmax_cross_entropy(logits, part.labels).mean())
    return {**figures, "loss": loss}, logits
