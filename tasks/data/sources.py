"""Loading of image classification data sets by name: built-in, folder, CSV file or TFDS."""

from __future__ import annotations

import difflib
import functools
from importlib import resources

from tasks.data import class_folders, in_memory, shapes, tfds_source
from tasks.data.dataset import Source, Split
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np
from zoo.paths import special_file_type

table_formats = LazyModule("tasks.data.table_formats")
annotation_exports = LazyModule("tasks.data.annotation_exports")
archives = LazyModule("tasks.data.archives")
csv_table = LazyModule("tasks.data.csv_table")
dataset_options = LazyModule("tasks.data.dataset_options")
imagenet_layout = LazyModule("tasks.data.imagenet_layout")
pages = LazyModule("tasks.data.pages")
parquet_images = LazyModule("tasks.data.parquet_images")
small_classes = LazyModule("tasks.data.small_classes")
zip_folders = LazyModule("tasks.data.zip_folders")

COMPRESSED_TAR = (".tar.gz", ".tgz")


def load(name, data_dir=None):
    """Loads a data set by name.

    Classes are sorted by name, numerically if all are numbers; those of built-in and TFDS data
    sets keep their published order.

    Args:
        name: A key of `BUILT_IN`; a folder of class folders, one with `train`, `val` (`valid`,
            `validation`) and `test` folders of class folders, or one as in `imagenet_layout`; a
            table, as in `csv_table.read_csv`, whose columns may be named as in
            `table.csv#path=file,label=species`; an export of an annotation tool, as in
            `annotation_exports`; a zip archive of class folders, tar or TFRecord shards, as in
            `archives`; a Parquet file with images or a folder of them, as in `parquet_images`; each
            of these with options, as in `scans#pages=all,min-per-class=3`, see `pages` and
            `small_classes`; or `tfds:NAME`, `tfds:NAME/CONFIG`, a data set of
            TensorFlow Datasets with the features `image` and `label`; or a name that
            `in_memory.register` returned. `./NAME` is a folder even if `NAME` is built in.
        data_dir: The folder of TFDS data sets; by default that of TFDS.

    Returns:
        A `Source`. TFDS splits are read when first used, and slices of them read only the
        examples of the slice.

    Raises:
        UsageError: There is no such data set, or its layout is not supported.
    """
    name = str(name)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name.startswith(tfds_source.PREFIX):
        return tfds_source.load(name, data_dir)
    if name.startswith(in_memory.PREFIX):
        return in_memory.load(name)
    path, columns, options = dataset_options.split_name(name)
    is_table = path.suffix.lower() in table_formats.SUFFIXES or _holds_tables(path)
    if name.rpartition("#")[0] in BUILT_IN or (columns and not is_table):
        dataset_options.check_absent(name, [columns, *options])
    encoding = options.get(dataset_options.ENCODING, "")
    if encoding and path.suffix.lower() != ".zip":
        dataset_options.check_absent(name, [encoding])
    with class_folders.reading_errors(name):
        is_folder = name and path.is_dir()
        read = _read_folder if is_folder else functools.partial(_read_file, encoding=encoding)
        listing = read(path, columns)
    if listing is None:
        raise _not_found_error(name, path)
    source = _to_source(name, listing)
    if text := options.get(dataset_options.MIN_PER_CLASS):
        source = small_classes.without_small_classes(source, text)
    text = options.get(dataset_options.PAGES)
    return pages.expand(source, text) if text else source


def _holds_tables(path):
    """Returns whether a folder is read from tables, whose columns can be named."""
    names = annotation_exports.METADATA
    return path.is_dir() and bool(
        annotation_exports.find_tables(path, names) or parquet_images.find_tables(path)
    )


def _read_folder(path, columns):
    """Returns the `class_folders.Listing` of a folder."""
    if shards := archives.shards(path):
        return archives.read_shards(shards)
    if tables := parquet_images.find_tables(path):
        return parquet_images.read(tables, columns)
    if found := imagenet_layout.find_list(path):
        return imagenet_layout.read(path, *found)
    exports, listing = annotation_exports, None
    if tables := exports.find_tables(path, exports.METADATA):
        listing = csv_table.read_metadata(tables, columns)
    elif tables := exports.find_tables(path, [exports.ROBOFLOW]):
        listing = exports.read_roboflow(tables)
    elif not any(child.is_dir() for child in path.iterdir()):
        listing = exports.read_labelme(path)
    return listing or class_folders.list_folder(path)


def _read_file(path, columns, encoding):
    """Returns the `class_folders.Listing` of a file, or `None` if it is no data set."""
    suffix = path.suffix.lower()
    if not path.is_file():
        return None
    if suffix == parquet_images.SUFFIX and parquet_images.holds_images(path):
        return parquet_images.read([path], columns)
    if suffix in table_formats.SUFFIXES:
        return csv_table.read_csv(path, columns)
    if shards := archives.shards(path):
        return archives.read_shards(shards)
    if suffix == ".zip":
        return zip_folders.read_zip(path, encoding)
    read = {
        ".json": annotation_exports.read_label_studio,
        ".xml": annotation_exports.read_cvat,
    }.get(suffix)
    return read and read(path)


def _to_source(name, listing):
    splits = {
        split: Split(split, items, _encode_labels(labels, listing))
        for split, (items, labels) in listing.splits.items()
    }
    return Source(
        name,
        listing.classes,
        splits,
        listing.skipped,
        multi_label=listing.multi_label,
        notes=listing.notes,
        columns=listing.columns,
    )


def _encode_labels(labels, listing):
    """Returns labels as class indices, or multi-label as rows of 0 and 1."""
    position = {label: index for index, label in enumerate(listing.classes)}
    if not listing.multi_label:
        return np.array([position[label] for label in labels], "int64")
    rows = np.zeros((len(labels), len(position)), "uint8")
    for row, names in zip(rows, labels, strict=True):
        row[[position[name] for name in names]] = 1
    return rows


def _not_found_error(name, path):
    """Returns the `UsageError` for a name that is not a data set."""
    if (kind := special_file_type(path)) and not path.is_dir():
        return UsageError(f"the data set {name!r} is {kind}, not a regular file or a folder")
    if path.is_file() and path.name.lower().endswith(COMPRESSED_TAR):
        return UsageError(f"{path} is a compressed tar file; decompress it: gzip -d {path.name}")
    if path.is_file():
        return UsageError(
            f"the data set {name!r} is a file, but not a CSV file; expected a folder of class "
            "folders, a .csv with the columns path,label, a .zip, .tar or .tfrecord"
        )
    text = f"no data set named {name!r}"
    if close := difflib.get_close_matches(name, BUILT_IN):
        return UsageError(f"{text}; did you mean {' or '.join(close)}?")
    text += f": not a built-in ({', '.join(BUILT_IN)}), no such folder or file"
    if name and path.name == name and not path.suffix:
        text += f"; for TensorFlow Datasets write {tfds_source.PREFIX}{name}"
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
