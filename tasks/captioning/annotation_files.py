"""Caption files: the text files of Flickr8k and Flickr30k, tables, and COCO JSON.

Every reader returns `CaptionedImage`s by split.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.captioning import vocabulary
from tasks.data import coco, image_io, number_parsing
from tasks.data.class_folders import SPLIT_FOLDERS, join_names
from tasks.data.json_file import read_json
from zoo.errors import UsageError
from zoo.paths import check_regular, read_text

IMAGE_COLUMNS = ("image", "path", "file", "filename", "file_name", "image_name")
TEXT_COLUMNS = ("caption", "comment", "sentence", "text")
SUFFIXES = (".txt", ".token", ".csv", ".tsv", ".json")
# Names of caption files, to find them in a folder.
CAPTION_FILE_PATTERN = re.compile(r"caption|\.token|^results.*\.csv$", re.IGNORECASE)
# Files that list the images of a split of Flickr8k.
FLICKR8K_SPLIT_FILES = {
    "train": "*trainImages.txt",
    "val": "*devImages.txt",
    "test": "*testImages.txt",
}

_FLICKR_LINE = re.compile(r"(.+?)#\d+\t(.*)")  # image.jpg#0<tab>caption


@dataclass(frozen=True)
class CaptionedImage:
    """An image and its captions.

    Attributes:
        name: of the image, as in the caption file.
        path: of the image.
        sentences: its captions, one or more.
        facts: `None`; where captions can be verified, see `shapes_captions`, what is verified.
    """

    name: str
    path: str
    sentences: tuple[str, ...]
    facts: None = None


def find_files(root) -> dict[str, Path]:
    """Returns the caption files of a data set by split, in the usual order of splits.

    Args:
        root: a file, which is the split `all`, unless it has a column of splits; or a folder with
            one such file, or with one per split, such as `captions_train2017.json`, in it or in a
            subfolder.

    Raises:
        UsageError: there are several files for a split.
    """
    root = Path(root)
    if root.is_file():
        return {"all": root}
    paths = sorted(
        path
        for pattern in ("*", "*/*")
        for path in root.glob(pattern)
        if path.suffix.lower() in SUFFIXES and CAPTION_FILE_PATTERN.search(path.name)
    )
    splits = {}
    for path in paths:
        words = re.split(r"[^a-z]+", path.relative_to(root).as_posix().lower())
        split = next((each for each in SPLIT_FOLDERS if each in words), "all")
        if split in splits:
            raise UsageError(
                f"{root} has several caption files for {split}: {splits[split].name} and "
                f"{path.name}; pass one of them as the data set"
            )
        splits[split] = path
    if len(splits) > 1:
        splits.pop("all", None)
    return {split: splits[split] for split in (*SPLIT_FOLDERS, "all") if split in splits}


def read(path):
    """Reads a caption file.

    Images are searched for beside the file, in its parent folder, and in the subfolders of both.
    Missing images, and images beside them without a caption, are skipped with a warning.

    Returns:
        Tuples of `CaptionedImage` by split, and `(path, reason)` of each skipped image.

    Raises:
        UsageError: the file has no captions, an image in it has none, or all images are missing.
    """
    path = Path(path)
    rows = _parse_coco(path) if path.suffix.lower() == ".json" else _parse_text(path)
    sentences, splits = {}, {}
    for name, text, split in rows:
        own = sentences.setdefault(name, [])
        splits.setdefault(name, split)
        if text is not None and vocabulary.tokenize(text):
            own.append(text)
    if without_caption := [name for name, own in sentences.items() if not own]:
        raise UsageError(
            f"{path} has no caption for {join_names(without_caption)}; add one, or remove "
            f"{'it' if len(without_caption) == 1 else 'them'} from the file"
        )
    return _locate_images(path, sentences, splits)


def _locate_images(path, sentences, splits):
    """Finds the images; returns what `read` does."""
    folder = _image_folder(path, list(sentences))
    files = dict(zip(sentences, coco.locate_images(folder, list(sentences)), strict=True))
    captioned_images, skipped = {}, []
    for name, own in sentences.items():
        file = files[name]
        if not file.is_file():
            skipped.append((str(file), "no such file"))
        elif reason := image_io.rejection_reason(file):
            skipped.append((str(file), reason))
        else:
            captioned_images.setdefault(splits[name], []).append(
                CaptionedImage(name, str(file), tuple(own))
            )
    if not captioned_images:
        raise UsageError(f"none of the images of {path} can be read; the first: {skipped[0]}")
    known = {file.resolve() for file in files.values() if file.is_file()}
    others = [
        file for file in sorted(folder.iterdir()) if image_io.is_image(file) and file.is_file()
    ]
    skipped += [(str(f), "it has no caption") for f in others if f.resolve() not in known]
    return {split: tuple(rows) for split, rows in captioned_images.items()}, tuple(skipped)


def _parse_text(path):
    """Yields `(image, caption, split)` rows of a text file: the Flickr format, or a table."""
    content = read_text(path)
    lines = [line for line in content.split("\n") if line.strip()]
    if not lines:
        raise UsageError(f"{path} is empty")
    if _FLICKR_LINE.fullmatch(lines[0]):
        return _parse_flickr(path, lines)
    return _parse_table(path, content, lines[0])


def _parse_flickr(path, lines):
    split_of = _flickr8k_splits(path.parent)
    for number, line in enumerate(lines, start=1):
        match = _FLICKR_LINE.fullmatch(line)
        if not match:
            raise UsageError(
                f"{path}, line {number}: {line[:60]!r} is not image.jpg#0, a tab and a caption"
            )
        name = match[1]
        if split_of:
            if name in split_of:
                yield name, match[2], split_of[name]
        else:
            yield name, match[2], "all"


def _flickr8k_splits(folder):
    """Returns the split of each image in the split files of Flickr8k; empty without such files."""
    found = {}
    for split, pattern in FLICKR8K_SPLIT_FILES.items():
        for path in sorted(folder.glob(pattern)):
            names = check_regular(path).read_text(encoding="utf-8-sig", errors="replace").split()
            found |= dict.fromkeys(names, split)
    return found


def _parse_table(path, content, head):
    """Yields the rows of a table with a header; captions may contain unquoted delimiters."""
    delimiter = next((sign for sign in ("\t", "|", ";") if sign in head), ",")
    columns = [name.strip().strip('"').lower() for name in head.split(delimiter)]
    image = next((name for name in IMAGE_COLUMNS if name in columns), None)
    caption = next((name for name in TEXT_COLUMNS if name in columns), None)
    if image is None or caption is None:
        raise UsageError(
            f"{path} begins with {head[:60]!r}; needed: lines such as image.jpg#0, a tab and a "
            "caption; or a first line with the columns image,caption and optionally split"
        )
    rows = csv.reader(io.StringIO(content), delimiter=delimiter)
    next(rows)
    for cells in _checked_rows(path, rows):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns) and caption == columns[-1]:  # delimiters in a caption
            cells = [*cells[: len(columns) - 1], delimiter.join(cells[len(columns) - 1 :])]
        row = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
        if not row.get(image):
            raise UsageError(f"{path}, line {rows.line_num}: the column {image} is empty")
        yield row[image], row.get(caption), row.get("split") or "all"


def _checked_rows(path, rows):
    """Yields the rows of a `csv.reader`; raises `UsageError` for its errors."""
    try:
        yield from rows
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {rows.line_num}: {error}; a closing quote may be missing"
        ) from error


def _parse_coco(path):
    """Yields `(image, caption, split)` rows of a COCO JSON file."""
    content = read_json(path)
    content = content if isinstance(content, Mapping) else {}
    parts = [content.get(name) for name in ("images", "annotations")]
    is_coco = all(isinstance(p, list) and p and isinstance(p[0], dict) for p in parts)
    if not is_coco or "caption" not in parts[1][0]:
        raise UsageError(
            f"{path} has no captions; needed, as in captions_NAME.json of COCO: images with id and "
            "file_name, and annotations with image_id and caption"
        )
    images, annotations = parts
    names = {}
    for row in images:
        names[_required_field(path, "image", row, "id")] = str(
            _required_field(path, "image", row, "file_name")
        )
    keys = ("image_id", "caption")
    found = [[_required_field(path, "annotation", row, key) for key in keys] for row in annotations]
    if not any(number in names for number, _ in found):
        raise UsageError(
            f"{path}: no annotation refers to a listed image: image_id "
            f"{join_names(repr(number) for number, _ in found)}; images have the id "
            f"{join_names(map(repr, names))}"
        )
    yield from ((name, None, "all") for name in names.values())
    yield from ((names[number], str(text), "all") for number, text in found if number in names)


def _required_field(path, what, row, name):
    """Returns a required field of a row; numeric identifiers may be strings."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, str | int | float):
        raise UsageError(f"{path}: {what} {row!r:.60} has no {name}")
    return number_parsing.normalize_id(value) if name.endswith("id") else value


def _image_folder(path, names):
    """Returns the folder of the images: the first that contains one of them."""
    parents = (path.parent, path.parent.parent)
    folders = [folder for parent in parents for folder in (parent, *_subfolders(parent))]
    for folder in folders:
        if any(file.is_file() for file in coco.locate_images(folder, names)):
            return folder
    raise UsageError(
        f"none of the {len(names)} images of {path} was found, such as {names[0]}; searched: "
        f"{join_names(folders)}"
    )


def _subfolders(folder):
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
