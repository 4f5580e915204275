"""Files written whole or not at all, and a trained model as one that knows its classes.

Keras reads the file as any other; what else a user needs in order to use the model travels in
an entry of the archive that Keras leaves alone.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo import arguments, graphs, paths
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, layers

ABOUT = "zoo.json"
keras_files = LazyModule("zoo.keras_files")


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
    path = Path(arguments.path(path, "a model file"))
    if not isinstance(model, keras.Model) or path.suffix != ".keras":
        kind = type(model).__name__
        raise UsageError(f"a keras.Model is saved to a file ending in .keras, not {kind} to {path}")
    try:
        text = json.dumps(about, indent=1)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the facts about a model are plain values: {error}") from error
    net = graphs.graph(model)
    if model.compiled and net is not None:
        model = keras.Model(net.input, net.output, name=model.name)
    with replacing(path) as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(ABOUT, text)


def load(path):
    """Reads a model and the facts about it.

    Args:
        path: a `.keras` file, ours or anybody's.

    Returns:
        The `keras.Model`, and the dict that `save` was given; empty for a file of another maker.

    Raises:
        UsageError: there is no such file, or it is not a Keras model.
    """
    path = Path(arguments.path(path, "a model file"))
    if kind := paths.irregular(path):
        raise UsageError(f"{path} is {kind}, not a model file")
    if not path.is_file():
        raise UsageError(f"no model file at {path}")
    _ = layers.PixelNormalization  # loads, and so registers, the layers of the zoo
    try:
        return keras_files.load(path)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a Keras model: {error}") from error


def facts(path):
    """Reads the facts about a model from its file, and not the model.

    Args:
        path: a `.keras` file, ours or anybody's.

    Returns:
        The dict that `save` was given; empty for a file of another maker.

    Raises:
        UsageError: there is no such file, or it is damaged.
    """
    if kind := paths.irregular(path):
        raise UsageError(f"{path} is {kind}, not a model file")
    try:
        return keras_files.read_facts(path)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a model file: {error}") from error


def classes(path):
    """Returns the names of the classes of a model file, in the order of its logits.

    They are none for files of other makers and formats, and for those that cannot be read.
    """
    if os.fspath(path).endswith(".keras"):
        with suppress(UsageError):
            return tuple(facts(path).get("classes", ()))
    return ()


@contextmanager
def replacing(path):
    """Gives another path to write to, and renames it to `path` when that went well.

    Losing power leaves the old file or the new one, whole. Of a symbolic link the file that it
    leads to is replaced; permissions are kept. What is no regular file, such as a device or a
    FIFO, is not replaced: the content is written to it.

    Args:
        path: the final name, whose folder is made; the other one has the same ending.

    Raises:
        UsageError: the disk is full or the folder cannot be written to.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not (target.is_file() or target.is_dir()):
            with _writing_through(target) as partial:
                yield partial
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"partial-{secrets.token_hex(4)}-{target.name}")
        try:
            yield partial
            replace(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path} could not be written ({error.strerror or error}); what was there before is "
            "untouched"
        ) from error


@contextmanager
def _writing_through(target):
    """Gives a path to write to, and writes what is there to a device or a FIFO that is read."""
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / target.name
        yield partial
        quick = getattr(os, "O_NONBLOCK", 0)  # an error, not a wait, where nobody reads a FIFO
        file = os.open(target, os.O_WRONLY | quick)
        if quick:
            os.set_blocking(file, True)
        with open(file, "wb") as sink, partial.open("rb") as source:
            shutil.copyfileobj(source, sink)


def replace(partial, path):
    """Renames a complete file to `path`, having made sure that its content is on the disk.

    Without that, a power cut could leave the new name with nothing in it. The permissions of what
    was there are kept.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    _sync(partial, os.O_RDWR)  # first: what is read-only cannot be opened so
    with suppress(FileNotFoundError, PermissionError):  # PermissionError: a disk without modes
        os.chmod(partial, stat.S_IMODE(os.stat(path).st_mode))
    os.replace(partial, path)
    with suppress(OSError):  # the name; not every system opens folders
        _sync(Path(path).parent, os.O_RDONLY)


def _sync(path, mode):
    file = os.open(path, mode | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(file)
    finally:
        os.close(file)
