"""Overlapping tiles of large images, so that each pixel is predicted with its context."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

GRID = 32  # pixels; the stride of most networks, or a multiple of it
OVERLAP_DIVISOR = 8  # a tile drops an eighth of its side at each border to another tile


class Span(NamedTuple):
    """A part of a side of an image: the range that is read, and the range that is kept."""

    start: int
    end: int
    first: int
    last: int


def spans(length, tile, grid=GRID):
    """Returns the spans of a side of an image, whose kept ranges cover it exactly once.

    A convolutional network whose strides divide the grid has the same outputs in the middle of a
    tile as for the whole image, as far as its receptive field does not exceed the margin: the
    overlap-tile strategy of Ronneberger et al., 2015, figure 2.

    Args:
        length: The length of the side in pixels.
        tile: The maximum span, a multiple of the grid.
        grid: Every span starts at a multiple of it.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    half = grid / 2
    margin = int(half * math.ceil(tile / OVERLAP_DIVISOR / half))
    step = tile - 2 * margin  # a multiple of the grid, too
    end = -(-(length - tile) // grid) * grid  # the start of the last span
    starts = [*range(0, end, step), end]
    ends = [min(start + tile, length) for start in starts]
    cuts = [(start + end) // 2 for start, end in zip(starts[1:], ends, strict=False)]
    return [Span(*span) for span in zip(starts, ends, [0, *cuts], [*cuts, length], strict=True)]


def tile_slices(shape, sides, grid=GRID):
    """Yields the tiles of an image: the part that is read, the part of it that is kept, and the
    position of the latter in the image.

    Each is a pair of slices, of rows and columns; the kept part is relative to the part read.

    Args:
        shape: `(height, width)` of the image.
        sides: `(height, width)` of a tile, as in `spans`.
        grid: Every tile starts at a multiple of it.
    """
    for pair in itertools.product(*(spans(*each, grid) for each in zip(shape, sides, strict=True))):
        read = tuple(slice(span.start, span.end) for span in pair)
        kept = tuple(slice(span.first - span.start, span.last - span.start) for span in pair)
        yield read, kept, tuple(slice(span.first, span.last) for span in pair)


def round_up_tile(tile, grid=GRID):
    """Returns a tile size in pixels rounded up to a multiple of the grid, at least two."""
    return max(2 * grid, -(-tile // grid) * grid)
