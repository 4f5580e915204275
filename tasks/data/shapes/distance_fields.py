"""Signed distance fields of the six shapes, from elementwise `+ - * /` and square roots only.

IEEE 754 specifies these to the last bit, unlike sines: so all machines agree on whether the center
of a pixel is inside.
"""

from __future__ import annotations

import math

from zoo.lazy import np

UNITS = 128  # along a side of the image, whatever its size in pixels
FIELD_MARGIN = 2  # units by which a field extends beyond its shape

SHAPES = {  # name: extent from the center, in radii; a label is an index into this table
    "circle": 0.95,
    "square": 1.19,
    "triangle": 1.35,
    "star": 1.40,
    "cross": 1.16,
    "ring": 1.08,
}


def distance_field(obj, pixels=UNITS):
    """Returns the signed distance field of one object, as if it were alone.

    Args:
        obj: A `scene_layout.SceneObject`.
        pixels: The number of pixels along a side of the image.

    Returns:
        The window `(rows, columns)` of the image that contains the object, as slices, and for
        each pixel in it the signed distance of its center from the outline, in units. It is
        negative inside and, near corners, may be less than the Euclidean distance.
    """
    reach = math.ceil(SHAPES[obj.shape] * obj.radius) + FIELD_MARGIN
    window, offsets = [], []
    for centre in obj.centre:
        start = (centre - reach) * pixels // UNITS
        stop = -(-(centre + reach) * pixels // UNITS)
        window.insert(0, slice(start, stop))
        offsets.append((np.arange(start, stop) + 0.5) * UNITS / pixels - centre)
    tangent = obj.turn / 32
    cosine = (1 - tangent * tangent) / (1 + tangent * tangent)
    sine = 2 * tangent / (1 + tangent * tangent)
    x, y = offsets[0] / obj.radius, offsets[1][:, None] / obj.radius
    distance = _distance(obj.shape, cosine * x + sine * y, cosine * y - sine * x)
    return tuple(window), distance * obj.radius


def _distance(shape, x, y):
    """Returns the signed distance of points from a shape at the origin, in radii."""
    if shape in ("circle", "ring"):
        radius = np.sqrt(x * x + y * y)
        return radius - 0.95 if shape == "circle" else np.abs(radius - 0.80) - 0.28
    x = np.abs(x)
    if shape == "triangle":  # the tip is at the top, where y is smallest
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
