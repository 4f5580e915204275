"""Rendering of a scene: background, objects from back to front, and noise, all in integers."""

from __future__ import annotations

from tasks.data.shapes.distance_fields import UNITS, distance_field
from tasks.data.shapes.scene_layout import COLOURS, make_randint
from zoo.lazy import np

GREY_RANGE = (64, 186)  # of the mean gray level of the two tones of a background
CONTRAST_RANGE = (24, 60)  # levels, between the two tones of a background
MAX_TINT = 14  # levels by which tones may differ from gray, and colors from the table
MAX_LIGHT = 16  # levels by which an object is lighter on one side than in its center
EDGE_WIDTH = 1.75  # units, the width of the dark line along the outline of an object
EDGE_DARKNESS = 104  # of 256


def render(objects, words, pixels):
    """Renders a scene.

    Args:
        objects: The objects, as `scene_layout.layout` returns them.
        words: A source of random 64-bit words, as `scene_layout.random_words` returns it.
        pixels: The number of pixels along a side of the image.

    Returns:
        The image, uint8 `(pixels, pixels, 3)`, and the instances, uint8 `(pixels, pixels)`: 1 +
        index in `objects` of the foremost object at the center of the pixel, 0 for background.
    """
    canvas = _background(words, pixels)
    instances = np.zeros((pixels, pixels), "uint8")
    for number, obj in enumerate(objects, start=1):
        window, distance = distance_field(obj, pixels)
        instances[window][distance < 0] = number
        tone = _object_colour(obj, words, window, distance, pixels)
        cover = np.clip(128 - distance * (256 * pixels / UNITS), 0, 256).astype("int32")
        patch = canvas[window]
        patch += (tone - patch) * cover[..., None] >> 8
    canvas += _grain(words, canvas.shape)
    return np.clip(canvas, 0, 255).astype("uint8"), instances


def _object_colour(obj, words, window, distance, pixels):
    """Returns the color of an object at each pixel of its window, lit from one side."""
    randint = make_randint(words)
    colour = np.array(
        [level + _symmetric_randint(randint, MAX_TINT) for level in COLOURS[obj.colour]], "int32"
    )
    rows, columns = ((np.arange(s.start, s.stop) * UNITS // pixels) for s in window)
    light = (columns - obj.centre[0]) * _symmetric_randint(randint, MAX_LIGHT)
    light = light + ((rows - obj.centre[1]) * _symmetric_randint(randint, MAX_LIGHT))[:, None]
    edge = np.clip(256 + distance * (256 / EDGE_WIDTH), 0, 256).astype("int32")
    tone = colour + (light // obj.radius)[..., None].astype("int32")
    return tone - (tone * (edge * EDGE_DARKNESS >> 8)[..., None] >> 8)


def _background(words, pixels):
    """Returns a pattern of two muted tones, int32 `(pixels, pixels, 3)`."""
    randint = make_randint(words)
    level = GREY_RANGE[0] + randint(GREY_RANGE[1] - GREY_RANGE[0] + 1)
    contrast = CONTRAST_RANGE[0] + randint(CONTRAST_RANGE[1] - CONTRAST_RANGE[0] + 1)
    low, high = (
        np.array(
            [level + sign * contrast // 2 + _symmetric_randint(randint, MAX_TINT) for _ in "rgb"],
            "int32",
        )
        for sign in (-1, 1)
    )
    pattern = (_cloud, _stripes, _checks)[randint(3)](words, randint, pixels)
    return low + ((high - low) * pattern[..., None] >> 8)


def _cloud(words, randint, pixels):
    """Returns smooth noise of two scales, 0 to 255."""
    coarse, fine = _noise(words, pixels, 4 + randint(4)), _noise(words, pixels, 16 + randint(9))
    return np.clip(2 * coarse + fine - 256, 0, 255)


def _stripes(words, randint, pixels):
    """Returns soft stripes in any direction, distorted by noise, 0 to 255."""
    x = (2 * np.arange(pixels, dtype="int32") + 1) * (8 * UNITS) // pixels  # 16 to a unit
    phase = x * _symmetric_randint(randint, 16) + (x * (8 + randint(9)))[:, None] >> 4
    phase = phase + _noise(words, pixels, 3 + randint(3)) & 255
    return 2 * np.abs(phase - 128) * 255 >> 8


def _checks(words, randint, pixels):
    """Returns a checkerboard with noise, 0 to 255."""
    x = (2 * np.arange(pixels, dtype="int32") + 1) * (UNITS // 2) // pixels
    side = 8 + randint(17)
    columns, rows = (x + randint(side)) // side, (x + randint(side)) // side
    squares = (columns + rows[:, None] & 1) * 255
    return (squares + _noise(words, pixels, 8 + randint(17))) // 2


def _noise(words, pixels, cells):
    """Returns value noise, 0 to 255: random levels at a grid of `cells` x `cells`, interpolated."""
    knots = _bytes(words, (cells + 1, cells + 1))
    position = (2 * np.arange(pixels, dtype="int32") + 1) * (128 * cells) // pixels
    cell, part = position >> 8, position & 255
    rows = knots[cell] * (256 - part)[:, None] + knots[cell + 1] * part[:, None] >> 8
    return rows[:, cell] * (256 - part) + rows[:, cell + 1] * part >> 8


def _grain(words, shape):
    """Returns independent noise from -15 to 15 with standard deviation 6.5."""
    level = _bytes(words, shape)
    return (level & 15) + (level >> 4) - 15


def _bytes(words, shape):
    """Returns independent levels 0 to 255, int32, the same for either byte order."""
    count = int(np.prod(shape))
    level = words(-(-count // 8)).astype("<u8").view("uint8")[:count]
    return level.astype("int32").reshape(shape)


def _symmetric_randint(randint, limit):
    """Returns a random integer from `-limit` to `limit`."""
    return randint(2 * limit + 1) - limit
