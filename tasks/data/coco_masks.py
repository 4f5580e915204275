"""Segmentation masks of COCO annotations, from polygons and run-length encodings (RLE).

Masks equal those of pycocotools in every pixel, without depending on it: polygons are rasterised
by its rule, and run lengths are read both as numbers and as its compressed text.
"""

from __future__ import annotations

from tasks.data import number_parsing
from zoo.errors import UsageError
from zoo.lazy import np

GRID_SCALE = 5  # polygons are rasterised on a grid finer by this factor
MAX_OUTLINE_STEPS = 2**24  # length of the outline of a polygon on that grid
MAX_COORDINATE = 1e9  # pixels; larger coordinates of a polygon are clipped
MAX_RUN_BITS = 60  # bits of a run length in compressed text


def decode_segmentation(segmentation, height, width):
    """Returns the mask of a segmentation, bool `(height, width)`.

    Args:
        segmentation: Polygons, each a list `x0, y0, x1, y1, ...` in pixels; or run lengths, a
            dict with `size`, `[height, width]`, and `counts`, integers or the compressed text of
            pycocotools. A polygon of fewer than three points covers nothing.
        height, width: The size of the image in pixels.

    Raises:
        UsageError: The segmentation is neither, run lengths are for another size, or a polygon
            extends so far beyond the image that it would take long to rasterise.
    """
    if isinstance(segmentation, dict):
        return _rle_mask(segmentation, height, width)
    if not isinstance(segmentation, list) or not all(isinstance(p, list) for p in segmentation):
        raise UsageError(f"a segmentation is polygons or run lengths, not {segmentation!r:.60}")
    covered = np.zeros((height, width), bool)
    for points in segmentation:
        covered |= polygon_mask(points, height, width)
    return covered


def polygon_mask(points, height, width):
    """Returns the mask of a polygon, bool `(height, width)`, by the rule of pycocotools.

    The outline is followed on a finer grid; where it crosses the center line of a column of
    pixels, inside and outside swap for all pixels below.

    Args:
        points: `x0, y0, x1, y1, ...` in pixels; the last point is joined to the first.
        height, width: The size of the image in pixels.

    Raises:
        UsageError: The points are not pairs of numbers, or far beyond the image.
    """
    numbers = [number_parsing.parse_float(point) for point in points]
    if len(points) % 2 or None in numbers:
        raise UsageError(f"a polygon is numbers x0, y0, x1, y1, ..., not {points!r:.60}")
    if len(points) < 6:
        return np.zeros((height, width), bool)
    corners = np.clip(np.reshape(numbers, (-1, 2)), -MAX_COORDINATE, MAX_COORDINATE)
    corners = (GRID_SCALE * corners + 0.5).astype("int64")
    if np.abs(corners - np.roll(corners, -1, 0)).max(1).sum() > MAX_OUTLINE_STEPS:
        raise UsageError(
            f"a polygon extends far beyond its image of {width} x {height} pixels: {points!r:.60}"
        )
    pairs = zip(corners, np.roll(corners, -1, 0), strict=True)
    x, y = np.concatenate([_line_points(*start, *end) for start, end in pairs]).T
    column_changes = np.flatnonzero(x[1:] != x[:-1])
    step_x = np.where(
        x[column_changes + 1] < x[column_changes], x[column_changes + 1], x[column_changes + 1] - 1
    )
    step_y = np.minimum(y[column_changes + 1], y[column_changes])
    across = (step_x + 0.5) / GRID_SCALE - 0.5
    down = np.ceil(((step_y + 0.5) / GRID_SCALE - 0.5).clip(0, height))
    inside = (across == np.floor(across)) & (across >= 0) & (across <= width - 1)
    starts = (across[inside] * height + down[inside]).astype("int64")
    changes = np.bincount(starts, minlength=height * width + 1)[:-1]
    return (np.cumsum(changes) % 2).astype(bool).reshape(width, height).T


def decode_rle_text(text):
    """Returns the run lengths in the compressed text of pycocotools, a list of integers.

    Each is written in groups of five bits, the lowest first, as printable characters; from the
    fourth on, it is the difference to the one before the last.

    Raises:
        UsageError: The text encodes a run length of more than `MAX_RUN_BITS` bits.
    """
    text = text.encode(errors="replace") if isinstance(text, str) else text
    counts, value, bits = [], 0, 0
    for character in text:
        group = character - 48
        value |= (group & 31) << bits
        bits += 5
        if bits > MAX_RUN_BITS:
            raise UsageError(
                f"invalid run-length text: {bytes(text[:40])!r}; expected that of pycocotools"
            )
        if not group & 32:
            value -= (group >> 4 & 1) << bits  # the sign
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, bits = 0, 0
    return counts


def _rle_mask(segmentation, height, width):
    """Decodes run lengths, which go down the columns and begin outside the object."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    size = (
        [number_parsing.parse_int(side) for side in size]
        if isinstance(size, list | tuple)
        else size
    )
    if size != [height, width]:
        raise UsageError(f"run lengths are for the size {size}; the image has {[height, width]}")
    counts = decode_rle_text(counts) if isinstance(counts, str | bytes) else counts
    valid = isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts)
    if not valid or sum(counts) != height * width:
        raise UsageError(f"run lengths do not add up to the {height} x {width} pixels of the image")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def _line_points(x0, y0, x1, y1):
    """Returns the points of the fine grid along a line, `(points, 2)`, including both ends."""
    across, down = abs(x1 - x0), abs(y1 - y0)
    steep = down > across
    back = y0 > y1 if steep else x0 > x1
    if back:
        x0, y0, x1, y1 = x1, y1, x0, y0
    count = max(across, down)
    along = np.arange(count + 1)
    slope = ((x1 - x0) if steep else (y1 - y0)) / max(count, 1)
    aside = ((x0 if steep else y0) + slope * along + 0.5).astype("int64")
    points = (aside, y0 + along) if steep else (x0 + along, aside)
    return np.stack(points, -1)[:: -1 if back else 1]
