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

from tasks.data import readers, splits
from zoo.lazy import np

SAMPLED = 64  # examples of a split whose content is read
THREADS = 16  # files: most of the time is spent on waiting
SHOWN = 5  # names of classes in a message


def of(source, parts):
    """Returns what must stay the same, as JSON has it: `classes` and a text for each of `splits`.

    Args:
        source: a `dataset.Source`.
        parts: `dataset.Split` by role, or `None` where there is none.
    """
    return {
        "classes": [*map(str, source.classes)],
        "splits": {role: described(part) for role, part in parts.items() if part},
    }


def with_pictures(found, *names):
    """Adds the digests of single pictures that are files to what `of` returned, or to nothing."""
    digests = {f"the picture {name}": _content(name) for name in names if os.path.isfile(name)}
    pictures = {name: f"digest {digest.hex()}" for name, digest in digests.items() if digest}
    return {**found, "splits": {**found.get("splits", {}), **pictures}}


def described(split):
    """Returns how many examples a split has and their digest."""
    whole = hashlib.sha256()
    for part in (_labels(split.labels), _sizes(split.items), _sample(split.items)):
        for each in part:
            whole.update(each if isinstance(each, bytes) else repr(each).encode())
            whole.update(b"\0")
    return f"{len(split)} examples, digest {whole.hexdigest()[:16]}"


def differences(before, now):
    """Returns how data differ from what they were, a list of texts.

    Args:
        before, now: what `of` returned, or empty.
    """
    found = []
    if before.get("classes", []) != now.get("classes", []):
        found.append(_classes(before.get("classes", []), now.get("classes", [])))
    old, new = before.get("splits", {}), now.get("splits", {})
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            found.append(
                f"{name} had {old.get(name, 'nothing')}, and has {new.get(name, 'nothing')}"
            )
    return found


def _classes(before, now):
    gone = [name for name in before if name not in now]
    new = [name for name in now if name not in before]
    if not gone and not new:
        return "the classes stand in another order"
    said = [("not there any more", gone), ("new", new)]
    return "classes " + " and ".join(f"{what}: {_listed(names)}" for what, names in said if names)


def _listed(names):
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _labels(labels):
    """Yields what is known of each image, but for where it lies."""
    if labels.dtype != object:
        yield repr((str(labels.dtype), labels.shape))
        yield np.ascontiguousarray(labels).tobytes()
        return
    if len(labels) and hasattr(labels[0], "item"):  # masks that are read when asked for
        key = labels[0].key
        yield key.classes, sorted(key.values.items()), sorted(key.colours.items())
        masks = [label.item for label in labels]
        yield from _sizes(masks)
        yield from _sample(masks)
        return
    for label in labels:
        yield _label(label)


def _label(label):
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


def _sizes(items):
    """Returns the size of each file, or bytes in memory."""
    if not len(items) or not isinstance(items[0], str | os.PathLike | bytes):
        return []
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(_size, items))


def _size(item):
    if isinstance(item, bytes):
        return len(item)
    try:
        return os.stat(item).st_size
    except OSError:
        return None


def _sample(items):
    """Returns the digests of the content of some items."""
    indices = np.unique(np.linspace(0, len(items) - 1, SAMPLED).astype("int64"))
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda index: _content(items[int(index)]), indices))


def _content(item):
    try:
        return splits.digest(item)
    except readers.UnreadableImage:  # as it was when the data were loaded
        return None
