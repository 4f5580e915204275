"""Prediction on exported files: the predictions of the model, without TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import zoo
from scripts.__main__ import main
from tasks.export import export
from zoo import model_files

pytestmark = pytest.mark.shared_fixtures("folder")

PREDICT = """
import json, sys
from scripts.__main__ import main
status = main(sys.argv[1:])
names = ("tensorflow", "keras", "h5py", "tensorflow_datasets", "openvino_telemetry.backend")
print(json.dumps([name for name in names if name in sys.modules]), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of images, a saved classifier and its OpenVINO export."""
    import keras

    if not importlib.util.find_spec("openvino"):
        pytest.skip("needs openvino")
    folder = tmp_path_factory.mktemp("exported")
    keras.utils.set_random_seed(1)
    model = zoo.build("lenet5", input_shape=(32, 32, 3), num_classes=4)
    about = {"classes": ["a", "b", "c", "d"], "resize": "crop"}
    model_files.save(model, folder / "net.keras", about)
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(9):
        pixels = random.integers(0, 256, (40 + number, 50, 3), dtype="uint8")
        Image.fromarray(pixels).save(folder / f"photos/{number}.png")
    (folder / "photos/broken.png").write_bytes(b"no image")
    export.export(folder / "net.keras", ["openvino"], out=folder)
    return folder


def error_line(capsys, *words):
    assert main([str(word) for word in words]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def predictions(model, folder, capsys):
    assert main(["predict", str(model), str(folder / "photos"), "--format", "jsonl"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_predictions_are_those_of_the_model(folder, capsys):
    found = predictions(folder / "openvino/model.xml", folder, capsys)
    expected = predictions(folder / "net.keras", folder, capsys)
    assert [row["path"] for row in found] == [row["path"] for row in expected]
    assert len(found) == 10
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        if "error" in one:
            continue
        assert [x["name"] for x in one["classes"]] == [x["name"] for x in other["classes"]]
        shares = [[x["probability"] for x in row["classes"]] for row in (one, other)]
        np.testing.assert_allclose(*shares, atol=1e-5)


def test_tensorflow_is_not_imported(folder):
    """Also of as many images as make `auto` choose a runtime for other models."""
    words = ["predict", folder / "openvino/model.xml", *[folder / "photos"] * 40, "--format", "csv"]
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + 40 * (9 * 4 + 1)
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_options_of_other_models_are_refused(folder, capsys):
    model, photo = folder / "openvino/model.xml", folder / "photos/0.png"
    line = error_line(capsys, "predict", model, photo, "--runtime", "keras")
    assert "runs in the runtime of its format; leave out --runtime keras" in line
    line = error_line(capsys, "predict", model, photo, "--weights", "other.h5")
    assert "has its own weights" in line


def test_a_file_of_another_program_is_refused(folder, tmp_path, capsys):
    text = (folder / "openvino/model.xml").read_text().replace("keras_zoo", "other")
    (tmp_path / "model.xml").write_text(text)
    weights = (folder / "openvino/model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(weights)
    line = error_line(capsys, "predict", tmp_path / "model.xml", folder / "photos/0.png")
    assert "does not record its task; use a file of zoo export" in line
    (tmp_path / "model.bin").write_bytes(weights[: len(weights) // 2])
    line = error_line(capsys, "predict", tmp_path / "model.xml", folder / "photos/0.png")
    assert "cannot be read by OpenVINO" in line
