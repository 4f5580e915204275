"""Files of several images: TIFF pages, DICOM frames and the slices of NIfTI volumes.

One of them is named by a path such as `stack.tif#page=3`, counted from 1.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from pathlib import Path

from tasks.data import dataset_options, image_formats, pillow_images, tiff
from tasks.data.dataset import Split
from tasks.data.parallel import ordered_map
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np
from zoo.paths import check_regular

dicom = LazyModule("tasks.data.dicom")
nifti = LazyModule("tasks.data.nifti")

ALL, FIRST = "all", "first"
READERS = {"TIFF": tiff, "DICOM": dicom, "NIFTI": nifti}  # with `count_pages` and `read_page`
_PAGE = re.compile(r"(.+)#page=(\d+)", re.DOTALL)


def file_of(item):
    """Returns the `Path` of the file of an image, which may name a page."""
    found = _PAGE.fullmatch(os.fspath(item))
    return Path(found[1] if found else item)


def page_of(item):
    """Returns the number of the page that a path names, from 1, or `None`."""
    found = _PAGE.fullmatch(item) if isinstance(item, str) else None
    return found and int(found[2])


def read_bytes(item):
    """Returns the bytes of a file, or of a `.npy` or TIFF file of the page that a path names.

    Raises:
        OSError: The file cannot be read.
        UnsupportedImage: There is no such page, or a library is missing.
        Exception: One of `pillow_images.decoding_errors()`; the file is damaged.
    """
    path = check_regular(file_of(item))
    page = page_of(os.fspath(item))
    if page is None:
        return path.read_bytes()
    reader = _reader(path)
    count = reader.count_pages(path) if reader else 1
    if not 1 <= page <= count:
        raise pillow_images.UnsupportedImage(f"it has no page {page}, but {count}")
    if reader is None:
        return path.read_bytes()
    found = reader.read_page(path, page - 1)
    if isinstance(found, bytes):
        return found
    file = io.BytesIO()
    np.save(file, found, allow_pickle=False)
    return file.getvalue()


def parse(text):
    """Returns the pages that `--pages` states: `all`, or a number from 1.

    Raises:
        UsageError: The text is something else.
    """
    if text == ALL:
        return ALL
    if text == FIRST:
        return 1
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise UsageError(f"--pages takes all, first or the number of a page, not {text!r:.60}")
    return int(text)


def expand(source, text):
    """Returns a source whose files of several images are replaced by pages of them.

    The pages have the label of their file.

    Args:
        source: A `dataset.Source`.
        text: `all`, `first` or the number of a page; files of fewer pages are skipped.

    Raises:
        UsageError: The text is something else, or no file has such a page.
    """
    parse(text)
    skipped, parts = list(source.skipped), {}
    columns = {name: dict(cells) for name, cells in source.columns.items()}
    for name, part in source.splits.items():
        found = list(ordered_map(lambda item: list_pages(item, text), part.items, os.cpu_count()))
        skipped += [
            (item, f"it has no page {text}")
            for item, own in zip(part.items, found, strict=True)
            if not own
        ]
        if not any(found):
            most = max(ordered_map(_count, part.items, os.cpu_count()))
            raise UsageError(
                f"no file of {name} in {source.name} has a page {text}; they have at most {most}: "
                f"use {dataset_options.PAGES}=all, first or a number up to that"
            )
        indices = np.repeat(np.arange(len(part)), [len(own) for own in found])
        items = [page for own in found for page in own]
        for cells in columns.values():
            cells |= {
                page: cells[part.items[index]]
                for page, index in zip(items, indices.tolist(), strict=True)
            }
        parts[name] = Split(name, items, part.labels[indices])
    return dataclasses.replace(source, splits=parts, skipped=tuple(skipped), columns=columns)


def list_pages(item, text):
    """Returns the paths of the chosen pages of a file, or itself if it has a single one.

    Args:
        item: An image; only paths of files have pages.
        text: As in `parse`.
    """
    pages, count = parse(text), _count(item)
    if count == 1 and pages in (ALL, 1):
        return [item]
    numbers = range(1, count + 1) if pages == ALL else range(pages, min(pages, count) + 1)
    return [f"{item}#page={number}" for number in numbers]


def stacks(items):
    """Returns the file of each image if some are pages of the same file, else `None`."""
    if not any(page_of(item) for item in items):
        return None
    return [str(file_of(item)) for item in items]


def _count(item):
    """Returns the number of pages of a file; 1 if it cannot be read, which is reported later."""
    if not isinstance(item, str):
        return 1
    try:
        path = check_regular(item)
        reader = _reader(path)
        return reader.count_pages(path) if reader else 1
    except pillow_images.decoding_errors():
        return 1


def _reader(path):
    with path.open("rb") as file:
        start = file.read(image_formats.SIGNATURE_BYTES)
    return READERS.get(image_formats.image_format(start))
