"""The six shapes as signed distances, from elementwise `+ - * /` and square roots only.

IEEE 754 fixes each of these to the last bit, which it does not for sines: so every machine
decides alike whether the centre of a pixel lies inside.
"""

from __future__ import annotations

import math

from zoo.lazy import np

UNITS = 128  # along a side of the picture, whatever its size in pixels
FIELD_MARGIN = 2  # units by which a field reaches beyond its shape

SHAPES = {  # name: reach from the centre, in radii; a label is a position in this table
    "circle": 0.95,
    "square": 1.19,
    "triangle": 1.35,
    "star": 1.40,
    "cross": 1.16,
    "ring": 1.08,
}


def distance_field(thing, pixels=UNITS):
    """Measures how far pixels lie outside one object, as if it were alone.

    Args:
        thing: a `scene_layout.SceneObject`.
        pixels: along a side of the picture.

    Returns:
        The window `(rows, columns)` of the picture that holds the object, as slices, and for
        each pixel of it the signed distance of its centre from the outline, in units; it is
        negative inside and, near corners, may fall short of the Euclidean distance.
    """
    reach = math.ceil(SHAPES[thing.shape] * thing.radius) + FIELD_MARGIN
    window, offsets = [], []
    for centre in thing.centre:
        start = (centre - reach) * pixels // UNITS
        stop = -(-(centre + reach) * pixels // UNITS)
        window.insert(0, slice(start, stop))
        offsets.append((np.arange(start, stop) + 0.5) * UNITS / pixels - centre)
    tangent = thing.turn / 32
    cosine = (1 - tangent * tangent) / (1 + tangent * tangent)
    sine = 2 * tangent / (1 + tangent * tangent)
    x, y = offsets[0] / thing.radius, offsets[1][:, None] / thing.radius
    distance = _distance(thing.shape, cosine * x + sine * y, cosine * y - sine * x)
    return tuple(window), distance * thing.radius


def _distance(shape, x, y):
    """Signed distance, in radii, of points from the outline of a shape at the origin."""
    if shape in ("circle", "ring"):
        radius = np.sqrt(x * x + y * y)
        return radius - 0.95 if shape == "circle" else np.abs(radius - 0.80) - 0.28
    x = np.abs(x)
    if shape == "triangle":  # the tip is up, where y is least
        return np.maximum(y, 0.8660254037844386 * x - 0.5 * y) - 0.675
    if shape == "star":
        return _star_distance(x, -y)
    y = np.abs(y)
    if shape == "square":
        return np.maximum(x, y) - 0.84
    return np.minimum(np.maximum(x - 1.08, y - 0.4), np.maximum(x - 0.4, y - 1.08))  # cross


def _star_distance(x, y):
    """Folds the five points of a star onto half of the topmost, whose edge is one line."""
    cosine, sine = 0.8090169943749475, 0.5877852522924731  # of 36 degrees
    fold = 2 * np.maximum(cosine * x - sine * y, 0)
    x, y = x - fold * cosine, y + fold * sine
    fold = 2 * np.maximum(-cosine * x - sine * y, 0)
    x, y = np.abs(x + fold * cosine), y + fold * sine
    tip, notch_x, notch_y = 1.4, 0.45 * 1.4 * sine, 0.45 * 1.4 * cosine
    run, rise = notch_x, tip - notch_y
    return (x * rise + (y - tip) * run) / math.sqrt(run * run + rise * rise)
