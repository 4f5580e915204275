"""Images in shards, read where they are: WebDataset tar and TFRecord files.

Only an index is kept in memory: the position of each image in its file.
"""

from __future__ import annotations

import json
import re
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tasks.data import image_io
from tasks.data.class_folders import SPLIT_FOLDERS, Listing, check_classes, sort_class_names
from zoo.errors import UsageError
from zoo.lazy import tf

SHARDS = (".tar", ".tfrecord", ".tfrecords")
SHARD_NUMBER = re.compile(r"-\d+-of-\d+$")  # as in `pets-train.tfrecord-00000-of-00001`
MAX_BYTES = 2**30  # of an image, and of a record
MAX_LABEL_BYTES = 2**16
LABELS = (".cls", ".txt", ".json")  # of a WebDataset sample, in this order
IMAGE_KEYS = ("image/encoded", "image", "jpg", "png")  # of a `tf.train.Example`
LABEL_KEYS = ("image/class/text", "label_text", "image/class/label", "label", "class", "cls")
FRAME = 12, 4  # bytes before and after a record: its length and checksums


class FileParts(Sequence):
    """Images that are parts of files, as bytes; each is read when it is indexed.

    Args:
        parts: `(path, offset, size)` of each.
    """

    def __init__(self, parts):
        self._parts = parts

    def __len__(self):
        return len(self._parts)

    def __getitem__(self, index):
        path, offset, size = self._parts[index]
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)


class Records(FileParts):
    """Images in `tf.train.Example` records, as bytes."""

    def __getitem__(self, index):
        return _first(_features(super().__getitem__(index)), IMAGE_KEYS)


def shard_suffix(path):
    """Returns the suffix of a shard, one of `SHARDS`, or `""` for other files."""
    name = SHARD_NUMBER.sub("", path.name.lower())
    return next((suffix for suffix in SHARDS if name.endswith(suffix)), "")


def shards(path):
    """Returns the shards that a path names: a file, or those of a folder; else nothing.

    Beside those of a folder there may be files that are no images, such as a `README.md`. Folders
    named after splits may hold them.
    """
    if not path.is_dir():
        return [path] if shard_suffix(path) else []
    tops = [x for x in path.iterdir() if x.is_dir() and x.name.lower() in SPLIT_FOLDERS]
    files = [x for top in (path, *sorted(tops)) for x in sorted(top.iterdir()) if x not in tops]
    files = [x for x in files if not x.name.startswith(".")]
    if any(x.is_dir() or image_io.is_image(x) for x in files):
        return []
    return [x for x in files if shard_suffix(x)]


def read_shards(paths):
    """Returns the `Listing` of WebDataset or TFRecord shards.

    The split of a shard is in its name, as by `split_name`. An
    image of a tar file belongs to the label with the same name: `.cls`, `.txt`, or `label` in a
    `.json`. An Example has one of `IMAGE_KEYS` and one of `LABEL_KEYS`.

    Raises:
        UsageError: A shard is damaged, or an image has no label.
    """
    found = {}
    for path in paths:
        read = _tar_rows if shard_suffix(path) == ".tar" else _record_rows
        found.setdefault(split_name(path), []).extend(read(path))
    make = FileParts if shard_suffix(paths[0]) == ".tar" else Records
    if len({shard_suffix(path) == ".tar" for path in paths}) > 1:
        raise UsageError(f"{paths[0].parent} has tar files and TFRecords; keep one kind")
    return listing(paths[0], found, make)


def listing(location, found, make, skipped=(), notes=()):
    """Returns a `Listing`.

    Args:
        location: The `Path` of a file, for messages.
        found: `(item, class)` of the images by split.
        make: A function that makes a sequence of images from the items of a split.
        skipped, notes: As in `Listing`.

    Raises:
        UsageError: There are no images, a single class, or a class without images.
    """
    classes = sort_class_names({label for rows in found.values() for _, label in rows})
    labels = [label for rows in found.values() for _, label in rows]
    if not labels:
        raise UsageError(f"{location} has no labeled images")
    check_classes(location, classes, labels, skipped)
    splits = {
        split: (make([item for item, _ in rows]), [label for _, label in rows])
        for split, rows in found.items()
    }
    return Listing(classes, splits, tuple(skipped), notes=notes)


