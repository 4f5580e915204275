"""Segmentation data sets in folders `images/` and `masks/`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.data import class_folders, image_io
from tasks.data.class_folders import SPLIT_FOLDERS, join_names
from tasks.segmentation import class_map, infer_class_map, threshold_map
from tasks.segmentation.threshold_map import BINARY_CLASSES, NO_THRESHOLD
from zoo.errors import UsageError
from zoo.lazy import LazyModule
from zoo.paths import expand_user

pages = LazyModule("tasks.data.pages")

IMAGES, MASKS = "images", "masks"
CLASS_LISTS = ("classes.csv", "classes.txt", "class_dict.csv", "label_colors.txt", "codes.txt")
# Of the stem of a mask, after the stem of its image.
MASK_SUFFIXES = ("", "_mask", "_masks", "_label", "_labels", "_seg", "_gt", "_L")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jfif")


class Listing(NamedTuple):
    """The contents of a folder: `splits` maps a name to `(image paths, masks)`, of equal length."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[list[str], list[class_map.Mask]]]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def find_folders(root):
    """Returns the folders `(images, masks)` of each split, an empty dict if there are none.

    They are `root/images` and `root/masks`, for a single split `all`; or `root/SPLIT/images` and
    `root/SPLIT/masks`; or `root/images/SPLIT` and `root/masks/SPLIT`. The names of splits are
    those of `class_folders.SPLIT_FOLDERS`.
    """
    root = Path(root)
    split_first = {
        name: (root / name / IMAGES, root / name / MASKS)
        for name in SPLIT_FOLDERS
        if (root / name / IMAGES).is_dir() and (root / name / MASKS).is_dir()
    }
    if split_first:
        return split_first
    images, masks = root / IMAGES, root / MASKS
    if not (images.is_dir() and masks.is_dir()):
        return {}
    split_last = {
        name: (images / name, masks / name)
        for name in SPLIT_FOLDERS
        if (images / name).is_dir() and (masks / name).is_dir()
    }
    return split_last or {"all": (images, masks)}


def list_folder(root, class_map_path="", classes=(), chosen_pages="", threshold=NO_THRESHOLD):
    """Lists a folder of images and masks.

    A mask has the relative path of its image, with another extension or one of `MASK_SUFFIXES`
    after the stem. It is an indexed or grayscale image of values, or a color-coded one. The
    classes are listed in a file next to the folders, one of `CLASS_LISTS`, in the format of
    `class_map.read`. Without such a file all masks are read once to find their values, and the
    classes are those of `infer_class_map.infer_class_map`. The images of a split are ordered by a
    hash of their names.

    Args:
        root: The folder.
        class_map_path: The path of the class list, if it is not one of `CLASS_LISTS`.
        classes: The class names of a trained model, for masks without a class list.
        threshold: The largest value of the background, as in `threshold_map`, or `NO_THRESHOLD`.
        chosen_pages: Pages of images and masks that are files of several, as in `pages.parse`.

    Returns:
        A `Listing`.

    Raises:
        UsageError: An image has no mask or several, a mask is a JPEG without a threshold, or masks
            have colors or values that no class list explains.
    """
    root, skipped, splits = Path(root), [], {}
    for split, (images, masks) in find_folders(root).items():
        pairs, unpaired = _pairs(images, masks, lossy=threshold != NO_THRESHOLD)
        skipped += unpaired
        pairs.sort(key=lambda pair: class_folders.name_hash(pair[0].relative_to(images)))
        splits[split] = _chosen_pairs(images, pairs, chosen_pages) if chosen_pages else pairs
    masks = [str(mask) for pairs in splits.values() for _, mask in pairs]
    mapping = _class_map(root, class_map_path, masks, classes, threshold)
    listing = {
        split: (
            [str(image) for image, _ in pairs],
            [class_map.Mask(str(mask), mapping) for _, mask in pairs],
        )
        for split, pairs in splits.items()
    }
    return Listing(mapping.classes, listing, tuple(skipped), _notes(mapping))


