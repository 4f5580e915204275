"""Exported files: each gives the outputs of Keras in its own runtime, without TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from tasks.deploy import cached_export
from tasks.export import converters, export, exported_process, target
from tasks.inference import comparisons, exported_file
from tasks.inference.export_model import ExportModel, with_image_input
from zoo import model_files
from zoo.errors import UsageError

CLASSES = ("zero", "one", "two", "three")
ALONE = {  # format: the packages of its runtime, which `predict.py` needs besides NumPy and Pillow
    "onnx": ("onnxruntime", "google", "flatbuffers", "packaging"),
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert", "google", "flatbuffers", "typing_extensions"),
}
PICTURE = ("numpy", "PIL", "pillow")

pytestmark = pytest.mark.shared_fixtures("exports")


def skip_without(name):
    own = converters.FORMATS[name]
    if missing := [each for each in own.packages if not importlib.util.find_spec(each)]:
        pytest.skip(f"needs {' and '.join(missing)}")


def classifier():
    import keras

    keras.utils.set_random_seed(1)
    return zoo.build("lenet5", input_shape=(32, 32, 3), num_classes=len(CLASSES))


def random_images(count, shape=(32, 32, 3)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype="uint8")


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved classifier, and the path of its file."""
    path = tmp_path_factory.mktemp("saved") / "net.keras"
    model = classifier()
    model_files.save(model, path, {"classes": list(CLASSES), "resize": "stretch"})
    return model, path


@pytest.fixture(scope="module")
def exports(saved, tmp_path_factory):
    """The folder of exports of a classifier to the formats that are installed."""
    out = tmp_path_factory.mktemp("exports")
    installed = [
        name
        for name, own in converters.FORMATS.items()
        if name in ALONE and all(importlib.util.find_spec(each) for each in own.packages)
    ]
    export.export(saved[1], installed, out=out)
    return out


def file_of(exports, name):
    skip_without(name)
    return exports / name / converters.FORMATS[name].file


@pytest.mark.parametrize("name", ALONE)
def test_probabilities_are_those_of_keras_for_any_batch_size(name, exports, saved):
    opened = exported_file.open_file(file_of(exports, name))
    assert opened.dtypes == {"image": np.dtype("uint8")}
    for count in (5, 1, 3):
        images = random_images(count)
        found = opened.run({"image": images})
        assert list(found) == ["probabilities"]
        expected = softmax(np.asarray(saved[0](images)))
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


@pytest.mark.parametrize("name", ALONE)
def test_the_file_holds_the_names_of_the_classes(name, exports):
    metadata = exported_file.open_file(file_of(exports, name)).metadata
    assert metadata["classes"] == list(CLASSES)
    assert metadata["resize"] == "stretch"
    assert metadata["task"] == "classification"


@pytest.mark.parametrize("name", ALONE)
def test_the_report_states_parity_size_and_time(name, exports):
    file = file_of(exports, name)
    report = json.loads((file.parent / "export.json").read_text())
    parity = report["parity"]
    assert parity["rows"] == export.NUM_TEST_IMAGES
    assert 0 <= parity["probabilities"]["mean"] <= parity["probabilities"]["largest"] < 1e-4
    assert parity["probabilities"]["equal_top1"] == 1
    assert report["milliseconds"] > 0
    own = [path for path in file.parent.iterdir() if path.stem == "model"]
    assert report["bytes"] == sum(path.stat().st_size for path in own)


@pytest.mark.parametrize("name", ALONE)
def test_the_process_of_a_runtime_imports_no_tensorflow(name, exports):
    result = exported_process.run_in_process(file_of(exports, name), {"image": random_images(3)})
    assert result.frameworks == ()
    assert result.outputs["probabilities"].shape == (3, len(CLASSES))