def split_name(path):
    """Returns the split of a shard: a word of its name, or its folder, or `all`.

    Such words are `train` in `train-00001.tar`, `imagenet-train-00001.tar` and `train/00001.tar`.
    """
    path = Path(path)
    words = [*re.findall("[a-z]+", path.name.lower()), path.parent.name.lower()]
    return next((word for word in words if word in SPLIT_FOLDERS), "all")


def _tar_rows(path):
    """Returns `((path, offset, size), label)` of each sample of a tar file."""
    samples = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isfile() or name.name.startswith("."):
                    continue
                stem, _, extension = name.name.partition(".")
                sample = samples.setdefault(str(name.parent / stem), {})
                extension = f".{extension.lower()}"
                if image_io.is_image(f"x{extension}") and member.size <= MAX_BYTES:
                    sample["image"] = (str(path), member.offset_data, member.size)
                elif extension in LABELS and member.size <= MAX_LABEL_BYTES:
                    sample[extension] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(
            f"{path} is not a tar file, compressed, or damaged: {error}; decompress it first"
        ) from error
    rows = []
    for key, sample in samples.items():
        if "image" in sample:
            rows.append((sample["image"], _tar_label(path, key, sample)))
    if rows and max(offset + size for (_, offset, size), _ in rows) > path.stat().st_size:
        raise UsageError(f"{path} is truncated")
    return rows


def _tar_label(path, key, sample):
    for extension in LABELS:
        if extension not in sample:
            continue
        try:
            label = sample[extension].decode().strip()
            if extension == ".json":
                found = json.loads(label)
                label = found["label"] if isinstance(found, dict) else found
        except (ValueError, KeyError, RecursionError) as error:
            raise UsageError(f"{path}: {key}{extension} contains no label") from error
        if not isinstance(label, str | int | float) or label == "":
            raise UsageError(f"{path}: {key}{extension} contains {label!r:.60}; expected one label")
        return str(label)
    raise UsageError(f"{path}: {key} has no label: {', '.join(LABELS)}")


def _record_rows(path):
    """Returns `((path, offset, size), label)` of each record of a TFRecord file."""
    rows, size = [], path.stat().st_size
    head, tail = FRAME
    with path.open("rb") as file:
        offset = 0
        while start := file.read(head):
            length = struct.unpack("<Q", start[:8])[0] if len(start) == head else MAX_BYTES + 1
            location = f"{path}, record {len(rows) + 1}"
            if length > MAX_BYTES or offset + head + length + tail > size:
                raise UsageError(f"{location}: truncated, compressed, or not a TFRecord")
            features = _features(file.read(length), location)
            file.seek(tail, 1)
            label = _first(features, LABEL_KEYS)
            if label is None or _first(features, IMAGE_KEYS) is None:
                raise UsageError(
                    f"{location} has {', '.join(sorted(features)) or 'no features'}; expected one "
                    f"of {', '.join(IMAGE_KEYS)} and one of {', '.join(LABEL_KEYS)}"
                )
            text = label.decode(errors="replace") if isinstance(label, bytes) else str(label)
            rows.append(((str(path), offset + head, length), text))
            offset += head + length + tail
    return rows


def _features(data, location="record"):
    try:
        return tf.train.Example.FromString(data).features.feature
    except Exception as error:  # `google.protobuf.message.DecodeError`
        raise UsageError(f"{location} is not a tf.train.Example") from error


def _first(features, keys):
    """Returns the first value of the first key that has one, or `None`."""
    for key in keys:
        if key in features:
            values = getattr(features[key], features[key].WhichOneof("kind") or "bytes_list").value
            if len(values):
                return values[0]
    return None
