"""Examples as batches, shuffled and changed the same way on every machine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property, partial, reduce

from tasks.data import augment as changes
from tasks.data.decoding import Examples
from zoo.graphs import HEAD_LAYER
from zoo.lazy import keras, np, tf

BATCH_MULTIPLE = 64  # examples, of which a bounded batch holds a multiple


def training(
    examples, *, batch_size, seed, num_classes, augment="none", mix="none", erase=0.0, heads=()
):
    """Returns the batches that a model learns from, epoch by epoch.

    Args:
        examples: `Examples`.
        batch_size: images in a batch; fewer if there are fewer.
        seed: of the order and of all random changes.
        num_classes: length of a label.
        augment, mix, erase: random changes, as `augment.sample_params` has them.
        heads: names of the outputs that learn the same labels; `()` for one without a name.

    Returns:
        `Batches`.

    Raises:
        UsageError: there is no such level, mix or share.
    """
    changes.check_options(augment, mix, erase)
    size = min(batch_size, len(examples))
    params = {"augment": augment, "mix": mix, "erase": erase}
    params = {} if (augment, mix, erase) == ("none", "none", 0) else params
    return Batches(examples, size, seed, num_classes, params, tuple(heads))


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of every epoch, each a function of the seed and the number of the epoch alone.

    A run taken up at an epoch therefore sees what the uninterrupted one would have seen.

    Attributes:
        examples: `Examples`.
        size: images in a batch.
        seed: of the order and of all random changes.
        num_classes: length of a label.
        changes: what `augment.sample_params` is asked for; nothing where examples are no images.
        heads: names of the outputs that learn the labels, or `()`.
    """

    examples: Examples
    size: int
    seed: int
    num_classes: int
    changes: dict
    heads: tuple[str, ...] = ()

    @property
    def steps(self):
        """Batches in an epoch."""
        return len(self.examples) // self.size

    def epoch(self, number, start=0):
        """Returns one epoch, a `tf.data.Dataset` of `steps` batches, or of those that are left.

        What is left over is dropped, other examples each time, so that no small batch upsets the
        statistics of batch normalisation.

        Args:
            number: of the epoch, from 0.
            start: batches at its beginning that are left out.

        Returns:
            Batches of uint8 images `(size, height, width, channels)` and float32 labels
            `(size, num_classes)`, or a dict of such by head.
        """
        examples = self.examples.for_epoch(number)
        indices = shuffled_indices(len(self.examples), self.size, self.seed, number)
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
    """Batches whose epoch goes through the examples more than once, each time in another order.

    Attributes:
        stream: the batches, such as `Batches`.
        count: how often.
    """

    batches: object
    count: int

    @property
    def steps(self):
        """Batches in an epoch."""
        return self.count * self.batches.steps

    @property
    def size(self):
        """Examples in a batch."""
        return self.batches.size

    def epoch(self, number, start=0):
        """Returns one epoch, of which some batches at the beginning may be left out."""
        passed, inside = divmod(start, self.batches.steps)
        first = number * self.count
        parts = [self.batches.epoch(first + n) for n in range(passed + 1, self.count)]
        begun = self.batches.epoch(first + passed, inside)
        return reduce(lambda one, other: one.concatenate(other), parts, begun)


def repeat(batches, count):
    """Returns batches that go through their examples some times in an epoch."""
    return RepeatedBatches(batches, count) if count > 1 else batches


def predict(model, examples, *, batch_size):
    """Returns a model's answers to every example, once and in order, as one array.

    Of a model with several heads it is the answers of the one that stays, `HEAD`.
    Every batch is full, the last one padded with copies that are cut off again: a replica
    without any example would fail, and a short batch would be compiled for itself.
    """
    size = bounded_batch_size(batch_size, len(examples))
    gather = make_gather(examples.pixels, size, examples.pixels_tensor)
    images = make_dataset(sequential_indices(len(examples), size), gather)
    predictions = without_xla(model).predict(images, verbose=0)
    return (predictions[HEAD_LAYER] if isinstance(predictions, dict) else predictions)[
        : len(examples)
    ]


def shuffled_indices(count, size, seed, epoch):
    """Returns the indices of an epoch's batches, int64 `(batches, size)`, in random order.

    What is left over is dropped, other examples each time.

    Args:
        count: of the examples.
        size: of a batch.
        seed, epoch: what the order follows from.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return order[: count // size * size].reshape(-1, size)


def bounded_batch_size(size, count):
    """Returns how many examples of `count` to take at a time where `size` were asked for.

    A batch is padded, so that one larger than the split would be memory for nothing. It is bounded
    by a multiple of `ROUND` that holds them all, which replicas can share, and which does not have
    every small split compiled for itself.
    """
    return min(size, -(-count // BATCH_MULTIPLE) * BATCH_MULTIPLE)


def sequential_indices(count, size):
    """Returns the indices of full batches of all examples, int64 `(batches, size)`.

    The last batch is padded with the last example, to be cut off of the answers: a replica without
    any example would fail, and a short batch would be compiled for itself.
    """
    padded = -(-count // size) * size
    return np.minimum(np.arange(padded), count - 1).reshape(-1, size)


def make_dataset(rows, batch, start=0):
    """Returns batches that are made while others are used, a `tf.data.Dataset`.

    Args:
        rows: what each is made of: arrays, or a structure of them, the first axis of which is
            batches.
        batch: makes a batch, in a graph; it takes the parts of a row.
        start: batches at the beginning that are left out.
    """
    rest = tf.nest.map_structure(lambda values: values[start:], rows)
    data = tf.data.Dataset.from_tensor_slices(rest)
    options = tf.data.Options()
    # The images are in this process, so there are no files to share out among workers.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    return data.prefetch(tf.data.AUTOTUNE).with_options(options)


def without_xla(model):
    """Returns a model whose `predict` runs at once, where XLA would first compile for long."""
    if keras.backend.backend() == "tensorflow":
        model.jit_compile = False
    return model


@contextlib.contextmanager
def read_shard(part, parts):
    """Lets the batches that are made meanwhile read the examples of some of their parts alone.

    What is not read is zeros, and the shape of a batch is what it is without. One example before
    each part is read, too, as it may be mixed with the first.

    Args:
        part: a range of numbers of parts, from 0.
        parts: how many equal parts a batch has.
    """
    before = list(_active_shard)
    _active_shard[:] = [part, parts]
    try:
        yield
    finally:
        _active_shard[:] = before


_active_shard = []  # what `dealt` was given, while it lasts


def _rows_to_read(size):
    """Returns the places in a batch of some size whose examples are read."""
    if not _active_shard:
        return np.arange(size)
    part, parts = _active_shard
    return np.arange(part.start * size // parts - 1, part.stop * size // parts) % size


def make_gather(pixels, size, pixels_tensor=None):
    """Returns what takes `size` indices to images, or to what else `pixels` holds, inside a graph.

    Args:
        pixels: `(count, ...)`, an array or what gives one when it is indexed by an array.
        size: of a batch.
        pixels_tensor: the same as a tensor, where there is one.
    """
    if pixels_tensor is not None:
        return lambda indices: tf.gather(pixels_tensor, indices)

    dtype, shape, places = getattr(pixels, "dtype", np.uint8), pixels.shape[1:], _rows_to_read(size)

    def read(indices):
        found = np.zeros((size, *shape), dtype)
        found[places] = pixels[indices[places]]
        return found

    def gather(indices):
        whole = len(set(places.tolist())) == size
        images = tf.numpy_function(pixels.__getitem__ if whole else read, [indices], dtype)
        return tf.ensure_shape(images, (size, *shape))

    return gather
