"""Images and labels from a folder of class folders."""

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
from typing import NamedTuple

from tasks.data import image_io
from zoo.errors import UsageError

SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
HIDDEN_NAMES = (
    "thumbs.db",
    "desktop.ini",
    "__macosx",
    "@eadir",
)  # besides all that starts with a dot
THREADS = 16  # that look into files: most of the time each waits for the disk
MAX_NAMES = 5  # the most names in a message


class Listing(NamedTuple):
    """What was found: `splits` maps a name to `(paths, class names)`, of equal length.

    Where images have several labels, each has a tuple of class names.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, tuple[list[str], list]]
    skipped: tuple[tuple[str, str], ...]
    multi_label: bool = False


def list_folder(root):
    """Lists `root/CLASS/**/image`, or `root/SPLIT/CLASS/**/image` with `SPLIT_FOLDERS`.

    Folders inside a class folder belong to that class. Hidden files are passed over in silence;
    a file that is no image by its suffix or first bytes is skipped and named. Within a split
    images stand in an order that a hash of their names decides, so that a slice has all classes.

    Raises:
        UsageError: the folder is laid out otherwise, has one class, or a class without images.
    """
    splits, skipped = _split_folders(root)
    names = {split: [path.name for path in _subfolders(top)] for split, top in splits.items()}
    _check_same_classes(root, names)
    classes = sort_class_names(next(iter(names.values())))
    found = {}
    for split, top in splits.items():
        paths = {name: sorted(iter_files(top / name)) for name in classes}
        reasons = dict(find_non_images(list(chain(*paths.values()))))
        skipped += [(str(path), reason) for path, reason in reasons.items()]
        rows = [(path, name) for name in classes for path in paths[name] if path not in reasons]
        check_classes(top, classes, [name for _, name in rows], skipped)
        rows.sort(key=lambda row: name_hash(row[0].relative_to(top)))
        found[split] = ([str(path) for path, _ in rows], [name for _, name in rows])
    return Listing(classes, found, tuple(skipped))


def check_classes(place, classes, labels, skipped):
    """Raises `UsageError` for a single class, and for classes of which nothing is left."""
    if len(classes) == 1:
        deeper = Path(place, classes[0])
        hint = f"; did you mean {deeper}?" if deeper.is_dir() and _subfolders(deeper) else ""
        raise UsageError(
            f"{place} has one class, {classes[0]!r}; to tell classes apart takes two or more{hint}"
        )
    empty = [name for name in classes if name not in set(labels)]
    if not empty:
        return
    what = f"no images of {join_names(empty)} in {place}" if labels else f"no images in {place}"
    first = f"; skipped {len(skipped)}, the first {': '.join(skipped[0])}" if skipped else ""
    raise UsageError(f"{what}; add some, or remove the class{first}")


def iter_files(top):
    """Yields every file below a folder, but for what is hidden."""
    for parent, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        yield from (Path(parent, name) for name in files if not _is_hidden(name))


@contextmanager
def reading_errors(name):
    """Turns what the system says while the data set `name` is read into a `UsageError`."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise UsageError(f"the data set {name!r} cannot be read ({reason})") from error


def find_non_images(paths):
    """Yields `(path, reason)` for those of the paths that are no images."""
    with ThreadPoolExecutor(THREADS) as pool:
        for path, reason in zip(paths, pool.map(image_io.rejection_reason, paths), strict=True):
            if reason:
                yield path, reason


def sort_class_names(names):
    """Returns class names in order: as numbers if all are decimal numbers, else as text."""
    numeric = all(re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)", name) for name in names)
    return tuple(sorted(names, key=lambda name: (Decimal(name) if numeric else 0, name)))


def join_names(names):
    """Returns names as part of a sentence, the first `NAMED` of them."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(str, names[:MAX_NAMES])) + more


def _split_folders(root):
    """Returns the folder of each split, and what is skipped: else all folders are classes."""
    inside = _subfolders(root)
    if not inside:
        _reject_flat_folder(root)
    loose = [path for path in _children(root) if path.is_file() and image_io.is_image(path)]
    skipped = [(str(path), "not in a class folder") for path in loose]
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
        raise UsageError(f"the folder {root} is empty; needed: a folder of images for each class")
    if not images:
        raise UsageError(
            f"no images in {root}, which holds {join_names(path.name for path in files)}; "
            f"needed: a folder for each class, of images ({' '.join(image_io.EXTENSIONS)})"
        )
    raise UsageError(
        f"{root} holds {len(images)} images but no class folders; move them to {root}/CLASS/, such "
        f"as {root}/cat/{images[0]}, or list them in a CSV file with the columns path,label"
    )


def _check_same_classes(root, names):
    first, *others = names
    for other in others:
        for one, two in ((first, other), (other, first)):
            if extra := sort_class_names(set(names[one]) - set(names[two])):
                raise UsageError(
                    f"{root} has class folders in {one}/ that {two}/ lacks: {join_names(extra)}; "
                    "every split needs the same classes"
                )


def _subfolders(top):
    return [path for path in _children(top) if path.is_dir()]


def _children(top):
    return sorted(path for path in Path(top).iterdir() if not _is_hidden(path.name))


def _is_hidden(name):
    return name.startswith(".") or name.lower() in HIDDEN_NAMES


def name_hash(path):
    """Returns what to sort paths by so that any slice of them is a fair one."""
    return hashlib.blake2b(path.as_posix().encode(errors="surrogateescape")).digest()
