"""A scene's pixels: ground, objects from back to front, grain; in integers throughout."""

from __future__ import annotations

from tasks.data.shapes.distance_fields import UNITS, distance_field
from tasks.data.shapes.scene_layout import COLOURS, make_randint
from zoo.lazy import np

GREY_RANGE = (64, 186)  # of grey, least and greatest, in the middle of a ground's two tones
CONTRAST_RANGE = (24, 60)  # between the two tones of a ground
MAX_TINT = 14  # levels by which a tone may leave grey, and a colour its table
MAX_LIGHT = 16  # levels by which an object is lighter on one side than in its middle
EDGE_WIDTH = 1.75  # units, width of the dark line along an object's outline
EDGE_DARKNESS = 104  # of 256


def render(objects, words, pixels):
    """Paints a scene.

    Args:
        objects: what `scene_layout.layout` returned.
        words: what `scene_layout.random_words` returned.
        pixels: along a side of the picture.

    Returns:
        The picture, uint8 `(pixels, pixels, 3)`, and uint8 `(pixels, pixels)`: 1 + position in
        `objects` of the foremost object that holds the centre of the pixel, 0 for ground.
    """
    canvas = _background(words, pixels)
    instances = np.zeros((pixels, pixels), "uint8")
    for number, thing in enumerate(objects, start=1):
        window, distance = distance_field(thing, pixels)
        instances[window][distance < 0] = number
        tone = _object_colour(thing, words, window, distance, pixels)
        cover = np.clip(128 - distance * (256 * pixels / UNITS), 0, 256).astype("int32")
        patch = canvas[window]
        patch += (tone - patch) * cover[..., None] >> 8
    canvas += _grain(words, canvas.shape)
    return np.clip(canvas, 0, 255).astype("uint8"), instances


def _object_colour(thing, words, window, distance, pixels):
    """Colour of an object at each pixel of its window: a little off, lit from one side."""
    roll = make_randint(words)
    colour = np.array(
        [level + _symmetric_randint(roll, MAX_TINT) for level in COLOURS[thing.colour]], "int32"
    )
    rows, columns = ((np.arange(s.start, s.stop) * UNITS // pixels) for s in window)
    light = (columns - thing.centre[0]) * _symmetric_randint(roll, MAX_LIGHT)
    light = light + ((rows - thing.centre[1]) * _symmetric_randint(roll, MAX_LIGHT))[:, None]
    edge = np.clip(256 + distance * (256 / EDGE_WIDTH), 0, 256).astype("int32")
    tone = colour + (light // thing.radius)[..., None].astype("int32")
    return tone - (tone * (edge * EDGE_DARKNESS >> 8)[..., None] >> 8)


def _background(words, pixels):
    """A pattern of two muted tones, int32 `(pixels, pixels, 3)`."""
    roll = make_randint(words)
    level = GREY_RANGE[0] + roll(GREY_RANGE[1] - GREY_RANGE[0] + 1)
    contrast = CONTRAST_RANGE[0] + roll(CONTRAST_RANGE[1] - CONTRAST_RANGE[0] + 1)
    low, high = (
        np.array(
            [level + sign * contrast // 2 + _symmetric_randint(roll, MAX_TINT) for _ in "rgb"],
            "int32",
        )
        for sign in (-1, 1)
    )
    pattern = (_cloud, _stripes, _checks)[roll(3)](words, roll, pixels)
    return low + ((high - low) * pattern[..., None] >> 8)


def _cloud(words, roll, pixels):
    """Smooth noise of two scales, 0 to 255."""
    coarse, fine = _noise(words, pixels, 4 + roll(4)), _noise(words, pixels, 16 + roll(9))
    return np.clip(2 * coarse + fine - 256, 0, 255)


def _stripes(words, roll, pixels):
    """Soft bands in any direction, bent by noise, 0 to 255."""
    x = (2 * np.arange(pixels, dtype="int32") + 1) * (8 * UNITS) // pixels  # 16 to a unit
    phase = x * _symmetric_randint(roll, 16) + (x * (8 + roll(9)))[:, None] >> 4
    phase = phase + _noise(words, pixels, 3 + roll(3)) & 255
    return 2 * np.abs(phase - 128) * 255 >> 8


def _checks(words, roll, pixels):
    """Squares of two tones under noise, 0 to 255."""
    x = (2 * np.arange(pixels, dtype="int32") + 1) * (UNITS // 2) // pixels
    side = 8 + roll(17)
    columns, rows = (x + roll(side)) // side, (x + roll(side)) // side
    squares = (columns + rows[:, None] & 1) * 255
    return (squares + _noise(words, pixels, 8 + roll(17))) // 2


def _noise(words, pixels, cells):
    """Random levels, 0 to 255, at the corners of `cells` x `cells`, and between them."""
    knots = _bytes(words, (cells + 1, cells + 1))
    place = (2 * np.arange(pixels, dtype="int32") + 1) * (128 * cells) // pixels
    cell, part = place >> 8, place & 255
    rows = knots[cell] * (256 - part)[:, None] + knots[cell + 1] * part[:, None] >> 8
    return rows[:, cell] * (256 - part) + rows[:, cell + 1] * part >> 8


def _grain(words, shape):
    """Independent noise from -15 to 15 of standard deviation 6.5."""
    level = _bytes(words, shape)
    return (level & 15) + (level >> 4) - 15


def _bytes(words, shape):
    """Independent levels 0 to 255, int32, the same on machines of either byte order."""
    count = int(np.prod(shape))
    level = words(-(-count // 8)).astype("<u8").view("uint8")[:count]
    return level.astype("int32").reshape(shape)


def _symmetric_randint(roll, most):
    """A whole number from `-most` to `most`."""
    return roll(2 * most + 1) - most
