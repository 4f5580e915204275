"""What the name of a data set means: its classes, its splits, and where each image is."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import socket
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

from tasks.data import folders, shapes
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tfds = LazyModule("tensorflow_datasets")
request = LazyModule("urllib.request")

TFDS_PREFIX = "tfds:"
MEMORY_SHARE = 4  # the encoded images of one split may take a quarter of the memory
READ_BATCH = 1000  # examples that TFDS hands over at a time; less is slower


@dataclass(frozen=True, eq=False)
class Split:
    """Some examples of a data set.

    Attributes:
        name: such as `train`, or an expression such as `train[:80%]`.
        items: what `readers.image` reads: paths, encoded bytes, or uint8 arrays.
        labels: int64 `(examples,)`, positions in the classes of the source.
    """

    name: str
    items: Sequence = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __len__(self):
        return len(self.labels)

    def take(self, indices, name=None):
        """Returns the split of the examples at `indices`; no image is read."""
        places = [(self.items, int(index)) for index in indices]
        labels = self.labels[np.asarray(indices, "int64")]
        return Split(name or self.name, View(places), labels)


class View(Sequence):
    """Items of other sequences, each looked up when asked for.

    Args:
        places: `(sequence, index)` of each item.
    """

    def __init__(self, places):
        self._places = places

    def __len__(self):
        return len(self._places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return View(self._places[index])
        items, at = self._places[index]
        return items[at]


@dataclass(frozen=True, eq=False)
class Source:
    """A data set.

    Attributes:
        name: as it was asked for.
        classes: their names; a label is a position in them.
        splits: by name, in order; a source without splits has one, `all`.
        skipped: `(path, reason)` of each file that was passed over.
        licence, citation: as the maker states them, or empty.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    skipped: tuple[tuple[str, str], ...] = ()
    licence: str = ""
    citation: str = ""


def load(name, data_dir=None):
    """Finds a data set by name.

    Classes stand in the order of their names, as numbers where all are integers; those of a
    built-in and of TFDS in the order that their makers chose.

    Args:
        name: a key of `BUILT_IN`; a folder of class folders, or one with `train`, `val` (`valid`,
            `validation`) and `test` folders of such; a CSV file with the columns `path`, `label`
            and perhaps `split`; or `tfds:NAME`, `tfds:NAME/CONFIG`, a data set of TFDS with image
            and label. `./NAME` is a folder even where `NAME` is built in.
        data_dir: where TFDS keeps its data sets; the default is its own.

    Returns:
        A `Source`. The splits of TFDS are read when first used, and slices read no more than
        they hold.

    Raises:
        UsageError: there is nothing of that name, or it is not laid out as it should be.
    """
    name = str(name)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name.startswith(TFDS_PREFIX):
        return _tfds(name, data_dir)
    path = Path(name).expanduser()
    try:
        if name and path.is_dir():
            return _listed(name, folders.folder(path))
        if path.suffix.lower() == ".csv" and path.is_file():
            return _listed(name, folders.table(path))
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise UsageError(f"the data set {name!r} cannot be read ({reason})") from error
    raise _nothing(name, path)


def _listed(name, listing):
    position = {label: index for index, label in enumerate(listing.classes)}
    splits = {
        split: Split(split, items, np.array([position[label] for label in labels], "int64"))
        for split, (items, labels) in listing.splits.items()
    }
    return Source(name, listing.classes, splits, listing.skipped)


def _nothing(name, path):
    """Returns the error for a name that stands for nothing."""
    if path.is_file():
        return UsageError(
            f"the data set {name!r} is a file, but no CSV file; needed: a folder of class folders, "
            "or a .csv with the columns path,label (unpack an archive first)"
        )
    text = f"no data set named {name!r}"
    if close := difflib.get_close_matches(name, BUILT_IN):
        return UsageError(f"{text}; did you mean {' or '.join(close)}?")
    text += f": not a built-in ({', '.join(BUILT_IN)}), no such folder or file"
    if name and path.name == name and not path.suffix:
        text += f"; for TensorFlow Datasets write {TFDS_PREFIX}{name}"
    return UsageError(text)


