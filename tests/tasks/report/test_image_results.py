"""Results per image: what is written is read again, and damaged files are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.report import image_results
from zoo.errors import UsageError

DIGEST = "3 examples, digest 0123456789abcdef"
RESULTS = image_results.ImageResults(
    [0, 2, 5],
    ["cat/1.jpg", "=1+1.png", "a,\n'b.jpg"],
    {"prediction": ["cat", "", "dog"], "accuracy": [True, False, True], "loss": [0.5, math.nan, 2]},
)


def test_results_are_read_as_they_were_written(tmp_path):
    image_results.write(tmp_path, RESULTS, DIGEST)
    assert image_results.digests(tmp_path) == {"0123456789abcdef"}
    read = image_results.read(tmp_path, "0123456789abcdef")
    assert read.indices == [0, 2, 5]
    assert list(read.images) == ["cat/1.jpg", "'=1+1.png", "a,\n'b.jpg"]  # no formula
    assert list(read.columns["prediction"]) == ["cat", "", "dog"]
    assert read.figures == ["accuracy", "loss"]
    np.testing.assert_equal(read.columns["loss"], [0.5, math.nan, 2])
    assert read.columns["accuracy"] == [1, 0, 1]


@pytest.mark.parametrize("digest", ["", "../../x", "3 examples, digest ../x", None])
def test_nothing_is_written_without_a_digest(tmp_path, digest):
    image_results.write(tmp_path, RESULTS, digest)
    image_results.write(tmp_path, None, DIGEST)
    assert not list(tmp_path.iterdir())
    assert image_results.digests(tmp_path) == set()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "index,image,loss\n0,x\n",
        "index,image,loss\n0,x,few\n",
        "index,image,loss\nfew,x,1\n",
        "index,image,loss\n",
        "index,image,loss\n1,x,1\n1,y,1\n",
        "index,image,loss\n-1,x,1\n",
        "index,image,loss,loss\n0,x,1,1\n",
        "index,image,\udcff\n",
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "predictions" / "0123456789abcdef.csv"
    path.parent.mkdir()
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"cannot be read .*zoo evaluate"):
        image_results.read(tmp_path, "0123456789abcdef")
