"""Files written whole or not at all, and a trained model as one that knows its classes.

Keras reads the file as any other; what else a user needs in order to use the model travels in
an entry of the archive that Keras leaves alone.
"""

from __future__ import annotations

import json
import os
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras, layers

ABOUT = "zoo.json"


def save(model, path, about):
    """Writes a model and the facts about it, in one step.

    An optimiser and losses are the run's, not the model's: they are left out.

    Args:
        model: a built `keras.Model`.
        path: where to, ending in `.keras`; what is there stays until the new file is whole.
        about: a dict of plain values, such as `{"classes": [...], "resize": "stretch"}`.

    Raises:
        UsageError: the disk is full or the folder cannot be written to.
    """
    net = graphs.graph(model)
    if model.compiled and net is not None:
        model = keras.Model(net.input, net.output, name=model.name)
    with replacing(path) as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(ABOUT, json.dumps(about, indent=1))


def load(path):
    """Reads a model and the facts about it.

    Args:
        path: a `.keras` file, ours or anybody's.

    Returns:
        The `keras.Model`, and the dict that `save` was given; empty for a file of another maker.

    Raises:
        UsageError: there is no such file, or it is not a Keras model.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no model file at {path}")
    _ = layers.PixelNormalization  # loads, and so registers, the layers of the zoo
    try:
        model = keras.saving.load_model(path, compile=False)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return model, json.loads(archive.read(ABOUT)) if ABOUT in names else {}
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"{path} cannot be read as a Keras model: {reason}") from error


@contextmanager
def replacing(path):
    """Gives another path to write to, and renames it to `path` when that went well.

    Losing power leaves the old file or the new one, whole.

    Args:
        path: the final name, whose folder is made; the other one has the same ending.

    Raises:
        UsageError: the disk is full or the folder cannot be written to.
    """
    path = Path(path)
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        replace(partial, path)
    except OSError as error:
        raise UsageError(
            f"{path} could not be written ({error.strerror or error}); what was there before is "
            "untouched"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def replace(partial, path):
    """Renames a complete file to `path`, having made sure that its content is on the disk.

    Without that, a power cut could leave the new name with nothing in it.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    _sync(partial, os.O_RDWR)
    os.replace(partial, path)
    with suppress(OSError):  # the name; not every system opens folders
        _sync(Path(path).parent, os.O_RDONLY)


def _sync(path, mode):
    file = os.open(path, mode | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(file)
    finally:
        os.close(file)
