"""Images of a split, decoded once where they fit, and read anew each epoch where they do not."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tasks.data import augment, image_io
from tasks.data.parallel import ordered_map
from tasks.data.pillow_images import MAX_BITS
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np, tf

tqdm = LazyModule("tqdm")

MEMORY_FRACTION = 0.3  # of the free memory that decoded images may fill
MAX_READ_CHUNK = 8  # images that a thread reads before it hands them over, which takes time, too
SMALL_IMAGE_BYTES = (
    2**14
)  # bytes of an image, below which a call of Python costs more than copying it
MAX_TENSOR_BYTES = 2**30  # bytes of such images that TensorFlow may hold too
DISK_FRACTION = 0.5  # of the free disk, likewise
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
        items: of the whole split, as it was decoded, or `None`.
        places: position of each example among these, or `None`: its own.
    """

    name: str
    pixels: object
    labels: object
    dropped: tuple[tuple[str, str], ...] = ()
    items: object = field(default=None, kw_only=True, repr=False)
    places: object = field(default=None, kw_only=True, repr=False)

    def __len__(self):
        return len(self.labels)

    def for_epoch(self, epoch):
        """Returns the examples as an epoch sees them."""
        return self

    def title(self, index):
        """Returns what to call an example: its folder and file, or split and number."""
        place = int(index if self.places is None else self.places[index])
        item = None if self.items is None else self.items[place]
        if isinstance(item, (str, Path)):
            return "/".join(Path(item).parts[-2:])
        return f"{self.name} {place}"

    @cached_property
    def pixels_tensor(self):
        """The pixels as TensorFlow holds them, where they are small; else `None`."""
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
    """Examples of which there are several versions, one after the other for each epoch.

    Attributes:
        versions: `Examples` with the same labels; the first has the same pixels, too.
    """

    versions: tuple[Examples, ...] = ()

    def for_epoch(self, epoch):
        """Returns the version of an epoch."""
        return self.versions[epoch % len(self.versions)]


class AugmentedImages:
    """Images changed at random, each the same way whenever it is asked for.

    Args:
        examples: `Examples`.
        seed, view: which of all changes.
        params: what `augment.sample_params` is asked for.
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
    """Images read from their files each time they are asked for.

    Args:
        items: what `image_io.read_image` reads.
        shape: `(height, width, channels)` that each becomes.
        resize: how: `stretch`, `crop` or `pad`.
        bits: of images of more than 8, as `image_io.read_image` takes them.
    """

    def __init__(self, items, shape, resize, bits=MAX_BITS):
        self.items, self.shape, self.resize = items, (len(items), *shape), resize
        self.bits = bits

    def __len__(self):
        return len(self.items)

    def __getitem__(self, indices):
        return np.stack(list(_map_in_threads(self.one, np.atleast_1d(indices))))

    def one(self, index):
        """Returns one image; raises `UnreadableImage` if it cannot be read."""
        return image_io.read_image(self.items[int(index)], self.shape[1:], self.resize, self.bits)


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
    decoder = LazyImages(split.items, shape, resize, split.bits)
    pixels = allocate_images(len(split), shape, memory, disk)
    good, dropped = read_into(split.name, len(split), lambda index: [decoder.one(index)], [pixels])
    if dropped and pixels is None:
        decoder = LazyImages([split.items[index] for index in good], shape, resize, split.bits)
    labels = np.asarray(split.labels)[good]
    kept = decoder if pixels is None else pixels[: len(good)]
    return Examples(split.name, kept, labels, dropped, items=split.items, places=good)


def read_into(name, count, one, buffers):
    """Reads examples in threads, one after the other into rooms, but for those it cannot read.

    Args:
        name: of the split.
        count: of its examples.
        one: takes an index and returns one array for each room, or raises `UnreadableImage`.
        buffers: of `count` such arrays, or `None` for what is read but not kept.

    Returns:
        The indices of what was read, and a tuple of `(item, reason)` of what was not.

    Raises:
        UsageError: nothing can be read.
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
        for place, part in zip(buffers, parts, strict=True):
            if place is not None:
                place[len(good)] = part
        good.append(index)
    if not good:
        raise UsageError(f"no image of {name} can be read; the first: {': '.join(dropped[0])}")
    return good, tuple(dropped)


def _map_in_threads(one, indices):
    """Yields in order what a function gives for each index; threads call it for a handful each."""
    size = max(1, min(MAX_READ_CHUNK, len(indices) // os.cpu_count()))
    index_chunks = (indices[start : start + size] for start in range(0, len(indices), size))
    chunks = ordered_map(lambda some: [one(index) for index in some], index_chunks, os.cpu_count())
    for found in chunks:
        yield from found


def allocate_images(count, shape, memory=None, disk=None):
    """Returns room for `count` images, uint8, in memory or else on disk, or `None`.

    Args:
        count, shape: `(count, *shape)` is that of the room.
        memory, disk: bytes that it may take in each; by default a share of what is free.
    """
    size = count * int(np.prod(shape))
    if size <= (free_memory() * MEMORY_FRACTION if memory is None else memory):
        return np.empty((count, *shape), np.uint8)
    folder = tempfile.gettempdir()
    if size <= (_free_disk(folder) * DISK_FRACTION if disk is None else disk):
        # Without a name the file goes when the process does, however it ends.
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, np.uint8, "w+", shape=(count, *shape))
    return None


def free_memory():
    """Returns the bytes of memory that nobody uses."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return FALLBACK_MEMORY


def _free_disk(folder):
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def progress(items, total, label):
    """Shows a bar on a terminal when a loop takes longer than two seconds."""
    return tqdm.tqdm(items, label, total, leave=False, delay=2, disable=None)
