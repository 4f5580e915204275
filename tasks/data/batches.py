"""Data pipelines: shuffled, augmented batches that are the same on every machine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property, partial, reduce

from tasks.data import augment as changes
from tasks.data.decoding import Examples
from zoo.graphs import HEAD_LAYER
from zoo.lazy import LazyModule, keras, np, tf

balanced_order = LazyModule("tasks.data.balanced_order")

BATCH_MULTIPLE = 64  # a bounded batch size is a multiple of this


def training(
    examples, *, batch_size, seed, num_classes, augment="none", mix="none", erase=0.0, heads=(),
    balanced=False
):  # fmt: skip
    """Returns the training batches of classification, epoch by epoch.

    Args:
        examples: `Examples`.
        batch_size: The number of images per batch, at most the number of examples.
        seed: The seed of shuffling and augmentation.
        num_classes: The number of classes.
        augment, mix, erase: The augmentation, as in `augment.sample_params`.
        heads: The names of the outputs trained on the labels; `()` for a single unnamed output.
        balanced: Whether an epoch draws equally many images of each class.

    Returns:
        `Batches`.

    Raises:
        UsageError: An augmentation option is invalid.
    """
    changes.check_options(augment, mix, erase)
    size = min(batch_size, len(examples))
    params = {"augment": augment, "mix": mix, "erase": erase}
    params = {} if (augment, mix, erase) == ("none", "none", 0) else params
    return Batches(examples, size, seed, num_classes, params, tuple(heads), balanced)


class EpochBatches:
    """The training batches of each epoch, which depend only on the seed and the epoch number.

    So a resumed run gets the batches that the uninterrupted run would have had. Subclasses are
    dataclasses with the attributes `examples` and `size`, the batch size.
    """

    @property
    def steps(self):
        """The number of batches in an epoch."""
        return len(self.examples) // self.size

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, a `tf.data.Dataset` of `steps - start` batches.

        The remainder is dropped, other examples in each epoch, so that no small batch disturbs
        the statistics of batch normalization.

        Args:
            number: The epoch number, from 0.
            start: The number of batches to skip at the beginning.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Batches(EpochBatches):
    """The training batches of classification.

    Attributes:
        examples: `Examples`.
        size: The batch size.
        seed: The seed of shuffling and augmentation.
        num_classes: The number of classes.
        changes: Keyword arguments of `augment.sample_params`; empty without augmentation.
        heads: The names of the outputs trained on the labels, or `()`.
        balanced: Whether an epoch draws equally many images of each class.
    """

    examples: Examples
    size: int
    seed: int
    num_classes: int
    changes: dict
    heads: tuple[str, ...] = ()
    balanced: bool = False

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, as `EpochBatches.epoch`.

        Returns:
            Batches of uint8 images `(size, height, width, channels)` and float32 labels
            `(size, num_classes)`, or a dict of these by head.
        """
        examples = self.examples.for_epoch(number)
        order, of = shuffled_indices, len(self.examples)
        if self.balanced:
            order, of = balanced_order.balanced_indices, self.examples.labels
        indices = order(of, self.size, self.seed, number)
        shape, params = examples.pixels.shape[1:], {}
        if self.changes:
            params = changes.sample_params(
                self.seed, number, self.size, self.steps, shape, **self.changes
            )
        batch = partial(
            self._batch, make_gather(examples.pixels, self.size, examples.pixels_tensor)
        )
        return make_dataset((indices, params), batch, start)

    def _batch(self, gather, indices, params):
        labels = self._labels(indices)
        images, labels = changes.apply(gather(indices), labels, params)
        return images, dict.fromkeys(self.heads, labels) if self.heads else labels

    @cached_property
    def _labels(self):
        with tf.init_scope(), tf.device("cpu:0"):
            labels = tf.constant(self.examples.labels)
        if labels.shape.rank == 2:
            return lambda indices: tf.cast(tf.gather(labels, indices), tf.float32)
        return lambda indices: tf.one_hot(tf.gather(labels, indices), self.num_classes)


