"""Quantization to 8 bits: layers that stay in float, and the limit on the metric."""

import importlib.util
import json
import os
import re

import numpy as np
import pytest

from tasks.data import sources, splits
from tasks.data.dataset import Source, Split
from tasks.data.decoding import Examples
from tasks.engine import trainer
from tasks.export import (
    converters,
    export,
    export_table,
    float_layers,
    onnx_quantization,
    openvino_quantization,
    quantization,
    target,
)
from tasks.export.converters import Conversion
from tasks.inference import openvino_file
from tasks.inference.export_model import ExportModel, SplitReader, with_image_input
from tests.support.tiny_tasks import tiny
from zoo.errors import UsageError

FORMATS = {"openvino": "openvino", "onnx": "onnxruntime", "litert": "ai_edge_litert"}


def network(scale=1.0):
    """Two dense layers on the mean color; `scale` is of a weight that all images multiply by 0."""
    import keras

    image = keras.Input((4, 4, 3))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    hidden = keras.layers.Dense(3, use_bias=False, name="coarse")(mean)
    model = keras.Model(image, keras.layers.Dense(2, use_bias=False, name="fine")(hidden))
    coarse = np.eye(3, dtype="float32")
    coarse[2] = scale  # of the blue channel, which is 0 everywhere
    model.get_layer("coarse").set_weights([coarse])
    model.get_layer("fine").set_weights([np.array([[1, -1], [-1, 1], [0, 0]], "float32")])
    return model


def images(count=16):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype="uint8")
    pixels[..., 2] = 0
    return pixels


def exported(model, evaluate=None):
    inner = with_image_input(model, lambda x: {"probabilities": x})
    data = SplitReader(None, None, "accuracy", evaluate)
    return ExportModel(inner, {"task": "classification"}, {}, data=data)


def test_the_most_sensitive_layer_is_first():
    """A weight of 1,000 makes the 8-bit steps of its channel 8 wide, and the others 0."""
    assert float_layers.rank(exported(network(1000.0)), images()) == ["coarse", "fine"]
    model = network()
    model.get_layer("fine").set_weights([np.array([[1, -1], [-1, 1], [1000, 1000]], "float32")])
    weights = [value.copy() for value in model.get_weights()]
    assert float_layers.rank(exported(model), images()) == ["fine", "coarse"]
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def convolutions():
    """A convolution, a depthwise and a transposed one, with batch normalization and ReLU6."""
    import keras

    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, 2, "same", use_bias=False, name="first")(layers.Rescaling(0.1)(image))
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    x = layers.Conv2DTranspose(5, 3, 2, "same", name="transposed")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(2, name="dense")(x))
    random = np.random.default_rng(1)
    model.set_weights([random.uniform(0.5, 2, x.shape) for x in model.get_weights()])
    return model


@pytest.mark.check
@pytest.mark.parametrize("name", ["first", "depthwise", "transposed", "dense"])
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_layer_is_found_in_the_converted_file(kind, name):
    """Both converters rename convolutions; OpenVINO's then have no name of a layer at all."""
    pytest.importorskip({"onnx": "tf2onnx", "openvino": "openvino"}[kind])
    model = float_layers.folded(exported(convolutions()))
    conversion = Conversion(model, precision="int8", float_layers=(name,))
    if kind == "onnx":
        network = converters.to_onnx(conversion)
        kinds = {node.name: node.op_type for node in network.graph.node}
        found = onnx_quantization._excluded(network, conversion)
    else:
        network = openvino_file.convert(model, conversion.function)
        kinds = {x.get_friendly_name(): x.get_type_name() for x in network.get_ordered_ops()}
        found = openvino_quantization._excluded(network, conversion)
    with_kernel = [kinds[each] for each in found if re.match("Conv|Group|MatMul|Gemm", kinds[each])]
    assert len(with_kernel) == 1


