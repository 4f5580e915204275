"""Checks whether layers were frozen or unfrozen after the model was compiled."""

from __future__ import annotations

import io
import json
import zipfile

from tasks.advice.findings import WRONG, CheckSkipped, Finding, format_count, join_names
from zoo.lazy import LazyModule, keras

h5py = LazyModule("h5py")

CHECK_NAME = "trainable changed after compile"
REMEDY = (
    "call `model.compile` after each change of `trainable`; a compiled training step keeps the "
    "trainable weights of its compilation"
)


def check_trainable(model, path=None):
    """Yields a finding if `trainable` was changed after `compile`.

    A model in memory stores which layers were trainable when it was compiled, and its optimizer
    the weights that it was built for. In a file the shapes of the optimizer state are compared.

    Args:
        model: a `keras.Model`.
        path: the `.keras` file of the model, or `None`.
    """
    if getattr(model, "compiled", False) and getattr(model, "optimizer", None):
        yield from _check_compiled_model(model)
    elif path:
        yield from _check_saved_optimizer(model, path)
    else:
        raise CheckSkipped("the model is not compiled")


def _check_compiled_model(model):
    compiled_state = getattr(model, "_compiled_trainable_state", {})
    flipped = [layer for layer, was in compiled_state.items() if layer.trainable != was]
    if flipped:
        unfrozen = [layer.name for layer in flipped if layer.trainable]
        frozen = [layer.name for layer in flipped if not layer.trainable]
        changes = [f"unfrozen: {join_names(unfrozen)}"] * bool(unfrozen) + [
            f"frozen: {join_names(frozen)}"
        ] * bool(frozen)
        yield Finding(
            CHECK_NAME, WRONG, f"since the model was compiled, {'; '.join(changes)}", REMEDY
        )
        return
    # Keras drops its record after its first warning; the optimizer keeps its own.
    optimizer = model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.built:
        return
    built = {id(variable) for variable in optimizer._trainable_variables}
    now = {id(variable) for variable in model.trainable_variables}
    if built != now:
        yield Finding(
            CHECK_NAME,
            WRONG,
            f"the optimizer was built for {format_count(len(built), 'weight')}; "
            f"{format_count(len(now), 'weight')} are trainable now, {len(now - built)} of them "
            "unknown to it",
            REMEDY,
        )


def _check_saved_optimizer(model, path):
    optimizer, saved_shapes = _read_optimizer(path)
    optimizer.build(model.trainable_variables)
    needed = [tuple(variable.shape) for variable in optimizer.variables]
    if needed != saved_shapes:
        yield Finding(
            CHECK_NAME,
            WRONG,
            f"the optimizer in {path} has {format_count(len(saved_shapes), 'variable')}, but "
            f"{len(needed)} belong to the "
            f"{format_count(len(model.trainable_variables), 'trainable weight')}: it was built for "
            "other weights",
            REMEDY,
        )


def _read_optimizer(path):
    """Returns the optimizer of a `.keras` file, not built, and the shapes of its variables."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json")).get("compile_config") or {}
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r") as root:
            arrays = root["optimizer/vars"]
            saved_shapes = [tuple(arrays[key].shape) for key in sorted(arrays, key=int)]
        optimizer = keras.saving.deserialize_keras_object(config["optimizer"], safe_mode=True)
    except KeyError:
        raise CheckSkipped("the file contains no optimizer") from None
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckSkipped(f"its optimizer cannot be read: {reason}") from error
    return optimizer, saved_shapes
