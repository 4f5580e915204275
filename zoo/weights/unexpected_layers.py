"""Finds layers in a weights file that show that it belongs to another, larger network."""

from __future__ import annotations

import re

from zoo.errors import UsageError
from zoo.graphs import HEAD_LAYER
from zoo.lazy import keras

HEAD_PATTERN = re.compile(
    r"logits|predictions|fc\d*|hidden\d*|dense\d*(_\d+)?|pre_logits|heads?\b.*"
)
AUXILIARY_PATTERN = re.compile(r"(auxiliary|aux|AuxLogits)\d?([._].*)?")  # heads for training only
MAX_LISTED = 3  # layers in a message


def unexpected_entries(entries, unexpected, taken, last):
    """Returns the unexpected entries that show that the file is of another network.

    Entries of auxiliary heads never do. Entries of a head only do if the model's own head is
    loaded from the file. An entry is of a head if it has such a name, or comes after all entries
    of its kind that are loaded.

    Args:
        entries: all entries of the file, `formats.Entry`, in order.
        unexpected: the entries that are not paired with a layer.
        taken: pairs of a layer and the entry that is loaded into it.
        last: the model's last layer with weights.
    """
    left = [entry for entry in unexpected if not AUXILIARY_PATTERN.fullmatch(entry.name)]
    if any(layer.name == HEAD_LAYER or (layer is last and _is_dense(layer)) for layer, _ in taken):
        return left
    indices = {id(entry): index for index, entry in enumerate(entries)}
    ends = {}  # kind: index of the last entry that is loaded
    for _, entry in taken:
        ends[entry.kind] = max(ends.get(entry.kind, 0), indices[id(entry)])
    return [
        entry
        for entry in left
        if indices[id(entry)] < ends.get(entry.kind, 0) and not HEAD_PATTERN.fullmatch(entry.name)
    ]


def raise_if_unexpected(path, name, found, total):
    """Raises a `UsageError` with the names of unexpected entries, if there are any."""
    if found:
        names = ", ".join(
            [entry.name for entry in found[:MAX_LISTED]] + ["..."] * (len(found) > MAX_LISTED)
        )
        raise UsageError(
            f"{path} contains another network's weights: {name} does not have {len(found)} of its "
            f"{total} layers ({names})"
        )


def _is_dense(layer):
    return isinstance(layer, keras.layers.Dense)
