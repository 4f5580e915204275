"""Image classification data sets in class folders: images and labels."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tasks.data import image_io
from zoo.errors import UsageError

SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
# Besides all names that start with a dot.
HIDDEN_NAMES = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")
MASK_FOLDERS = {"images", "masks"}  # of a segmentation data set
THREADS = 16  # that open files: each mostly waits for the disk
MAX_NAMES, MAX_NAME_LENGTH = 5, 300  # in a message


class Listing(NamedTuple):
    """The images and labels of a folder or a CSV file.

    `splits` maps a name to `(paths, class names)`, lists of equal length. If `multi_label`, each
    image has a tuple of class names. `notes` and `columns` are as in `dataset.Source`.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, tuple[list[str], list]]
    skipped: tuple[tuple[str, str], ...]
    multi_label: bool = False
    notes: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, str]] = MappingProxyType({})


def list_folder(root):
    """Lists `root/CLASS/**/image`, or `root/SPLIT/CLASS/**/image` with `SPLIT_FOLDERS`.

    Folders inside a class folder belong to that class. Hidden files are ignored; files that are
    not images by their suffix or first bytes are listed as skipped. Class folders without files
    are left out with a note, and a class may be absent from a split. The images of a split are
    ordered by a hash of their names, so that a slice contains all classes.

    Args:
        root: The `Path` of the folder.

    Returns:
        A `Listing`.

    Raises:
        UsageError: The folder has another layout, a single class, or a class folder of files that
            are no images.
    """
    splits, skipped = _split_folders(root)
    folders = {
        split: {path.name: sorted(iter_files(path)) for path in _subfolders(top)}
        for split, top in splits.items()
    }
    names = sort_class_names({*chain(*folders.values())})
    classes = tuple(name for name in names if any(each.get(name) for each in folders.values()))
    if {*classes} == MASK_FOLDERS:
        raise UsageError(f"{root} has images and masks: zoo train segmentation --dataset {root}")
    _check_number_of_classes(root, classes or names)
    found = {}
    for split, top in splits.items():
        paths = {name: folders[split].get(name, []) for name in classes}
        reasons = dict(find_non_images(list(chain(*paths.values()))))
        skipped += [(str(path), reason) for path, reason in reasons.items()]
        rows = [(path, name) for name in classes for path in paths[name] if path not in reasons]
        present = [name for name in classes if paths[name]]
        _check_images(top, present, [name for _, name in rows], skipped)
        rows.sort(key=lambda row: name_hash(row[0].relative_to(top)))
        found[split] = ([str(path) for path, _ in rows], [name for _, name in rows])
    empty = join_names(name for name in names if name not in classes)
    notes = (f"class folders without files, left out: {empty}",) if empty else ()
    return Listing(classes, found, tuple(skipped), notes=notes)


def check_classes(location, classes, labels, skipped):
    """Raises `UsageError` for a single class, and for classes without images.

    Args:
        location: The folder or file, for messages.
        classes: The class names.
        labels: The class name of each image that was not skipped.
        skipped: `(path, reason)` of the others.
    """
    _check_number_of_classes(location, classes)
    _check_images(location, classes, labels, skipped)


def _check_number_of_classes(location, classes):
    if len(classes) == 1:
        deeper = Path(location, classes[0])
        nested = Path(location).is_dir() and deeper.is_dir() and _subfolders(deeper)
        hint = f"; did you mean {deeper}?" if nested else ""
        raise UsageError(
            f"{location} has one class, {classes[0]!r:.100}; classification needs two or more{hint}"
        )


def _check_images(location, classes, labels, skipped):
    present = set(labels)
    empty = [name for name in classes if name not in present]
    if not empty and labels:
        return
    what = (
        f"no images of {join_names(empty)} in {location}" if labels else f"no images in {location}"
    )
    first = f"; skipped {len(skipped)}, the first {': '.join(skipped[0])}" if skipped else ""
    raise UsageError(f"{what}; add some, or remove the class{first}")


def iter_files(top):
    """Yields the path of each file below a folder, without hidden files and folders."""
    for parent, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        yield from (Path(parent, name) for name in files if not _is_hidden(name))


@contextmanager
def reading_errors(name):
    """Converts an `OSError` while the data set `name` is read into a `UsageError`."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename!s:.{MAX_NAME_LENGTH}}: {error.strerror}"
        raise UsageError(f"the data set {name!r} cannot be read ({reason})") from error


def find_non_images(paths):
    """Yields `(path, reason)` for each of the paths that is not an image."""
    with ThreadPoolExecutor(THREADS) as pool:
        for path, reason in zip(paths, pool.map(image_io.rejection_reason, paths), strict=True):
            if reason:
                yield path, reason


def sort_class_names(names):
    """Returns sorted class names: numerically if all are decimal numbers, else as text."""
    numeric = all(re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)", name) for name in names)
    return tuple(sorted(names, key=lambda name: (Decimal(name) if numeric else 0, name)))


def join_names(names):
    """Returns names for use in a message, at most `MAX_NAMES` of them."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(f"{name!s:.{MAX_NAME_LENGTH}}" for name in names[:MAX_NAMES]) + more


def _split_folders(root):
    """Returns the folder of each split, and what is skipped; without split folders, one `all`."""
    inside = _subfolders(root)
    if not inside:
        _reject_flat_folder(root)
    stray_images = [path for path in _children(root) if path.is_file() and image_io.is_image(path)]
    skipped = [(str(path), "not in a class folder") for path in stray_images]
    tops = [path for path in inside if path.name.lower() in SPLIT_FOLDERS and _subfolders(path)]
    if not tops:
        return {"all": root}, skipped
    skipped += [
        (str(path), f"not a split ({', '.join(SPLIT_FOLDERS)}) with class folders")
        for path in inside
        if path not in tops
    ]
    tops.sort(key=lambda path: SPLIT_FOLDERS.index(path.name.lower()))
    return {path.name.lower(): path for path in tops}, skipped


def _reject_flat_folder(root):
    files = list(_children(root))
    images = [path.name for path in files if image_io.is_image(path)]
    if not files:
        raise UsageError(f"the folder {root} is empty; expected a folder of images for each class")
    if not images:
        raise UsageError(
            f"no images in {root}, which contains {join_names(path.name for path in files)}; "
            f"expected a folder of images for each class ({' '.join(image_io.EXTENSIONS)})"
        )
    raise UsageError(
        f"{root} has {len(images)} images but no class folders; move them to {root}/CLASS/, such "
        f"as {root}/cat/{images[0]}, or list them in a CSV file with the columns path,label"
    )


def _subfolders(top):
    return [path for path in _children(top) if path.is_dir()]


def _children(top):
    return sorted(path for path in Path(top).iterdir() if not _is_hidden(path.name))


def _is_hidden(name):
    return name.startswith(".") or name.lower() in HIDDEN_NAMES


def name_hash(path):
    """Returns a sort key for paths: a hash, so that slices are random samples."""
    return hashlib.blake2b(path.as_posix().encode(errors="surrogateescape")).digest()
