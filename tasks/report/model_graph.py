"""A network as a graph: its layers in order, and the blocks that they come in.

A block begins where the whole network is a single tensor, so where every path meets; names are not
asked, except for what to call it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from zoo import flops
from zoo.lazy import keras

_MERGE_LABELS = {"Add": "+", "Multiply": "\N{MULTIPLICATION SIGN}", "Concatenate": "concat"}
_POOLING_LABELS = {"MaxPooling2D": "max", "AveragePooling2D": "mean"}
_CONV_LABELS = {"Conv2D": "", "DepthwiseConv2D": "", "SeparableConv2D": "separable "}
_GLOBAL_POOLING_LABELS = {
    "GlobalAveragePooling2D": "mean of all",
    "GlobalMaxPooling2D": "max of all",
}
_LEADING_LAYERS = ("ZeroPadding2D", "Flatten")  # such a layer belongs to what comes after it
_UNLABELLED_LAYERS = (
    "Normalization",
    "Activation",
    "ReLU",
    "Rescaling",
    "Dropout",
    "Scale",
    "Normalize",
)


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer.

    Attributes:
        name, kind: of the layer, and of its class.
        shape: of its output, without the batch.
        parameters: trainable ones; 0 if the layer was called before.
        multiply_adds: of a convolution or a dense layer, for one image; otherwise 0.
        inputs: the numbers of the calls that it takes its tensors from.
        label: what is written in its box, or "" if it has none, as an activation.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    parameters: int
    multiply_adds: int
    inputs: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class Block:
    """Calls that follow each other, from where the network is one tensor to where it is again.

    Attributes:
        name: what the names of its layers begin with, or the name of the last one.
        calls: the numbers of its calls.
        nodes: the labels of those that have a box.
        edges: pairs of nodes by their place in `nodes`; -1 is the block's input.
        shape: of its output, without the batch.
        parameters, multiply_adds: of its calls together.
    """

    name: str
    calls: tuple[int, ...]
    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    shape: tuple[int | None, ...]
    parameters: int
    multiply_adds: int


def calls(model) -> list[LayerCall]:
    """Returns the calls of a functional `keras.Model` in an order in which they can be made."""
    nodes = [node for _, nodes in sorted(model._nodes_by_depth.items())[::-1] for node in nodes]
    places = {id(tensor): i for i, node in enumerate(nodes) for tensor in node.output_tensors}
    found, seen = [], set()
    for node in nodes:
        layer = node.operation
        weights = [] if id(layer) in seen else getattr(layer, "trainable_weights", [])
        seen.add(id(layer))
        call = LayerCall(
            name=layer.name,
            kind=type(layer).__name__,
            shape=tuple(node.output_tensors[0].shape[1:]),
            parameters=sum(math.prod(weight.shape) for weight in weights),
            multiply_adds=flops.node_macs(node),
            inputs=tuple(dict.fromkeys(places[id(tensor)] for tensor in node.input_tensors)),
            label=_label(layer),
        )
        found.append(call)
    return found


def blocks(calls: Sequence[LayerCall]) -> list[Block]:
    """Returns the blocks of a network, first to last.

    Layers in a row are one block up to where the picture changes its size; a block with branches
    is joined with its neighbours in a row where their names begin alike.
    """
    found = []
    pieces = list(_segments(calls))
    boxes = [_labelled_calls(calls, piece) for piece in pieces]
    for index, piece in enumerate(pieces):
        following = next(filter(None, boxes[index + 1 :]), [])
        if found and _continues_block(calls, found[-1], piece, following):
            found[-1] += piece
        else:
            found.append(piece)
    return [_make_block(calls, numbers) for numbers in found]


def group_repeats(blocks: Sequence[Block], longest: int = 4) -> list[list[list[Block]]]:
    """Returns the blocks in groups, each a list of what comes in a row and looks the same.

    Of a group `[[a1, b1], [a2, b2]]` all first and all second blocks have the same boxes and lines;
    their sizes may differ.

    Args:
        blocks: What to group.
        longest: How many blocks may be repeated together.
    """
    layouts = [(block.nodes, block.edges) for block in blocks]
    groups, start = [], 0
    while start < len(blocks):
        size, times = 1, 1
        for length in range(1, longest + 1):
            again = 1
            while _same_layout(layouts, start, start + again * length, length):
                again += 1
            if again > 1 and again * length > size * times:
                size, times = length, again
        end = start + size * times
        groups.append([list(blocks[place : place + size]) for place in range(start, end, size)])
        start = end
    return groups


def _same_layout(layouts, one, other, length):
    return layouts[one : one + length] == layouts[other : other + length]


def _label(layer):
    """Returns what is written in a layer's box, or "" if it is not worth a box."""
    kind = type(layer).__name__
    if kind in _CONV_LABELS or kind in _POOLING_LABELS:
        return _kernel_label(layer, kind)
    if kind in _MERGE_LABELS or kind in _GLOBAL_POOLING_LABELS:
        return _MERGE_LABELS.get(kind) or _GLOBAL_POOLING_LABELS[kind]
    if kind == "Dense":
        return f"dense {layer.units}"
    if "Attention" in kind:
        return "attention"
    if isinstance(layer, keras.Model):
        return " then ".join(filter(None, map(_label, layer.layers)))
    quiet = any(word in kind for word in _UNLABELLED_LAYERS)
    return kind if getattr(layer, "weights", []) and not quiet else ""


