"""Images in archives, read where they are: WebDataset tar, TFRecord and zip files.

Only an index is kept in memory: the position of each image in its file.
"""

from __future__ import annotations

import functools
import json
import re
import struct
import tarfile
import threading
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from tasks.data import image_io
from tasks.data.class_folders import SPLIT_FOLDERS, Listing, check_classes, sort_class_names
from zoo.errors import UsageError
from zoo.lazy import LazyModule, tf

zip_archives = LazyModule("zoo.zip_archives")

SHARDS = (".tar", ".tfrecord", ".tfrecords")
MAX_BYTES = 2**30  # of an image, and of a record
MAX_EXPANDED_BYTES = 2**26  # of an image that is stored in a small fraction of its bytes
MAX_LABEL_BYTES = 2**16
ENCRYPTED = 1  # the bit of the flags of a member of a zip archive
LABELS = (".cls", ".txt", ".json")  # of a WebDataset sample, in this order
IMAGE_KEYS = ("image/encoded", "image", "jpg", "png")  # of a `tf.train.Example`
LABEL_KEYS = ("image/class/text", "label_text", "image/class/label", "label", "class", "cls")
UTF8 = 0x800  # the bit that marks the name of a member as UTF-8
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


class ZipMembers(Sequence):
    """Images in a zip archive, as bytes.

    Args:
        path: The path of the archive.
        names: The names of its members.
    """

    def __init__(self, path, names):
        self._path, self._names = path, names

    def __len__(self):
        return len(self._names)

    def __getitem__(self, index):
        try:
            return zip_archives.read_member(_open_zip(self._path), self._names[index])
        except ValueError:
            return b""  # damaged: reported as an image that cannot be read


def shards(path):
    """Returns the shards that a path names: a file, or all files of a folder; else nothing."""
    if path.is_dir():
        files = sorted(x for x in path.iterdir() if x.is_file() and not x.name.startswith("."))
        return files if files and all(x.suffix.lower() in SHARDS for x in files) else []
    return [path] if path.suffix.lower() in SHARDS else []


def read_shards(paths):
    """Returns the `Listing` of WebDataset or TFRecord shards.

    The split of a shard is the beginning of its name, such as `train-00001.tar`, or else `all`. An
    image of a tar file belongs to the label with the same name: `.cls`, `.txt`, or `label` in a
    `.json`. An Example has one of `IMAGE_KEYS` and one of `LABEL_KEYS`.

    Raises:
        UsageError: A shard is damaged, or an image has no label.
    """
    found = {}
    for path in paths:
        read = _tar_rows if path.suffix.lower() == ".tar" else _record_rows
        found.setdefault(_split(path), []).extend(read(path))
    make = FileParts if paths[0].suffix.lower() == ".tar" else Records
    if len({path.suffix.lower() == ".tar" for path in paths}) > 1:
        raise UsageError(f"{paths[0].parent} has tar files and TFRecords; keep one kind")
    return _listing(paths[0], found, make)


def read_zip(path):
    """Returns the `Listing` of a zip archive of class folders, with or without split folders.

    Folders inside a class folder belong to that class.

    Raises:
        UsageError: The archive is damaged, or has another layout.
    """
    try:
        members = _open_zip(str(path)).infolist()
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    images, skipped = [], []
    for member in members:
        parts = PurePosixPath(_readable_name(member)).parts
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        if member.is_dir() or hidden or not parts:
            continue
        if not image_io.is_image(parts[-1]):
            skipped.append((f"{path}/{member.filename}", "not an image by its suffix"))
            continue
        if member.flag_bits & ENCRYPTED:
            raise UsageError(f"{path}: {member.filename} is encrypted; unpack it into a folder")
        limit = max(MAX_EXPANDED_BYTES, zip_archives.MAX_EXPANSION * member.compress_size)
        if member.file_size > min(limit, MAX_BYTES):
            raise UsageError(
                f"{path}: {member.filename} claims {member.file_size:,} bytes and stores "
                f"{member.compress_size:,}; remove it from the archive"
            )
        images.append((member.filename, parts))
    found, outside = _class_folders(images)
    skipped += [(f"{path}/{name}", "not in a class folder") for name in outside]
    return _listing(path, found, lambda names: ZipMembers(str(path), names), skipped)


def _readable_name(member):
    """Returns the name of a member of a zip archive, in UTF-8 if it is valid as that.

    `zip` on Linux writes UTF-8 without its flag, and Python takes it for code page 437.
    """
    if member.flag_bits & UTF8:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _class_folders(images):
    """Returns `(name, class)` of images by split, and the names of those in no class folder.

    Args:
        images: `(name, parts of the path)` of each image.
    """
    splits = {
        name: next((n for n, part in enumerate(parts[:-2]) if part.lower() in SPLIT_FOLDERS), None)
        for name, parts in images
    }
    has_splits = any(at is not None for at in splits.values())
    levels = zip(*(parts[:-1] for _, parts in images), strict=False)
    common = len([*takewhile(lambda names: len({*names}) == 1, levels)])
    if all(len(parts) == common + 1 for _, parts in images):  # of a single class
        common = max(0, common - 1)
    found, outside = {}, []
    for name, parts in images:
        at = splits[name]
        if at is None and (has_splits or len(parts) < common + 2):
            outside.append(name)
            continue
        split = parts[at].lower() if has_splits else "all"
        found.setdefault(split, []).append((name, parts[at + 1 if has_splits else common]))
    return found, outside


def _listing(location, found, make, skipped=()):
    classes = sort_class_names({label for rows in found.values() for _, label in rows})
    labels = [label for rows in found.values() for _, label in rows]
    if not labels:
        raise UsageError(f"{location} has no labelled images")
    check_classes(location, classes, labels, skipped)
    splits = {
        split: (make([item for item, _ in rows]), [label for _, label in rows])
        for split, rows in found.items()
    }
    return Listing(classes, splits, tuple(skipped))


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
        raise UsageError(f"{path} is not a tar file, or damaged: {error}") from error
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
            text = sample[extension].decode()
            if extension != ".json":
                return text.strip()
            found = json.loads(text)
            return str(found["label"] if isinstance(found, dict) else found)
        except (ValueError, KeyError, RecursionError) as error:
            raise UsageError(f"{path}: {key}{extension} holds no label") from error
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
                raise UsageError(f"{location}: truncated, or not a TFRecord")
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
        raise UsageError(f"{location} is no tf.train.Example") from error


def _first(features, keys):
    """Returns the first value of the first key that has one, or `None`."""
    for key in keys:
        if key in features:
            values = getattr(features[key], features[key].WhichOneof("kind") or "bytes_list").value
            if len(values):
                return values[0]
    return None


def _split(path):
    match = re.match("[a-z]+", Path(path).name.lower())
    return match[0] if match and match[0] in SPLIT_FOLDERS else "all"


_lock = threading.Lock()


def _open_zip(path):
    with _lock:
        return _cached_zip(path, Path(path).stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _cached_zip(path, changed):
    return zip_archives.open_zip(path, None)