@pytest.mark.parametrize("name", ALONE)
def test_the_script_needs_only_its_runtime(name, exports, saved, tmp_path):
    """It runs with a path on which there are only the packages that it names."""
    file = file_of(exports, name)
    site = tmp_path / "site"
    site.mkdir()
    installed = Path(np.__file__).parents[1]
    for package in (*PICTURE, *ALONE[name]):
        for part in (package, f"{package}.py", f"{package}.libs"):
            if (installed / part).exists():
                (site / part).symlink_to(installed / part)
    image = tmp_path / "image.png"
    Image.fromarray(random_images(1)[0]).save(image)
    code = f"import sys; sys.path.append({str(site)!r}); sys.argv = sys.argv[1:]; "
    code += "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, file.parent / "predict.py", image],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    expected = softmax(np.asarray(saved[0](random_images(1))))[0]
    best = int(expected.argmax())
    assert done.stdout.split()[:2] == [f"{expected[best]:.1%}", CLASSES[best]]


@pytest.mark.check
@pytest.mark.parametrize("name", ["keras", "saved_model"])
def test_formats_of_tensorflow(name, saved, tmp_path):
    (report,) = export.export(saved[1], [name], out=tmp_path)
    assert report["parity"]["probabilities"]["largest"] < 1e-5
    opened = exported_file.open_file(tmp_path / name / report["file"])
    images = random_images(2)
    found = opened.run({"image": images.astype(opened.dtypes["image"])})
    expected = softmax(np.asarray(saved[0](images)))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert opened.metadata["classes"] == list(CLASSES)


def test_a_file_may_take_float_pixels(saved, tmp_path):
    skip_without("openvino")
    export.export(saved[1], ["openvino"], out=tmp_path, pixels="float32")
    opened = exported_file.open_file(tmp_path / "openvino/model.xml")
    images = random_images(2).astype("float32") + np.float32(0.25)
    found = opened.run({"image": images})["probabilities"]
    np.testing.assert_allclose(found, softmax(np.asarray(saved[0](images))), atol=1e-5)


@pytest.mark.check
@pytest.mark.parametrize("name", ["litert", "openvino"])
def test_float16_halves_the_file(name, saved, exports, tmp_path):
    full = json.loads((file_of(exports, name).parent / "export.json").read_text())
    (half,) = export.export(saved[1], [name], ["float16"], out=tmp_path)
    assert half["folder"] == str(tmp_path / f"{name}-float16")
    assert 0.4 < half["bytes"] / full["bytes"] < 0.75
    assert 0 < half["parity"]["probabilities"]["largest"] < 0.01


@pytest.mark.check
def test_a_file_that_differs_is_not_written(saved, tmp_path, monkeypatch):
    """A converter that changes the values is detected, and an earlier export stays."""
    skip_without("openvino")
    export.export(saved[1], ["openvino"], out=tmp_path)
    before = sorted(path.name for path in (tmp_path / "openvino").iterdir())

    def write_other(conversion, path):
        logits = conversion.exported.model
        other = with_image_input(logits, lambda x: {"probabilities": x["probabilities"] * 1.01})
        changed = ExportModel(other, conversion.exported.metadata, {})
        converters.write_openvino(converters.Conversion(changed), path)

    own = converters.FORMATS["openvino"]
    wrong = converters.Format(own.title, own.file, write_other, own.packages)
    monkeypatch.setitem(converters.FORMATS, "openvino", wrong)
    with pytest.raises(UsageError, match="differs from Keras and is not written: probabilities"):
        export.export(saved[1], ["openvino"], out=tmp_path)
    assert sorted(path.name for path in (tmp_path / "openvino").iterdir()) == before
    with pytest.raises(UsageError, match="differs from Keras"):
        export.export(saved[1], ["openvino"], out=tmp_path / "new/folder")
    assert sorted(os.listdir(tmp_path)) == ["openvino"]


def test_comparisons_find_what_differs():
    model = with_image_input(classifier(), lambda x: {"probabilities": x})
    exported = ExportModel(model, {}, {"probabilities": "probabilities"})
    expected = {"probabilities": np.array([[0.2, 0.8], [0.6, 0.4]], "float32")}
    found = {"probabilities": np.array([[0.2, 0.8], [0.4, 0.6]], "float32")}
    figures, reasons = comparisons.compare_outputs(exported, found, expected, "float32")
    assert figures["probabilities"]["equal_top1"] == 0.5
    assert figures["probabilities"]["largest"] == pytest.approx(0.2)
    assert figures["probabilities"]["mean"] == pytest.approx(0.1)
    assert reasons == ["probabilities: the largest difference is 0.2, the limit is 0.001"]
    _, reasons = comparisons.compare_outputs(exported, {}, expected, "float32")
    assert reasons == ["it has no output probabilities"]
    found = {"probabilities": np.full((2, 2), np.nan)}
    assert comparisons.compare_outputs(exported, found, expected, "float32")[1]


