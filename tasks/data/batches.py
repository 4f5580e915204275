"""Examples as batches: decoded once where they fit, shuffled the same way on every machine."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks.data import readers
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np, tf

tqdm = LazyModule("tqdm")

MEMORY_SHARE = 0.3  # of the free memory that decoded images may fill
DISK_SHARE = 0.5  # of the free disk, likewise
FALLBACK_MEMORY = 2 * 2**30  # bytes taken as free where the system does not tell


@dataclass(frozen=True)
class Examples:
    """One split, ready to be batched.

    Attributes:
        name: of the split, such as `train`.
        pixels: uint8 `(count, height, width, channels)`: an array in memory, one on disk, or a
            `Decoder` that reads files when indexed.
        labels: int64 `(count,)`.
        dropped: `(item, reason)` of each image that could not be read.
    """

    name: str
    pixels: object
    labels: object
    dropped: tuple[tuple[str, str], ...] = ()

    def __len__(self):
        return len(self.labels)


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


def training(examples, *, batch_size, seed, start=0, num_classes):
    """Returns an endless stream of batches, epoch after epoch, each in an order of its own.

    The order depends on the seed and the epoch alone, so that a run taken up at epoch `start`
    sees what the uninterrupted one would have seen.

    Returns:
        Batches of uint8 images `(batch_size, height, width, channels)` and float32 one-hot
        labels `(batch_size, num_classes)`, and the number of them in an epoch. What is left
        over at an epoch's end is dropped, other examples each time, so that no small batch
        upsets the statistics of batch normalisation.
    """
    count = len(examples)
    size = min(batch_size, count)
    steps = count // size

    def epoch(number):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(count, dtype=tf.int64), seed=[seed, number]
        )
        return tf.data.Dataset.from_tensor_slices(order).batch(size, drop_remainder=True)

    order = tf.data.Dataset.range(start, tf.int64.max).flat_map(epoch)
    return _gathered(order, examples, num_classes, size), steps


def predict(model, examples, *, batch_size):
    """Returns a model's answers to every example, once and in order, as one array.

    Every batch is full, the last one padded with copies that are cut off again: a replica
    without any example would fail, and a short batch would be compiled for itself.
    """
    count = len(examples)
    padded = -(-count // batch_size) * batch_size
    order = tf.data.Dataset.range(padded).map(lambda i: tf.minimum(i, count - 1)).batch(batch_size)
    images = _gathered(order, examples, 1, batch_size).map(lambda images, labels: images)
    return without_xla(model).predict(images, verbose=0)[:count]


def without_xla(model):
    """Returns a model whose `predict` runs at once, where XLA would first compile for long."""
    if keras.backend.backend() == "tensorflow":
        model.jit_compile = False
    return model


def _gathered(order, examples, num_classes, size):
    """Turns batches of indices into batches of images and one-hot labels."""
    shape = examples.pixels.shape[-3:]

    def take(indices):
        return examples.pixels[indices], examples.labels[indices]

    def gather(indices):
        images, labels = tf.numpy_function(take, [indices], (tf.uint8, tf.int64))
        images = tf.ensure_shape(images, (size, *shape))
        return images, tf.one_hot(tf.ensure_shape(labels, (size,)), num_classes)

    options = tf.data.Options()
    # The images are in this process, so there are no files to share out among workers.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = order.map(gather, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return batches.with_options(options)


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
