"""What tells the data of a run from other data, wherever they lie and whenever they were written.

A run that is interrupted goes on only with the data that it began with. To read them all once more
would take as long as to decode them, so the digest of a split is made of

- how many examples it has, in which order, and every label: the class, the boxes, the sentences;
- the size in bytes of every file of images and of masks;
- the whole content of `SAMPLED` examples, evenly spread.

So classes that are renamed are found, and images that are added, removed, replaced, edited (a
compressed image then has another size), labelled anew or moved to another class or split. Not found
are a change of pixels that leaves a file as long as it was, such as of a `.bmp`, in an image that
is not in the sample; changed pixels in a data set of TFDS, whose images are no files, likewise; and
the outline of an object of COCO whose box and area stay. Times and folders of files do not count:
data may be copied or moved.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from tasks.data import image_io, splits
from zoo.lazy import np

NUM_SAMPLED = 64  # examples of a split whose content is read
NUM_THREADS = 16  # files: most of the time is spent on waiting
MAX_NAMES_SHOWN = 5  # names of classes in a message


def dataset_fingerprint(source, parts):
    """Returns what must stay the same, as JSON has it: `classes` and a text for each of `splits`.

    Args:
        source: a `dataset.Source`.
        parts: `dataset.Split` by role, or `None` where there is none.
    """
    return {
        "classes": [*map(str, source.classes)],
        "splits": {role: split_digest(part) for role, part in parts.items() if part},
    }


def with_images(found, *names):
    """Adds the digests of single pictures that are files to what `of` returned, or to nothing."""
    digests = {
        f"the picture {name}": _content_digest(name) for name in names if os.path.isfile(name)
    }
    pictures = {name: f"digest {digest.hex()}" for name, digest in digests.items() if digest}
    return {**found, "splits": {**found.get("splits", {}), **pictures}}


def split_digest(split):
    """Returns how many examples a split has and their digest."""
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
    """Returns how data differ from what they were, a list of texts.

    Args:
        before, now: what `of` returned, or empty.
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
        return "the classes stand in another order"
    changes = [("not there any more", removed), ("new", new)]
    return "classes " + " and ".join(
        f"{what}: {_name_list(names)}" for what, names in changes if names
    )


def _name_list(names):
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:MAX_NAMES_SHOWN])) + more


def _label_parts(labels):
    """Yields what is known of each image, but for where it lies."""
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
    if hasattr(label, "picture"):
        picture = label.picture
        things = [(each.label, each.box, each.crowd, each.area) for each in picture.things]
        return picture.height, picture.width, things
    return label  # of what is drawn: which scene it is


def _file_sizes(items):
    """Returns the size of each file, or bytes in memory."""
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
    except image_io.UnreadableImage:  # as it was when the data were loaded
        return None