def _fashion_sample():
    with (resources.files("zoo") / "assets" / "fashion_sample.npz").open("rb") as file:
        arrays = dict(np.load(file))
    splits = {
        split: Split(split, arrays[f"{split}_images"], arrays[f"{split}_labels"].astype("int64"))
        for split in ("train", "test")
    }
    return Source(
        "fashion_sample",
        tuple(map(str, arrays["classes"])),
        splits,
        licence="MIT, Copyright (c) 2017 Zalando SE",
        citation="Xiao, Rasul and Vollgraf: Fashion-MNIST, https://arxiv.org/abs/1708.07747",
    )


def _shapes():
    splits = {name: Split(name, shapes.Scenes(name), shapes.labels(name)) for name in shapes.SPLITS}
    return Source("shapes", tuple(shapes.SHAPES), splits)


BUILT_IN = {"fashion_sample": _fashion_sample, "shapes": _shapes}


class _TfdsSplit(Split):
    """Consecutive examples of a split of TFDS, read as encoded bytes when first used."""

    def __init__(self, builder, split, span, name):
        self.__dict__.update(name=name, builder=builder, split=split, span=span)

    def __len__(self):
        return len(self.span)

    def take(self, indices, name=None):
        """Returns the split of some examples; those of a `range` can be read without the rest."""
        if isinstance(indices, range) and indices.step == 1 and "_read" not in self.__dict__:
            span = self.span[indices.start : indices.stop]
            return _TfdsSplit(self.builder, self.split, span, name or self.name)
        return super().take(indices, name)

    items = property(lambda self: self._read[0])
    labels = property(lambda self: self._read[1])

    @cached_property
    def _read(self):
        self._check_memory()
        decoders = tfds.decode.PartialDecoding(
            {"image": True, "label": True}, decoders={"image": tfds.decode.SkipDecoding()}
        )
        batches = self.builder.as_dataset(
            split=f"{self.split}[{self.span.start}:{self.span.stop}]",
            decoders=decoders,
            read_config=tfds.ReadConfig(interleave_cycle_length=1),  # keeps the order on disk
        ).batch(READ_BATCH)
        items, labels = [], [np.zeros(0, "int64")]
        for batch in batches.as_numpy_iterator():
            items.extend(batch["image"].tolist())
            labels.append(batch["label"].astype("int64"))
        labels = np.concatenate(labels)
        if missing := int((labels < 0).sum()):
            raise UsageError(f"{missing} examples of {self.name} in TFDS have no label")
        return items, labels

    def _check_memory(self):
        info = self.builder.info.splits[self.split]
        size = info.num_bytes * len(self.span) / max(1, info.num_examples)
        limit = _memory() / MEMORY_SHARE
        if size > limit:
            fit = f"{self.split}[:{max(1, int(100 * limit / info.num_bytes))}%]"
            raise UsageError(
                f"{self.name} takes {size / 1e9:.1f} GB encoded, more than a quarter of this "
                f"machine's memory; take less, such as {fit}"
            )


def _tfds(name, data_dir):
    builder = _builder(name, data_dir)
    info, features = builder.info, dict(builder.info.features)
    for key, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
        if not isinstance(features.get(key), kind):
            found = folders.listed(features) or "none"
            raise UsageError(f"{name} has no {kind.__name__} {key!r}; its features: {found}")
    if not builder.is_prepared():
        _prepare(builder, name)
    splits = {
        split: _TfdsSplit(builder, split, range(about.num_examples), split)
        for split, about in builder.info.splits.items()
    }
    licence = getattr(info.redistribution_info, "license", None) or ""
    return Source(name, tuple(features["label"].names), splits, (), licence, info.citation or "")


def _builder(name, data_dir):
    short = name.removeprefix(TFDS_PREFIX)
    try:
        return tfds.builder(short, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        close = difflib.get_close_matches(short.partition("/")[0], tfds.list_builders())
        known = "see https://www.tensorflow.org/datasets/catalog"
        hint = f"did you mean {TFDS_PREFIX}{f' or {TFDS_PREFIX}'.join(close)}?" if close else known
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
        command = f"tfds build {name.removeprefix(TFDS_PREFIX)} --data_dir DIR"
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


def _memory():
    """Bytes of memory of this machine, or no limit where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _one_line(text, width=120):
    return textwrap.shorten(str(text), width)
