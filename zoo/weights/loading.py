"""Loads a weights file into a model, layer by layer, and saves weights.

A file of any format is a list of layers with their arrays (`zoo.weights.formats`). Layers are
matched one by one, so that the model may differ from the file, for instance in its head; a
`LoadResult` reports what did not match.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from zoo import arguments, graphs
from zoo.errors import UsageError
from zoo.lazy import keras, np
from zoo.weights import cache, formats, torch_conversion, unexpected_layers

MIN_MATCHED_FRACTION = 0.5  # of the model's layers; with fewer, the file is of another network

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class LoadResult:
    """The layers that were, and were not, loaded from a weights file.

    Attributes:
        path: the file.
        matched: names of the model's layers whose weights were loaded.
        skipped: names of the model's layers that keep their random weights, with the reason.
        unexpected: names of the file's layers that the model does not have.
    """

    path: str
    matched: tuple[str, ...]
    skipped: Mapping[str, str]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{len(self.matched)} of {len(self.matched) + len(self.skipped)} layers"
        if self.skipped:
            text += " (skipped " + "; ".join(f"{k}: {why}" for k, why in self.skipped.items()) + ")"
        if self.unexpected:
            text += f" (not used: {', '.join(self.unexpected)})"
        return f"{self.path}: {text}"


def load(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    strict: bool = False,
    fresh: Collection[str] = (),
) -> LoadResult:
    """Loads a weights file into `model`; layers are matched by name, or else by order.

    Args:
        model: a built `keras.Model`; changed in place.
        path: a file of one of `formats.FORMATS`.
        strict: whether every layer of the model must be in the file.
        fresh: names of layers that keep their random weights even if the file has matching ones.

    Returns:
        A `LoadResult`, which is also logged.

    Raises:
        UsageError: the file cannot be read, or holds the weights of another network, which may
            be a larger one that contains this one (see `unexpected_layers.unexpected_entries`).
            The model is unchanged.
    """
    path = arguments.check_path(path, "a weights file")
    if not isinstance(model, keras.Model):
        raise UsageError(
            f"weights are loaded into a keras.Model, not {arguments.short_repr(model)}"
        )
    layers = [layer for layer in graphs.leaf_layers(model) if layer.weights]
    entries = list(flatten_nested_entries(_read(path), model))
    entries = torch_conversion.convert_state_dict(entries, layers, path)
    pairs = max(match_by_name(entries, layers), match_by_order(entries, layers), key=count_matching)
    fitting, skipped = _split_pairs(pairs, layers, fresh)
    used = {id(entry) for _, entry in pairs}
    unexpected = [entry for entry in entries if id(entry) not in used]
    matched = tuple(layer.name for layer, _ in fitting)
    result = LoadResult(str(path), matched, skipped, tuple(entry.name for entry in unexpected))
    _check_result(result, model.name, strict)
    last = layers[-1] if layers else None
    foreign = unexpected_layers.unexpected_entries(entries, unexpected, fitting, last)
    unexpected_layers.raise_if_unexpected(path, model.name, foreign, len(entries))
    # All arrays are read before any is assigned: a damaged file leaves the model unchanged.
    for arrays, (layer, _) in [(formats.load_arrays(pair[1], path), pair) for pair in fitting]:
        set_layer_weights(arrays, layer)
    log.log(logging.WARNING if skipped else logging.INFO, "weights from %s", result)
    return result


def _split_pairs(pairs, layers, fresh):
    """Returns the pairs whose shapes match, and the reason for each other layer, by name."""
    fitting, skipped = [], {layer.name: "not in the file" for layer in layers}
    for layer, entry in pairs:
        if layer.name in fresh:
            skipped[layer.name] = "random initialization"
        elif shapes_match(layer, entry):
            fitting.append((layer, entry))
            del skipped[layer.name]
        else:
            skipped[layer.name] = (
                f"{format_shapes(entry.arrays)} in the file, {format_shapes(layer.weights)} here"
            )
    return fitting, skipped


def _read(path):
    try:
        return formats.read(path)
    except formats.UnreadableWeightsError as error:
        raise formats.UnreadableWeightsError(f"{error}{cache.discard_unreadable(path)}") from error


def save(model: keras.Model, path: str | os.PathLike[str], dtype: str = "float16") -> None:
    """Saves a model's weights as a compressed `.npz` file with keys `layer/index`.

    Args:
        model: a built `keras.Model`.
        path: the file, ending in `.npz`.
        dtype: the dtype of the arrays in the file.
    """
    arrays = {
        f"{layer.name}/{index}": keras.ops.convert_to_numpy(weight).astype(dtype)
        for layer in graphs.leaf_layers(model)
        for index, weight in enumerate(layer.weights)
    }
    np.savez_compressed(path, **arrays)


def match_by_name(entries, layers):
    """Returns pairs of a layer and the entry of the same name."""
    named = {entry.name: entry for entry in entries}
    return [(layer, named[layer.name]) for layer in layers if layer.name in named]


def match_by_order(entries, layers):
    """Returns pairs of a layer and an entry in the order of creation, per class if known.

    Keras numbers the layers that were not named, so that their names depend on what was built
    before in the same process.
    """
    kinds = {entry.kind for entry in entries}
    pairs = []
    for kind in sorted(kinds):
        of_kind = [layer for layer in layers if kind in ("", _snake_case_class(layer))]
        pairs += zip(of_kind, [entry for entry in entries if entry.kind == kind], strict=False)
    return pairs


def flatten_nested_entries(entries, model):
    """Yields entries; that of a model nested in `model`, in older files, is split by its layers."""
    nested = {layer.name: layer for layer in model.layers if isinstance(layer, keras.Model)}
    for entry in entries:
        inner = nested.get(entry.name)
        weights = inner.trainable_weights + inner.non_trainable_weights if inner else []
        if len(weights) != len(entry.arrays):
            yield entry
            continue
        arrays = {id(weight): array for weight, array in zip(weights, entry.arrays, strict=True)}
        for layer in graphs.leaf_layers(inner):
            if layer.weights:
                yield formats.Entry(
                    layer.name, "", [arrays[id(weight)] for weight in layer.weights]
                )


def set_layer_weights(arrays, layer):
    """Sets a layer's weights to arrays of the same sizes, as float32."""
    pairs = zip(arrays, layer.weights, strict=True)
    layer.set_weights([np.reshape(array, w.shape).astype("float32") for array, w in pairs])
    if hasattr(layer, "finalize_state"):  # `Normalization` computes with copies of its weights
        layer.finalize_state()


