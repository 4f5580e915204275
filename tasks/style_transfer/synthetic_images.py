"""Synthetic images, to try style transfer without any file."""

from __future__ import annotations

from zoo.lazy import np

IMAGE_SIZE = 256  # side in pixels
NUM_TILES, JOINT_WIDTH = 300, 1.8  # of the mosaic; the latter in pixels


def hills():
    """Returns a landscape: sun, three rows of hills, a house; uint8 `(256, 256, 3)`."""
    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE] / IMAGE_SIZE
    image = _blend((120, 170, 225), (250, 225, 190), y / 0.6)
    sun = np.hypot(x - 0.72, y - 0.22)
    image[sun < 0.09] = (255, 236, 150)
    for height, wave, colour in (
        (0.50, 1.3, (120, 140, 165)),
        (0.60, 2.1, (85, 130, 95)),
        (0.74, 3.2, (60, 100, 55)),
    ):
        edge = height + 0.06 * np.sin(2 * np.pi * wave * x + 9 * height)
        shade = 1 - 0.5 * np.clip(y - edge, 0, 1)
        image = np.where((y > edge)[..., None], np.array(colour) * shade[..., None], image)
    wall = (abs(x - 0.3) < 0.08) & (abs(y - 0.68) < 0.07)
    roof = (y > 0.52) & (y < 0.61) & (abs(x - 0.3) < 1.2 * (y - 0.52))
    door = (abs(x - 0.3) < 0.02) & (abs(y - 0.71) < 0.04)
    for where, colour in ((wall, (225, 205, 180)), (roof, (165, 60, 45)), (door, (70, 45, 35))):
        image[where] = colour
    return image.round().clip(0, 255).astype("uint8")


def mosaic():
    """Returns a mosaic of warm and cold colors with dark joints; uint8 `(256, 256, 3)`."""
    random = np.random.default_rng(7)
    centres = random.uniform(0, IMAGE_SIZE, (NUM_TILES, 2))
    warm = [(196, 62, 44), (232, 160, 54), (244, 222, 150)]
    palette = np.array([*warm, (42, 92, 140), (28, 140, 138), (92, 46, 96)])
    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE]
    nearest, second_nearest = np.full((2, IMAGE_SIZE, IMAGE_SIZE), np.inf)  # distances
    tile = np.zeros((IMAGE_SIZE, IMAGE_SIZE), "int64")
    for number, (row, column) in enumerate(centres):
        distance = np.hypot(y - row, x - column)
        closer = distance < nearest
        second_nearest = np.where(closer, nearest, np.minimum(second_nearest, distance))
        nearest, tile = np.where(closer, distance, nearest), np.where(closer, number, tile)
    tones = palette[random.integers(len(palette), size=NUM_TILES)] + random.normal(
        0, 12, (NUM_TILES, 3)
    )
    image = tones[tile]
    image[second_nearest - nearest < JOINT_WIDTH] = (36, 30, 34)
    return image.round().clip(0, 255).astype("uint8")


def waves():
    """Returns swirling bands of blue and yellow; uint8 `(256, 256, 3)`."""
    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE] / IMAGE_SIZE
    turn = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
    for row, column, sign in ((0.3, 0.3, 1), (0.62, 0.72, -1), (0.15, 0.85, 1), (0.85, 0.2, -1)):
        distance = np.hypot(y - row, x - column)
        turn += sign * 2.4 * np.exp(-((distance / 0.22) ** 2)) * np.arctan2(y - row, x - column)
    bands = np.sin(2 * np.pi * (7 * y + 1.5 * np.sin(5 * x)) + 3 * turn)
    fine = np.sin(2 * np.pi * (26 * y + 5 * np.sin(5 * x)) + 9 * turn)
    image = _blend((24, 44, 110), (236, 204, 96), 0.5 + 0.38 * bands + 0.12 * fine)
    return image.round().clip(0, 255).astype("uint8")


SYNTHETIC_IMAGES = {"hills": hills, "mosaic": mosaic, "waves": waves}


def _blend(first, second, weight):
    """Returns a linear blend of two colors, float64 `(height, width, 3)`."""
    weight = np.clip(weight, 0, 1)[..., None]
    return np.array(first) * (1 - weight) + np.array(second) * weight
