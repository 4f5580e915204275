"""Images and masks from folders `images/` and `masks/`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.data import folders, mask_keys, mask_numbers, readers
from tasks.data.folders import SPLIT_FOLDERS, listed
from zoo.errors import UsageError
from zoo.paths import expanded

IMAGES, MASKS = "images", "masks"
CLASS_LISTS = ("classes.csv", "classes.txt", "class_dict.csv", "label_colors.txt", "codes.txt")
ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_seg", "_gt", "_L")  # of a mask's name
LOSSY = (".jpg", ".jpeg", ".jfif")


class Listing(NamedTuple):
    """What was found: `splits` maps a name to `(image paths, masks)`, of equal length."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[list[str], list[mask_keys.Mask]]]
    skipped: tuple[tuple[str, str], ...]


def found(root):
    """Returns the folders `(images, masks)` of each split, empty if there are none such.

    They are `root/images` and `root/masks`; or `root/SPLIT/images` and `root/SPLIT/masks`, or
    `root/images/SPLIT` and `root/masks/SPLIT`, with `folders.SPLIT_FOLDERS`.
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


def folder(root, colours="", classes=()):
    """Lists a folder of images and masks.

    A mask is called as its image is, in the same folder below `masks/`, with another suffix or with
    one of `ENDINGS` added. It is an indexed or grey picture of labels, or one in colours. What the
    labels are called is said by a file beside the folders, one of `CLASS_LISTS`, as
    `mask_keys.read` takes it; without any, all masks are read once to see which numbers there
    are, and `mask_numbers.key` names them. Within a split images stand in an order that a hash of
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
    for split, (images, masks) in found(root).items():
        pairs, others = _pairs(images, masks)
        skipped += others
        pairs.sort(key=lambda pair: folders.name_hash(pair[0].relative_to(images)))
        splits[split] = pairs
    key = _key(root, colours, [m for pairs in splits.values() for _, m in pairs], classes)
    listing = {
        split: ([str(path) for path, _ in pairs], [mask_keys.Mask(str(m), key) for _, m in pairs])
        for split, pairs in splits.items()
    }
    return Listing(key.classes, listing, tuple(skipped))


def _key(root, colours, masks, classes):
    path = expanded(colours) if colours else None
    if path is None:
        path = next((root / name for name in CLASS_LISTS if (root / name).is_file()), None)
    if path:
        return mask_keys.read(path)
    return mask_numbers.key(list(map(str, masks)), str(root), root / CLASS_LISTS[0], classes)


def _pairs(images, masks):
    """Returns `(image, mask)` paths, and `(path, reason)` of what is neither."""
    paths = sorted(folders.files(images))
    reasons = dict(folders.foreign(paths))
    skipped = [(str(path), reason) for path, reason in reasons.items()]
    paths = [path for path in paths if path not in reasons]
    if not paths:
        first = f"; skipped {len(skipped)}, the first {': '.join(skipped[0])}" if skipped else ""
        raise UsageError(f"no images in {images}{first}")
    named = {}
    for path in sorted(folders.files(masks)):
        if readers.is_image(path):
            named.setdefault(path.relative_to(masks).with_suffix("").as_posix(), []).append(path)
        else:
            skipped.append((str(path), "no mask: not an image by its suffix"))
    pairs, lost = [], []
    for path in paths:
        stem = path.relative_to(images).with_suffix("").as_posix()
        own = [mask for ending in ENDINGS for mask in named.pop(stem + ending, ())]
        _check_own(path, own, lost)
        pairs += [(path, mask) for mask in own]
    if lost:
        raise UsageError(
            f"{len(lost)} of {len(paths)} images of {images} have no mask in {masks}: "
            f"{listed(path.name for path in lost)}; a mask is called as its image, such as "
            f"{masks / lost[0].relative_to(images).with_suffix('.png')}"
        )
    rest = (mask for paths in named.values() for mask in paths)
    return pairs, [*skipped, *((str(mask), "a mask without an image") for mask in rest)]


def _check_own(path, own, lost):
    """Refuses several masks of an image and one that is a JPEG; notes an image without any."""
    if not own:
        lost.append(path)
    elif len(own) > 1:
        raise UsageError(f"{path} has {len(own)} masks: {listed(map(str, own))}; leave one")
    elif own[0].suffix.lower() in LOSSY:
        raise UsageError(f"{own[0]} is a JPEG, which blurs labels; save masks as PNG")
