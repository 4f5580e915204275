"""Where things move when an image is changed at random: image, mask and boxes by the same draw.

A change mirrors an image left to right, scales it and shifts it. It is drawn beforehand, for a
whole epoch, from the seed and the number of the epoch, as `augment` does. A point `(x, y)`, in
pixels from the upper left corner of the picture, moves to `factor * (x, y) + offset`; a mirrored
image has a negative factor across. The centre of a pixel lies half a pixel from its edges.
"""

from __future__ import annotations

from tasks.data.augment import SHIFT
from zoo.errors import unknown_name_error
from zoo.lazy import np, tf

IGNORE_LABEL = 255  # in a mask: belongs to no class
FILL_VALUE = 128  # of what a moved image uncovers
GEOMETRY_SEED = 2  # tells these draws from those of the order and of other changes

# Name: whether one image in two is mirrored, the largest factor of scale (the least is one by
# it), and how far an image may shift, in parts of its sides, beyond what scaling leaves free.
LEVELS = {
    "none": (False, 1, 0),
    "mirror": (True, 1, 0),
    "light": (True, 1.25, SHIFT),
    "strong": (True, 2, 0),
}


def check_level(level):
    """Raises `UsageError` for a level of augmentation that there is not."""
    if level not in LEVELS:
        raise unknown_name_error("level of augmentation", level, LEVELS)


def sample_params(seed, epoch, size, steps, shape, level):
    """Draws how the images of an epoch move.

    Args:
        seed, epoch: integers, not negative.
        size, steps: images in a batch, batches.
        shape: `(height, width, channels)` of an image.
        level: one of `LEVELS`. `mirror` mirrors one image in two; `light` also scales by 0.8 to
            1.25 and shifts by up to an eighth of the picture; `strong` scales by a half to twice,
            and shifts so that an image which grew covers the picture, and one which shrank is
            in it.

    Returns:
        float32 arrays `(steps, size, 2)` by name, `factor` and `offset`, of x and y; nothing for
        `none`.
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
    # Whole pixels: what is not scaled stays as sharp as it was.
    moved = np.rint(random.uniform(-1, 1, (steps, size, 2)) * free)
    factor = np.repeat(scale, 2, axis=-1)
    factor[..., :1] *= np.where(mirror, -1, 1)
    offset = sides / 2 * (1 - factor) + moved
    return {"factor": factor.astype("float32"), "offset": offset.astype("float32")}


def transform_images(images, params):
    """Returns uint8 images `(batch, height, width, channels)` moved as drawn, bilinear.

    What is uncovered is grey.

    Args:
        images: uint8 `(batch, height, width, channels)`.
        params: one step of what `draw` returned.
    """
    if not params:
        return images
    moved = _affine_transform(tf.cast(images, tf.float32), params, "BILINEAR", FILL_VALUE)
    return tf.cast(tf.round(moved), tf.uint8)


def transform_masks(masks, params):
    """Returns uint8 masks `(batch, height, width)` moved as drawn; labels are never mixed.

    Each pixel takes the label of the nearest one; what is uncovered is `IGNORED`.

    Args:
        masks: uint8 `(batch, height, width)`.
        params: one step of what `draw` returned.
    """
    if not params:
        return masks
    return _affine_transform(masks[..., None], params, "NEAREST", IGNORE_LABEL)[..., 0]


def transform_boxes(boxes, params):
    """Returns boxes moved as drawn; they may reach beyond the picture.

    Args:
        boxes: float32 `(batch, boxes, 4)`, `x0, y0, x1, y1` in pixels.
        params: one step of what `draw` returned.
    """
    if not params:
        return boxes
    factor, offset = params["factor"][:, None], params["offset"][:, None]
    one, other = (factor * corner + offset for corner in tf.split(boxes, 2, axis=-1))
    return tf.concat([tf.minimum(one, other), tf.maximum(one, other)], -1)


def _affine_transform(images, params, way, fill):
    """Looks up, for the centre of each pixel, where it came from."""
    back = 1 / params["factor"]
    start = (0.5 - params["offset"]) * back - 0.5  # of the first pixel, counted in pixels
    none = tf.zeros_like(back[:, 0])
    rows = [back[:, 0], none, start[:, 0], none, back[:, 1], start[:, 1], none, none]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(rows, -1),
        output_shape=tf.shape(images)[1:3],
        fill_value=float(fill),
        interpolation=way,
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(moved, images.shape)
