"""Examples as batches: decoded once where they fit, shuffled the same way on every machine."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

from tasks.data import augment as changes
from tasks.data import readers
from zoo.catalog import HEAD
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np, tf

tqdm = LazyModule("tqdm")

MEMORY_SHARE = 0.3  # of the free memory that decoded images may fill
SMALL = 2**14  # bytes of an image, below which a call of Python costs more than copying it
COPIED = 2**30  # bytes of such images that TensorFlow may hold too
DISK_SHARE = 0.5  # of the free disk, likewise
FALLBACK_MEMORY = 2 * 2**30  # bytes taken as free where the system does not tell


@dataclass(frozen=True, eq=False)
class Examples:
    """One split, ready to be batched.

    Attributes:
        name: of the split, such as `train`.
        pixels: uint8 `(count, height, width, channels)`: an array in memory, one on disk, or a
            `Decoder` that reads files when indexed.
        labels: int64 `(count,)`, or uint8 `(count, classes)` where there may be several.
        dropped: `(item, reason)` of each image that could not be read.
    """

    name: str
    pixels: object
    labels: object
    dropped: tuple[tuple[str, str], ...] = ()

    def __len__(self):
        return len(self.labels)

    @cached_property
    def held(self):
        """The pixels as TensorFlow holds them, where they are small; else `None`."""
        pixels = self.pixels
        if type(pixels) is np.ndarray and pixels[0].nbytes < SMALL and pixels.nbytes <= COPIED:
            with tf.init_scope(), tf.device("cpu:0"):
                return tf.constant(pixels)
        return None


class Decoder:
    """Images read from their files each time they are asked for.

    Args:
        items: what `readers.image` reads.
        shape: `(height, width, channels)` that each becomes.
        resize: how: `stretch`, `crop` or `pad`.
    """

    def __init__(self, items, shape, resize):
        self.items, self.shape, self.resize = items, tuple(shape), resize

    def __len__(self):
        return len(self.items)

    def __getitem__(self, indices):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(self.one, np.atleast_1d(indices))))

    def one(self, index):
        """Returns one image; raises `UnreadableImage` if it cannot be read."""
        return readers.image(self.items[int(index)], self.shape, self.resize)

    def try_one(self, index):
        """Returns one image, or the reason why it cannot be read."""
        try:
            return self.one(index)
        except readers.UnreadableImage as error:
            return error


def decode(split, shape, resize, *, memory=None, disk=None):
    """Decodes every image of a split, once, and drops those that cannot be read.

    Args:
        split: a `sources.Split`.
        shape: `(height, width, channels)`.
        resize: `stretch`, `crop` or `pad`.
        memory, disk: bytes that the images may take in each; by default a share of what is
            free. Images that fit in neither are read anew each epoch.

    Returns:
        `Examples`.

    Raises:
        UsageError: no image is left.
    """
    decoder = Decoder(split.items, shape, resize)
    pixels = _store(len(split), shape, memory, disk)
    good, dropped = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(decoder.try_one, range(len(split)))
        for index, image in enumerate(_progress(found, len(split), f"reading {split.name}")):
            if isinstance(image, readers.UnreadableImage):
                dropped.append((image.name, image.reason))
                continue
            if pixels is not None:
                pixels[len(good)] = image
            good.append(index)
    if not good:
        raise UsageError(
            f"no image of {split.name} can be read; the first: {': '.join(dropped[0])}"
        )
    if dropped and pixels is None:
        decoder = Decoder([split.items[index] for index in good], shape, resize)
    labels = np.asarray(split.labels)[good]
    kept = decoder if pixels is None else pixels[: len(good)]
    return Examples(split.name, kept, labels, tuple(dropped))


def training(
    examples, *, batch_size, seed, num_classes, augment="none", mix="none", erase=0.0, heads=()
):
    """Returns the batches that a model learns from, epoch by epoch.

    Args:
        examples: `Examples`.
        batch_size: images in a batch; fewer if there are fewer.
        seed: of the order and of all random changes.
        num_classes: length of a label.
        augment, mix, erase: random changes, as `augment.draw` has them.
        heads: names of the outputs that learn the same labels; `()` for one without a name.

    Returns:
        `Batches`.

    Raises:
        UsageError: there is no such level, mix or share.
    """
    changes.check(augment, mix, erase)
    size = min(batch_size, len(examples))
    drawn = {"augment": augment, "mix": mix, "erase": erase}
    return Batches(examples, size, seed, num_classes, drawn, tuple(heads))


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of every epoch, each a function of the seed and the number of the epoch alone.

    A run taken up at an epoch therefore sees what the uninterrupted one would have seen.

    Attributes:
        examples: `Examples`.
        size: images in a batch.
        seed: of the order and of all random changes.
        num_classes: length of a label.
        changes: what `augment.draw` is asked for.
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

    def epoch(self, number):
        """Returns one epoch, a `tf.data.Dataset` of `steps` batches.

        What is left over is dropped, other examples each time, so that no small batch upsets the
        statistics of batch normalisation.

        Args:
            number: of the epoch, from 0.

        Returns:
            Batches of uint8 images `(size, height, width, channels)` and float32 labels
            `(size, num_classes)`, or a dict of such by head.
        """
        shape = self.examples.pixels.shape[-3:]
        order = np.random.default_rng([self.seed, number]).permutation(len(self.examples))
        indices = order[: self.steps * self.size].reshape(self.steps, self.size)
        drawn = changes.draw(self.seed, number, self.size, self.steps, shape, **self.changes)
        data = tf.data.Dataset.from_tensor_slices((indices, drawn))
        return _prefetched(data.map(self._batch, num_parallel_calls=tf.data.AUTOTUNE))

    def _batch(self, indices, drawn):
        labels = self._labels(indices)
        images, labels = changes.change(self._images(indices), labels, drawn)
        return images, dict.fromkeys(self.heads, labels) if self.heads else labels

    @cached_property
    def _images(self):
        return _gatherer(self.examples, self.size)

    @cached_property
    def _labels(self):
        with tf.init_scope(), tf.device("cpu:0"):
            labels = tf.constant(self.examples.labels)
        if labels.shape.rank == 2:
            return lambda indices: tf.cast(tf.gather(labels, indices), tf.float32)
        return lambda indices: tf.one_hot(tf.gather(labels, indices), self.num_classes)


def predict(model, examples, *, batch_size):
    """Returns a model's answers to every example, once and in order, as one array.

    Of a model with several heads it is the answers of the one that stays, `HEAD`.
    Every batch is full, the last one padded with copies that are cut off again: a replica
    without any example would fail, and a short batch would be compiled for itself.
    """
    count = len(examples)
    padded = -(-count // batch_size) * batch_size
    indices = np.minimum(np.arange(padded), count - 1).reshape(-1, batch_size)
    gather = _gatherer(examples, batch_size)
    data = tf.data.Dataset.from_tensor_slices(indices)
    images = _prefetched(data.map(gather, num_parallel_calls=tf.data.AUTOTUNE))
    answers = without_xla(model).predict(images, verbose=0)
    return (answers[HEAD] if isinstance(answers, dict) else answers)[:count]


def without_xla(model):
    """Returns a model whose `predict` runs at once, where XLA would first compile for long."""
    if keras.backend.backend() == "tensorflow":
        model.jit_compile = False
    return model


def _gatherer(examples, size):
    """Returns what takes `size` indices to images, inside a graph."""
    pixels, held = examples.pixels, examples.held
    if held is not None:
        return lambda indices: tf.gather(held, indices)

    def gather(indices):
        images = tf.numpy_function(pixels.__getitem__, [indices], tf.uint8)
        return tf.ensure_shape(images, (size, *pixels.shape[-3:]))

    return gather


def _prefetched(batches):
    options = tf.data.Options()
    # The images are in this process, so there are no files to share out among workers.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _store(count, shape, memory, disk):
    """Returns room for `count` images in memory or else on disk, or `None`."""
    size = count * int(np.prod(shape))
    if size <= (_free_memory() * MEMORY_SHARE if memory is None else memory):
        return np.empty((count, *shape), np.uint8)
    folder = tempfile.gettempdir()
    if size <= (_free_disk(folder) * DISK_SHARE if disk is None else disk):
        # Without a name the file goes when the process does, however it ends.
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, np.uint8, "w+", shape=(count, *shape))
    return None


def _free_memory():
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return FALLBACK_MEMORY


def _free_disk(folder):
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def _progress(items, total, label):
    """Shows a bar on a terminal when a loop takes longer than two seconds."""
    return tqdm.tqdm(items, label, total, leave=False, delay=2, disable=None)