def _kernel_label(layer, kind):
    size = getattr(layer, "kernel_size", None) or layer.pool_size
    text = "\N{MULTIPLICATION SIGN}".join(str(side) for side in size)
    filters, groups = (getattr(layer, name, None) or 1 for name in ("filters", "groups"))
    if kind in _POOLING_LABELS:
        text = f"{_POOLING_LABELS[kind]} {text}"
    elif kind == "DepthwiseConv2D" or groups == filters > 1:
        text = f"each {text}"
    else:
        text = f"{_CONV_LABELS[kind]}{text}, {filters}" + (f" in {groups}" if groups > 1 else "")
    stride = max(layer.strides)
    return f"{text} /{stride}" if stride > 1 else text


def _segments(calls):
    """Yields the numbers of calls between the places where the network is a single tensor."""
    piece, reach = [], 0
    last = {source: i for i, call in enumerate(calls) for source in call.inputs}
    for index in range(len(calls)):
        piece.append(index)
        # Who reads what came before this call has been called by now, this call included.
        if reach <= index:
            yield piece
            piece = []
        reach = max(reach, last.get(index, index))


def _continues_block(calls, before, piece, following):
    """Tells whether a piece goes on with the block before it; `following` are the next boxes."""
    old, new = _labelled_calls(calls, before), _labelled_calls(calls, piece)
    if not old:  # such as the preprocessing, or what pads the picture for the next layer
        return True
    same = {_numbered_prefix(calls[index]) for index in following}
    last = calls[old[-1]]
    if not new:
        if (
            calls[piece[0]].kind not in _LEADING_LAYERS
            or not following
            or _numbered_prefix(last) in same
        ):
            return True
        return _is_sequential(calls, before) and calls[following[0]].kind in _POOLING_LABELS
    rows = _is_sequential(calls, before), _is_sequential(calls, piece)
    if not all(rows):
        names = _custom_names(calls, old), _custom_names(calls, new)
        return (
            any(rows)
            and all(names)
            and any(map(str.isdigit, _common_prefix([*names[0], *names[1]])))
        )
    first = calls[new[0]]
    if _numbered_prefix(first) == _numbered_prefix(last) or len(calls[before[-1]].shape) < 3:
        return True
    if _numbered_prefix(first) in same:
        return False
    return last.kind not in _POOLING_LABELS and (
        first.kind in _POOLING_LABELS or first.shape[:2] == last.shape[:2]
    )


def _custom_names(calls, numbers):
    """Returns the names of calls, without those that Keras made up of a class and a number."""
    plain = [re.sub(r"_\d+$", "", calls[index].name).replace("_", "") for index in numbers]
    return [
        calls[index].name
        for index, name in zip(numbers, plain, strict=True)
        if name != calls[index].kind.lower()
    ]


def _labelled_calls(calls, numbers):
    return [index for index in numbers if calls[index].label]


def _is_sequential(calls, numbers):
    """Tells whether each call takes what the one before it gives."""
    return all(calls[after].inputs == (before,) for before, after in itertools.pairwise(numbers))


def _common_prefix(names):
    """Returns the words that all names begin with."""
    words = zip(*(name.split("_") for name in names), strict=False)
    same = itertools.takewhile(lambda column: len(set(column)) == 1, words)
    return "_".join(column[0] for column in same)


def _numbered_prefix(call):
    """Returns a layer's name up to its first number: block_1 of block_1_expand, or all of it."""
    found = re.match(r"[^\d]*\d[^_]*", call.name)
    return found[0] if found else call.name


def _make_block(calls, numbers):
    boxes = _labelled_calls(calls, numbers)
    places = {index: place for place, index in enumerate(boxes)}
    sources = {}  # the boxes that a call hears of, through calls without a box
    edges = []
    for index in numbers:
        reached = {box for i in calls[index].inputs for box in sources.get(i, {-1})}
        if index in places:
            edges += sorted((box, places[index]) for box in reached or {-1})
            reached = {places[index]}
        sources[index] = reached or {-1}
    names = _custom_names(calls, boxes) or [calls[index].name for index in boxes or numbers]
    return Block(
        name=_common_prefix(names) or _range_name(names, _is_sequential(calls, numbers)),
        calls=tuple(numbers),
        nodes=tuple(calls[index].label for index in boxes),
        edges=tuple(edges),
        shape=calls[numbers[-1]].shape,
        parameters=sum(calls[index].parameters for index in numbers),
        multiply_adds=sum(calls[index].multiply_adds for index in numbers),
    )


def _range_name(names, row):
    """Returns a name for layers whose names have nothing in common."""
    first, last = (name.partition("_")[0] for name in (names[0], names[-1]))
    return f"{first} to {last}" if row else names[-1]
