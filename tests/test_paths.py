"""What is not a regular file is never opened: a named pipe would be waited for without end."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest
from PIL import Image

from tasks.data import (
    boxed,
    caption_files,
    captioned,
    coco,
    dataset,
    folders,
    mask_keys,
    masked,
    readers,
    sources,
    tables,
    voc,
    yolo,
)
from tasks.deploy import answerers
from tasks.engine import plans, resume
from zoo import files, formats, paths
from zoo.errors import UsageError


@pytest.fixture
def pipe(tmp_path):
    """Makes named pipes by name."""

    def make(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        return path

    return make


READERS = {
    "x.keras": files.load,
    "z.keras": answerers.find,
    "y.keras": formats.read,
    "x.weights.h5": formats.read,
    "x.safetensors": formats.read,
    "x.pth": formats.read,
    "x.npz": formats.read,
    "x.png": readers.image,
    "y.png": readers.size,
    "z.png": readers.content,
    "x.csv": sources.load,
    "y.csv": tables.table,
    "x.json": coco._content,
    "y.json": lambda path: list(caption_files._coco(path)),
    "x.txt": caption_files._text,
    "x.yaml": yolo._content,
    "x.names": mask_keys._rows,
    "x.list": voc._lines,
    "recipe.yaml": resume.read_recipe,
    "plan.yaml": lambda path: plans.text(str(path)),
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_named_pipe(name, pipe):
    with pytest.raises(UsageError, match="a named pipe, not a ") as error:
        READERS[name](pipe(name) if READERS[name] is not sources.load else str(pipe(name)))
    assert "\n" not in str(error.value)


def test_other_kinds_and_links_to_them_are_named(tmp_path, pipe):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        assert paths.irregular(tmp_path / "socket") == "a socket"
    assert paths.irregular("/dev/null") == "a device"
    assert paths.irregular(tmp_path) == "a folder"
    (tmp_path / "link").symlink_to(pipe("pipe"))
    assert paths.irregular(tmp_path / "link") == "a named pipe"
    (tmp_path / "file").touch()
    assert paths.irregular(tmp_path / "file") == ""
    assert paths.irregular(tmp_path / "gone") == ""
    assert paths.regular(str(tmp_path / "file")) == tmp_path / "file"
    with pytest.raises(OSError, match="a device, not a regular file"):
        paths.regular("/dev/null")


def test_a_named_pipe_in_a_class_folder_is_skipped(tmp_path, pipe):
    for index, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        pixels = np.full((4, 4, 3), 50 * index, "uint8")
        Image.fromarray(pixels).save(tmp_path / name / "x.png")
    path = pipe("a/pipe.png")
    found = folders.folder(tmp_path)
    assert found.skipped == ((str(path), "a named pipe, not a regular file"),)
    (tmp_path / "list.csv").write_text("path,label\na/x.png,a\nb/x.png,b\na/pipe.png,a\n")
    assert tables.table(tmp_path / "list.csv").skipped == found.skipped


@pytest.mark.parametrize("load", [boxed.load, captioned.load, masked.load, sources.load])
def test_a_home_folder_of_nobody_is_no_data_set(load):
    with pytest.raises(UsageError, match="'~nobody-here/x'"):
        load("~nobody-here/x")
    assert dataset.short("~nobody-here/x") == "~nobody-here/x"
    assert paths.expanded("~/x") == paths.Path.home() / "x"