def test_a_folder_that_is_no_export_is_not_replaced(saved, tmp_path):
    skip_without("onnx")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx/thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not an export; choose another --out"):
        export.export(saved[1], ["onnx"], out=tmp_path)
    assert (tmp_path / "onnx/thesis.txt").read_text() == "mine"


def test_wrong_formats_and_precisions_are_refused():
    with pytest.raises(UsageError, match="did you mean onnx"):
        export.check_formats(["onx"], ["float32"])
    with pytest.raises(UsageError, match="no precision named 'int4'"):
        export.check_formats(["onnx"], ["int4"])
    with pytest.raises(UsageError, match=r"onnx is not exported in float16; .*litert"):
        export.check_formats(["onnx"], ["float16"])


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    path = tmp_path / "model.onnx"
    path.touch()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda x: None if x == "nncf" else find(x))
    skip_without("openvino")
    export.check_formats(["openvino"], ["float32"])
    with pytest.raises(UsageError, match=r"openvino needs nncf; .*pip install"):
        export.check_formats(["openvino"], ["int8"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=r"openvino; .*pip install 'keras-zoo\[export\]'"):
        export.check_formats(["openvino"], ["float32"])
    with pytest.raises(UsageError, match=r"needs onnxruntime; .*pip install"):
        exported_file.open_file(path)


@pytest.mark.parametrize(
    ("error", "operations"),
    [
        ("-- No conversion rule found for operations: Bitcast, Foo\nTo facilitate", "Bitcast, Foo"),
        ("Some ops\nTF Select ops: BitwiseAnd\nDetails", "BitwiseAnd"),
        ("error: 'tf.BitwiseAnd' op is neither a custom op nor a flex op", "BitwiseAnd"),
        ("Error No Op registered for Bitcast with domain_version of 18", "Bitcast"),
        ("out of memory", ""),
    ],
)
def test_operations_that_a_converter_lacks_are_found_in_its_error(error, operations):
    assert converters.missing_operations(RuntimeError(error)) == operations


@pytest.mark.check
def test_an_operation_that_a_converter_lacks_is_named(tmp_path):
    """Keras computes the argmax of floats with a bitwise operation."""
    import keras

    skip_without("openvino")
    skip_without("onnx")
    image = keras.Input((8, 8, 3))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    best = keras.ops.one_hot(keras.ops.argmax(keras.layers.Dense(4)(mean), axis=-1), 4)
    keras.Model(image, best, name="net").save(tmp_path / "net.keras")
    message = r"OpenVINO has no operation Bitcast, which net needs; formats that can: .*keras"
    with pytest.raises(UsageError, match=message):
        export.export(tmp_path / "net.keras", ["openvino"], out=tmp_path / "out")
    with pytest.raises(UsageError, match=r"ONNX has no operation Bitcast"):
        export.export(tmp_path / "net.keras", ["onnx"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("'tf.Foo' op is neither a custom op nor a flex op", "FIRST has no operation Foo, which "),
        ("strange\nlines", "the model cannot be converted to FIRST: strange; "),
    ],
)
def test_a_failed_conversion_names_the_formats_that_can(error, reason, monkeypatch, tmp_path):
    def fail(conversion, path):
        raise RuntimeError(error)

    made = {
        "first": converters.Format("FIRST", "a.onnx", fail),
        "second": converters.Format("SECOND", "b.keras", lambda conversion, path: path.touch()),
        "third": converters.Format("THIRD", "c.onnx", fail),
    }
    monkeypatch.setattr(export, "FORMATS", made)
    monkeypatch.setattr(exported_process, "check_opens", lambda path: None)
    model = with_image_input(classifier(), lambda x: {"probabilities": x})
    conversion = converters.Conversion(ExportModel(model, {}, {}))
    with pytest.raises(UsageError) as caught:
        export.write("first", conversion, tmp_path / "a.onnx")
    assert str(caught.value).startswith(reason)
    assert str(caught.value).endswith("; formats that can: second")
    del made["second"]
    with pytest.raises(UsageError, match=r"; no other format can$"):
        export.write("first", conversion, tmp_path / "a.onnx")


def test_a_task_without_an_export_names_those_with_one():
    with pytest.raises(UsageError, match=r"sequence, which has no export; .*classification.* have"):
        cached_export.export_model(classifier(), {"task": "sequence"}, "net")


def test_a_damaged_file_is_an_error_of_one_line(tmp_path):
    for name in ALONE:
        skip_without(name)
        path = tmp_path / converters.FORMATS[name].file
        path.write_bytes(b"not a model")
        with pytest.raises(UsageError, match="cannot be read by"):
            exported_file.open_file(path)
    with pytest.raises(UsageError, match="no exported model at"):
        exported_file.open_file(tmp_path / "absent.onnx")


def test_two_inputs_are_refused(tmp_path):
    import keras

    one, two = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([one, two]))
    path = tmp_path / "two.keras"
    keras.Model([one, two], keras.layers.Dense(2)(pooled)).save(path)
    with pytest.raises(UsageError, match=r"has 2 inputs \(left, right\); only a model with one"):
        export.export(path, ["keras"], out=tmp_path)


