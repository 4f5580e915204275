"""Validates `.keras` files before Keras loads them, and reads our metadata in them.

Keras loads a file in its safe mode, in which no code of the file is executed. But it trusts the
sizes that the file states, so they are compared here with the bytes that are stored.
"""

from __future__ import annotations

import io
import json
import math
import re

from zoo import zip_archives
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

hdf5 = LazyModule("zoo.weights.hdf5")

# Members of the archive.
METADATA_FILE, CONFIG_FILE, WEIGHTS_FILE = "zoo.json", "config.json", "model.weights.h5"
# Models with fewer bytes of weights than this are built without values to count their weights.
MAX_BYTES_TO_COUNT = 1 << 26
CODE_CLASSES = ("Lambda", "__lambda__")  # whose configuration holds Python bytecode
LOAD_ERRORS = (  # raised by `load_model` for a damaged file, or one of another program
    *zip_archives.ZIP_ERRORS,
    *(TypeError, AttributeError, IndexError, ImportError, ArithmeticError, AssertionError),
)
MISSING_CLASS = re.compile(r"Could not locate class '([^']{1,200})'")
STRING, NUMBER, STRINGS, OBJECT = "a string", "a number", "a list of strings", "an object"
METADATA_TYPES = {  # of the keys that may be in the metadata
    **dict.fromkeys(("task", "model", "resize", "search", "keep_colours"), STRING),
    **dict.fromkeys(("length", "beam", "length_penalty", "least"), NUMBER),
    **dict.fromkeys(("classes", "vocabulary"), STRINGS),
    "options": OBJECT,
}
TYPE_CHECKS = {
    STRING: lambda value: isinstance(value, str),
    NUMBER: lambda value: type(value) in (int, float) and math.isfinite(value),
    STRINGS: lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    OBJECT: lambda value: isinstance(value, dict),
}
TASKS_WITH_CLASSES = ("classification", "segmentation")  # their models have an output per class


class ModelMetadata(dict):
    """The metadata of a model by key; accessing a missing key raises `UsageError`."""

    def __missing__(self, key):
        raise UsageError(f"the model file has no {key}; train the model again with `zoo train`")


def load(path):
    """Loads a model and its metadata.

    Returns:
        The `keras.Model` and its `ModelMetadata`.

    Raises:
        ValueError: the file is damaged, needs code to be executed, or states larger sizes than it
            stores.
    """
    with zip_archives.open_zip(path) as archive:
        metadata = parse_metadata(archive)
        _check_sizes(archive)
    try:
        model = keras.saving.load_model(path, compile=False)
    except LOAD_ERRORS as error:
        raise ValueError(_first_line(error)) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"it holds a {type(model).__name__}, not a model")
    _check_classes(metadata, model)
    return model, metadata


def read_metadata(path):
    """Returns the `ModelMetadata` of a file.

    Raises:
        ValueError: the archive is damaged, or its metadata is invalid.
    """
    with zip_archives.open_zip(path) as archive:
        return parse_metadata(archive)


def parse_metadata(archive):
    """Returns the metadata that `zoo.model_files.save` stored; empty for other files.

    Raises:
        ValueError: the metadata is not a JSON object, or a value has the wrong type.
    """
    metadata = _json(archive, METADATA_FILE) if METADATA_FILE in archive.namelist() else {}
    if not isinstance(metadata, dict):
        raise ValueError(f"its {METADATA_FILE} is not a JSON object")
    for key, kind in METADATA_TYPES.items():
        if key in metadata and not TYPE_CHECKS[kind](metadata[key]):
            raise ValueError(
                f"{key} in its {METADATA_FILE} must be {kind}, not {str(metadata[key])[:40]!r}"
            )
    return ModelMetadata(metadata)


def check_no_code(path):
    """Raises `ValueError` if a model file contains code, which Keras can be made to execute.

    Keras refuses such a file in its safe mode, which a process can disable for all files.
    """
    with zip_archives.open_zip(path) as archive:
        waiting = [_json(archive, CONFIG_FILE)]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if found.get("class_name") in CODE_CLASSES:
                raise ValueError(f"it contains code (a {found['class_name']} layer or function)")
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _check_classes(metadata, model):
    """Raises `ValueError` if the number of class names is not the number of outputs."""
    names, shape = metadata.get("classes"), getattr(model, "output_shape", None)
    if names is None or not isinstance(shape, tuple):
        return
    task = metadata.get("task", TASKS_WITH_CLASSES[0])
    if task in TASKS_WITH_CLASSES and shape[-1] != len(names):
        raise ValueError(
            f"its {METADATA_FILE} names {len(names)} classes, but it has {shape[-1]} outputs"
        )


def _check_sizes(archive):
    """Raises `ValueError` if loading would take much more memory than the file stores."""
    config = _json(archive, CONFIG_FILE)
    if not isinstance(config, dict) or not {"class_name", "config"} <= set(config):
        raise ValueError(f"its {CONFIG_FILE} does not describe a model")
    if WEIGHTS_FILE not in archive.namelist():
        return
    stored = hdf5.total_bytes(io.BytesIO(zip_archives.read_member(archive, WEIGHTS_FILE)))
    if stored > MAX_BYTES_TO_COUNT:
        return
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object({**config, "compile_config": None})
        sizes = [math.prod(x.shape) for x in getattr(model, "variables", ())]
    except LOAD_ERRORS as error:
        raise ValueError(_first_line(error)) from error
    # Weights of quantized layers have one byte each.
    if sum(sizes) > stored + zip_archives.ALLOWED_OVERHEAD:
        raise ValueError(
            f"its layers have {sum(sizes):,} weights, but only {stored:,} bytes are stored"
        )


def _json(archive, name):
    try:
        return json.loads(zip_archives.read_member(archive, name))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{name}: {zip_archives.error_message(error)}") from error


def _first_line(error):
    """Returns the first line of an error of Keras, without its advice to execute code of a file.

    For a missing class, which Keras mentions further below, it returns the name of the class.
    """
    if missing := MISSING_CLASS.search(str(error)):
        return (
            f"it needs the class {missing[1]!r}, which is in neither Keras nor the zoo; load it in "
            "Python, after the module that registers the class with "
            "keras.saving.register_keras_serializable"
        )
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(" If you trust")[0]
