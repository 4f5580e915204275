"""RandAugment: two operations, drawn from fourteen, on each image.

Cubuk, Zoph, Shlens and Le, 2019 (https://arxiv.org/abs/1909.13719), with N = 2 and M = 9. The
operations are Pillow's, as in the authors' AutoAugment; the ranges of Table 1 are those of
torchvision's `RandAugment`, where M counts to 30 and every operation grows with M.

Departures from torchvision: what a geometric operation uncovers is grey, as in the authors' code,
not black. Images of neither 1 nor 3 channels are changed channel by channel; colour, which mixes
channels, is left as it is unless there are 3.
"""

from __future__ import annotations

from zoo.lazy import LazyModule, np, tf

Image = LazyModule("PIL.Image")
ImageEnhance = LazyModule("PIL.ImageEnhance")
ImageOps = LazyModule("PIL.ImageOps")

NUM_OPS = 2  # operations on an image: N in the paper
MAGNITUDE = 9  # of each: M in the paper
MAX_MAGNITUDE = 30  # M that the ranges below belong to
FILL_VALUE = 128


def sample_ops(random, shape):
    """Draws the operations on each image, and whether each acts the other way round.

    Args:
        random: a NumPy generator.
        shape: of the images, such as `(steps, batch)`.

    Returns:
        int32 `(*shape, COUNT)`, positions in `OPERATIONS`, and bool of the same shape.
    """
    operations = random.integers(0, len(OPERATIONS), (*shape, NUM_OPS), "int32")
    return operations, random.random((*shape, NUM_OPS)) < 0.5


def apply_batch(images, operations, mirrored):
    """Returns uint8 images `(batch, height, width, channels)` on which the operations have acted.

    Args:
        operations, mirrored: `(batch, COUNT)`, from `draw`.
    """
    changed = tf.numpy_function(_apply_batch, [images, operations, mirrored], tf.uint8)
    return tf.ensure_shape(changed, images.shape)


def apply_op(pixels, operation, magnitude=MAGNITUDE, mirrored=False):
    """Returns an image, uint8 `(height, width, channels)`, on which one operation has acted.

    Args:
        operation: a key of `OPERATIONS`.
        magnitude: how much, from 0 to `LARGEST`.
        mirrored: whether to act the other way round, if there is one: darker for brighter, left
            for right.
    """
    function, largest = OPERATIONS[operation]
    channels = pixels.shape[-1]
    if function is None or (operation == "color" and channels != 3):
        return pixels
    amount = largest * magnitude / MAX_MAGNITUDE * (-1 if mirrored else 1)
    if channels == 3:
        return np.asarray(function(Image.fromarray(pixels), amount))
    bands = (Image.fromarray(pixels[..., band]) for band in range(channels))
    return np.stack([np.asarray(function(band, amount)) for band in bands], -1)


def _apply_batch(images, operations, mirrored):
    changed = np.empty_like(images)
    names = tuple(OPERATIONS)
    for row, (pixels, chosen, ways) in enumerate(zip(images, operations, mirrored, strict=True)):
        for operation, way in zip(chosen, ways, strict=True):
            pixels = apply_op(pixels, names[operation], mirrored=way)
        changed[row] = pixels
    return changed


def _affine(picture, *matrix):
    nearest = Image.Resampling.NEAREST
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, nearest, fillcolor=_fill_colour(picture)
    )


def _rotate(picture, degrees):
    return picture.rotate(degrees, fillcolor=_fill_colour(picture))


def _fill_colour(picture):
    return (FILL_VALUE,) * len(picture.getbands())


def _enhance(kind):
    return lambda picture, amount: getattr(ImageEnhance, kind)(picture).enhance(1 + amount)


# Name: what it does to a picture by an amount, and the greatest amount.
OPERATIONS = {
    "identity": (None, 0),
    "autocontrast": (lambda picture, _: ImageOps.autocontrast(picture), 0),
    "equalize": (lambda picture, _: ImageOps.equalize(picture), 0),
    "rotate": (_rotate, 30),  # degrees
    "solarize": (lambda picture, by: ImageOps.solarize(picture, 255 - abs(by)), 255),
    "color": (_enhance("Color"), 0.9),
    "posterize": (lambda picture, by: ImageOps.posterize(picture, 8 - round(abs(by))), 4),  # bits
    "contrast": (_enhance("Contrast"), 0.9),
    "brightness": (_enhance("Brightness"), 0.9),
    "sharpness": (_enhance("Sharpness"), 0.9),
    "shear_x": (lambda picture, by: _affine(picture, 1, by, 0, 0, 1, 0), 0.3),
    "shear_y": (lambda picture, by: _affine(picture, 1, 0, 0, by, 1, 0), 0.3),
    "translate_x": (
        lambda picture, by: _affine(picture, 1, 0, by * picture.width, 0, 1, 0),
        150 / 331,
    ),
    "translate_y": (
        lambda picture, by: _affine(picture, 1, 0, 0, 0, 1, by * picture.height),
        150 / 331,
    ),
}
