"""Converters: each writes a model to a file of one format, with names and metadata inside."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.export import litert_layers
from tasks.inference import export_graph, exported_file, openvino_file
from tasks.inference.converters import ONNX_OPSET
from tasks.inference.export_model import ExportModel
from tasks.web import web_folder
from zoo import model_files
from zoo.lazy import LazyModule, keras, tf

_onnx = LazyModule("onnx")
_onnxruntime = LazyModule("onnxruntime")
_tf2onnx = LazyModule("tf2onnx.convert")

LABELS = "labels.txt"  # class names, in the archive at the end of a LiteRT file
DEBUG_LEVELS = ("tf2onnx", "absl")  # loggers that describe each step of a conversion


@dataclass(frozen=True)
class Conversion:
    """What is to be converted.

    Attributes:
        exported: the model.
        pixels: dtype of images, `uint8` or `float32`.
        precision: `float32`, `float16` or `int8`.
        calibration: images for int8, uint8 `(count, height, width, channels)`, or `None`.
        float_layers: names of the layers of the model that int8 leaves in float.
        web_runtime: the `onnxruntime_web.OnnxRuntimeWeb` of a web page, or `None`.
    """

    exported: ExportModel
    pixels: str = "uint8"
    precision: str = "float32"
    calibration: object = None
    float_layers: tuple[str, ...] = ()
    web_runtime: object = field(default=None, repr=False)

    @property
    def function(self):
        """The `export_graph.trace` of the model."""
        return export_graph.trace(self.exported, self.pixels)


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        title: its name in messages.
        file: name of the file, or of the folder of a SavedModel.
        write: a function that writes a `Conversion` to a path.
        packages: import names of the required packages.
        quantizers: import names of the packages that int8 needs besides.
        precisions: supported precisions.
        add: a function of a `Conversion` and the path that adds files beside the written one, and
            returns further keys of the report.
    """

    title: str
    file: str
    write: Callable
    packages: tuple[str, ...] = ()
    quantizers: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("float32",)
    add: Callable = lambda conversion, path: {}


