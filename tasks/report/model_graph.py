"""The graph of a network: its layer calls in order, grouped into blocks.

A block begins where the whole network is a single tensor, that is, where all paths meet; the names
of layers are used only to name the block.
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
_LEADING_LAYERS = ("ZeroPadding2D", "Flatten")  # that belong to the layer after them
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
        name, kind: The name of the layer, and of its class.
        shape: The output shape without the batch.
        parameters: The number of trainable parameters; 0 if the layer was called before.
        multiply_adds: Of a convolution or a dense layer, for one image; otherwise 0.
        inputs: The indices of the calls whose outputs are its inputs.
        label: The text of its box, or "" if it has no box, such as an activation.
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
    """Consecutive calls between two points at which the network is a single tensor.

    Attributes:
        name: The common prefix of the names of its layers, or the name of the last one.
        calls: The indices of its calls.
        nodes: The labels of those with a box.
        edges: Pairs of indices into `nodes`; -1 is the input of the block.
        shape: The output shape without the batch.
        parameters, multiply_adds: The sums over its calls.
    """

    name: str
    calls: tuple[int, ...]
    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    shape: tuple[int | None, ...]
    parameters: int
    multiply_adds: int


def calls(model) -> list[LayerCall]:
    """Returns the layer calls of a functional `keras.Model` in topological order."""
    nodes = [node for _, nodes in sorted(model._nodes_by_depth.items())[::-1] for node in nodes]
    producers = {
        id(tensor): number for number, node in enumerate(nodes) for tensor in node.output_tensors
    }
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
            inputs=tuple(dict.fromkeys(producers[id(tensor)] for tensor in node.input_tensors)),
            label=_label(layer),
        )
        found.append(call)
    return found


def blocks(calls: Sequence[LayerCall]) -> list[Block]:
    """Returns the blocks of a network, from input to output.

    Sequential layers are one block until the size of the feature map changes; a block with branches
    is merged with sequential neighbors if their names share a prefix.
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
    """Returns the blocks in groups of consecutive repeats with the same layout.

    In a group `[[a1, b1], [a2, b2]]`, all first blocks and all second blocks have the same boxes
    and edges; their sizes may differ.

    Args:
        blocks: The blocks to group.
        longest: The largest number of blocks that are repeated together.
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
        groups.append([list(blocks[number : number + size]) for number in range(start, end, size)])
        start = end
    return groups


def _same_layout(layouts, one, other, length):
    return layouts[one : one + length] == layouts[other : other + length]


def _label(layer):
    """Returns the text of a layer's box, or "" if the layer gets no box."""
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
    unlabelled = any(word in kind for word in _UNLABELLED_LAYERS)
    return kind if getattr(layer, "weights", []) and not unlabelled else ""


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
    """Yields the indices of the calls between points where the network is a single tensor."""
    piece, reach = [], 0
    last = {source: i for i, call in enumerate(calls) for source in call.inputs}
    for index in range(len(calls)):
        piece.append(index)
        # All consumers of the outputs before this call have been called, this call included.
        if reach <= index:
            yield piece
            piece = []
        reach = max(reach, last.get(index, index))


def _continues_block(calls, before, piece, following):
    """Returns whether a piece belongs to the block before it; `following` are the next boxes."""
    old, new = _labelled_calls(calls, before), _labelled_calls(calls, piece)
    if not old:  # such as preprocessing, or padding for the next layer
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
    """Returns the names of calls, without those that Keras generated from the class name."""
    plain = [re.sub(r"_\d+$", "", calls[index].name).replace("_", "") for index in numbers]
    return [
        calls[index].name
        for index, name in zip(numbers, plain, strict=True)
        if name != calls[index].kind.lower()
    ]


def _labelled_calls(calls, numbers):
    return [index for index in numbers if calls[index].label]


def _is_sequential(calls, numbers):
    """Returns whether the only input of each call is the output of the one before."""
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
    box_numbers = {index: number for number, index in enumerate(boxes)}
    sources = {}  # the boxes that reach a call directly or through calls without a box
    edges = []
    for index in numbers:
        reached = {box for i in calls[index].inputs for box in sources.get(i, {-1})}
        if index in box_numbers:
            edges += sorted((box, box_numbers[index]) for box in reached or {-1})
            reached = {box_numbers[index]}
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
    """Returns a name for layers without a common prefix."""
    first, last = (name.partition("_")[0] for name in (names[0], names[-1]))
    return f"{first} to {last}" if row else names[-1]
