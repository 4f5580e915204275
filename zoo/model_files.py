"""Saves and loads models with metadata, such as class names, in one `.keras` file.

Keras loads the file like any other: the metadata is in a member of the archive that it ignores.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from zoo import arguments, graphs, paths
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras
from zoo.lazy_layers import layers

keras_archive = LazyModule("zoo.keras_archive")

EXPORTED_SUFFIXES = (".onnx", ".tflite", ".xml")  # of models for other runtimes


def save(model: keras.Model, path: str | os.PathLike[str], metadata: Mapping[str, object]) -> None:
    """Saves a model and its metadata atomically.

    Optimizer and losses are not saved: they belong to the training run.

    Args:
        model: a built `keras.Model`.
        path: a path ending in `.keras`. An existing file is kept until the new one is complete.
        metadata: JSON values by key, such as `{"classes": [...], "resize": "stretch"}`.

    Raises:
        UsageError: the disk is full, or the folder cannot be written to.
    """
    path = Path(arguments.check_path(path, "a model file"))
    if not isinstance(model, keras.Model) or path.suffix != ".keras":
        kind = type(model).__name__
        raise UsageError(f"a keras.Model is saved to a file ending in .keras, not {kind} to {path}")
    try:
        text = json.dumps(metadata, indent=1)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the metadata of a model must be JSON values: {error}") from error
    net = graphs.functional_graph(model)
    if model.compiled and net is not None:
        model = keras.Model(net.input, net.output, name=model.name)
    with atomic_write(path) as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(keras_archive.METADATA_FILE, text)


def load(path: str | os.PathLike[str]) -> tuple[keras.Model, dict[str, Any]]:
    """Loads a model and its metadata.

    Args:
        path: a `.keras` file, saved by `save` or by Keras.

    Returns:
        The `keras.Model`, and the metadata passed to `save`; empty for a file saved by Keras.

    Raises:
        UsageError: there is no such file, or it is not a Keras model.
    """
    path = Path(arguments.check_path(path, "a model file"))
    if kind := paths.special_file_type(path):
        raise UsageError(f"{path} is {kind}, not a model file")
    if not path.is_file():
        raise UsageError(f"no model file at {path}")
    if path.suffix in EXPORTED_SUFFIXES:
        raise UsageError(
            f"{path} is an exported model, not a Keras model; pass the run or the .keras file that "
            "it was exported from"
        )
    _ = layers.PixelNormalization  # imports, and so registers, the layers of the zoo
    try:
        return keras_archive.load(path)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a Keras model: {error}") from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the metadata of a model file without loading the model.

    Args:
        path: a `.keras` file, saved by `save` or by Keras.

    Returns:
        The metadata passed to `save`; empty for a file saved by Keras.

    Raises:
        UsageError: there is no such file, or it is damaged.
    """
    if kind := paths.special_file_type(path):
        raise UsageError(f"{path} is {kind}, not a model file")
    try:
        return keras_archive.read_metadata(path)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a model file: {error}") from error


def check_no_code(path: str | os.PathLike[str]) -> None:
    """Checks that a model file holds no code, whether or not Keras would execute it.

    Args:
        path: a `.keras` file.

    Raises:
        UsageError: it holds code, or cannot be read.
    """
    try:
        keras_archive.check_no_code(path)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a Keras model: {error}") from error


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Returns the class names in the metadata of a model file, in the order of its logits.

    Empty for files without metadata, of other formats, and for unreadable files.
    """
    if os.fspath(path).endswith(".keras"):
        with suppress(UsageError):
            return tuple(read_metadata(path).get("classes", ()))
    return ()