def write_onnx(conversion, path):
    """Writes an ONNX file."""
    network = to_onnx(conversion)
    if conversion.precision == "int8":
        from tasks.export import onnx_quantization

        network = onnx_quantization.quantize(network, conversion)
        del network.metadata_props[:]  # of the quantizer, which are not JSON as ours are
    for key, value in conversion.exported.metadata.items():
        network.metadata_props.add(key=key, value=json.dumps(value))
    _onnx.save(network, path)
    # Fails for operations that ONNX does not have, which the converter leaves in the file.
    _onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def to_onnx(conversion):
    """Returns the ONNX model of a conversion in float32."""
    function = conversion.function
    signature = [tf.TensorSpec(x.shape, x.dtype, x.name.split(":")[0]) for x in function.inputs]
    with _quiet():
        network, _ = _tf2onnx.from_function(
            tf.function(function), input_signature=signature, opset=ONNX_OPSET
        )
    for tensor in (*network.graph.input, *network.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    network.producer_name = "keras-zoo"
    return network


def write_openvino(conversion, path):
    """Writes an OpenVINO file, and its weights to a file `.bin` beside it."""
    exported = conversion.exported
    network = openvino_file.convert(exported, conversion.function)
    if conversion.precision == "int8":
        from tasks.export import openvino_quantization

        network = openvino_quantization.quantize(network, conversion)
    half = conversion.precision == "float16"
    openvino_file.save(network, path, exported.metadata, half=half)


def write_litert(conversion, path):
    """Writes a LiteRT file."""
    exported = litert_layers.with_static_channels(conversion.exported)
    if conversion.precision == "int8":
        exported = litert_layers.without_reversal(exported)
    function = dataclasses.replace(conversion, exported=exported).function
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    if conversion.precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    if conversion.precision == "int8":
        from tasks.export import litert_quantization

        content = litert_quantization.quantize(converter, conversion)
    else:
        with _quiet():
            content = converter.convert()
    Path(path).write_bytes(content)
    metadata = conversion.exported.metadata
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(exported_file.METADATA_FILE, json.dumps(metadata))
        if classes := metadata.get("classes"):
            archive.writestr(LABELS, "\n".join(classes) + "\n")


def write_saved_model(conversion, path):
    """Writes a SavedModel, with a signature for each dtype of pixels."""
    exported, archive = conversion.exported, keras.export.ExportArchive()
    archive.track(exported.model)
    kinds = {"serving_default": conversion.pixels}
    if exported.takes_images:
        kinds |= {f"serving_{dtype}": dtype for dtype in export_graph.PIXEL_DTYPES}
    for endpoint, pixels in kinds.items():
        _add_endpoint(archive, endpoint, exported, export_graph.input_dtypes(exported, pixels))
    archive.write_out(path, verbose=False)
    extras = Path(path) / exported_file.SAVED_MODEL_EXTRAS
    extras.mkdir()
    (extras / exported_file.METADATA_FILE).write_text(json.dumps(exported.metadata))


def _add_endpoint(archive, name, exported, dtypes):
    model = exported.model

    def serve(*tensors):
        inputs = [tf.cast(x, entry.dtype) for x, entry in zip(tensors, model.inputs, strict=True)]
        inputs = inputs[0] if len(inputs) == 1 else dict(zip(dtypes, inputs, strict=True))
        return model(inputs, training=False)

    shapes = [(None, *entry.shape[1:]) for entry in model.inputs]
    signature = [
        tf.TensorSpec(shape, dtype, entry)
        for shape, (entry, dtype) in zip(shapes, dtypes.items(), strict=True)
    ]
    archive.add_endpoint(name, tf.function(serve, autograph=False), signature)


def write_keras(conversion, path):
    """Writes a `.keras` file."""
    model_files.save(conversion.exported.model, path, conversion.exported.metadata)


def add_web_page(conversion, path):
    """Writes a page beside an ONNX file that runs it in the browser, and returns its version."""
    exported = conversion.exported
    dtypes = export_graph.input_dtypes(exported, conversion.pixels)
    inputs = {x.name: [dtypes[x.name], *x.shape] for x in exported.model.inputs}
    web_folder.write(path, inputs, exported.metadata, conversion.web_runtime)
    return {"page": web_folder.PAGE, "onnxruntime_web": conversion.web_runtime.version}


FORMATS = {
    "onnx": Format(
        *("ONNX", "model.onnx", write_onnx, ("onnx", "tf2onnx", "onnxruntime")),
        precisions=("float32", "int8"),
    ),
    "openvino": Format(
        *("OpenVINO", "model.xml", write_openvino, ("openvino",), ("nncf",)),
        precisions=("float32", "float16", "int8"),
    ),
    "litert": Format(
        *("LiteRT", "model.tflite", write_litert, ("ai_edge_litert",)),
        precisions=("float32", "float16", "int8"),
    ),
    "web": Format(
        *("a web page", "model.onnx", write_onnx, ("onnx", "tf2onnx", "onnxruntime")),
        precisions=("float32", "int8"),
        add=add_web_page,
    ),
    "saved_model": Format("SavedModel", "saved_model", write_saved_model),
    "keras": Format("Keras", "model.keras", write_keras),
}
# How converters name an operation that they lack.
MISSING_OPERATION = (
    re.compile(r"No conversion rule found for operations: (.+)"),
    re.compile(r"TF Select ops: (.+)"),
    re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op"),
    re.compile(r"No Op registered for (\w+)"),
)


def missing_operations(error):
    """Returns the names of the operations that a converter lacks, by its error; or empty."""
    for pattern in MISSING_OPERATION:
        if match := pattern.search(str(error)):
            return match[1].strip()
    return ""


@contextlib.contextmanager
def _quiet():
    """Silences the loggers of converters."""
    loggers = [logging.getLogger(name) for name in DEBUG_LEVELS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def temporary_folder():
    """Yields the path of a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
