"""Model files of Keras from elsewhere, looked at before Keras reads them, and what is said in them.

Keras reads a file in its safe mode, in which no code of the file runs. It believes the sizes that
the file claims, so these are compared here with what is stored.
"""

from __future__ import annotations

import io
import json
import math

from zoo import zip_archives
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

hdf5 = LazyModule("zoo.weights.hdf5")

METADATA_FILE, CONFIG_FILE, WEIGHTS_FILE = (
    "zoo.json",
    "config.json",
    "model.weights.h5",
)  # members of the archive
MAX_BYTES_TO_COUNT = (
    1 << 26
)  # bytes of arrays below which the layers are made without values to count them
LOAD_ERRORS = (  # what `load_model` raises for the configuration of a damaged or foreign file
    *(
        *zip_archives.ZIP_ERRORS,
        TypeError,
        AttributeError,
        IndexError,
        ImportError,
        ArithmeticError,
    ),
    AssertionError,
)
STRING_LIST = "a list of words"
METADATA_TYPES = {  # what the facts about a model are, where they are given
    **dict.fromkeys(("task", "model", "resize", "search", "keep_colours"), "text"),
    **dict.fromkeys(("length", "beam", "length_penalty", "least"), "a number"),
    **dict.fromkeys(("classes", "vocabulary"), STRING_LIST),
    "options": "a table",
}
TYPE_CHECKS = {
    "text": lambda value: isinstance(value, str),
    "a number": lambda value: type(value) in (int, float) and math.isfinite(value),
    STRING_LIST: lambda value: (
        isinstance(value, list) and all(isinstance(word, str) for word in value)
    ),
    "a table": lambda value: isinstance(value, dict),
}
TASKS_WITH_CLASSES = (
    "classification",
    "segmentation",
)  # tasks whose models have one output for each class


class ModelMetadata(dict):
    """The facts about a model, by name; one that is asked for and missing is a `UsageError`."""

    def __missing__(self, key):
        raise UsageError(f"the model file does not say its {key}; train it again with `zoo train`")


def load(path):
    """Reads a model and the facts about it.

    Returns:
        The `keras.Model` and its `Facts`.

    Raises:
        ValueError: the file is damaged, or claims more than it stores; or it holds code.
    """
    with zip_archives.open_zip(path) as archive:
        metadata = parse_metadata(archive)
        _check_sizes(archive)
    try:
        model = keras.saving.load_model(path, compile=False)
    except LOAD_ERRORS as error:
        raise ValueError(_first_line(error)) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"it holds a {type(model).__name__}, which is no model")
    _check_classes(metadata, model)
    return model, metadata


def read_metadata(path):
    """Returns the `Facts` of a file; raises `ValueError` as `load` does."""
    with zip_archives.open_zip(path) as archive:
        return parse_metadata(archive)


def parse_metadata(archive):
    """Returns what `zoo.model_files.save` wrote about a model, as `Facts`; empty for another
    maker's.

    Raises:
        ValueError: it is not a table, or one of the facts is of another kind.
    """
    metadata = _json(archive, METADATA_FILE) if METADATA_FILE in archive.namelist() else {}
    if not isinstance(metadata, dict):
        raise ValueError(f"its {METADATA_FILE} is no table of facts")
    for key, kind in METADATA_TYPES.items():
        if key in metadata and not TYPE_CHECKS[kind](metadata[key]):
            raise ValueError(
                f"its {METADATA_FILE} gives {key} as {str(metadata[key])[:40]!r}, not as {kind}"
            )
    return ModelMetadata(metadata)


def _check_classes(metadata, model):
    """Raises an error where not every output of a classifier or segmenter has a name."""
    names, shape = metadata.get("classes"), getattr(model, "output_shape", None)
    counted = metadata.get("task", TASKS_WITH_CLASSES[0]) in TASKS_WITH_CLASSES and isinstance(
        shape, tuple
    )
    if names is not None and counted and shape[-1] != len(names):
        raise ValueError(
            f"its {METADATA_FILE} names {len(names)} classes, and it has {shape[-1]} outputs"
        )


def _check_sizes(archive):
    """Raises an error where arrays or layers would take more memory than what is stored."""
    config = _json(archive, CONFIG_FILE)
    if not isinstance(config, dict) or not {"class_name", "config"} <= set(config):
        raise ValueError(f"its {CONFIG_FILE} describes no model")
    if WEIGHTS_FILE not in archive.namelist():
        return
    stored = hdf5.total_bytes(io.BytesIO(zip_archives.read_member(archive, WEIGHTS_FILE)))
    if stored > MAX_BYTES_TO_COUNT:
        return
    try:
        with keras.StatelessScope(initialize_variables=False):  # without values
            model = keras.saving.deserialize_keras_object({**config, "compile_config": None})
        sizes = [math.prod(x.shape) for x in getattr(model, "variables", ())]
    except LOAD_ERRORS as error:
        raise ValueError(_first_line(error)) from error
    if (
        sum(sizes) > stored + zip_archives.ALLOWED_OVERHEAD
    ):  # those of quantised layers have a byte each
        raise ValueError(
            f"its layers have {sum(sizes):,} weights, and {stored:,} bytes of them are stored"
        )


def _json(archive, name):
    try:
        return json.loads(zip_archives.read_member(archive, name))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{name}: {zip_archives.error_message(error)}") from error


def _first_line(error):
    """Returns the first line of what Keras says, without its advice to run the code of a file."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(" If you trust")[0]
