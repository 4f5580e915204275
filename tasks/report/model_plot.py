"""Plot of a network: its blocks from top to bottom, their layers from left to right.

Consecutive repeats of a block are drawn once. The color shows the size of the feature map;
convolutions, pooling and merges have boxes, activations and normalization have none.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report import model_graph, svg
from zoo.lazy import np

_CHAR_WIDTH = 6.4  # average, of text in a box, in pixels, as all lengths below
_BOX_HEIGHT, _LANE_HEIGHT = 24, 32  # of a box; from one box to the next below
_COLUMN_GAP = 26  # between boxes, for the lines
_LEFT = 232  # of the first box; the description of the block is to the left of it
_TOP, _MARGIN, _PADDING = 58, 20, 12  # above the blocks; around the plot; inside of a block
_MAX_NAME_LENGTH = 21  # characters of a block name
_MAX_BOXES_PER_ROW = 7  # of sequential layers
_MAX_BOXES = 40  # of a block; a larger one is summarized in text

# From the largest feature maps to the smallest; the last is for tensors without a spatial size.
_COLOURS = ("#0b84a5", "#1a6bb0", "#5b5bc2", "#8e4bb5", "#b8408f", "#c8553d", "#b07d12", "#5f6b76")
_STYLE = """
.name, .times { fill: #1b1f24; font-weight: 600 }
.inside { fill: #1b1f24 } .line { fill: none; stroke: #8c959f; stroke-width: 1.3 }
.box { stroke: #8c959f }
"""


def model_svg(title: str, calls: Sequence[model_graph.LayerCall]) -> str:
    """Returns the plot of a network, the text of an SVG file.

    Args:
        title: The title above it.
        calls: The layer calls, as from `model_graph.calls`.
    """
    groups = model_graph.group_repeats(model_graph.blocks(calls))
    colours = _colour_by_size([block for group in groups for block in group[0]])
    parts, y, width = [], _TOP, 0
    for group in groups:
        start, ends, times = y, [], len(group)
        for same in zip(*group, strict=True):
            drawn, right, height = _draw_block(same, y, colours[_longer_side(same[0])])
            parts += drawn
            ends.append(right)
            y += height
        if times > 1:
            parts.append(_bracket(max(ends) + 12, start, y, times))
        width = max(width, max(ends) + (60 if times > 1 else 0))
    width, height = width + _MARGIN, y + _MARGIN
    parameters = sum(call.parameters for call in calls)
    multiply_adds = sum(call.multiply_adds for call in calls)
    head = f"{parameters:,} parameters, {multiply_adds:,} multiply-adds, {len(calls)} layers"
    width = max(width, 2 * _MARGIN + _CHAR_WIDTH * len(head))
    heading = [
        svg.text(_MARGIN, 28, title, anchor="start", kind="title", size=17),
        svg.text(_MARGIN, 46, head, anchor="start"),
    ]
    return svg.standalone_svg(width, height, [*heading, *parts], f"the blocks of {title}", _STYLE)


def _colour_by_size(blocks):
    """Returns the color of each size of feature map, by its longer side."""
    sides = sorted({_longer_side(block) for block in blocks} - {0}, reverse=True)
    return {
        **{side: _COLOURS[min(i, len(_COLOURS) - 2)] for i, side in enumerate(sides)},
        0: _COLOURS[-1],
    }


def _longer_side(block):
    return max((side or 0 for side in block.shape[:2]), default=0) if len(block.shape) == 3 else 0


def _draw_block(same, top, colour):
    """Returns the SVG elements of repeated blocks, their right end and their height."""
    block = same[0]
    if len(block.nodes) > _MAX_BOXES:
        inner, right, high = _summarize_block(block, top + _PADDING)
    elif all(edge == (index - 1, index) for index, edge in enumerate(block.edges)):
        inner, right, high = _sequential_boxes(block.nodes, top + _PADDING)
    else:
        inner, right, high = _branched_boxes(block, top + _PADDING)
    high = max(high, 40) + 2 * _PADDING
    shape = " \N{MULTIPLICATION SIGN} ".join("any" if n is None else str(n) for n in block.shape)
    name = (
        block.name
        if len(block.name) <= _MAX_NAME_LENGTH
        else f"{block.name[: _MAX_NAME_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"
    )
    middle = top + high / 2
    cost = f"{sum(block.parameters for block in same):,} parameters"
    cost += " in all" if len(same) > 1 else ""
    label = {"anchor": "start", "hint": block.name}
    parts = [
        f'<g fill="{colour}">',
        svg.rectangle(_MARGIN, top + 2, 5, high - 4, kind="spine"),
        svg.text(_MARGIN + 16, middle - 11, name, kind="name", **label),
        svg.text(_MARGIN + 16, middle + 5, shape, **label),
        svg.text(_MARGIN + 16, middle + 20, cost, size=11, **label),
        *inner,
        "</g>",
    ]
    return parts, right, high


def _summarize_block(block, top):
    """Returns a text summary of a block that is too large to draw: its boxes by kind."""
    kinds = [node.rpartition(",")[0] or node for node in block.nodes]
    counts = sorted(((kinds.count(kind), kind) for kind in set(kinds)), reverse=True)
    lines = [f"{len(block.calls)} layers, too complex to draw:"]
    words = [f"{count} of {kind}" for count, kind in counts]
    lines += [", ".join(words[first : first + 5]) for first in range(0, len(words), 5)]
    parts = [
        svg.text(_LEFT, top + 14 + 18 * index, line, anchor="start")
        for index, line in enumerate(lines)
    ]
    return parts, _LEFT + _CHAR_WIDTH * max(map(len, lines)), 18 * len(lines)


def _sequential_boxes(nodes, top):
    """Returns boxes in rows from left to right, wrapped like text."""
    parts, right = [], _LEFT
    for first in range(0, len(nodes), _MAX_BOXES_PER_ROW):
        x, middle = _LEFT, top + _BOX_HEIGHT / 2 + _LANE_HEIGHT * (first // _MAX_BOXES_PER_ROW)
        for node in nodes[first : first + _MAX_BOXES_PER_ROW]:
            parts.append(_line(x - _COLUMN_GAP, middle, x, middle))
            parts.append(_box(x, middle, _box_width(node), node))
            x += _box_width(node) + _COLUMN_GAP
        right = max(right, x - _COLUMN_GAP)
    return (
        parts,
        right,
        _LANE_HEIGHT * -(-len(nodes) // _MAX_BOXES_PER_ROW) - (_LANE_HEIGHT - _BOX_HEIGHT),
    )


def _branched_boxes(block, top):
    """Returns boxes in columns by their depth in the block, with one lane for each branch."""
    edges, columns = _insert_dummy_nodes(block)
    lanes = _assign_lanes(edges, columns)
    count = max(columns) + 1
    wide = [6.0] * count
    for index, node in enumerate(block.nodes):
        wide[columns[index]] = max(wide[columns[index]], _box_width(node))
    lefts = [_LEFT, *(_LEFT + x for x in np.cumsum([w + _COLUMN_GAP for w in wide[:-1]]))]

    def height(index):
        return top + _BOX_HEIGHT / 2 + _LANE_HEIGHT * (0 if index < 0 else lanes[index])

    parts = []
    for before, after in edges:
        x = _LEFT - _COLUMN_GAP if before < 0 else lefts[columns[before]] + wide[columns[before]]
        parts.append(_line(x, height(before), lefts[columns[after]], height(after)))
    for index, column in enumerate(columns):
        x, y = lefts[column], height(index)
        if index < len(block.nodes):
            parts.append(_box(x, y, wide[column], block.nodes[index]))
        else:
            parts.append(_line(x, y, x + wide[column], y))
    return parts, lefts[-1] + wide[-1], _LANE_HEIGHT * max(lanes) + _BOX_HEIGHT


def _insert_dummy_nodes(block):
    """Returns edges between adjacent columns, and the column of each node.

    An edge that spans several columns gets dummy nodes without a box, numbered after the others.
    """
    columns = []
    for index in range(len(block.nodes)):
        sources = [before for before, after in block.edges if after == index]
        columns.append(1 + max((columns[s] if s >= 0 else -1 for s in sources), default=-1))
    edges = []
    for before, after in block.edges:
        start = columns[before] if before >= 0 else -1
        for column in range(start + 1, columns[after]):
            columns.append(column)
            edges.append((before, len(columns) - 1))
            before = len(columns) - 1
        edges.append((before, after))
    return edges, columns


def _assign_lanes(edges, columns):
    """Returns the lane of each node: the longest path on top, then the others, shortest first."""
    following = {}
    for before, after in edges:
        following.setdefault(before, []).append(after)
    paths, visited = [], set()
    for start in sorted(range(len(columns)), key=lambda index: columns[index]):
        index = start
        if start not in visited:
            paths.append([])
        while index is not None and index not in visited:
            paths[-1].append(index)
            visited.add(index)
            free = [after for after in following.get(index, ()) if after not in visited]
            index = max(free, key=lambda x: (_depth(x, following), -x), default=None)
    taken, lanes = [], [0] * len(columns)
    for path in [*paths[:1], *sorted(paths[1:], key=len)]:
        span = {columns[index] for index in path}
        lane = next((i for i, used in enumerate(taken) if not used & span), len(taken))
        taken[lane:] = taken[lane:] or [set()]
        taken[lane] |= span
        for index in path:
            lanes[index] = lane
    return lanes


def _depth(index, following):
    return 1 + max((_depth(after, following) for after in following.get(index, ())), default=0)


def _box_width(text):
    return max(28.0, _CHAR_WIDTH * len(text) + 14)


def _box(x, y, wide, text):
    return svg.rectangle(
        x, y - _BOX_HEIGHT / 2, wide, _BOX_HEIGHT, kind="box", opacity=0.1
    ) + svg.text(x + wide / 2, y + 4, text, kind="inside", size=11.5)


def _line(x, y, to_x, to_y):
    middle = (x + to_x) / 2
    return svg.path(
        f"M{x:.1f} {y:.1f}C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}",
        kind="line",
    )


def _bracket(x, top, bottom, times):
    return svg.path(f"M{x:.0f} {top + 6}h7V{bottom - 6:.0f}h-7", kind="line") + svg.text(
        x + 14,
        (top + bottom) / 2 + 5,
        f"\N{MULTIPLICATION SIGN} {times}",
        anchor="start",
        kind="times",
        size=14,
    )