def count_matching(pairs):
    """Returns the number of pairs of a layer and an entry whose shapes match."""
    return sum(shapes_match(layer, entry) for layer, entry in pairs)


def shapes_match(layer, entry):
    """Returns whether the arrays of an entry have the shapes of a layer's weights.

    A 1 x 1 convolution after global pooling matches a dense layer; so does a convolution with a
    kernel as large as its input maps match a dense layer on the flattened maps.
    """
    wanted, found = ([tuple(x.shape) for x in each] for each in (layer.weights, entry.arrays))
    return found in (
        wanted,
        [(1, 1, *shape) if len(shape) == 2 else shape for shape in wanted],
        [(math.prod(shape[:3]), shape[3]) if len(shape) == 4 else shape for shape in wanted],
    )


def format_shapes(arrays):
    """Formats the shapes of arrays: `3x3x64x64 + 64`."""
    return " + ".join("x".join(str(side) for side in array.shape) or "1" for array in arrays)


def _check_result(result, name, strict):
    total = len(result.matched) + len(result.skipped)
    if len(result.matched) < MIN_MATCHED_FRACTION * total:
        raise UsageError(
            f"{result.path} contains another network's weights: "
            f"{len(result.matched)} of the {total} layers of {name} match"
        )
    if strict and result.skipped:
        layer, why = next(iter(result.skipped.items()))
        raise UsageError(
            f"{result.path} leaves {len(result.skipped)} layers of {name} without weights "
            f"({layer}: {why}); with num_classes=N the model gets a new head instead"
        )


def _snake_case_class(layer):
    return keras.src.utils.naming.to_snake_case(type(layer).__name__)
