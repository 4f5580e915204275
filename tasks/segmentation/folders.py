"""Images and masks from folders `images/` and `masks/`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.data import class_folders, image_io
from tasks.data.class_folders import SPLIT_FOLDERS, join_names
from tasks.segmentation import class_map, infer_class_map
from zoo.errors import UsageError
from zoo.paths import expand_user

IMAGES, MASKS = "images", "masks"
CLASS_LISTS = ("classes.csv", "classes.txt", "class_dict.csv", "label_colors.txt", "codes.txt")
MASK_SUFFIXES = (
    "",
    "_mask",
    "_masks",
    "_label",
    "_labels",
    "_seg",
    "_gt",
    "_L",
)  # of a mask's name
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jfif")


class Listing(NamedTuple):
    """What was found: `splits` maps a name to `(image paths, masks)`, of equal length."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[list[str], list[class_map.Mask]]]
    skipped: tuple[tuple[str, str], ...]


def find_folders(root):
    """Returns the folders `(images, masks)` of each split, empty if there are none such.

    They are `root/images` and `root/masks`; or `root/SPLIT/images` and `root/SPLIT/masks`, or
    `root/images/SPLIT` and `root/masks/SPLIT`, with `class_folders.SPLIT_FOLDERS`.
    """
    root = Path(root)
    inside = {
        name: (root / name / IMAGES, root / name / MASKS)
        for name in SPLIT_FOLDERS
        if (root / name / IMAGES).is_dir() and (root / name / MASKS).is_dir()
    }
    if inside:
        return inside
    images, masks = root / IMAGES, root / MASKS
    if not (images.is_dir() and masks.is_dir()):
        return {}
    below = {
        name: (images / name, masks / name)
        for name in SPLIT_FOLDERS
        if (images / name).is_dir() and (masks / name).is_dir()
    }
    return below or {"all": (images, masks)}


def list_folder(root, colours="", classes=()):
    """Lists a folder of images and masks.

    A mask is called as its image is, in the same folder below `masks/`, with another suffix or with
    one of `ENDINGS` added. It is an indexed or grey picture of labels, or one in colours. What the
    labels are called is said by a file beside the folders, one of `CLASS_LISTS`, as
    `class_map.read` takes it; without any, all masks are read once to see which numbers there
    are, and `infer_class_map.infer_class_map` names them. Within a split images stand in an order
    that a hash of
    their names decides.

    Args:
        root: the folder.
        colours: path of the list of classes, if it is none of these.
        classes: names of a trained model, for masks without a list.

    Raises:
        UsageError: an image has no mask, or several, a mask is a JPEG, or has colours or numbers
            that no list explains.
    """
    root, skipped, splits = Path(root), [], {}
    for split, (images, masks) in find_folders(root).items():
        pairs, others = _pairs(images, masks)
        skipped += others
        pairs.sort(key=lambda pair: class_folders.name_hash(pair[0].relative_to(images)))
        splits[split] = pairs
    key = _class_map(root, colours, [m for pairs in splits.values() for _, m in pairs], classes)
    listing = {
        split: ([str(path) for path, _ in pairs], [class_map.Mask(str(m), key) for _, m in pairs])
        for split, pairs in splits.items()
    }
    return Listing(key.classes, listing, tuple(skipped))


def _class_map(root, colours, masks, classes):
    path = expand_user(colours) if colours else None
    if path is None:
        path = next((root / name for name in CLASS_LISTS if (root / name).is_file()), None)
    if path:
        return class_map.read(path)
    return infer_class_map.infer_class_map(
        list(map(str, masks)), str(root), root / CLASS_LISTS[0], classes
    )


def _pairs(images, masks):
    """Returns `(image, mask)` paths, and `(path, reason)` of what is neither."""
    paths = sorted(class_folders.iter_files(images))
    reasons = dict(class_folders.find_non_images(paths))
    skipped = [(str(path), reason) for path, reason in reasons.items()]
    paths = [path for path in paths if path not in reasons]
    if not paths:
        first = f"; skipped {len(skipped)}, the first {': '.join(skipped[0])}" if skipped else ""
        raise UsageError(f"no images in {images}{first}")
    named = {}
    for path in sorted(class_folders.iter_files(masks)):
        if image_io.is_image(path):
            named.setdefault(path.relative_to(masks).with_suffix("").as_posix(), []).append(path)
        else:
            skipped.append((str(path), "no mask: not an image by its suffix"))
    pairs, unmatched = [], []
    for path in paths:
        stem = path.relative_to(images).with_suffix("").as_posix()
        matches = [mask for ending in MASK_SUFFIXES for mask in named.pop(stem + ending, ())]
        _check_matches(path, matches, unmatched)
        pairs += [(path, mask) for mask in matches]
    if unmatched:
        raise UsageError(
            f"{len(unmatched)} of {len(paths)} images of {images} have no mask in {masks}: "
            f"{join_names(path.name for path in unmatched)}; a mask is called as its image, such "
            "as "
            f"{masks / unmatched[0].relative_to(images).with_suffix('.png')}"
        )
    rest = (mask for paths in named.values() for mask in paths)
    return pairs, [*skipped, *((str(mask), "a mask without an image") for mask in rest)]


def _check_matches(path, matches, unmatched):
    """Refuses several masks of an image and one that is a JPEG; notes an image without any."""
    if not matches:
        unmatched.append(path)
    elif len(matches) > 1:
        raise UsageError(
            f"{path} has {len(matches)} masks: {join_names(map(str, matches))}; leave one"
        )
    elif matches[0].suffix.lower() in LOSSY_SUFFIXES:
        raise UsageError(f"{matches[0]} is a JPEG, which blurs labels; save masks as PNG")
