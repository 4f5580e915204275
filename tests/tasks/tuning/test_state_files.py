"""Files of a search that are damaged or of an earlier version."""

from __future__ import annotations

import json
import os

import pytest

from tasks.tuning import state_files
from zoo.errors import UsageError

CONTENT = {"trial": "0000", "score": 0.1, "scores": [float("inf"), 0.1], "flags": {"l2": 1e-4}}


def test_content_is_read_as_it_was_written(tmp_path):
    state_files.write(tmp_path / "0000.json", CONTENT)
    assert state_files.read(tmp_path / "0000.json") == CONTENT


def test_files_of_earlier_versions_have_no_checksum(tmp_path):
    (tmp_path / "0000.json").write_text(json.dumps(CONTENT))
    assert state_files.read(tmp_path / "0000.json") == CONTENT


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("0.1", "0.2", 1), "does not match its checksum"),
        (lambda text: text[:-5], "is damaged"),
        (lambda text: "", "is damaged"),
        (lambda text: "[1, 2]", "not a JSON object"),
        (lambda text: "[" * 100_000, "recursion"),
    ],
)
def test_damage_is_reported(tmp_path, damage, message):
    path = tmp_path / "0000.json"
    state_files.write(path, CONTENT)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UsageError, match=f"0000.json is damaged.*{message}|{message}.*--out"):
        state_files.read(path)


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "0000.json")
    with pytest.raises(UsageError, match="is a named pipe"):
        state_files.read(tmp_path / "0000.json")
