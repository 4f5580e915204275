"""Synthetic handwritten-like digits, drawn with the font of Pillow: no file is needed."""

from __future__ import annotations

from zoo.lazy import np

CLASSES = 10


def digits(count: int, seed: int = 0, *, size: int = 16, shift: float = 1.0, noise: float = 30.0):
    """Returns gray images of digits and their labels.

    Each digit is turned by up to 20 degrees, scaled, moved and covered with noise.

    Args:
        count: number of images.
        seed: of all random values; each is another data set.
        size: pixels along a side, 12 or more.
        shift: largest move in each direction, in pixels.
        noise: standard deviation of the noise, of 255.

    Returns:
        Images float32 `(count, size, size, 1)` in [0, 255] and labels int32 `(count,)`.
    """
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype("int32")
    images = np.empty((count, size, size), "float32")
    fonts = [ImageFont.load_default(0.75 * size * scale) for scale in (0.9, 1.0, 1.1)]
    for image, label in zip(images, labels, strict=True):
        drawn = Image.new("L", (size, size))
        place = size / 2 + rng.uniform(-shift, shift, 2)
        font = fonts[rng.integers(len(fonts))]
        ImageDraw.Draw(drawn).text(tuple(place), str(label), fill=255, font=font, anchor="mm")
        image[:] = drawn.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR)
    images += rng.normal(0, noise, images.shape)
    return images.clip(0, 255)[..., None], labels
