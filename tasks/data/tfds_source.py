"""TensorFlow Datasets (TFDS) as sources: read when first used, and kept encoded in memory."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import socket
import textwrap
from functools import cached_property

from tasks.data import class_folders
from tasks.data.dataset import Source, Split
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tfds = LazyModule("tensorflow_datasets")
request = LazyModule("urllib.request")

PREFIX = "tfds:"
MEMORY_DIVISOR = 4  # the encoded images of a split may take a quarter of the memory
READ_BATCH = 1000  # examples per batch from TFDS; smaller is slower


def load(name, data_dir):
    """Loads a TFDS data set of labeled images, and downloads it if necessary.

    Args:
        name: `tfds:NAME` or `tfds:NAME/CONFIG`.
        data_dir: The folder of TFDS data sets; `None` for the default of TFDS.

    Returns:
        A `Source`. Its splits are read when first used, and slices read only their examples.

    Raises:
        UsageError: There is no such data set, it has no image or label feature, or it cannot be
            downloaded.
    """
    builder = find_builder(name, data_dir)
    features = dict(builder.info.features)
    for key, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
        if not isinstance(features.get(key), kind):
            known = class_folders.join_names(features) or "none"
            raise UsageError(f"{name} has no {kind.__name__} {key!r}; its features: {known}")
    return make_source(builder, name, tuple(features["label"].names), _read_labelled)


def make_source(builder, name, classes, read):
    """Returns the `Source` of a TFDS data set, and downloads it if necessary.

    Args:
        builder: What `find_builder` returned.
        name: The name by which it was loaded.
        classes: The class names.
        read: A function of a `LazySplit` that returns its items and an array of labels.

    Raises:
        UsageError: The data set cannot be downloaded.
    """
    if not builder.is_prepared():
        _prepare(builder, name)
    info = builder.info
    splits = {
        split: LazySplit(builder, split, range(about.num_examples), split, read)
        for split, about in info.splits.items()
    }
    licence = getattr(info.redistribution_info, "license", None) or ""
    return Source(name, classes, splits, (), licence, info.citation or "")


class LazySplit(Split):
    """Consecutive examples of a TFDS split, read as encoded bytes when first used."""

    def __init__(self, builder, split, span, name, read):
        self.__dict__.update(name=name, builder=builder, split=split, span=span, read=read)

    def __len__(self):
        return len(self.span)

    def take(self, indices, name=None):
        """Returns the split of the examples at `indices`; a `range` stays lazy."""
        if isinstance(indices, range) and indices.step == 1 and "_read" not in self.__dict__:
            span = self.span[indices.start : indices.stop]
            return LazySplit(self.builder, self.split, span, name or self.name, self.read)
        return super().take(indices, name)

    items = property(lambda self: self._read[0])
    labels = property(lambda self: self._read[1])

    @cached_property
    def _read(self):
        self._check_memory()
        return self.read(self)

    def examples(self, features, encoded):
        """Returns the examples as a `tf.data.Dataset` of dicts, in the order on disk.

        Args:
            features: The features to read, as in `tfds.decode.PartialDecoding`.
            encoded: The names of features that stay encoded bytes.
        """
        decoders = {name: tfds.decode.SkipDecoding() for name in encoded}
        return self.builder.as_dataset(
            split=f"{self.split}[{self.span.start}:{self.span.stop}]",
            decoders=tfds.decode.PartialDecoding(features, decoders=decoders),
            read_config=tfds.ReadConfig(interleave_cycle_length=1),  # keeps the order on disk
        )

    def _check_memory(self):
        info = self.builder.info.splits[self.split]
        size = info.num_bytes * len(self.span) / max(1, info.num_examples)
        limit = _total_memory() / MEMORY_DIVISOR
        if size > limit:
            fit = f"{self.split}[:{max(1, int(100 * limit / info.num_bytes))}%]"
            raise UsageError(
                f"{self.name} takes {size / 1e9:.1f} GB encoded, more than a quarter of this "
                f"machine's memory; use a slice such as {fit}"
            )


def _read_labelled(split):
    """Returns the encoded images of a split and their labels, int64 `(examples,)`."""
    items, labels = [], [np.zeros(0, "int64")]
    examples = split.examples({"image": True, "label": True}, ("image",))
    for batch in examples.batch(READ_BATCH).as_numpy_iterator():
        items.extend(batch["image"].tolist())
        labels.append(batch["label"].astype("int64"))
    labels = np.concatenate(labels)
    if missing := int((labels < 0).sum()):
        raise UsageError(f"{missing} examples of {split.name} in TFDS have no label")
    return items, labels


def find_builder(name, data_dir):
    """Returns the builder of a TFDS data set, which may not be downloaded yet.

    Raises:
        UsageError: There is no data set of that name.
    """
    short = name.removeprefix(PREFIX)
    try:
        return tfds.builder(short, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        close = difflib.get_close_matches(short.partition("/")[0], tfds.list_builders())
        known = "see https://www.tensorflow.org/datasets/catalog"
        hint = f"did you mean {PREFIX}{f' or {PREFIX}'.join(close)}?" if close else known
        raise UsageError(f"TFDS has no data set named {short!r}; {hint}") from error
    except Exception as error:  # builders of TFDS raise all kinds of errors
        raise UsageError(f"TFDS cannot build {short!r}: {_one_line(error)}") from error


def _prepare(builder, name):
    """Downloads and prepares a TFDS data set."""
    downloader = importlib.import_module("tensorflow_datasets.core.download.downloader")
    tries = downloader.MAX_RETRIES
    if not _has_network():
        downloader.MAX_RETRIES = 1  # the default of ten takes minutes to fail
    try:
        builder.download_and_prepare()
    except Exception as error:  # builders of TFDS raise all kinds of errors
        command = f"tfds build {name.removeprefix(PREFIX)} --data_dir DIR"
        hint = f"run `{command}` on a machine with network access, and pass --data-dir DIR here"
        if manual := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            hint = f"it has to be downloaded by hand: {_one_line(manual, 300)}"
        message = f"{name} is not in {builder.data_dir_root} and could not be downloaded"
        raise UsageError(f"{message} ({_one_line(error)}); {hint}") from error
    finally:
        downloader.MAX_RETRIES = tries


def _has_network():
    if request.getproxies():
        return True
    with contextlib.suppress(OSError):
        return bool(socket.getaddrinfo("storage.googleapis.com", 443))
    return False


def _total_memory():
    """Returns the total memory in bytes, infinity if the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _one_line(text, width=120):
    return textwrap.shorten(str(text), width)
