"""The Python of docs/python.md runs as it stands, and so do the forms of data that it names."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
from tasks.data import image_io, sources
from tests.support.paths import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text("utf-8"), re.DOTALL)
COUNTS = {"train": 24, "val": 8, "test": 8}  # images of each class
CLASSES = 3


def blocks():
    for number, code in enumerate(BLOCKS):
        trains = re.search(r"tasks\.(train|finetune)\(|\.search\(", code)
        yield pytest.param(
            code, id=str(number), marks=pytest.mark.slow if trains else pytest.mark.check
        )


@pytest.mark.parametrize("code", [*blocks()])
def test_blocks_of_the_page(code, tmp_path, monkeypatch):
    for library in ("mlflow", "keras_tuner"):
        if library in code:
            pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    exec(compile(code, "docs/python.md", "exec"), {"__name__": "page"})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of three classes of PNG files in train, val and test, from the sample data set."""
    root, sample = tmp_path_factory.mktemp("photos"), sources.load("fashion_sample")
    part = sample.splits["train"]
    for label in range(CLASSES):
        places = iter(np.flatnonzero(part.labels == label).tolist())
        for split, count in COUNTS.items():
            folder = root / split / sample.classes[label].replace("/", "-")
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(part.items[next(places)].squeeze()).save(folder / f"{number}.png")
    return root


def quality(run):
    return {k: v for k, v in run.figures.items() if k not in ("seconds", "images_per_second")}


@pytest.mark.check
def test_arrays_and_pipelines_give_the_figures_of_a_folder_of_the_same_images(photos, tmp_path):
    source = sources.load(photos)
    arrays = {
        name: (np.stack([image_io.read_image(x, (None, None, 1)) for x in part.items]), part.labels)
        for name, part in source.splits.items()
    }
    flags = {"epochs": 2, "batch_size": 16, "class_names": source.classes}
    splits = {"validation": arrays["val"], "test": arrays["test"]}
    one = tasks.finetune("lenet5", arrays["train"], **splits, out=tmp_path / "arrays", **flags)
    del flags["class_names"]
    other = tasks.finetune("lenet5", str(photos), out=tmp_path / "folder", **flags)
    assert quality(one) == quality(other)
    assert one.history["val_accuracy"] == other.history["val_accuracy"]
    for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.evaluate(arrays["test"])["accuracy"] == other.figures["accuracy"]
    path = source.splits["test"].items[0]
    assert one.predict([path]) == other.predict([path])
    further = one.resume(epochs=1, out=tmp_path / "further")
    assert isinstance(further.model, keras.Model)
    assert tasks.Run.open(tmp_path / "further").figures == further.figures
