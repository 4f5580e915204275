"""Whether a failed evaluation suggests that the data have moved."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.data import in_memory
from tasks.deploy import evaluate


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("{folder}", False),
        ("{folder}#pages=all", False),
        ("{folder}/gone", True),
        ("{folder}/gone#pages=all,min-per-class=2", True),
        ("fashion_sample", False),
        ("tfds:mnist", False),
        ("{arrays}", False),
    ],
)
def test_only_missing_files_may_have_moved(name, missing, tmp_path):
    arrays = in_memory.register({"train": (np.zeros((2, 4, 4, 1), "uint8"), np.arange(2))})
    assert evaluate._is_missing(name.format(folder=tmp_path, arrays=arrays)) is missing