def _chosen_pairs(folder, pairs, chosen):
    """Returns pairs of pages of images and masks, which must be as many in both."""
    found = []
    for pair in pairs:
        images, masks = (pages.list_pages(str(path), chosen) for path in pair)
        if len(images) != len(masks):
            raise UsageError(f"{pair[0]} has {len(images)} pages {chosen}, {pair[1]} {len(masks)}")
        found += zip(images, masks, strict=True)
    if not found:
        raise UsageError(f"no file of {folder} has a page {chosen}; use all, first or fewer")
    return found


def _notes(mapping):
    """Returns a line about the classes of masks of background and object without a class list."""
    if mapping.classes != BINARY_CLASSES or mapping.colours:
        return ()
    value = max(mapping.values)
    if isinstance(mapping, threshold_map.ThresholdMap):
        return (f"masks: values from {value} are the class object, others background",)
    return (f"masks of 0 and {value}: background and object",)


def _class_map(root, path, masks, classes, threshold):
    if threshold != NO_THRESHOLD:
        if path:
            raise UsageError("--threshold and --class-map exclude each other; remove one of them")
        return threshold_map.from_threshold(threshold, str(root))
    path = expand_user(path) if path else None
    if path is None:
        path = next((root / name for name in CLASS_LISTS if (root / name).is_file()), None)
    if path:
        return infer_class_map.labels_of_pairs(masks, class_map.read(path), str(root))
    return infer_class_map.infer_class_map(masks, str(root), root / CLASS_LISTS[0], classes)


def _pairs(images, masks, *, lossy=False):
    """Returns pairs of paths `(image, mask)`, and `(path, reason)` of all other files.

    Masks may be JPEG files if `lossy`.
    """
    paths = sorted(class_folders.iter_files(images))
    reasons = dict(class_folders.find_non_images(paths))
    skipped = [(str(path), reason) for path, reason in reasons.items()]
    paths = [path for path in paths if path not in reasons]
    if not paths:
        first = f"; skipped {len(skipped)}, the first {': '.join(skipped[0])}" if skipped else ""
        raise UsageError(f"no images in {images}{first}")
    masks_by_stem = {}
    for path in sorted(class_folders.iter_files(masks)):
        if image_io.is_image(path):
            stem = _stem(path, masks)
            masks_by_stem.setdefault(stem, []).append(path)
        else:
            skipped.append((str(path), "no mask: not an image by its extension"))
    pairs, unmatched = [], []
    for path in paths:
        stem = _stem(path, images)
        matches = [
            mask for suffix in MASK_SUFFIXES for mask in masks_by_stem.pop(stem + suffix, ())
        ]
        _check_matches(path, matches, unmatched, lossy)
        pairs += [(path, mask) for mask in matches]
    if unmatched:
        raise UsageError(
            f"{len(unmatched)} of {len(paths)} images of {images} have no mask in {masks}: "
            f"{join_names(path.name for path in unmatched)}; a mask has the name of its image, "
            f"such as {masks / _stem(unmatched[0], images)}.png"
        )
    unused = (mask for paths in masks_by_stem.values() for mask in paths)
    return pairs, [*skipped, *((str(mask), "a mask without an image") for mask in unused)]


def _stem(path, folder):
    """Returns the path of an image below a folder, without its extension, such as `.nii.gz`."""
    relative = path.relative_to(folder)
    relative = relative.with_suffix("") if relative.suffix.lower() == ".gz" else relative
    return relative.with_suffix("").as_posix()


def _check_matches(path, matches, unmatched, lossy):
    """Appends an image without a mask to `unmatched`.

    Raises:
        UsageError: The image has several masks, or its mask is a JPEG and not `lossy`.
    """
    if not matches:
        unmatched.append(path)
    elif len(matches) > 1:
        raise UsageError(
            f"{path} has {len(matches)} masks: {join_names(map(str, matches))}; keep one of them"
        )
    elif matches[0].suffix.lower() in LOSSY_SUFFIXES and not lossy:
        raise UsageError(
            f"{matches[0]} is a JPEG, which blurs labels; save masks as PNG files, or, of "
            "background and one object, set --threshold 127"
        )
