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

from zoo import count
from zoo.lazy import keras

_JOINS = {"Add": "+", "Multiply": "\N{MULTIPLICATION SIGN}", "Concatenate": "concat"}
_POOLS = {"MaxPooling2D": "max", "AveragePooling2D": "mean"}
_WINDOWS = {"Conv2D": "", "DepthwiseConv2D": "", "SeparableConv2D": "separable "}
_WHOLE = {"GlobalAveragePooling2D": "mean of all", "GlobalMaxPooling2D": "max of all"}
_OPENING = ("ZeroPadding2D", "Flatten")  # such a layer belongs to what comes after it
_QUIET = ("Normalization", "Activation", "ReLU", "Rescaling", "Dropout", "Scale", "Normalize")


@dataclass(frozen=True)
class Call:
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


def calls(model) -> list[Call]:
    """Returns the calls of a functional `keras.Model` in an order in which they can be made."""
    nodes = [node for _, nodes in sorted(model._nodes_by_depth.items())[::-1] for node in nodes]
    places = {id(tensor): i for i, node in enumerate(nodes) for tensor in node.output_tensors}
    found, seen = [], set()
    for node in nodes:
        layer = node.operation
        weights = [] if id(layer) in seen else getattr(layer, "trainable_weights", [])
        seen.add(id(layer))
        call = Call(
            name=layer.name,
            kind=type(layer).__name__,
            shape=tuple(node.output_tensors[0].shape[1:]),
            parameters=sum(math.prod(weight.shape) for weight in weights),
            multiply_adds=count.of_call(node),
            inputs=tuple(dict.fromkeys(places[id(tensor)] for tensor in node.input_tensors)),
            label=_label(layer),
        )
        found.append(call)
    return found


def blocks(calls: Sequence[Call]) -> list[Block]:
    """Returns the blocks of a network, first to last.

    Layers in a row are one block up to where the picture changes its size; a block with branches
    is joined with its neighbours in a row where their names begin alike.
    """
    found = []
    pieces = list(_pieces(calls))
    boxes = [_boxes(calls, piece) for piece in pieces]
    for index, piece in enumerate(pieces):
        following = next(filter(None, boxes[index + 1 :]), [])
        if found and _belongs(calls, found[-1], piece, following):
            found[-1] += piece
        else:
            found.append(piece)
    return [_block(calls, numbers) for numbers in found]


def repeats(blocks: Sequence[Block], longest: int = 4) -> list[list[list[Block]]]:
    """Returns the blocks in groups, each a list of what comes in a row and looks the same.

    Of a group `[[a1, b1], [a2, b2]]` all first and all second blocks have the same boxes and lines;
    their sizes may differ.

    Args:
        blocks: What to group.
        longest: How many blocks may be repeated together.
    """
    looks = [(block.nodes, block.edges) for block in blocks]
    groups, start = [], 0
    while start < len(blocks):
        size, times = 1, 1
        for length in range(1, longest + 1):
            again = 1
            while _alike(looks, start, start + again * length, length):
                again += 1
            if again > 1 and again * length > size * times:
                size, times = length, again
        end = start + size * times
        groups.append([list(blocks[place : place + size]) for place in range(start, end, size)])
        start = end
    return groups


def _alike(looks, one, other, length):
    return looks[one : one + length] == looks[other : other + length]


def _label(layer):
    """Returns what is written in a layer's box, or "" if it is not worth a box."""
    kind = type(layer).__name__
    if kind in _WINDOWS or kind in _POOLS:
        return _window(layer, kind)
    if kind in _JOINS or kind in _WHOLE:
        return _JOINS.get(kind) or _WHOLE[kind]
    if kind == "Dense":
        return f"dense {layer.units}"
    if "Attention" in kind:
        return "attention"
    if isinstance(layer, keras.Model):
        return " then ".join(filter(None, map(_label, layer.layers)))
    quiet = any(word in kind for word in _QUIET)
    return kind if getattr(layer, "weights", []) and not quiet else ""


