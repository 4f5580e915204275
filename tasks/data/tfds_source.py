"""Data sets of TensorFlow Datasets, kept encoded in memory and read when first used."""

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
MEMORY_DIVISOR = 4  # the encoded images of one split may take a quarter of the memory
READ_BATCH = 1000  # examples that TFDS hands over at a time; less is slower


def load(name, data_dir):
    """Finds a data set of TFDS, downloading it if need be.

    Args:
        name: `tfds:NAME` or `tfds:NAME/CONFIG`.
        data_dir: where TFDS keeps its data sets; `None` for its own default.

    Returns:
        A `Source`. Its splits are read when first used, and slices read no more than they hold.

    Raises:
        UsageError: there is no such data set, it has no images with a label, or it is not here
            and cannot be fetched.
    """
    builder = find_builder(name, data_dir)
    features = dict(builder.info.features)
    for key, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
        if not isinstance(features.get(key), kind):
            known = class_folders.join_names(features) or "none"
            raise UsageError(f"{name} has no {kind.__name__} {key!r}; its features: {known}")
    return make_source(builder, name, tuple(features["label"].names), _read_labelled)


def make_source(builder, name, classes, read):
    """Returns the `Source` of a data set of TFDS, downloading it if need be.

    Args:
        builder: what `found` returned.
        name: as it was asked for.
        classes: their names.
        read: takes a `LazySplit` and returns its items and its labels, an array.

    Raises:
        UsageError: it is not here and cannot be fetched.
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
    """Consecutive examples of a split of TFDS, read as encoded bytes when first used."""

    def __init__(self, builder, split, span, name, read):
        self.__dict__.update(name=name, builder=builder, split=split, span=span, read=read)

    def __len__(self):
        return len(self.span)

    def take(self, indices, name=None):
        """Returns the split of some examples; those of a `range` can be read without the rest."""
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
            features: what to read, as `tfds.decode.PartialDecoding` takes it.
            encoded: names of those that stay encoded bytes.
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
                f"machine's memory; take less, such as {fit}"
            )


def _read_labelled(split):
    """Reads images and the one label of each."""
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
    """Returns the builder of a data set of TFDS, prepared or not.

    Raises:
        UsageError: there is none of that name.
    """
    short = name.removeprefix(PREFIX)
    try:
        return tfds.builder(short, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        close = difflib.get_close_matches(short.partition("/")[0], tfds.list_builders())
        known = "see https://www.tensorflow.org/datasets/catalog"
        hint = f"did you mean {PREFIX}{f' or {PREFIX}'.join(close)}?" if close else known
        raise UsageError(f"TFDS has no data set named {short!r}; {hint}") from error
    except Exception as error:  # each data set of TFDS has its own ways to fail
        raise UsageError(f"TFDS cannot make {short!r}: {_one_line(error)}") from error


def _prepare(builder, name):
    """Downloads a data set of TFDS."""
    downloader = importlib.import_module("tensorflow_datasets.core.download.downloader")
    tries = downloader.MAX_RETRIES
    if not _has_network():
        downloader.MAX_RETRIES = 1  # ten, the default, take minutes to fail
    try:
        builder.download_and_prepare()
    except Exception as error:
        command = f"tfds build {name.removeprefix(PREFIX)} --data_dir DIR"
        hint = f"run `{command}` where there is a network, and give --data-dir DIR here"
        if manual := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            hint = f"it takes a download by hand: {_one_line(manual, 300)}"
        lost = f"{name} is not in {builder.data_dir_root} and could not be fetched"
        raise UsageError(f"{lost} ({_one_line(error)}); {hint}") from error
    finally:
        downloader.MAX_RETRIES = tries


def _has_network():
    if request.getproxies():
        return True
    with contextlib.suppress(OSError):
        return bool(socket.getaddrinfo("storage.googleapis.com", 443))
    return False


def _total_memory():
    """Bytes of memory of this machine, or no limit where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _one_line(text, width=120):
    return textwrap.shorten(str(text), width)
