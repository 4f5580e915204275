"""Data sets in memory: arrays, `tf.data`, Keras and PyTorch pipelines, generators."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sized

from tasks.data.class_folders import join_names, sort_class_names
from tasks.data.dataset import Source, Split
from tasks.data.memory_limits import available_bytes
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

array_conversion = LazyModule("tasks.data.array_conversion")
value_range = LazyModule("tasks.data.value_range")

PREFIX = "memory:"
MEMORY_FRACTION = 0.5  # of the available memory that the images of a pipeline may take
MISSING = ("None", "nan", "NaT", "<NA>")  # values, as in a column of pandas
_sources: dict[str, Source] = {}


def register(splits: Mapping[str, object], class_names=None) -> str:
    """Makes labeled images a data set of this process.

    Args:
        splits: For each of `train`, `validation` and `test`, or some of them, a pair
            `(images, labels)` of arrays, or an iterable of such pairs of batches: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader`, a generator. It
            is read once, in full. Images are `(count, height, width, channels)` or
            `(count, height, width)`, with values in [0, 255], or floating-point values in [0, 1];
            PyTorch tensors may have their channels first. Labels are class indices or names
            `(count,)`, or one-hot or multi-label `(count, classes)`.
        class_names: The names of the classes, in the order of the indices.

    Returns:
        The name of the data set, `memory:` and a digest of its content, for `sources.load`.

    Raises:
        UsageError: Images and labels do not match, or have other shapes or values.
    """
    parts = {name: _read(name, data) for name, data in splits.items() if data is not None}
    pixels = _to_pixels({name: part[0] for name, part in parts.items()})
    labels = {name: part[1] for name, part in parts.items()}
    classes, encoded, multi_label = _encode(labels, _check_class_names(class_names))
    if len(classes) < 2:
        raise UsageError(f"one class, {classes[0]!r:.100}; classification needs two or more")
    hasher = hashlib.sha256(repr(classes).encode())
    for name, images in pixels.items():
        for array in (images, encoded[name]):
            hasher.update(repr((name, array.shape, str(array.dtype))).encode())
            hasher.update(np.ascontiguousarray(array))
    made = {name: Split(name, pixels[name], encoded[name]) for name in parts}
    name = f"{PREFIX}{hasher.hexdigest()[:12]}"
    _sources[name] = Source(name, classes, made, multi_label=multi_label)
    return name


def load(name: str) -> Source:
    """Returns a data set that `register` named; raises `UsageError` if this process has none."""
    if name not in _sources:
        raise UsageError(
            f"{name} is a data set of arrays that another process had in memory; pass the arrays "
            "again: tasks.finetune(model, (images, labels), ...), run.evaluate((images, labels))"
        )
    return _sources[name]


def _read(name, data):
    """Returns images `(count, height, width, channels)` and labels as arrays."""
    if _is_pair(data) and hasattr(data[0], "__len__") and not _is_list_of_batches(data):
        images, labels = (
            array_conversion.images_to_array(data[0]),
            array_conversion.to_array(data[1]),
        )
        if not images.ndim or not labels.ndim:
            raise UsageError(f"{name}: expected arrays of images and labels, got {data!r:.80}")
    elif isinstance(data, Iterable | Sized) and not isinstance(data, str | bytes | Mapping):
        images, labels = _read_batches(name, data)
    else:
        raise UsageError(
            f"{name}: expected (images, labels) or batches of such pairs, got {type(data).__name__}"
        )
    if len(images) != len(labels) or not len(images):
        raise UsageError(f"{name}: {len(images)} images and {len(labels)} labels")
    return _check_images(name, images), labels


def _is_pair(data):
    return isinstance(data, tuple | list) and len(data) == 2


def _is_list_of_batches(data):
    """Returns whether a list of two items is of batches, whose images are arrays of images."""
    return isinstance(data, list) and all(_is_pair(each) and np.ndim(each[0]) > 2 for each in data)


def _read_batches(name, batches):
    """Returns the arrays of all batches of a pipeline, one after the other."""
    size = getattr(batches, "cardinality", lambda: 0)()
    infinite = getattr(batches, "num_batches", 0) is None  # of a PyDataset
    if infinite or int(size) == -1:
        raise UsageError(f"{name} is infinite; pass a finite number of batches: .take(100)")
    limit, taken, found = MEMORY_FRACTION * available_bytes(), 0, []
    indexed = hasattr(batches, "__getitem__") and hasattr(batches, "__len__")
    steps = range(len(batches)) if indexed else None
    for batch in (batches[at] for at in steps) if steps is not None else batches:
        if not _is_pair(batch):
            raise UsageError(
                f"{name} yields {type(batch).__name__}; expected pairs (images, labels)"
            )
        images, labels = _to_batch(*batch)
        taken += images.nbytes
        if taken > limit:
            raise UsageError(
                f"{name} has more than {taken / 1e9:,.1f} GB of images, half of the available "
                "memory; write them to a folder of class folders, which is read as needed"
            )
        found.append((images, labels))
    if not found:
        raise UsageError(f"{name} yields nothing")
    images, labels = zip(*found, strict=True)
    return _join(name, "images", images), _join(name, "labels", labels)


def _join(name, what, arrays):
    """Returns the arrays of batches as one."""
    first = arrays[0]
    for array in arrays:
        if array.shape[1:] != first.shape[1:] or _is_text(array) != _is_text(first):
            raise UsageError(
                f"{name} yields {what} of shapes {first.shape} {first.dtype} and {array.shape} "
                f"{array.dtype}; expected the same in each batch"
            )
    return np.concatenate(arrays)


def _is_text(labels):
    return labels.dtype.kind in "USO"


def _to_batch(images, labels):
    """Returns what a pipeline yields as arrays of a batch; it may yield single images."""
    labels = array_conversion.to_array(labels)
    images = images if hasattr(images, "shape") else np.asarray(images)
    shape = tuple(images.shape)
    if len(shape) == 3 and (
        labels.ndim == 0
        # A batch of grayscale images has as many labels, and more than a few columns.
        or (
            labels.ndim == 1 and (shape[-1] in array_conversion.CHANNELS or shape[0] != len(labels))
        )
    ):
        images, labels = images[None], labels[None]
    return array_conversion.images_to_array(images), labels


def _check_images(name, images):
    """Returns images as `(count, height, width, channels)`, with values in [0, 255]."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype.kind not in "biuf" or not math.prod(images.shape):
        raise UsageError(
            f"{name}: images have shape {images.shape} and dtype {images.dtype}; expected numbers "
            "(count, height, width, channels)"
        )
    if (
        images.shape[1] in array_conversion.CHANNELS
        and images.shape[3] not in array_conversion.CHANNELS
    ):
        raise UsageError(
            f"{name}: images of shape {images.shape} have their channels first; expected (count, "
            "height, width, channels): images.transpose(0, 2, 3, 1)"
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):
        way = "; of 16-bit images, divide by the largest value" if images.dtype.itemsize > 1 else ""
        way = way if images.dtype.kind == "u" else ": models normalize images themselves"
        raise UsageError(
            f"{name}: pixels lie in [{low:g}, {high:g}]; expected [0, 255], or floating-point "
            f"values in [0, 1]{way}"
        )
    return images


def _to_pixels(splits):
    """Returns the images of all splits as uint8.

    The scale of floating-point images, [0, 1] or [0, 255], is that of the data set: a split of
    images that are all black does not show it.
    """
    highest = {name: x.max() for name, x in splits.items() if x.dtype.kind == "f"}
    brightest = max(highest, key=highest.get, default=None)
    in_unit_range = brightest is None or highest[brightest] <= 1
    if (
        not in_unit_range
        and highest[brightest] < value_range.MIN_BYTE_MAX
        and (splits[brightest] % 1).any()
    ):
        raise UsageError(
            f"the values of {brightest} lie in [0, {highest[brightest]:g}]; expected [0, 1], or "
            "[0, 255]: rescale or clip them"
        )
    for name in () if in_unit_range else highest:
        if highest[name] <= 1 and (splits[name] % 1).any():
            raise UsageError(
                f"the values of {name} lie in [0, {highest[name]:g}], those of {brightest} in "
                f"[0, {highest[brightest]:g}]; give both the same scale, [0, 1] or [0, 255]"
            )

    scales = {"b": 255, "f": 255 if in_unit_range else 1}

    def convert(images):
        if images.dtype == np.uint8:
            return images
        scaled = images.astype("float32") * scales.get(images.dtype.kind, 1)
        return np.rint(scaled).astype(np.uint8)

    return {name: convert(images) for name, images in splits.items()}


def _check_class_names(names):
    """Returns class names as a tuple, or `None`; raises `UsageError` if they are something else."""
    if names is None:
        return None
    names = names if isinstance(names, str) else list(names)
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"class_names must be a list of strings, not {names!r:.100}")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UsageError(f"class_names has {join_names(twice)} more than once")
    return tuple(map(str, names))


def _encode(labels, class_names):
    """Returns class names, labels as `dataset.Split` has them, and whether they are multi-label."""
    first = next(iter(labels.values()))
    for x in labels.values():
        if x.shape[1:] != first.shape[1:] or _is_text(x) != _is_text(first):
            shapes = ", ".join(f"{name} {x.shape} {x.dtype}" for name, x in labels.items())
            raise UsageError(f"labels of the splits have different shapes or types: {shapes}")
    if first.ndim == 2 and first.shape[1] == 1:
        return _encode({name: x[:, 0] for name, x in labels.items()}, class_names)
    if first.ndim not in (1, 2):
        raise UsageError(f"labels have shape {first.shape}; expected (count,) or (count, classes)")
    if first.ndim == 2:
        return _encode_rows(labels, class_names)
    if _is_text(first):
        labels = {name: [_to_text(label) for label in x] for name, x in labels.items()}
        given = {label for x in labels.values() for label in x}
        classes = tuple(class_names or sort_class_names(given))
        if unknown := sorted(given - {*classes}):
            raise UsageError(f"labels that are not among class_names: {join_names(unknown)}")
        at = {label: index for index, label in enumerate(classes)}
        rows = {name: [at[label] for label in x] for name, x in labels.items()}
        return classes, {name: np.array(row, "int64") for name, row in rows.items()}, False
    return _encode_indices(labels, class_names)


def _to_text(label):
    missing = not label if isinstance(label, str | bytes) else str(label) in MISSING
    if missing:
        text = "empty" if isinstance(label, str | bytes) else label
        raise UsageError(f"a label is {text}; leave out images without a label")
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _encode_indices(labels, class_names):
    wrong = any(x.dtype.kind not in "biuf" for x in labels.values())
    if wrong or any((x != np.floor(x)).any() or x.min() < 0 for x in labels.values()):
        raise UsageError(
            "labels must be class indices from 0, names, or rows of 0 and 1; leave out images "
            "without a label"
        )
    count = 1 + max(int(x.max()) for x in labels.values())
    total = sum(len(x) for x in labels.values())
    if not class_names and count > total:
        raise UsageError(
            f"there is a label {count - 1}, but {total} images; class indices go from 0 to the "
            "number of classes less one: pass class_names, or labels that are text"
        )
    classes = tuple(class_names or map(str, range(count)))
    if count > len(classes):
        raise UsageError(f"there is a label {count - 1}, but class_names has {len(classes)} names")
    return classes, {name: x.astype("int64") for name, x in labels.items()}, False


def _encode_rows(labels, class_names):
    if any(((x != 0) & (x != 1)).any() for x in labels.values()):
        raise UsageError("labels (count, classes) must be 0 or 1")
    width = next(iter(labels.values())).shape[1]
    classes = tuple(class_names or map(str, range(width)))
    if width != len(classes):
        raise UsageError(f"labels have {width} columns, but class_names has {len(classes)} names")
    if all((x.sum(1) == 1).all() for x in labels.values()):
        return classes, {name: x.argmax(1).astype("int64") for name, x in labels.items()}, False
    return classes, {name: x.astype("uint8") for name, x in labels.items()}, True