@dataclass(frozen=True)
class RepeatedBatches:
    """Batches with several passes over the examples per epoch, each in another order.

    Attributes:
        batches: The batches of one pass, such as `Batches`.
        count: The number of passes per epoch.
    """

    batches: object
    count: int

    @property
    def steps(self):
        """The number of batches in an epoch."""
        return self.count * self.batches.steps

    @property
    def size(self):
        """The batch size."""
        return self.batches.size

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, without the first `start`."""
        passed, inside = divmod(start, self.batches.steps)
        first = number * self.count
        parts = [self.batches.epoch(first + n) for n in range(passed + 1, self.count)]
        begun = self.batches.epoch(first + passed, inside)
        return reduce(lambda one, other: one.concatenate(other), parts, begun)


def repeat(batches, count):
    """Returns batches with `count` passes over their examples per epoch."""
    return RepeatedBatches(batches, count) if count > 1 else batches


def predict(model, examples, *, batch_size):
    """Returns the predictions of a model for all examples, in order, as one array.

    For a model with several heads, these are the outputs of the final one, `HEAD_LAYER`. All
    batches are full; the last is padded, as in `sequential_indices`.

    Args:
        model: A `keras.Model`.
        examples: `Examples`.
        batch_size: The largest batch size.
    """
    size = bounded_batch_size(batch_size, len(examples))
    gather = make_gather(examples.pixels, size, examples.pixels_tensor)
    images = make_dataset(sequential_indices(len(examples), size), gather)
    predictions = without_xla(model).predict(images, verbose=0)
    return (predictions[HEAD_LAYER] if isinstance(predictions, dict) else predictions)[
        : len(examples)
    ]


def shuffled_indices(count, size, seed, epoch):
    """Returns the indices of the batches of an epoch, int64 `(batches, size)`, shuffled.

    The remainder is dropped, other examples in each epoch.

    Args:
        count: The number of examples.
        size: The batch size.
        seed, epoch: Non-negative integers that determine the order.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return order[: count // size * size].reshape(-1, size)


def bounded_batch_size(size, count):
    """Returns the batch size for `count` examples if `size` is requested.

    Batches are padded, so a batch larger than the split would waste memory. The bound is the
    multiple of `BATCH_MULTIPLE` that holds all examples: replicas can share it evenly, and small
    splits of different sizes need no compilation each.
    """
    return min(size, -(-count // BATCH_MULTIPLE) * BATCH_MULTIPLE)


def sequential_indices(count, size):
    """Returns the indices of full batches of all examples, int64 `(batches, size)`.

    The last batch is padded with the last example, to be cut off from the predictions: a replica
    without any example would fail, and a smaller batch would need a compilation of its own.
    """
    padded = -(-count // size) * size
    return np.minimum(np.arange(padded), count - 1).reshape(-1, size)


def make_dataset(rows, batch, start=0):
    """Returns a prefetching `tf.data.Dataset` of batches.

    Args:
        rows: A nested structure of arrays `(batches, ...)`.
        batch: A function that makes a batch from the elements of a row, traced into a graph.
        start: The number of batches to skip at the beginning.
    """
    rest = tf.nest.map_structure(lambda values: values[start:], rows)
    data = tf.data.Dataset.from_tensor_slices(rest)
    options = tf.data.Options()
    # The images are in memory, so there are no files to shard among workers.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    return data.prefetch(tf.data.AUTOTUNE).with_options(options)


def without_xla(model):
    """Returns a model with XLA turned off, so that `predict` need not compile for long first."""
    if keras.backend.backend() == "tensorflow":
        model.jit_compile = False
    return model


@contextlib.contextmanager
def read_shard(part, parts):
    """Context in which batches read only the examples of this worker's shard.

    The other examples of a batch are zeros, and its shape does not change. The example before the
    shard is also read, since it may be mixed with the first.

    Args:
        part: A range of shard numbers, from 0.
        parts: The number of equal shards of a batch.
    """
    before = list(_active_shard)
    _active_shard[:] = [part, parts]
    try:
        yield
    finally:
        _active_shard[:] = before


_active_shard = []  # the arguments of `read_shard` inside of its context


def _rows_to_read(size):
    """Returns the indices into a batch of the examples that are read."""
    if not _active_shard:
        return np.arange(size)
    part, parts = _active_shard
    return np.arange(part.start * size // parts - 1, part.stop * size // parts) % size


def make_gather(pixels, size, pixels_tensor=None):
    """Returns a function from `size` indices to rows of `pixels`, for use in a graph.

    Args:
        pixels: `(count, ...)`, an array, or an object that returns arrays if indexed by an array.
        size: The batch size.
        pixels_tensor: The same as a tensor, or `None`.
    """
    if pixels_tensor is not None:
        return lambda indices: tf.gather(pixels_tensor, indices)

    dtype, shape = getattr(pixels, "dtype", np.uint8), pixels.shape[1:]
    rows_read = _rows_to_read(size)

    def read(indices):
        found = np.zeros((size, *shape), dtype)
        found[rows_read] = pixels[indices[rows_read]]
        return found

    def gather(indices):
        reads_all = len(set(rows_read.tolist())) == size
        images = tf.numpy_function(pixels.__getitem__ if reads_all else read, [indices], dtype)
        return tf.ensure_shape(images, (size, *shape))

    return gather
