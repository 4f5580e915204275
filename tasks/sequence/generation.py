"""Continues a text or a series step by step with a trained model."""

from __future__ import annotations

from tasks.inference import runtimes
from tasks.report.cross_entropy import shift_logits
from tasks.sequence.vocabulary import FIRST
from zoo.lazy import np


def predict_function(model, size):
    """Returns a thread-safe function from at most `size` float32 inputs to the outputs."""
    return runtimes.keras_predict_function(model, size, "float32")


def continue_tokens(run, prompts, count, *, length, temperatures, seed):
    """Samples the continuation of token sequences.

    Args:
        run: A function of windows `(prompts, length, 1)` that returns the logits of each step, as
            from `predict_function`.
        prompts: int arrays `(steps,)` of at least one token, of any length.
        count: The number of tokens to sample.
        length: Steps of a window; the model gets as many of the latest tokens.
        temperatures: For each prompt, the number that logits are divided by before sampling; 0
            takes the most probable token.
        seed: The seed of the samples.

    Returns:
        int64 `(prompts, count)`; padding and unknown characters are never sampled.
    """
    random = np.random.default_rng(seed)
    temperatures = np.asarray(temperatures, "float64")

    def choose(logits):
        logits = shift_logits(logits)
        logits[:, :FIRST] = -np.inf
        # The largest of logits with Gumbel noise is a sample of the softmax (Gumbel, 1954).
        noise = random.gumbel(size=logits.shape) * temperatures[:, None]
        return (logits + noise).argmax(axis=1)[:, None]

    sequences = [np.asarray(prompt, "float32")[:, None] for prompt in prompts]
    return _continue(run, sequences, count, length, choose)[..., 0].astype("int64")


def continue_series(run, series, count, *, length):
    """Returns forecasts of several steps, each from the ones before it.

    Args:
        run: A function of windows `(series, length, channels)` that returns the forecast of each
            step, as from `predict_function`.
        series: Arrays `(steps, channels)` of at least one step, of any length.
        count: The number of steps.
        length: Steps of a window; the model gets as many of the latest steps.

    Returns:
        float32 `(series, count, channels)`.
    """
    return _continue(run, [np.asarray(x, "float32") for x in series], count, length, np.array)


def _continue(run, sequences, count, length, choose):
    """Returns what `choose` makes of the outputs of the last step, `count` times.

    Windows are padded at the end, where the model ignores them: later steps do not change an
    output.
    """
    channels = sequences[0].shape[1]
    rows = np.zeros((len(sequences), length + count, channels), "float32")
    ends = np.array([min(length, len(each)) for each in sequences])
    for row, each, end in zip(rows, sequences, ends, strict=True):
        row[:end] = each[-end:]
    each_row, found = np.arange(len(rows)), []
    for _ in range(count):
        starts = np.maximum(0, ends - length)
        windows = rows[each_row[:, None], starts[:, None] + np.arange(length)]
        outputs = run(windows)[each_row, ends - starts - 1]
        found.append(choose(outputs))
        rows[each_row, ends] = found[-1]
        ends = ends + 1
    return np.stack(found, axis=1)
