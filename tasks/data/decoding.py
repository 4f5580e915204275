"""Decoding of images: once, into memory or onto disk, or in each epoch if they fit in neither."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tasks.data import augment, image_io, memory_limits
from tasks.data.parallel import ordered_map
from tasks.data.pillow_images import MAX_BITS
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np, tf

disk_images = LazyModule("tasks.data.disk_images")
tqdm = LazyModule("tqdm")

MEMORY_FRACTION = 0.3  # of the free memory that decoded images may take
MAX_READ_CHUNK = 8  # images per call of a thread, as each hand-over takes time, too
# Images of fewer bytes are copied into a tensor: a Python call costs more than the copy.
SMALL_IMAGE_BYTES = 2**14
MAX_TENSOR_BYTES = 2**30  # bytes of such images that are kept as a tensor as well
DISK_FRACTION = 0.5  # of the free disk space that decoded images may take
FALLBACK_MEMORY = 2 * 2**30  # bytes assumed free where the system does not report them


@dataclass(frozen=True, eq=False)
class Examples:
    """One split, ready to be batched.

    Attributes:
        name: The name of the split, such as `train`.
        pixels: uint8 `(count, height, width, channels)`: an array in memory, a memory map,
            `disk_images.DiskImages`, or `LazyImages`, which reads files when indexed.
        labels: int64 `(count,)`, or uint8 `(count, classes)` of multi-label data.
        dropped: A pair `(item, reason)` for each image that could not be read.
        items: The items of the whole split that was decoded, or `None`.
        item_indices: The index into `items` of each example, or `None` for the example's own.
    """

    name: str
    pixels: object
    labels: object
    dropped: tuple[tuple[str, str], ...] = ()
    items: object = field(default=None, kw_only=True, repr=False)
    item_indices: object = field(default=None, kw_only=True, repr=False)

    def __len__(self):
        return len(self.labels)

    def for_epoch(self, epoch):
        """Returns the examples of an epoch: here the same in each."""
        return self

    def title(self, index):
        """Returns a title for an example: its folder and file name, or its split and number."""
        item_index = int(index if self.item_indices is None else self.item_indices[index])
        item = None if self.items is None else self.items[item_index]
        if isinstance(item, (str, Path)):
            return "/".join(Path(item).parts[-2:])
        return f"{self.name} {item_index}"

    @cached_property
    def pixels_tensor(self):
        """The pixels as a tensor if the images are small and fit; else `None`."""
        pixels = self.pixels
        if (
            isinstance(pixels, np.ndarray)
            and pixels[0].nbytes < SMALL_IMAGE_BYTES
            and pixels.nbytes <= MAX_TENSOR_BYTES
        ):
            with tf.init_scope(), tf.device("cpu:0"):
                return tf.constant(pixels)
        return None


@dataclass(frozen=True, eq=False)
class VersionedExamples(Examples):
    """Examples in several versions, of which each epoch uses the next.

    Attributes:
        versions: `Examples` with the same labels; the first also has the same pixels.
    """

    versions: tuple[Examples, ...] = ()

    def for_epoch(self, epoch):
        """Returns the version used in an epoch."""
        return self.versions[epoch % len(self.versions)]


class AugmentedImages:
    """Randomly augmented images: an image is augmented the same way whenever it is indexed.

    Args:
        examples: `Examples`.
        seed, view: Integers that determine the augmentation.
        params: Keyword arguments of `augment.sample_params`.
    """

    def __init__(self, examples, seed, view, params):
        self.pixels, self.shape = examples.pixels, examples.pixels.shape
        self._drawn = augment.sample_params(seed, view, len(examples), 1, self.shape[1:], **params)

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, indices):
        each = {name: values[0] for name, values in self._drawn.items()}
        params = {k: v if k == "noise" else v[indices] for k, v in each.items()}
        images, _ = augment.apply(tf.constant(self.pixels[indices]), None, params)
        return images.numpy()


class LazyImages:
    """Images that are read from their files each time they are indexed.

    Args:
        items: The images, as `image_io.read_image` takes them.
        shape: `(height, width, channels)` to which each is resized.
        resize: `stretch`, `crop` or `pad`.
        bits: The bits used by images of more than 8 bits, as in `image_io.read_image`.
    """

    def __init__(self, items, shape, resize, bits=MAX_BITS):
        self.items, self.shape, self.resize = items, (len(items), *shape), resize
        self.bits = bits

    def __len__(self):
        return len(self.items)

    def __getitem__(self, indices):
        return np.stack(list(_map_in_threads(self.read, np.atleast_1d(indices))))

    def read(self, index):
        """Returns the image at `index`; raises `UnreadableImage` if it cannot be read."""
        return image_io.read_image(self.items[int(index)], self.shape[1:], self.resize, self.bits)


def decode(split, shape, resize, *, memory=None, disk=None):
    """Decodes each image of a split once, and drops those that cannot be read.

    Args:
        split: A `dataset.Split`.
        shape: `(height, width, channels)`.
        resize: `stretch`, `crop` or `pad`.
        memory, disk: The bytes that the images may take in memory and on disk; by default a
            fraction of what is free. Images that fit in neither are read again in each epoch.

    Returns:
        `Examples`.

    Raises:
        UsageError: No image can be read.
    """
    decoder = LazyImages(split.items, shape, resize, split.bits)
    pixels = allocate_images(len(split), shape, memory, disk)
    good, dropped = read_into(split.name, len(split), lambda index: [decoder.read(index)], [pixels])
    if dropped and pixels is None:
        decoder = LazyImages([split.items[index] for index in good], shape, resize, split.bits)
    labels = np.asarray(split.labels)[good]
    kept = decoder if pixels is None else pixels[: len(good)]
    return Examples(split.name, kept, labels, dropped, items=split.items, item_indices=good)


def read_into(name, count, one, buffers):
    """Reads examples in threads and stores them in order, without those that cannot be read.

    Args:
        name: The name of the split.
        count: The number of its examples.
        one: A function of an index that returns one array for each buffer, or raises
            `UnreadableImage`.
        buffers: Arrays with `count` rows, or `None` for a part that is read but not stored.

    Returns:
        The indices of the examples that were read, and a tuple of `(item, reason)` of the others.

    Raises:
        UsageError: No example can be read.
    """

    def read_or_error(index):
        try:
            return one(index)
        except image_io.UnreadableImage as error:
            return error

    good, dropped = [], []
    found = progress(_map_in_threads(read_or_error, range(count)), count, f"reading {name}")
    for index, parts in enumerate(found):
        if isinstance(parts, image_io.UnreadableImage):
            dropped.append((parts.name, parts.reason))
            continue
        for buffer, part in zip(buffers, parts, strict=True):
            if buffer is not None:
                buffer[len(good)] = part
        good.append(index)
    if not good:
        raise UsageError(f"no image of {name} can be read; the first: {': '.join(dropped[0])}")
    return good, tuple(dropped)


def _map_in_threads(one, indices):
    """Yields `one(index)` for each index, in order; threads call it for a few indices at a time."""
    size = max(1, min(MAX_READ_CHUNK, len(indices) // os.cpu_count()))
    index_chunks = (indices[start : start + size] for start in range(0, len(indices), size))
    chunks = ordered_map(lambda some: [one(index) for index in some], index_chunks, os.cpu_count())
    for found in chunks:
        yield from found


def allocate_images(count, shape, memory=None, disk=None):
    """Returns an empty uint8 array `(count, *shape)` in memory, else on disk, else `None`.

    On disk it is a memory map, or `disk_images.DiskImages` if that exceeds `ulimit -v`.

    Args:
        count: The number of images.
        shape: `(height, width, channels)` of each.
        memory, disk: The bytes that the array may take in memory and on disk; by default a
            fraction of what is free.
    """
    size = count * int(np.prod(shape))
    if size <= (free_memory() * MEMORY_FRACTION if memory is None else memory):
        return np.empty((count, *shape), np.uint8)
    folder = tempfile.gettempdir()
    if size > (_free_disk(folder) * DISK_FRACTION if disk is None else disk):
        return None
    if size > memory_limits.address_space_left() * MEMORY_FRACTION:
        return disk_images.DiskImages((count, *shape), folder)
    # A file without a name is deleted when the process ends, however it ends.
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.uint8, "w+", shape=(count, *shape))


def free_memory():
    """Returns the free memory in bytes, within the limit of this process."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        free = FALLBACK_MEMORY
    return min(free, memory_limits.address_space_left())


def _free_disk(folder):
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def progress(items, total, label):
    """Returns `items` with a progress bar, shown on a terminal after two seconds."""
    return tqdm.tqdm(items, label, total, leave=False, delay=2, disable=None)
