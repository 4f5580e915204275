"""RandAugment: two random operations out of fourteen on each image.

Cubuk, Zoph, Shlens and Le, 2019 (https://arxiv.org/abs/1909.13719), with N = 2 and M = 9. The
operations are Pillow's, as in the authors' AutoAugment; the ranges of Table 1 are those of
torchvision's `RandAugment`, where M counts to 30 and every operation grows with M.

Departures from torchvision: geometric operations fill with gray, as in the authors' code, not with
black. Images of neither 1 nor 3 channels are transformed channel by channel; "color", which mixes
channels, does nothing unless there are 3.
"""

from __future__ import annotations

from zoo.lazy import LazyModule, np, tf

Image = LazyModule("PIL.Image")
ImageEnhance = LazyModule("PIL.ImageEnhance")
ImageOps = LazyModule("PIL.ImageOps")

NUM_OPS = 2  # operations per image: N in the paper
MAGNITUDE = 9  # of each operation: M in the paper
MAX_MAGNITUDE = 30  # the M at which operations have the full strength of the table below
FILL_VALUE = 128


def sample_ops(random, shape):
    """Samples the operations on each image, and whether the sign of each is reversed.

    Args:
        random: A `numpy.random.Generator`.
        shape: The shape of an array of images, such as `(steps, batch)`.

    Returns:
        int32 `(*shape, NUM_OPS)`, indices into `OPERATIONS`, and bool of the same shape.
    """
    operations = random.integers(0, len(OPERATIONS), (*shape, NUM_OPS), "int32")
    return operations, random.random((*shape, NUM_OPS)) < 0.5


def apply_batch(images, operations, mirrored):
    """Returns images after their operations, uint8 `(batch, height, width, channels)`.

    Args:
        images: uint8 `(batch, height, width, channels)`.
        operations, mirrored: `(batch, NUM_OPS)`, from `sample_ops`.
    """
    changed = tf.numpy_function(_apply_batch, [images, operations, mirrored], tf.uint8)
    return tf.ensure_shape(changed, images.shape)


def apply_op(pixels, operation, magnitude=MAGNITUDE, mirrored=False):
    """Returns an image after one operation, uint8 `(height, width, channels)`.

    Args:
        pixels: uint8 `(height, width, channels)`.
        operation: A key of `OPERATIONS`.
        magnitude: The strength, from 0 to `MAX_MAGNITUDE`.
        mirrored: Whether the sign is reversed, for operations that have one: darker in place of
            brighter, left in place of right.
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
    for row, (pixels, indices, signs) in enumerate(zip(images, operations, mirrored, strict=True)):
        for index, sign in zip(indices, signs, strict=True):
            pixels = apply_op(pixels, names[index], mirrored=sign)
        changed[row] = pixels
    return changed


def _affine(image, *matrix):
    nearest = Image.Resampling.NEAREST
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, nearest, fillcolor=_fill_colour(image)
    )


def _rotate(image, degrees):
    return image.rotate(degrees, fillcolor=_fill_colour(image))


def _fill_colour(image):
    return (FILL_VALUE,) * len(image.getbands())


def _enhance(kind):
    return lambda image, amount: getattr(ImageEnhance, kind)(image).enhance(1 + amount)


# Name: the function of a Pillow image and an amount, and the largest amount.
OPERATIONS = {
    "identity": (None, 0),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), 0),
    "equalize": (lambda image, _: ImageOps.equalize(image), 0),
    "rotate": (_rotate, 30),  # degrees
    "solarize": (lambda image, by: ImageOps.solarize(image, 255 - abs(by)), 255),
    "color": (_enhance("Color"), 0.9),
    "posterize": (lambda image, by: ImageOps.posterize(image, 8 - round(abs(by))), 4),  # bits
    "contrast": (_enhance("Contrast"), 0.9),
    "brightness": (_enhance("Brightness"), 0.9),
    "sharpness": (_enhance("Sharpness"), 0.9),
    "shear_x": (lambda image, by: _affine(image, 1, by, 0, 0, 1, 0), 0.3),
    "shear_y": (lambda image, by: _affine(image, 1, 0, 0, by, 1, 0), 0.3),
    "translate_x": (
        lambda image, by: _affine(image, 1, 0, by * image.width, 0, 1, 0),
        150 / 331,
    ),
    "translate_y": (
        lambda image, by: _affine(image, 1, 0, 0, 0, 1, by * image.height),
        150 / 331,
    ),
}
