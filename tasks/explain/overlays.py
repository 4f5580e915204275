"""Saliency maps at the size of an image, and drawn over it."""

from __future__ import annotations

from zoo.atomic_files import atomic_write
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MIN_SIDE = 224  # pixels of an overlay, so that small images can be seen
HEAT = ((0, 0, 90), (0, 140, 190), (90, 200, 90), (250, 220, 40), (220, 20, 20))  # low to high
ALPHA = 0.55  # opacity of the heat


def to_image_size(saliency, size):
    """Returns a map resized to `(height, width)` by bilinear interpolation."""
    if saliency.shape == tuple(size):
        return saliency
    image = Image.fromarray(np.ascontiguousarray(saliency, "float32"))
    return np.asarray(image.resize(tuple(size)[::-1], Image.Resampling.BILINEAR))


def overlay(image, saliency):
    """Returns an image under a map in colors from blue, low, to red, high.

    Args:
        image: uint8 `(height, width, channels)`.
        saliency: `(rows, columns)`, 0 or more.

    Returns:
        uint8 `(height, width, 3)`, the shorter side of `MIN_SIDE` pixels or more.
    """
    height, width = image.shape[:2]
    factor = -(-MIN_SIDE // min(height, width))
    size = (factor * height, factor * width)
    rgb = np.repeat(image[..., :1], 3, -1) if image.shape[-1] < 3 else image[..., :3]
    large = Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BICUBIC)
    heat = to_image_size(saliency / max(float(saliency.max()), 1e-12), size)
    stops = np.linspace(0, 1, len(HEAT))
    colors = np.stack([np.interp(heat, stops, channel) for channel in zip(*HEAT, strict=True)], -1)
    blended = (1 - ALPHA) * np.asarray(large, "float32") + ALPHA * colors
    return np.rint(blended).clip(0, 255).astype("uint8")


def write(image, saliency, path):
    """Writes the overlay of a map to a PNG file.

    Args:
        image: uint8 `(height, width, channels)`.
        saliency: `(rows, columns)`, 0 or more.
        path: A `Path`.
    """
    with atomic_write(path) as partial:
        Image.fromarray(overlay(image, saliency)).save(partial, "PNG")
