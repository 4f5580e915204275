"""Which layers of a weights file show that it is another network's, although all of ours fit."""

from __future__ import annotations

import re

from zoo.errors import UsageError
from zoo.graphs import HEAD_LAYER
from zoo.lazy import keras

HEAD_PATTERN = re.compile(
    r"logits|predictions|fc\d*|hidden\d*|dense\d*(_\d+)?|pre_logits|heads?\b.*"
)
AUXILIARY_PATTERN = re.compile(r"(auxiliary|aux|AuxLogits)\d?([._].*)?")  # heads that only train
MAX_LISTED = 3  # layers in a message


def unexpected_entries(entries, unexpected, taken, last):
    """Returns the unexpected entries that only another network can have.

    Auxiliary heads are not among them, nor, unless the model took its own head from the file, what
    stands for a head there: entries of such a name, and those behind all entries of their kind
    that the model took.

    Args:
        entries: all of the file, `formats.Entry`, in its order.
        unexpected: those of them that no layer is paired with.
        taken: pairs of a layer and the entry that gives it its values.
        last: the model's last layer with weights.
    """
    left = [entry for entry in unexpected if not AUXILIARY_PATTERN.fullmatch(entry.name)]
    if any(layer.name == HEAD_LAYER or (layer is last and _is_dense(layer)) for layer, _ in taken):
        return left
    places = {id(entry): place for place, entry in enumerate(entries)}
    ends = {}  # kind: place of the last entry that the model took
    for _, entry in taken:
        ends[entry.kind] = max(ends.get(entry.kind, 0), places[id(entry)])
    return [
        entry
        for entry in left
        if places[id(entry)] < ends.get(entry.kind, 0) and not HEAD_PATTERN.fullmatch(entry.name)
    ]


def raise_if_unexpected(path, name, found, total):
    """Raises a `UsageError` that names some of the entries of another network, if there are any."""
    if found:
        names = ", ".join(
            [entry.name for entry in found[:MAX_LISTED]] + ["..."] * (len(found) > MAX_LISTED)
        )
        raise UsageError(
            f"{path} holds another network's weights: {name} has no place for {len(found)} of its "
            f"{total} layers ({names})"
        )


def _is_dense(layer):
    return isinstance(layer, keras.layers.Dense)
