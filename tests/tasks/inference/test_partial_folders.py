"""Folders that are written under another name: success, failure, and killed processes."""

import os
import subprocess
import sys

import pytest

from tasks.inference import partial_folders


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupt(folder):
    with partial_folders.partial_folder(folder) as partial:
        (partial / "file").touch()
        raise KeyboardInterrupt


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    folder = tmp_path / "a" / "onnx"
    for content in ("one", "two"):
        with partial_folders.partial_folder(folder) as partial:
            (partial / "file").write_text(content)
            assert names(tmp_path / "a")[-1] == partial.name
        assert (folder / "file").read_text() == content
        assert names(tmp_path / "a") == ["onnx"]


def test_after_an_error_nothing_remains_but_what_was_there(tmp_path):
    (tmp_path / "here").mkdir()
    for folder in (tmp_path / "new" / "parent" / "onnx", tmp_path / "here" / "onnx"):
        with pytest.raises(KeyboardInterrupt):
            interrupt(folder)
    assert names(tmp_path) == ["here"]
    assert names(tmp_path / "here") == []


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    own = tmp_path / partial_folders.partial_name("onnx")  # of a process that runs
    other = tmp_path / "partial-another.host-1-01234567-onnx"
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", ended_process)
        left = [partial_folders.partial_name(x) for x in ("litert", "replaced-onnx")]
    for path in (own, other, *(tmp_path / name for name in left), tmp_path / "partial-mine"):
        path.mkdir()
        (path / "file").write_text(path.name)
    partial_folders.remove_abandoned(tmp_path)
    assert names(tmp_path) == sorted(["onnx", "partial-mine", other.name, own.name])
    assert (tmp_path / "onnx" / "file").read_text() == left[1]  # not yet replaced: kept
