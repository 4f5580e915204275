"""Exported models: files that a runtime executes without TensorFlow.

Each holds its metadata, such as class names, in the place that its format has for them: the
properties of an ONNX file, `rt_info` of an OpenVINO file, and an archive at the end of a LiteRT
file, as TensorFlow Lite appends associated files.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import types
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.inference import threads
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np, tf
from zoo.paths import special_file_type

_litert = LazyModule("ai_edge_litert.interpreter")
_onnxruntime = LazyModule("onnxruntime")
_openvino = LazyModule("openvino")

METADATA_FILE = "metadata.json"  # in the archive at the end of a LiteRT file, or in a SavedModel
METADATA_SECTION = "keras_zoo"  # of the `rt_info` of an OpenVINO file
SAVED_MODEL_FILE, SAVED_MODEL_EXTRAS = "saved_model.pb", "assets.extra"
MAX_METADATA_BYTES = 2**24
ONNX_ERROR_LEVEL = 3  # of the log of ONNX Runtime, whose warnings concern its own optimizations


@dataclass(frozen=True)
class ExportedFile:
    """An exported model, ready to run.

    Attributes:
        path: path of the file, or of the folder of a SavedModel.
        metadata: what `export_model.ExportModel.metadata` was.
        shapes: shape of each input by name, `None` for sides of any length.
        dtypes: NumPy dtype of each input by name.
        run: a thread-safe function from arrays by name to arrays by name.
    """

    path: Path
    metadata: Mapping[str, object]
    shapes: Mapping[str, tuple]
    dtypes: Mapping[str, object]
    run: Callable = field(repr=False)


@dataclass(frozen=True)
class Runtime:
    """The runtime of a file format.

    Attributes:
        title: its name in messages.
        package: import name of its package.
        load: function of a path, the number of threads that call the model at a time, and the
            number of threads of each call, which returns metadata, input shapes, input dtypes and
            the function of an `ExportedFile`.
    """

    title: str
    package: str
    load: Callable


@dataclass(frozen=True)
class ExportedNetwork:
    """Stands for the `keras.Model` of a predictor.

    Attributes:
        file: the `ExportedFile`, which takes images.
        read: a function of its outputs by name that returns what the predictor takes.
    """

    file: ExportedFile
    read: Callable = field(repr=False)

    @property
    def input_shape(self):
        """`(None, height, width, channels)`."""
        (shape,) = self.file.shapes.values()
        return shape

    @property
    def input(self):
        """The input, which has a `shape`."""
        return types.SimpleNamespace(shape=self.input_shape)

    def __call__(self, images):
        """Returns the predictions for images `(batch, height, width, channels)`."""
        ((name, dtype),) = self.file.dtypes.items()
        return self.read(self.file.run({name: images.astype(dtype, copy=False)}))


def is_exported(path):
    """Returns whether a path is named like an exported model that needs no TensorFlow."""
    return Path(path).suffix in SUFFIXES and Path(path).suffix != ".keras"


def open_file(path, *, streams=1, num_threads=0):
    """Opens an exported model in the runtime of its format.

    Args:
        path: an `.onnx`, `.tflite`, `.xml` or `.keras` file, or the folder of a SavedModel.
        streams: number of threads that call the model at a time, which share the cores.
        num_threads: number of threads of each call; 0 for all cores divided by `streams`. That of
            TensorFlow is set for the process instead, before its first operation.

    Raises:
        UsageError: there is no such file, it is damaged, or the package of its runtime is missing.
    """
    path = Path(path)
    runtime = _runtime(path)
    if importlib.util.find_spec(runtime.package) is None:
        raise UsageError(
            f"{path} needs {runtime.package}; install it with: pip install 'keras-zoo[export]'"
        )
    try:
        num_threads = num_threads or max(1, (os.cpu_count() or 1) // streams)
        return ExportedFile(path, *runtime.load(path, streams, num_threads))
    except UsageError:
        raise
    except Exception as error:  # a runtime may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} cannot be read by {runtime.title}: {reason:.200}") from error


def _runtime(path):
    if (path / SAVED_MODEL_FILE).is_file():
        return SAVED_MODEL
    if kind := special_file_type(path):
        raise UsageError(f"{path} is {kind}, not an exported model")
    if not path.exists():
        raise UsageError(f"no exported model at {path}")
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path} is not an exported model; expected {', '.join(SUFFIXES)} or a SavedModel"
        )
    return SUFFIXES[path.suffix]


def _load_onnx(path, streams, num_threads):
    options = _onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = ONNX_ERROR_LEVEL
    session = _onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    names = [entry.name for entry in session.get_outputs()]
    entries = session.get_inputs()
    dtypes = {entry.name: _onnx_dtype(entry.type) for entry in entries}
    shapes = {
        entry.name: tuple(side if isinstance(side, int) else None for side in entry.shape)
        for entry in entries
    }
    properties = session.get_modelmeta().custom_metadata_map

    def run(inputs):
        return dict(zip(names, session.run(names, inputs), strict=True))

    return _parse(properties), shapes, dtypes, run


def _onnx_dtype(name):
    """Returns the dtype of a type such as `tensor(float)`."""
    name = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def _load_openvino(path, streams, num_threads):
    # Importing OpenVINO sends telemetry, unless its telemetry package is missing.
    sys.modules.setdefault("openvino_telemetry", None)
    core = _openvino.Core()
    network = core.read_model(path)
    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * num_threads,
        "ENABLE_CPU_PINNING": False,  # the cores also read images
    }
    compiled = core.compile_model(network, "CPU", hints)
    names = [output.get_any_name() for output in compiled.outputs]
    dtypes = {
        entry.get_any_name(): np.dtype(entry.get_element_type().to_dtype())
        for entry in compiled.inputs
    }
    shapes = {
        entry.get_any_name(): tuple(
            None if side.is_dynamic else side.get_length() for side in entry.get_partial_shape()
        )
        for entry in compiled.inputs
    }
    metadata = {}
    if network.has_rt_info([METADATA_SECTION]):
        section = network.get_rt_info([METADATA_SECTION]).astype(dict)
        metadata = _parse({key: value.astype(str) for key, value in section.items()})

    def make():
        request = compiled.create_infer_request()

        def run(inputs):
            found = request.infer(inputs)
            return {name: found[at] for at, name in enumerate(names)}

        return run

    return metadata, shapes, dtypes, threads.per_thread(make)


def _load_litert(path, streams, num_threads):
    def open_interpreter():
        return _litert.Interpreter(model_path=os.fspath(path), num_threads=num_threads)

    def make():
        interpreter = open_interpreter()
        runner = interpreter.get_signature_runner()

        def run(inputs):
            return {name: np.array(value) for name, value in runner(**inputs).items()}

        return run

    details = open_interpreter().get_signature_runner().get_input_details()
    dtypes = {name: np.dtype(entry["dtype"]) for name, entry in details.items()}
    shapes = {
        name: tuple(None if side < 0 else int(side) for side in entry["shape_signature"])
        for name, entry in details.items()
    }
    return read_litert_metadata(path), shapes, dtypes, threads.per_thread(make)


def read_litert_metadata(path):
    """Returns the metadata in the archive at the end of a LiteRT file; empty without one."""
    with contextlib.suppress(zipfile.BadZipFile, KeyError), zipfile.ZipFile(path) as archive:
        if archive.getinfo(METADATA_FILE).file_size <= MAX_METADATA_BYTES:
            return json.loads(archive.read(METADATA_FILE))
    return {}


def _load_saved_model(path, streams, num_threads):
    loaded = tf.saved_model.load(os.fspath(path))  # kept, as the signature does not
    signature = loaded.signatures["serving_default"]
    specs = signature.structured_input_signature[1]
    dtypes = {name: np.dtype(spec.dtype.as_numpy_dtype) for name, spec in specs.items()}
    shapes = {name: tuple(spec.shape) for name, spec in specs.items()}

    def run(inputs):
        found = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items() if loaded}

    metadata = json.loads((path / SAVED_MODEL_EXTRAS / METADATA_FILE).read_text())
    return metadata, shapes, dtypes, run


def _load_keras(path, streams, num_threads):
    model, metadata = model_files.load(path)
    dtypes = {entry.name: np.dtype(entry.dtype) for entry in model.inputs}
    shapes = {entry.name: tuple(entry.shape) for entry in model.inputs}
    (alone,) = dtypes if len(dtypes) == 1 else (None,)

    def run(inputs):
        return model.predict_on_batch(inputs[alone] if alone else dict(inputs))

    return metadata, shapes, dtypes, run


def _parse(texts):
    """Returns the values of metadata that is stored as a JSON text per key."""
    metadata = {}
    for key, text in texts.items():
        with contextlib.suppress(ValueError):  # of another program
            metadata[key] = json.loads(text)
    return metadata


SAVED_MODEL = Runtime("TensorFlow", "tensorflow", _load_saved_model)
SUFFIXES = {
    ".onnx": Runtime("ONNX Runtime", "onnxruntime", _load_onnx),
    ".tflite": Runtime("LiteRT", "ai_edge_litert", _load_litert),
    ".xml": Runtime("OpenVINO", "openvino", _load_openvino),
    ".keras": Runtime("Keras", "keras", _load_keras),
}
