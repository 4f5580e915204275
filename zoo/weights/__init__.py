"""Pretrained weights: what is known of them, where they come from, how they enter a model.

A file is a list of layers with their arrays, whatever its format (`zoo.weights.formats`), and is
poured
into a model layer by layer, so that a head or another width may differ; what did not fit is said.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo import arguments, graphs
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np
from zoo.weights import cache, formats, licences, torch_conversion, unexpected_layers

ASSET_PREFIX = "asset:"  # what the source of a file in the package begins with
ASSETS = Path(__file__).parents[1] / "assets"
MIN_MATCHED_FRACTION = 0.5  # of a model's layers that a file must fill, or it is of another network

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class Weights:
    """What is known of one set of pretrained weights.

    Attributes:
        source: where the file is: a URL, `asset:NAME` for one shipped with the package, or
            `""` where it must be given by hand.
        digest: MD5 or SHA-256 of the file, in hexadecimal, or the beginning of the latter.
        headless: the same for a smaller file without the head, `(source, digest)`, or `None`.
        classes: name of the list of classes, for `class_names`.
        num_classes: width of the pretrained head.
        preprocessing: what the network wants its pixels to be, a key of
            `blocks.PREPROCESSING`; `""` for what the architecture says.
        input_shape: `(height, width, channels)` of the images trained on, or `None` for the
            architecture's own.
        resize: how an image of another shape is brought to that size: `stretch` or `crop`.
        learning_rate: peak rate at which optimisers of Adam's family fine-tune all layers well.
        options: builder options that a fresh head over these weights implies.
        licence: terms of the weights.
        figures: published figures, such as `{"accuracy": 0.749}`, on the data set's test split.
        protocol: how the figures were measured: data, size, crop or stretch, interpolation.
    """

    source: str = ""
    digest: str = ""
    headless: tuple[str, str] | None = None
    classes: str = ""
    num_classes: int = 1000
    preprocessing: str = ""
    input_shape: tuple[int, int, int] | None = None
    resize: str = "stretch"
    learning_rate: float = 1e-4
    options: Mapping[str, object] = field(default_factory=dict)
    licence: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""

    @property
    def commercial(self):
        """Whether the licence allows commercial use; `None` where its name does not say so."""
        return licences.allows_commercial_use(self.licence)

    @property
    def at_hand(self):
        """Whether a file is on this machine, shipped or fetched before."""
        own = self.source.startswith(ASSET_PREFIX)
        return own or any(map(cache.existing_copies, self.published.values()))

    @property
    def published(self):
        """The files to be fetched, `cache.RemoteFile` by `whole` and perhaps `headless`."""
        if not self.source or self.source.startswith(ASSET_PREFIX):
            return {}
        files = {"whole": (self.source, self.digest), "headless": self.headless}
        return {part: cache.RemoteFile(*file) for part, file in files.items() if file}


@dataclass(frozen=True)
class LoadResult:
    """What became of a weights file.

    Attributes:
        path: the file.
        matched: names of the model's layers that it filled.
        skipped: the model's layers that keep their random weights, and why.
        unexpected: layers of the file that the model has no place for.
    """

    path: str
    matched: tuple[str, ...]
    skipped: Mapping[str, str]
    unexpected: tuple[str, ...]

    def __str__(self):
        text = f"{len(self.matched)} of {len(self.matched) + len(self.skipped)} layers"
        if self.skipped:
            text += " (skipped " + "; ".join(f"{k}: {why}" for k, why in self.skipped.items()) + ")"
        if self.unexpected:
            text += f" (not used: {', '.join(self.unexpected)})"
        return f"{self.path}: {text}"


def class_names(name):
    """Returns the class names of the list called `name`, such as `imagenet`, in label order."""
    path = ASSETS / f"{name}.txt"
    if not path.exists():
        raise unknown_name_error(
            "list of classes", name, sorted(p.stem for p in ASSETS.glob("*.txt"))
        )
    return tuple(path.read_text(encoding="utf-8").splitlines())


def fetch(name, facts, *, headless=False):
    """Returns the path of a tag's file, verified, fetching it into the cache if need be.

    Args:
        name: the model's name, for messages.
        facts: its `Weights`.
        headless: whether a file without the head will do; the whole one, if it is there, does too.

    Raises:
        UsageError: it is not to be had, or its digest is wrong.
    """
    if facts.source.startswith(ASSET_PREFIX):
        return ASSETS / facts.source.removeprefix(ASSET_PREFIX)
    if not facts.source:
        raise UsageError(
            f"the weights of {name} have no source to fetch from; give a file with weights=FILE"
        )
    whole, smaller = facts.published.get("whole"), facts.published.get("headless")
    owner = f"the weights of {name}"
    if headless and smaller:
        return cache.find_local(smaller) or cache.find_local(whole) or cache.fetch(smaller, owner)
    return cache.fetch(whole, owner)


def load(model, path, *, strict=False, fresh=()):
    """Pours a weights file into `model`, matching layers by name or else by order.

    Args:
        model: a built `keras.Model`; changed in place.
        path: a file of one of `formats.FORMATS`.
        strict: whether every layer of the model must be filled.
        fresh: names of layers that keep their random weights even where the file fits.

    Returns:
        A `Loaded`, which is also logged.

    Raises:
        UsageError: the file cannot be read, or holds another network's weights, be it a larger
            one with layers that this one lacks; see `unexpected_layers.unexpected_entries`. The
            model is unchanged.
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
    skipped = {layer.name: "not in the file" for layer in layers}
    taken = []
    for layer, entry in pairs:
        if layer.name in fresh:
            skipped[layer.name] = "fresh"
        elif shapes_match(layer, entry):
            taken.append((layer, entry))
            del skipped[layer.name]
        else:
            skipped[layer.name] = (
                f"{format_shapes(entry.arrays)} in the file, {format_shapes(layer.weights)} here"
            )
    used = {id(entry) for _, entry in pairs}
    left = [entry for entry in entries if id(entry) not in used]
    matched = tuple(layer.name for layer, _ in taken)
    loaded = LoadResult(str(path), matched, skipped, tuple(entry.name for entry in left))
    _check(loaded, model.name, strict)
    last = layers[-1] if layers else None
    foreign = unexpected_layers.unexpected_entries(entries, left, taken, last)
    unexpected_layers.raise_if_unexpected(path, model.name, foreign, len(entries))
    for arrays, (layer, _) in [(formats.load_arrays(pair[1], path), pair) for pair in taken]:
        set_layer_weights(arrays, layer)
    log.log(logging.WARNING if skipped else logging.INFO, "weights from %s", loaded)
    return loaded