def test_the_bias_of_a_channel_without_weights_is_kept():
    """Of a kernel of almost 0, the steps of an integer bias would be too small for 32 bits."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    import keras

    image = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(4, 3, name="conv")
    model = keras.Model(image, layer(keras.layers.Rescaling(1 / 255)(image)), name="net")
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype("float32")
    kernel[..., 1] *= 1e-12
    layer.set_weights([kernel, np.array([0.1, 0.7, -0.2, 0.3], "float32")])
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 3), dtype="uint8")
    conversion = Conversion(
        ExportModel(with_image_input(model, lambda x: {"maps": x}), {}, {}),
        precision="int8",
        calibration=pixels,
    )
    network = onnx_quantization.quantize(converters.to_onnx(conversion), conversion)
    session = runtime.InferenceSession(network.SerializeToString())
    (found,) = session.run(["maps"], {"image": pixels})
    expected = model(pixels.astype("float32")).numpy()
    np.testing.assert_allclose(found, expected, atol=0.08)
    np.testing.assert_allclose(found[..., 1], 0.7, atol=0.01)
    # Signed weights would overflow 16 bits on processors without VNNI instructions.
    kinds = {tensor.data_type for tensor in network.graph.initializer}
    assert onnx_quantization._onnx.TensorProto.INT8 not in kinds


def test_batch_normalisation_is_rounded_as_part_of_the_kernel():
    model = exported(convolutions())
    folded = float_layers.folded(model)
    assert not any("BatchNorm" in type(layer).__name__ for layer in folded.model.layers)
    x = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    expected, found = model.model(x)["probabilities"], folded.model(x)["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_kernel_of_each_channel_has_its_own_steps():
    """With one step for all channels, a thousandth of the largest weight would become 0."""
    for layer in float_layers.kernel_layers(exported(convolutions()).model):
        kernel = layer.kernel.numpy()
        axis = {"depthwise": 2, "transposed": 2, "dense": 1}.get(layer.name, 3)
        scale = np.ones(kernel.ndim, "int64")
        scale[axis] = -1
        kernel *= (10.0 ** -np.arange(kernel.shape[axis])).reshape(scale)
        layer.kernel.assign(kernel)
        with float_layers._Rounded(layer):
            np.testing.assert_allclose(layer.kernel.numpy(), kernel, rtol=0.05)
        np.testing.assert_array_equal(layer.kernel.numpy(), kernel.astype("float32"))


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("PartitionedCall/net_1/conv1_1/convolution", True),
        ("net/conv1/BiasAdd;net/relu/Relu", True),
        ("conv1", True),
        ("net/conv10/convolution", False),
        ("net/my_conv1/convolution", False),
    ],
)
def test_an_operation_belongs_to_a_layer_by_its_path(name, same):
    assert float_layers.matches(name, ["conv1"]) is same


def accuracy(batches, examples):
    found = np.concatenate([batch["probabilities"] for batch in batches])
    correct = (found.argmax(axis=-1) == examples.labels).astype("float64")
    return lambda counts: counts @ correct / counts.sum(axis=1)


def test_the_interval_is_that_of_the_paired_difference():
    """Two models that are wrong on the same half of the images do not differ at all."""
    labels = np.arange(200) % 2
    examples = Examples("test", images(200), labels)
    right = np.eye(2)[labels]
    half = np.where(np.arange(200)[:, None] < 100, right, 1 - right)
    reader = SplitReader(None, None, "accuracy", accuracy)
    outputs = {"probabilities": half}
    same = quantization.compare(reader, outputs, outputs, examples)
    assert (same["float32"], same["int8"], same["drop"]) == (0.5, 0.5, 0.0)
    assert "drop_low" not in same or same["drop_low"] == same["drop_high"] == 0
    worse = half.copy()
    worse[:20] = 1 - worse[:20]
    found = quantization.compare(reader, {"probabilities": worse}, outputs, examples)
    assert found["drop"] == pytest.approx(0.1)
    # A difference of 1 with probability .1: the standard error is sqrt(.09 / 200) = .021.
    assert found["drop_low"] == pytest.approx(0.1 - 1.96 * 0.0212, abs=0.012)
    assert found["drop_high"] == pytest.approx(0.1 + 1.96 * 0.0212, abs=0.012)


@pytest.fixture
def drops(monkeypatch):
    """Returns a function that quantizes; the metric drops unless enough layers are in float."""
    written, labels = [], np.zeros(16, "int64")
    examples = Examples("validation", images(), labels)
    right = {"probabilities": np.eye(2)[labels]}
    wrong = {"probabilities": 1 - right["probabilities"]}

    def quantize(needed, max_drop=0.01):
        monkeypatch.setattr(
            quantization,
            "_file_outputs",
            lambda path, pixels: right if needed <= set(written[-1].float_layers) else wrong,
        )
        data = quantization.QuantizationData(
            images(), {"validation": examples}, {"validation": right}
        )
        conversion = Conversion(exported(network(1000.0), accuracy), precision="int8")
        report = quantization.quantize(
            lambda conversion, path: written.append(conversion), conversion, "path", data, max_drop
        )
        return report, written

    return quantize


def test_the_most_sensitive_layers_stay_in_float(drops):
    report, written = drops({"coarse"})
    assert report["float_layers"] == ["coarse"]
    assert [conversion.float_layers for conversion in written] == [(), ("coarse",)]
    assert report["splits"]["validation"]["drop"] == 0


def test_no_layer_stays_in_float_without_need(drops):
    report, written = drops(set())
    assert report["float_layers"] == []
    assert len(written) == 1


def test_a_drop_that_equals_the_limit_is_accepted(drops, monkeypatch):
    figures = {"float32": 0.38, "drop": 0.38 - 0.37}  # more than 0.01 in floating point
    monkeypatch.setattr(quantization, "compare", lambda *arguments: figures)
    report, written = drops({"coarse"})
    assert report["float_layers"] == []
    assert len(written) == 1


def test_a_metric_that_cannot_drop_is_a_warning(drops, monkeypatch, caplog):
    monkeypatch.setattr(quantization, "compare", lambda *arguments: {"float32": 0.0, "drop": 0.0})
    monkeypatch.setattr(quantization.log, "propagate", True)
    drops(set())
    assert "accuracy of float32 on validation is 0" in caplog.text


def test_a_drop_that_float_layers_do_not_prevent_is_refused(drops):
    with pytest.raises(UsageError, match=r"lowers accuracy on validation by 1\.0000, more than"):
        drops({"other"})


def test_an_onnx_file_holds_no_metadata_but_ours(tmp_path, monkeypatch):
    """Otherwise `predict.py`, which reads all of them as JSON, would fail."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 2]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "net", ends[:1], ends[1:])
    versions = {"opset_imports": [onnx.helper.make_opsetid("", 17)], "ir_version": 8}
    quantized = onnx.helper.make_model(graph, **versions)
    quantized.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    monkeypatch.setattr(converters, "to_onnx", lambda conversion: quantized)
    monkeypatch.setattr(onnx_quantization, "quantize", lambda network, conversion: network)
    path = tmp_path / "model.onnx"
    converters.write_onnx(Conversion(exported(network()), precision="int8"), path)
    properties = {x.key: json.loads(x.value) for x in onnx.load(path).metadata_props}
    assert properties == {"task": "classification"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("run") / "run"
    trainer.train(tiny("classification", epochs=3), out)
    return out


@pytest.mark.check
@pytest.mark.xdist_group("export-int8")
@pytest.mark.parametrize("name", FORMATS)
def test_a_quantized_run(name, run, tmp_path):
    if not importlib.util.find_spec(FORMATS[name]) or not importlib.util.find_spec("nncf"):
        pytest.skip(f"needs {FORMATS[name]} and nncf")
    full, rounded = export.export(run, [name], ["float32", "int8"], out=tmp_path, max_drop=0.05)
    assert rounded["bytes"] < 0.5 * full["bytes"]
    test = rounded["int8"]["splits"]["test"]
    accuracy = json.loads((run / "report.json").read_text())["figures"]["accuracy"]
    assert test["images"] == 100
    assert test["float32"] == pytest.approx(accuracy, abs=0.011)
    assert abs(test["drop"]) <= 0.05
    assert rounded["parity"]["probabilities"]["largest"] > 1e-5  # it is rounded
    assert [row[:4] for row in export_table.int8_rows([full, rounded])] == [
        (name, "validation", "128", "accuracy"),
        (name, "test", "100", "accuracy"),
    ]


@pytest.mark.check
@pytest.mark.xdist_group("export-int8")
def test_data_that_do_not_fit_are_refused(run, tmp_path):
    (tmp_path / "model.keras").write_bytes((run / "model.keras").read_bytes())
    with pytest.raises(UsageError, match="has no run whose images int8 could be calibrated on"):
        export.export(tmp_path / "model.keras", ["openvino"], ["int8"], out=tmp_path / "out")
    with pytest.raises(UsageError, match="has classes that the model was not trained on"):
        export.export(run, ["openvino"], ["int8"], calibration="shapes", out=tmp_path / "out")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recipe.yaml", "report.json", "model.keras"):
        text = (run / name).read_bytes().replace(b"fashion_sample", b"/absent/folder")
        (moved / name).write_bytes(text if name == "recipe.yaml" else (run / name).read_bytes())
    with pytest.raises(UsageError, match=r"no test images .*; pass some: --images FOLDER"):
        export.export(moved, ["openvino"], out=tmp_path / "out")
    assert not os.path.exists(tmp_path / "out")


def test_a_calibration_set_without_class_names_is_taken_by_number(monkeypatch, caplog):
    """Metadata of TFDS may lack the names of labels; another number of classes is refused."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype="uint8")

    def examples(count):
        labels = np.arange(200) % count
        source = Source("tfds:numbers", tuple(map(str, range(count))), {})
        source.splits["train"] = Split("train", list(pixels), labels)
        monkeypatch.setattr(sources, "load", lambda *arguments: source)
        loaded = target.load("resnet20.cifar10", calibration="tfds:numbers")
        return [target.split_examples(loaded, role, 50, "tfds:numbers") for role in splits.ROLES]

    for part in examples(10):
        places = [np.flatnonzero((pixels == image).all((1, 2, 3)))[0] for image in part.pixels]
        np.testing.assert_array_equal(part.labels, np.array(places) % 10)
    assert caplog.text.count("tfds:numbers has no class names; its classes 0 to 9") == 1
    with pytest.raises(UsageError, match="classes that the model was not trained on"):
        examples(9)
