"""Classes of a data set in the order of a weights file, or with the names of a model."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tasks
from tasks.data import class_order
from tasks.data.dataset import Source
from tests.support.tiny_tasks import TINY
from zoo import model_files


def named_pixels(data):
    """Returns the number of pixels, or of boxes, of each class in the training split."""
    labels = np.asarray(data.train.labels[np.arange(len(data.train))])
    return {name: int((labels == n).sum()) for n, name in enumerate(data.source.classes)}


@pytest.mark.parametrize(
    "name", ["segmentation", pytest.param("detection", marks=pytest.mark.slow)]
)
@pytest.mark.check
def test_classes_have_the_order_of_the_weights_file(name, tmp_path):
    path = str(tmp_path / "model.keras")

    def load(**flags):
        task = tasks.get(name)(**TINY[name], **flags)
        return task, task.load()

    _, data = load()
    classes = data.source.classes
    inputs = keras.Input((2,))
    model_files.save(keras.Model(inputs, inputs), path, {"classes": list(classes[::-1])})
    other, reordered = load(weights=path)
    assert reordered.source.classes == classes[::-1]
    assert named_pixels(reordered) == named_pixels(data)
    assert any(f"in the order of {path}" in line for line in other.notes(reordered))
    for unrelated in (["a", *classes[1:]], list(classes)):
        model_files.save(keras.Model(inputs, inputs), path, {"classes": unrelated})
        assert load(weights=path)[1].source.classes == classes


@pytest.mark.parametrize(
    ("name", "classes", "found"),
    [
        ("tfds:numbers", "012", "abc"),  # metadata of TFDS may lack the names
        ("tfds:numbers", "0123", "0123"),
        ("tfds:names", "xyz", "xyz"),
        ("folder", "012", "012"),  # of a folder, numbers are names
    ],
)
def test_classes_without_names_have_those_of_the_model(name, classes, found, caplog):
    source = class_order.named_as(Source(name, tuple(classes), {}), ["a", "b", "c"])
    assert source.classes == tuple(found)
    notes = [f"{name} has no class names; its classes 0 to 2 are taken for those of the model: "]
    expected = [f"{notes[0]}a, b, c"] if found == "abc" else []
    assert [record.getMessage() for record in caplog.records] == expected


def test_digits_remain_digits_without_a_note(caplog):
    source = class_order.named_as(Source("tfds:mnist", tuple("01"), {}), tuple("01"))
    assert source.classes == ("0", "1")
    assert not caplog.records
