"""Batches of windows or labeled sequences, shuffled the same way on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tasks.data import batches
from tasks.sequence.dataset import Windows
from zoo.lazy import np, tf


def training(examples, *, batch_size, seed):
    """Returns the training batches of `Windows` or `LabelledSequences`, epoch by epoch."""
    kind = WindowBatches if isinstance(examples, Windows) else LabelledBatches
    return kind(examples, min(batch_size, len(examples)), seed)


@dataclass(frozen=True, eq=False)
class LabelledBatches(batches.EpochBatches):
    """Batches of labeled sequences.

    Attributes:
        examples: `LabelledSequences`.
        size: Sequences per batch.
        seed: The seed of the order.
    """

    examples: object
    size: int
    seed: int

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, as `EpochBatches.epoch`.

        Returns:
            Pairs of inputs `(size, steps, channels)` and labels, int64 `(size,)`.
        """
        indices = batches.shuffled_indices(len(self.examples), self.size, self.seed, number)
        return batches.make_dataset(indices, self._batch, start)

    def _batch(self, indices):
        inputs, labels = self._tensors
        return tf.gather(inputs, indices), tf.gather(labels, indices)

    @cached_property
    def _tensors(self):
        return _constants(self.examples.inputs, self.examples.labels)


@dataclass(frozen=True, eq=False)
class WindowBatches(batches.EpochBatches):
    """Batches of windows of one sequence; in each epoch they start at other steps.

    Attributes:
        examples: `Windows`.
        size: Windows per batch.
        seed: The seed of the order and of the first step.
    """

    examples: Windows
    size: int
    seed: int

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, as `EpochBatches.epoch`.

        Returns:
            Pairs of inputs and targets, `(size, length, channels)`: the steps of each window, and
            the step after each of them.
        """
        indices = batches.shuffled_indices(len(self.examples), self.size, self.seed, number)
        stride = self.examples.stride
        offset = np.random.default_rng([self.seed, number, 1]).integers(stride)
        return batches.make_dataset(stride * indices + offset, self._batch, start)

    def _batch(self, starts):
        [steps] = self._tensors
        windows = starts[:, None] + tf.range(self.examples.length + 1, dtype=starts.dtype)
        rows = tf.gather(steps, windows)
        return rows[:, :-1], rows[:, 1:]

    @cached_property
    def _tensors(self):
        return _constants(self.examples.steps)


def _constants(*arrays):
    with tf.init_scope(), tf.device("cpu:0"):
        return [tf.constant(array) for array in arrays]
