"""ImageNet's layout: class folders for training, and validation images in one folder with a list.

The list has a line per image: its name and its class (`val_annotations.txt` of Tiny ImageNet,
`LOC_val_solution.csv` of Kaggle), its name and the index of its class in sorted order (`val.txt`
of Caffe), or the class alone, in the order of the names of the images.
"""

from __future__ import annotations

import re

from tasks.data import class_folders, image_io
from zoo.errors import UsageError
from zoo.paths import read_text

LISTS = (
    *("val_annotations.txt", "LOC_val_solution.csv", "val.txt", "val_labels.txt"),
    *("imagenet_2012_validation_synset_labels.txt", "ILSVRC2012_validation_ground_truth.txt"),
)
VALIDATION_FOLDERS = ("val", "valid", "validation")
HEADER = "imageid"  # of Kaggle's list


def find_list(root):
    """Returns the folder of the validation images and the path of their list, or `None`."""
    if not (root / "train").is_dir():
        return None
    for name in VALIDATION_FOLDERS:
        for folder in (root / name / "images", root / name):
            if not folder.is_dir() or not any(map(image_io.is_image, folder.iterdir())):
                continue
            candidates = [parent / each for parent in (root / name, root) for each in LISTS]
            if found := next((path for path in candidates if path.is_file()), None):
                return folder, found
    return None


def read(root, folder, path):
    """Reads the training images in class folders, and the validation images of a list.

    Args:
        root: The `Path` of the data set.
        folder: The folder of the validation images.
        path: The list.

    Returns:
        A `class_folders.Listing` of the splits `train` and `val`.

    Raises:
        UsageError: The list names a class or an image that does not exist, or has other lines.
    """
    train = class_folders.list_folder(root / "train")
    images = sorted(file for file in class_folders.iter_files(folder) if image_io.is_image(file))
    reasons = dict(class_folders.find_non_images(images))
    labels = _labels(path, images, train.classes)
    missing = [file for file in images if file not in labels and file not in reasons]
    skipped = [(str(file), reason) for file, reason in reasons.items()]
    skipped += [(str(file), f"not in {path.name}") for file in missing]
    kept = [file for file in images if file in labels and file not in reasons]
    if not kept:
        raise UsageError(f"{path} lists none of the {len(images)} images of {folder}")
    kept.sort(key=lambda file: class_folders.name_hash(file.relative_to(folder)))
    splits = {
        "train": next(iter(train.splits.values())),
        "val": ([str(file) for file in kept], [labels[file] for file in kept]),
    }
    return train._replace(splits=splits, skipped=(*train.skipped, *skipped))


def _labels(path, images, classes):
    """Returns the class name of each image that a list names, a dict."""
    rows = [re.split(r"[,\s]+", line.strip()) for line in read_text(path).splitlines()]
    rows = [row for row in rows if row[0] and row[0].lower() != HEADER]
    if all(len(row) == 1 for row in rows):
        if len(rows) != len(images):
            raise UsageError(f"{path} has {len(rows)} lines for {len(images)} images")
        rows = [[image.name, row[0]] for image, row in zip(images, rows, strict=True)]
        if not {row[1] for row in rows} & {*classes}:
            raise UsageError(
                f"{path} has numbers such as {rows[0][1]} in place of classes; use a list of "
                f"class names: {', '.join(LISTS[:2])} or {LISTS[4]}"
            )
    by_name = {name: image for image in images for name in (image.name, image.stem)}
    found = {}
    for row in rows:
        if len(row) < 2 or row[0].rpartition("/")[2] not in by_name:
            raise UsageError(
                f"{path} names {row[0]!r:.80}, which is not an image of {images[0].parent}"
            )
        found[by_name[row[0].rpartition("/")[2]]] = row[1]
    names = {*found.values()}
    if not names & {*classes} and all(name.isdecimal() for name in names):
        if max(map(int, names)) >= len(classes):
            raise UsageError(f"{path} has class {max(map(int, names))} of {len(classes)} from 0")
        return {image: classes[int(label)] for image, label in found.items()}
    if unknown := sorted(names - {*classes}):
        raise UsageError(
            f"{path} has classes without a folder in train/: {class_folders.join_names(unknown)}"
        )
    return found
