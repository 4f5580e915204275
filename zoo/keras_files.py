"""Model files of Keras from elsewhere, looked at before Keras reads them, and what is said in them.

Keras reads a file in its safe mode, in which no code of the file runs. It believes the sizes that
the file claims, so these are compared here with what is stored.
"""

from __future__ import annotations

import io
import json
import math

from zoo import archives
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

hdf5 = LazyModule("zoo.hdf5")

ABOUT, CONFIG, WEIGHTS = "zoo.json", "config.json", "model.weights.h5"  # members of the archive
SMALL = 1 << 26  # bytes of arrays below which the layers are made without values to count them
FAULTS = (  # what `load_model` raises for the configuration of a damaged or foreign file
    *(*archives.FAULTS, TypeError, AttributeError, IndexError, ImportError, ArithmeticError),
    AssertionError,
)
WORDS = "a list of words"
KINDS = {  # what the facts about a model are, where they are given
    **dict.fromkeys(("task", "model", "resize", "search", "keep_colours"), "text"),
    **dict.fromkeys(("length", "beam", "length_penalty", "least"), "a number"),
    **dict.fromkeys(("classes", "vocabulary"), WORDS),
    "options": "a table",
}
CHECKS = {
    "text": lambda value: isinstance(value, str),
    "a number": lambda value: type(value) in (int, float) and math.isfinite(value),
    WORDS: lambda value: isinstance(value, list) and all(isinstance(word, str) for word in value),
    "a table": lambda value: isinstance(value, dict),
}
CLASSES = ("classification", "segmentation")  # tasks whose models have one output for each class


class Facts(dict):
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
    with archives.opened(path) as archive:
        about = facts(archive)
        _check_sizes(archive)
    try:
        model = keras.saving.load_model(path, compile=False)
    except FAULTS as error:
        raise ValueError(_line(error)) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"it holds a {type(model).__name__}, which is no model")
    _check_classes(about, model)
    return model, about


def read_facts(path):
    """Returns the `Facts` of a file; raises `ValueError` as `load` does."""
    with archives.opened(path) as archive:
        return facts(archive)


def facts(archive):
    """Returns what `zoo.files.save` wrote about a model, as `Facts`; empty for another maker's.

    Raises:
        ValueError: it is not a table, or one of the facts is of another kind.
    """
    about = _json(archive, ABOUT) if ABOUT in archive.namelist() else {}
    if not isinstance(about, dict):
        raise ValueError(f"its {ABOUT} is no table of facts")
    for key, kind in KINDS.items():
        if key in about and not CHECKS[kind](about[key]):
            raise ValueError(f"its {ABOUT} gives {key} as {str(about[key])[:40]!r}, not as {kind}")
    return Facts(about)


def _check_classes(about, model):
    """Raises an error where not every output of a classifier or segmenter has a name."""
    names, shape = about.get("classes"), getattr(model, "output_shape", None)
    counted = about.get("task", CLASSES[0]) in CLASSES and isinstance(shape, tuple)
    if names is not None and counted and shape[-1] != len(names):
        raise ValueError(f"its {ABOUT} names {len(names)} classes, and it has {shape[-1]} outputs")


def _check_sizes(archive):
    """Raises an error where arrays or layers would take more memory than what is stored."""
    config = _json(archive, CONFIG)
    if not isinstance(config, dict) or not {"class_name", "config"} <= set(config):
        raise ValueError(f"its {CONFIG} describes no model")
    if WEIGHTS not in archive.namelist():
        return
    stored = hdf5.size(io.BytesIO(archives.member(archive, WEIGHTS)))
    if stored > SMALL:
        return
    try:
        with keras.StatelessScope(initialize_variables=False):  # without values
            model = keras.saving.deserialize_keras_object({**config, "compile_config": None})
        sizes = [math.prod(x.shape) for x in getattr(model, "variables", ())]
    except FAULTS as error:
        raise ValueError(_line(error)) from error
    if sum(sizes) > stored + archives.FREE:  # those of quantised layers have a byte each
        raise ValueError(
            f"its layers have {sum(sizes):,} weights, and {stored:,} bytes of them are stored"
        )


def _json(archive, name):
    try:
        return json.loads(archives.member(archive, name))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{name}: {archives.reason(error)}") from error


def _line(error):
    """Returns the first line of what Keras says, without its advice to run the code of a file."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(" If you trust")[0]