def _read(path):
    try:
        return formats.read(path)
    except formats.UnreadableWeightsError as error:
        raise formats.UnreadableWeightsError(f"{error}{cache.discard_unreadable(path)}") from error


def save(model, path, dtype="float16"):
    """Writes a model's weights as a compressed `.npz` with keys `layer/index`, at `dtype`."""
    arrays = {
        f"{layer.name}/{index}": keras.ops.convert_to_numpy(weight).astype(dtype)
        for layer in graphs.leaf_layers(model)
        for index, weight in enumerate(layer.weights)
    }
    np.savez_compressed(path, **arrays)


def match_by_name(entries, layers):
    """Pairs layers with entries of the same name."""
    named = {entry.name: entry for entry in entries}
    return [(layer, named[layer.name]) for layer in layers if layer.name in named]


def match_by_order(entries, layers):
    """Pairs layers with entries in the order that both were built, class by class if known.

    Keras numbers the layers that nobody named, so their names depend on what was built before.
    """
    kinds = {entry.kind for entry in entries}
    pairs = []
    for kind in sorted(kinds):
        mine = [layer for layer in layers if kind in ("", _kind(layer))]
        theirs = [entry for entry in entries if entry.kind == kind]
        pairs += zip(mine, theirs, strict=False)
    return pairs


def flatten_nested_entries(entries, model):
    """Yields entries, those of a model inside `model` in older files split among its layers."""
    inside = {layer.name: layer for layer in model.layers if isinstance(layer, keras.Model)}
    for entry in entries:
        inner = inside.get(entry.name)
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
    """Gives a layer the values of arrays that fit it."""
    pairs = zip(arrays, layer.weights, strict=True)
    layer.set_weights([np.reshape(array, w.shape).astype("float32") for array, w in pairs])
    if hasattr(layer, "finalize_state"):  # `Normalization` computes with copies of its weights
        layer.finalize_state()


def count_matching(pairs):
    """Counts the pairs of the same shapes."""
    return sum(shapes_match(layer, entry) for layer, entry in pairs)


def shapes_match(layer, entry):
    """Tells whether an entry has just the arrays that a layer holds.

    A 1 x 1 convolution after global pooling is a dense layer, and fits one; a dense layer over
    all pixels is a convolution as large as the maps, and fits one.
    """
    mine, theirs = ([tuple(x.shape) for x in each] for each in (layer.weights, entry.arrays))
    return theirs in (
        mine,
        [(1, 1, *shape) if len(shape) == 2 else shape for shape in mine],
        [(math.prod(shape[:3]), shape[3]) if len(shape) == 4 else shape for shape in mine],
    )


def format_shapes(arrays):
    """Writes the shapes of some arrays: `3x3x64x64 + 64`."""
    return " + ".join("x".join(str(side) for side in array.shape) or "1" for array in arrays)


def _check(loaded, name, strict):
    total = len(loaded.matched) + len(loaded.skipped)
    if len(loaded.matched) < MIN_MATCHED_FRACTION * total:
        raise UsageError(
            f"{loaded.path} holds another network's weights: "
            f"{len(loaded.matched)} of the {total} layers of {name} fit"
        )
    if strict and loaded.skipped:
        layer, why = next(iter(loaded.skipped.items()))
        raise UsageError(
            f"{loaded.path} leaves {len(loaded.skipped)} layers of {name} without weights "
            f"({layer}: {why}); with num_classes=N the model gets a fresh head instead"
        )


def _kind(layer):
    return keras.src.utils.naming.to_snake_case(type(layer).__name__)