def test_the_script_computes_in_the_precision_of_the_comparison(exports):
    """OpenVINO computes in bfloat16 by default on processors that can."""
    text = (file_of(exports, "openvino").parent / "predict.py").read_text()
    assert '"CPU", {"INFERENCE_PRECISION_HINT": "f32"})' in text


def test_the_default_folder_has_the_name_of_the_model(tmp_path):
    (tmp_path / "net.keras").touch()
    for name, folder in (
        ("resnet20.cifar10", "resnet20.cifar10"),
        ("hf://USER/NAME@main", "NAME"),
        (str(tmp_path / "net.keras"), "net"),
    ):
        assert export._default_folder(target.Target(name, None)) == Path("exports") / folder
    assert export._default_folder(target.Target("run", None, tmp_path)) == tmp_path / "export"


def test_images_for_any_number_of_channels():
    import keras

    image = keras.Input((16, 16, 5))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    loaded = target.Target("net", cached_export.export_model(model, {}, "net"))
    inputs, source = target.comparison_inputs(loaded, 3, ())
    assert inputs["image"].shape == (3, 16, 16, 5)
    assert source == "shapes, which are synthetic"


def test_a_calibration_set_of_other_classes_is_not_called_missing(tmp_path):
    options = {"out": tmp_path, "calibration": "shapes"}
    with pytest.raises(UsageError, match=r"^test has classes that the model was not trained on"):
        export.export("resnet20.cifar10", ["keras"], **options)
    assert not list(tmp_path.iterdir())


def test_a_comparison_without_boxes_is_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(export.log, "propagate", True)
    for score in (0.5, 0.0):
        assert not caplog.text
        outputs = {"boxes": np.zeros((2, 3, 4)), "scores": np.full((2, 3), score)}
        export._ComparisonData({}, outputs, "test split").warn_if_empty()
    assert "no object is found in the 2 images (test split)" in caplog.text


@pytest.mark.check
def test_a_model_in_bfloat16_is_exported_in_float32(tmp_path):
    skip_without("openvino")
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    model = classifier()
    path = tmp_path / "low.keras"
    model_files.save(model, path, {"classes": list(CLASSES), "resize": "stretch"})
    export.export(path, ["openvino"], out=tmp_path)
    opened = exported_file.open_file(tmp_path / "openvino/model.xml")
    keras.config.set_dtype_policy("float32")
    plain = classifier()
    plain.set_weights(model.get_weights())
    images = random_images(3)
    found = opened.run({"image": images})["probabilities"]
    np.testing.assert_allclose(found, softmax(np.asarray(plain(images))), atol=1e-5)