def _window(layer, kind):
    size = getattr(layer, "kernel_size", None) or layer.pool_size
    text = "\N{MULTIPLICATION SIGN}".join(str(side) for side in size)
    filters, groups = (getattr(layer, name, None) or 1 for name in ("filters", "groups"))
    if kind in _POOLS:
        text = f"{_POOLS[kind]} {text}"
    elif kind == "DepthwiseConv2D" or groups == filters > 1:
        text = f"each {text}"
    else:
        text = f"{_WINDOWS[kind]}{text}, {filters}" + (f" in {groups}" if groups > 1 else "")
    stride = max(layer.strides)
    return f"{text} /{stride}" if stride > 1 else text


def _pieces(calls):
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


def _belongs(calls, before, piece, following):
    """Tells whether a piece goes on with the block before it; `following` are the next boxes."""
    old, new = _boxes(calls, before), _boxes(calls, piece)
    if not old:  # such as the preprocessing, or what pads the picture for the next layer
        return True
    same = {_numbered(calls[index]) for index in following}
    last = calls[old[-1]]
    if not new:
        if calls[piece[0]].kind not in _OPENING or not following or _numbered(last) in same:
            return True
        return _is_row(calls, before) and calls[following[0]].kind in _POOLS
    rows = _is_row(calls, before), _is_row(calls, piece)
    if not all(rows):
        names = _given(calls, old), _given(calls, new)
        return (
            any(rows) and all(names) and any(map(str.isdigit, _beginning([*names[0], *names[1]])))
        )
    first = calls[new[0]]
    if _numbered(first) == _numbered(last) or len(calls[before[-1]].shape) < 3:
        return True
    if _numbered(first) in same:
        return False
    return last.kind not in _POOLS and (first.kind in _POOLS or first.shape[:2] == last.shape[:2])


def _given(calls, numbers):
    """Returns the names of calls, without those that Keras made up of a class and a number."""
    plain = [re.sub(r"_\d+$", "", calls[index].name).replace("_", "") for index in numbers]
    return [
        calls[index].name
        for index, name in zip(numbers, plain, strict=True)
        if name != calls[index].kind.lower()
    ]


def _boxes(calls, numbers):
    return [index for index in numbers if calls[index].label]


def _is_row(calls, numbers):
    """Tells whether each call takes what the one before it gives."""
    return all(calls[after].inputs == (before,) for before, after in itertools.pairwise(numbers))


def _beginning(names):
    """Returns the words that all names begin with."""
    words = zip(*(name.split("_") for name in names), strict=False)
    same = itertools.takewhile(lambda column: len(set(column)) == 1, words)
    return "_".join(column[0] for column in same)


def _numbered(call):
    """Returns a layer's name up to its first number: block_1 of block_1_expand, or all of it."""
    found = re.match(r"[^\d]*\d[^_]*", call.name)
    return found[0] if found else call.name


def _block(calls, numbers):
    boxes = _boxes(calls, numbers)
    places = {index: place for place, index in enumerate(boxes)}
    sources = {}  # the boxes that a call hears of, through calls without a box
    edges = []
    for index in numbers:
        heard = {box for i in calls[index].inputs for box in sources.get(i, {-1})}
        if index in places:
            edges += sorted((box, places[index]) for box in heard or {-1})
            heard = {places[index]}
        sources[index] = heard or {-1}
    names = _given(calls, boxes) or [calls[index].name for index in boxes or numbers]
    return Block(
        name=_beginning(names) or _span(names, _is_row(calls, numbers)),
        calls=tuple(numbers),
        nodes=tuple(calls[index].label for index in boxes),
        edges=tuple(edges),
        shape=calls[numbers[-1]].shape,
        parameters=sum(calls[index].parameters for index in numbers),
        multiply_adds=sum(calls[index].multiply_adds for index in numbers),
    )


def _span(names, row):
    """Returns a name for layers whose names have nothing in common."""
    first, last = (name.partition("_")[0] for name in (names[0], names[-1]))
    return f"{first} to {last}" if row else names[-1]
