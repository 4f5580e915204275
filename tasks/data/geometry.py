"""Random geometric augmentation: the same transform for an image, its mask and its boxes.

A transform flips an image horizontally, scales it and shifts it. The parameters of a whole epoch
are sampled beforehand from the seed and the epoch number, as in `augment`. A point `(x, y)`, in
pixels from the upper left corner of the image, moves to `factor * (x, y) + offset`; a flipped
image has a negative x factor. The center of a pixel lies half a pixel from its edges.
"""

from __future__ import annotations

from tasks.data.augment import SHIFT
from zoo.errors import unknown_name_error
from zoo.lazy import np, tf

IGNORE_LABEL = 255  # label of pixels of a mask that are excluded from loss and metrics
FILL_VALUE = 128  # gray, of pixels that come from outside of the image
GEOMETRY_SEED = 2  # makes these random numbers independent of those for shuffling and `augment`

# Name: whether half of the images are flipped, the largest scale (the smallest is its inverse),
# and the largest shift as a fraction of the sides, beyond the shift that scaling allows.
LEVELS = {
    "none": (False, 1, 0),
    "mirror": (True, 1, 0),
    "light": (True, 1.25, SHIFT),
    "strong": (True, 2, 0),
}


def check_level(level):
    """Raises `UsageError` if `level` is not one of `LEVELS`."""
    if level not in LEVELS:
        raise unknown_name_error("level of augmentation", level, LEVELS)


def sample_params(seed, epoch, size, steps, shape, level):
    """Samples the transforms of the images of an epoch.

    Args:
        seed, epoch: Non-negative integers.
        size, steps: The batch size, and the number of batches.
        shape: `(height, width, channels)` of an image.
        level: One of `LEVELS`. `mirror` flips half of the images; `light` also scales by 0.8 to
            1.25 and shifts by up to an eighth of the image; `strong` scales by 0.5 to 2, and
            shifts so that an enlarged image covers the frame and a reduced one stays inside.

    Returns:
        A dict of float32 arrays `(steps, size, 2)`, `factor` and `offset`, for x and y; empty for
        `none`.

    Raises:
        UsageError: `level` is not one of `LEVELS`.
    """
    check_level(level)
    mirrors, largest, shift = LEVELS[level]
    if not mirrors:
        return {}
    random = np.random.default_rng([seed, epoch, GEOMETRY_SEED])
    sides = np.array(shape[1::-1])
    mirror = random.random((steps, size, 1)) < 0.5
    scale = largest ** random.uniform(-1, 1, (steps, size, 1))
    free = (abs(scale - 1) / 2 + shift) * sides
    # Integer shifts: an image that is not scaled stays as sharp as it was.
    moved = np.rint(random.uniform(-1, 1, (steps, size, 2)) * free)
    factor = np.repeat(scale, 2, axis=-1)
    factor[..., :1] *= np.where(mirror, -1, 1)
    offset = sides / 2 * (1 - factor) + moved
    return {"factor": factor.astype("float32"), "offset": offset.astype("float32")}


def transform_images(images, params):
    """Returns images, uint8, transformed with bilinear interpolation.

    Pixels that come from outside of the image are gray.

    Args:
        images: uint8 `(batch, height, width, channels)`.
        params: One step of what `sample_params` returns.
    """
    if not params:
        return images
    moved = _affine_transform(tf.cast(images, tf.float32), params, "BILINEAR", FILL_VALUE)
    return tf.cast(tf.round(moved), tf.uint8)


def transform_masks(masks, params):
    """Returns masks, uint8, transformed with nearest-neighbor interpolation.

    Pixels that come from outside of the mask are `IGNORE_LABEL`.

    Args:
        masks: uint8 `(batch, height, width)`.
        params: One step of what `sample_params` returns.
    """
    if not params:
        return masks
    return _affine_transform(masks[..., None], params, "NEAREST", IGNORE_LABEL)[..., 0]


def transform_boxes(boxes, params):
    """Returns transformed boxes, unclipped.

    Args:
        boxes: float32 `(batch, boxes, 4)`, `x0, y0, x1, y1` in pixels.
        params: One step of what `sample_params` returns.
    """
    if not params:
        return boxes
    factor, offset = params["factor"][:, None], params["offset"][:, None]
    one, other = (factor * corner + offset for corner in tf.split(boxes, 2, axis=-1))
    return tf.concat([tf.minimum(one, other), tf.maximum(one, other)], -1)


def _affine_transform(images, params, interpolation, fill):
    """Samples each pixel at its center under the inverse transform."""
    back = 1 / params["factor"]
    start = (0.5 - params["offset"]) * back - 0.5  # of the first pixel, as a pixel index
    none = tf.zeros_like(back[:, 0])
    rows = [back[:, 0], none, start[:, 0], none, back[:, 1], start[:, 1], none, none]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(rows, -1),
        output_shape=tf.shape(images)[1:3],
        fill_value=float(fill),
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(moved, images.shape)
