"""Classes of a data set in the order of a weights file with the same classes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tasks
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
