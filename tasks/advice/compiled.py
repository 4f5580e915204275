"""Layers that were frozen or set free after a model was compiled."""

from __future__ import annotations

import io
import json
import zipfile

from tasks.advice.findings import WRONG, Finding, Unchecked, count, some
from zoo.lazy import LazyModule, keras

h5py = LazyModule("h5py")

NAME = "trainable changed after compile"
DO = (
    "set `trainable` first and call `model.compile` after it, each time; a compiled step goes on "
    "with the weights that it was made for"
)


def changed(model, path=None):
    """Finds that `trainable` was changed after `compile`.

    A model in memory knows what was trainable when it was compiled, and its optimiser which
    weights it was built for. A file tells by what its optimiser keeps of each weight.

    Args:
        model: a `keras.Model`.
        path: the `.keras` file that it is from, or `None`.
    """
    if getattr(model, "compiled", False) and getattr(model, "optimizer", None):
        yield from _in_memory(model)
    elif path:
        yield from _in_file(model, path)
    else:
        raise Unchecked("the model is not compiled")


def _in_memory(model):
    then = getattr(model, "_compiled_trainable_state", {})
    flipped = [layer for layer, was in then.items() if layer.trainable != was]
    if flipped:
        thawed = [layer.name for layer in flipped if layer.trainable]
        frozen = [layer.name for layer in flipped if not layer.trainable]
        told = [f"set free: {some(thawed)}"] * bool(thawed) + [f"frozen: {some(frozen)}"] * bool(
            frozen
        )
        yield Finding(NAME, WRONG, f"since the model was compiled, {'; '.join(told)}", DO)
        return
    # Keras forgets its first record once it has warned; the optimiser does not.
    optimizer = model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.built:
        return
    built = {id(variable) for variable in optimizer._trainable_variables}
    now = {id(variable) for variable in model.trainable_variables}
    if built != now:
        yield Finding(
            NAME,
            WRONG,
            f"the optimiser was built for {count(len(built), 'weight')}; "
            f"{count(len(now), 'weight')} are trainable now, {len(now - built)} of them unknown "
            "to it",
            DO,
        )


def _in_file(model, path):
    optimizer, kept = _saved(path)
    optimizer.build(model.trainable_variables)
    needed = [tuple(variable.shape) for variable in optimizer.variables]
    if needed != kept:
        yield Finding(
            NAME,
            WRONG,
            f"the optimiser in {path} keeps {count(len(kept), 'array')}; for the "
            f"{count(len(model.trainable_variables), 'weight')} that are trainable it would keep "
            f"{len(needed)}: it was built for others",
            DO,
        )


def _saved(path):
    """Returns the optimiser of a `.keras` file, not built, and the shapes that it keeps."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json")).get("compile_config") or {}
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r") as root:
            arrays = root["optimizer/vars"]
            kept = [tuple(arrays[key].shape) for key in sorted(arrays, key=int)]
        optimizer = keras.saving.deserialize_keras_object(config["optimizer"], safe_mode=True)
    except KeyError:
        raise Unchecked("the file holds no optimiser") from None
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0]
        raise Unchecked(f"its optimiser cannot be read: {reason}") from error
    return optimizer, kept
