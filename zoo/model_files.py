"""Files written whole or not at all, and a trained model as one that knows its classes.

Keras reads the file as any other; what else a user needs in order to use the model travels in
an entry of the archive that Keras leaves alone.
"""

from __future__ import annotations

import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path

from zoo import arguments, graphs, paths
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras
from zoo.lazy_layers import layers

METADATA_FILE = "zoo.json"
keras_archive = LazyModule("zoo.keras_archive")


def save(model, path, metadata):
    """Writes a model and the facts about it, in one step.

    An optimiser and losses are the run's, not the model's: they are left out.

    Args:
        model: a built `keras.Model`.
        path: where to, ending in `.keras`; what is there stays until the new file is whole.
        metadata: a dict of plain values, such as `{"classes": [...], "resize": "stretch"}`.

    Raises:
        UsageError: the disk is full or the folder cannot be written to.
    """
    path = Path(arguments.check_path(path, "a model file"))
    if not isinstance(model, keras.Model) or path.suffix != ".keras":
        kind = type(model).__name__
        raise UsageError(f"a keras.Model is saved to a file ending in .keras, not {kind} to {path}")
    try:
        text = json.dumps(metadata, indent=1)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the facts about a model are plain values: {error}") from error
    net = graphs.functional_graph(model)
    if model.compiled and net is not None:
        model = keras.Model(net.input, net.output, name=model.name)
    with atomic_write(path) as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(METADATA_FILE, text)


def load(path):
    """Reads a model and the facts about it.

    Args:
        path: a `.keras` file, ours or anybody's.

    Returns:
        The `keras.Model`, and the dict that `save` was given; empty for a file of another maker.

    Raises:
        UsageError: there is no such file, or it is not a Keras model.
    """
    path = Path(arguments.check_path(path, "a model file"))
    if kind := paths.special_file_type(path):
        raise UsageError(f"{path} is {kind}, not a model file")
    if not path.is_file():
        raise UsageError(f"no model file at {path}")
    _ = layers.PixelNormalization  # loads, and so registers, the layers of the zoo
    try:
        return keras_archive.load(path)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a Keras model: {error}") from error


def read_metadata(path):
    """Reads the facts about a model from its file, and not the model.

    Args:
        path: a `.keras` file, ours or anybody's.

    Returns:
        The dict that `save` was given; empty for a file of another maker.

    Raises:
        UsageError: there is no such file, or it is damaged.
    """
    if kind := paths.special_file_type(path):
        raise UsageError(f"{path} is {kind}, not a model file")
    try:
        return keras_archive.read_metadata(path)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a model file: {error}") from error


def read_class_names(path):
    """Returns the names of the classes of a model file, in the order of its logits.

    They are none for files of other makers and formats, and for those that cannot be read.
    """
    if os.fspath(path).endswith(".keras"):
        with suppress(UsageError):
            return tuple(read_metadata(path).get("classes", ()))
    return ()
