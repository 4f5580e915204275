"""Large images in parts that overlap, so that each pixel is answered with what is around it."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

GRID = 32  # pixels; most networks divide an image by that, or by less
OVERLAP_DIVISOR = 8  # a tile gives up an eighth of its side at each border that another tile has


class Span(NamedTuple):
    """A part of a side of an image: from where to where it is read, and what of it is kept."""

    start: int
    end: int
    first: int
    last: int


def spans(length, tile, grid=GRID):
    """Returns how a side of an image is cut: what is kept of all spans is the side, once.

    A network of kernels and pools with strides that divide the grid gives in the middle of a
    tile what it gives there for the whole image, as far as it does not see beyond the margin: the
    overlap-tile strategy of Ronneberger et al., 2015, figure 2.

    Args:
        length: of the side, in pixels.
        tile: the longest span, a multiple of the grid.
        grid: what every span starts at a multiple of.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    half = grid / 2
    step = tile - 2 * int(
        half * math.ceil(tile / OVERLAP_DIVISOR / half)
    )  # a multiple of the grid, too
    end = -(-(length - tile) // grid) * grid  # where the last one starts
    starts = [*range(0, end, step), end]
    ends = [min(start + tile, length) for start in starts]
    cuts = [(start + end) // 2 for start, end in zip(starts[1:], ends, strict=False)]
    return [Span(*span) for span in zip(starts, ends, [0, *cuts], [*cuts, length], strict=True)]


def tile_slices(shape, sides, grid=GRID):
    """Yields how an image is cut: what is read, what of that is kept, and where that belongs.

    Each is a pair of slices, of rows and columns; those kept are counted from the start of what is
    read.

    Args:
        shape: `(height, width)` of the image.
        sides: those of a tile, as `spans` takes them.
        grid: what every tile starts at a multiple of.
    """
    for pair in itertools.product(*(spans(*each, grid) for each in zip(shape, sides, strict=True))):
        read = tuple(slice(span.start, span.end) for span in pair)
        kept = tuple(slice(span.first - span.start, span.last - span.start) for span in pair)
        yield read, kept, tuple(slice(span.first, span.last) for span in pair)


def round_up_tile(tile, grid=GRID):
    """Returns the side of a tile, in pixels, that is as long as wanted at least and fits a grid."""
    return max(2 * grid, -(-tile // grid) * grid)
