"""Fingerprints of data sets: whether a run resumes with the data that it began with.

An interrupted run resumes only with the same data. Reading them all again would take as long as
decoding them, so the digest of a split covers

- the number and order of its examples and every label: classes, boxes, captions;
- the size in bytes of every image file and mask file;
- the whole content of `NUM_SAMPLED` examples, evenly spaced.

This detects renamed classes, and images that are added, removed, replaced, edited (a compressed
image then has another size), relabeled, or moved to another class or split. It does not detect
changed pixels that leave the size of a file as it was, such as in a `.bmp`, in an image that is not
sampled; likewise changed pixels in a TFDS data set, whose images are not files; and a changed
outline of a COCO object whose box and area are the same. Modification times and folders do not
count: data may be copied or moved.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from tasks.data import image_io, splits
from zoo.lazy import np

NUM_SAMPLED = 64  # examples per split whose content is read
NUM_THREADS = 16  # each mostly waits for the disk
MAX_NAMES_SHOWN = 5  # class names in a message


def dataset_fingerprint(source, parts):
    """Returns the fingerprint of a data set, to be stored as JSON.

    Args:
        source: A `dataset.Source`.
        parts: Maps each role to its `dataset.Split` or `None`.

    Returns:
        A dict of `classes`, the names, and `splits`, the text of `split_digest` by role.
    """
    return {
        "classes": [*map(str, source.classes)],
        "splits": {role: split_digest(part) for role, part in parts.items() if part},
    }


def with_images(found, *names):
    """Returns a fingerprint with the digests of single image files added.

    Args:
        found: What `dataset_fingerprint` returned, or an empty dict.
        *names: Paths of images; names that are not files are ignored.
    """
    digests = {
        f"the picture {name}": _content_digest(name) for name in names if os.path.isfile(name)
    }
    image_digests = {name: f"digest {digest.hex()}" for name, digest in digests.items() if digest}
    return {**found, "splits": {**found.get("splits", {}), **image_digests}}


def split_digest(split):
    """Returns the number of examples of a split and their digest, as text."""
    hasher = hashlib.sha256()
    for part in (
        _label_parts(split.labels),
        _file_sizes(split.items),
        _sampled_digests(split.items),
    ):
        for each in part:
            hasher.update(each if isinstance(each, bytes) else repr(each).encode())
            hasher.update(b"\0")
    return f"{len(split)} examples, digest {hasher.hexdigest()[:16]}"


def differences(before, now):
    """Returns descriptions of how data have changed, a list.

    Args:
        before, now: What `dataset_fingerprint` returned, or empty dicts.
    """
    found = []
    if before.get("classes", []) != now.get("classes", []):
        found.append(_class_differences(before.get("classes", []), now.get("classes", [])))
    old, new = before.get("splits", {}), now.get("splits", {})
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            found.append(
                f"{name} had {old.get(name, 'nothing')}, and has {new.get(name, 'nothing')}"
            )
    return found


def _class_differences(before, now):
    removed = [name for name in before if name not in now]
    new = [name for name in now if name not in before]
    if not removed and not new:
        return "the classes are in another order"
    changes = [("removed", removed), ("new", new)]
    return "classes " + " and ".join(
        f"{what}: {_name_list(names)}" for what, names in changes if names
    )


def _name_list(names):
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:MAX_NAMES_SHOWN])) + more


def _label_parts(labels):
    """Yields the labels, without anything that depends on where files are."""
    if labels.dtype != object:
        yield repr((str(labels.dtype), labels.shape))
        yield np.ascontiguousarray(labels).tobytes()
        return
    if len(labels) and hasattr(labels[0], "item"):  # masks that are read when asked for
        key = labels[0].class_map
        yield key.classes, sorted(key.values.items()), sorted(key.colours.items())
        masks = [label.item for label in labels]
        yield from _file_sizes(masks)
        yield from _sampled_digests(masks)
        return
    for label in labels:
        yield _label_key(label)


def _label_key(label):
    if hasattr(label, "sentences"):
        return tuple(label.sentences)
    if hasattr(label, "boxes"):
        arrays = (label.boxes, label.labels, label.ignored)
        return label.size, [array.tolist() for array in arrays]
    if hasattr(label, "image"):
        image = label.image
        objects = [(each.label, each.box, each.crowd, each.area) for each in image.objects]
        return image.height, image.width, objects
    return label  # of drawn scenes: which scene it is


def _file_sizes(items):
    """Returns the size of each item in bytes."""
    if not len(items) or not isinstance(items[0], str | os.PathLike | bytes):
        return []
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(_file_size, items))


def _file_size(item):
    if isinstance(item, bytes):
        return len(item)
    try:
        return os.stat(item).st_size
    except OSError:
        return None


def _sampled_digests(items):
    """Returns the digests of the content of some items."""
    indices = np.unique(np.linspace(0, len(items) - 1, NUM_SAMPLED).astype("int64"))
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(lambda index: _content_digest(items[int(index)]), indices))


def _content_digest(item):
    try:
        return splits.content_digest(item)
    except image_io.UnreadableImage:  # it was unreadable when the data were loaded, too
        return None
