"""Only regular files are opened: opening a named pipe might block forever."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest
from PIL import Image

from tasks.captioning import annotation_files
from tasks.captioning import dataset as captioning_dataset
from tasks.data import class_folders, coco, csv_table, dataset, image_io, sources
from tasks.deploy import model_loader
from tasks.detection import dataset as detection_dataset
from tasks.detection import voc, yolo
from tasks.distributed import auth_tokens
from tasks.engine import plans, recipes
from tasks.segmentation import class_map
from tasks.segmentation import dataset as segmentation_dataset
from zoo import model_files, paths
from zoo.errors import UsageError
from zoo.weights import cache, digests, formats


@pytest.fixture
def pipe(tmp_path):
    """Returns a function that creates a named pipe."""

    def make(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        return path

    return make


READERS = {
    "x.keras": model_files.load,
    "z.keras": model_loader.find_model,
    "y.keras": formats.read,
    "x.weights.h5": formats.read,
    "x.safetensors": formats.read,
    "x.pth": formats.read,
    "x.npz": formats.read,
    "x.png": image_io.read_image,
    "y.png": image_io.image_size,
    "z.png": image_io.item_bytes,
    "x.csv": sources.load,
    "y.csv": csv_table.read_csv,
    "x.json": coco._read_file,
    "y.json": lambda path: list(annotation_files._parse_coco(path)),
    "x.txt": annotation_files._parse_text,
    "x.yaml": yolo._read_config,
    "x.names": class_map._rows,
    "x.list": voc._lines,
    "recipe.yaml": recipes.read_recipe,
    "plan.yaml": lambda path: plans.plan_text(str(path)),
}


@pytest.mark.parametrize("name", READERS)
def test_readers_refuse_named_pipes(name, pipe):
    with pytest.raises(UsageError, match="a named pipe, not a ") as error:
        READERS[name](pipe(name) if READERS[name] is not sources.load else str(pipe(name)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [digests.read_record, cache._read_index, auth_tokens.read_token])
def test_named_pipes_in_the_place_of_records_are_ignored(read, pipe, tmp_path):
    pipe(digests.INDEX_FILE)
    pipe(auth_tokens.token_path(tmp_path / "run").name)
    path = tmp_path / (digests.INDEX_FILE if read is cache._read_index else "run")
    assert not read(path)


def test_special_file_types(tmp_path, pipe):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        assert paths.special_file_type(tmp_path / "socket") == "a socket"
    assert paths.special_file_type("/dev/null") == "a device"
    assert paths.special_file_type(tmp_path) == "a folder"
    (tmp_path / "link").symlink_to(pipe("pipe"))
    assert paths.special_file_type(tmp_path / "link") == "a named pipe"
    (tmp_path / "file").touch()
    assert paths.special_file_type(tmp_path / "file") == ""
    assert paths.special_file_type(tmp_path / "gone") == ""
    assert paths.check_regular(str(tmp_path / "file")) == tmp_path / "file"
    with pytest.raises(OSError, match="a device, not a regular file"):
        paths.check_regular("/dev/null")


def test_named_pipe_in_a_class_folder_is_skipped(tmp_path, pipe):
    for index, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        pixels = np.full((4, 4, 3), 50 * index, "uint8")
        Image.fromarray(pixels).save(tmp_path / name / "x.png")
    path = pipe("a/pipe.png")
    found = class_folders.list_folder(tmp_path)
    assert found.skipped == ((str(path), "a named pipe, not a regular file"),)
    (tmp_path / "list.csv").write_text("path,label\na/x.png,a\nb/x.png,b\na/pipe.png,a\n")
    assert csv_table.read_csv(tmp_path / "list.csv").skipped == found.skipped


@pytest.mark.parametrize(
    "load",
    [detection_dataset.load, captioning_dataset.load, segmentation_dataset.load, sources.load],
)
def test_home_folder_of_unknown_user_is_refused(load):
    with pytest.raises(UsageError, match="'~nobody-here/x'"):
        load("~nobody-here/x")
    assert dataset.short_name("~nobody-here/x") == "~nobody-here/x"
    assert paths.expand_user("~/x") == paths.Path.home() / "x"
