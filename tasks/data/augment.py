"""Augmentation: images changed at random while training.

What happens to an image is drawn beforehand, for a whole epoch, from the seed and the number of
the epoch. So a run that is taken up again sees what the uninterrupted one would have seen, on any
number of replicas, and no random state needs saving. Images are uint8 before and after, of any
number of channels.
"""

from __future__ import annotations

from tasks.data import randaugment
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np, tf

SHIFT = 0.125  # of the height and width; 4 of 32 pixels, as in the ResNet paper, section 4.2
MIXUP_ALPHA = 0.2  # Zhang et al., 2017 (arXiv:1710.09412), section 3.1
CUTMIX_ALPHA = 1.0  # Yun et al., 2019 (arXiv:1905.04899), section 4.1
ERASED_AREA = (0.02, 0.4)  # of the image; Zhong et al., 2017 (arXiv:1708.04896), section 5.1
ERASED_ASPECT = (0.3, 1 / 0.3)  # height / width, likewise
AUGMENT_SEED = 1  # tells the draws of changes from those of the order


def check_options(augment, mix, erase):
    """Raises `UsageError` for a level, a mix or a probability that there is not."""
    if augment not in LEVELS:
        raise unknown_name_error("level of augmentation", augment, LEVELS)
    if mix not in MIXES:
        raise unknown_name_error("mix", mix, MIXES)
    if not 0 <= erase <= 1:
        raise UsageError(f"erase is a share of images, from 0 to 1, not {erase}")


def sample_params(seed, epoch, size, steps, shape, *, augment="none", mix="none", erase=0.0):
    """Draws what happens in an epoch.

    Args:
        seed, epoch: integers, not negative.
        size, steps: images in a batch, batches.
        shape: `(height, width, channels)` of an image.
        augment: one of `LEVELS`. `light` mirrors one image in two left to right, and shifts all by
            up to an eighth of the picture, with its own reflection at the border. `rand` is
            RandAugment.
        mix: one of `MIXES`. `mixup` makes each image and label a weighted mean of two;
            `cutmix` puts a rectangle of one into the other; `both` is one or the other, by batch.
        erase: the share of images that lose a rectangle to noise.

    Returns:
        Arrays by name, the first axis of which is `steps`, for `change`.
    """
    random = np.random.default_rng([seed, epoch, AUGMENT_SEED])
    height, width, _ = shape
    return {
        **LEVELS[augment](random, (steps, size), height, width),
        **_erase(random, (steps, size), height, width, erase),
        **MIXES[mix](random, steps, height, width),
    }


def apply(images, labels, params):
    """Returns a batch as drawn: images, rounded to uint8, and float32 labels.

    Args:
        images: uint8 `(batch, height, width, channels)`.
        labels: float32 `(batch, classes)`.
        params: one step of what `draw` returned.
    """
    if "mirror" in params:
        images = _flip_and_shift(images, params["mirror"], params["down"], params["right"])
    if "operations" in params:
        images = randaugment.apply_batch(images, params["operations"], params["mirrored"])
    if "hole" in params:
        noise = tf.random.stateless_uniform(images.shape[1:], params["noise"], 0, 256, tf.int32)
        inside = _box_mask(params["hole"], *images.shape[1:3])
        images = tf.where(inside, tf.cast(noise, tf.uint8), images)
    if "weight" in params:
        images, labels = _mix_examples(images, labels, params)
    return images, labels


def _no_augmentation(random, *_):
    return {}


def _light(random, shape, height, width):
    return {
        "mirror": random.random(shape) < 0.5,
        "down": np.rint(random.uniform(-SHIFT, SHIFT, shape) * height).astype("int32"),
        "right": np.rint(random.uniform(-SHIFT, SHIFT, shape) * width).astype("int32"),
    }


def _rand(random, shape, height, width):
    operations, mirrored = randaugment.sample_ops(random, shape)
    return {"operations": operations, "mirrored": mirrored}


def _erase(random, shape, height, width, share):
    """Draws rectangles `(top, left, bottom, right)`, empty where nothing is erased.

    A rectangle that would be longer than the image is cut to it; the paper draws another.
    """
    if not share:
        return {}
    area = random.uniform(*ERASED_AREA, shape) * height * width
    aspect = np.exp(random.uniform(*np.log(ERASED_ASPECT), shape))
    erased = random.random(shape) < share
    tall, wide = (
        np.floor(np.minimum(side, longest)) * erased
        for side, longest in ((np.sqrt(area * aspect), height), (np.sqrt(area / aspect), width))
    )
    top = np.floor(random.random(shape) * (height - tall + 1))
    left = np.floor(random.random(shape) * (width - wide + 1))
    hole = np.stack([top, left, top + tall, left + wide], -1).astype("int32")
    return {"hole": hole, "noise": random.integers(0, 2**31, (shape[0], 2), "int32")}


def _mixup(random, steps, height, width):
    weight = random.beta(MIXUP_ALPHA, MIXUP_ALPHA, steps).astype("float32")
    return {"patch": np.zeros((steps, 4), "int32"), "weight": weight, "kept": weight}


def _cutmix(random, steps, height, width):
    sides = np.sqrt(1 - random.beta(CUTMIX_ALPHA, CUTMIX_ALPHA, (steps, 1)))
    half = sides * (height, width) / 2
    centre = random.random((steps, 2)) * (height, width)
    edges = [np.rint(centre - half), np.rint(centre + half)]
    patch = np.concatenate(edges, -1).clip(0, [height, width] * 2).astype("int32")
    area = (patch[:, 2] - patch[:, 0]) * (patch[:, 3] - patch[:, 1])
    label_weight = (1 - area / (height * width)).astype("float32")
    return {"patch": patch, "weight": np.ones(steps, "float32"), "kept": label_weight}


def _mixup_or_cutmix(random, steps, height, width):
    """Draws the one or the other for each batch."""
    one, other = (draw(random, steps, height, width) for draw in (_mixup, _cutmix))
    first = random.random(steps) < 0.5
    return {
        name: np.where(first.reshape(-1, *[1] * (one[name].ndim - 1)), one[name], other[name])
        for name in one
    }


LEVELS = {"none": _no_augmentation, "light": _light, "rand": _rand}
MIXES = {"none": _no_augmentation, "mixup": _mixup, "cutmix": _cutmix, "both": _mixup_or_cutmix}


def _flip_and_shift(images, mirror, down, right):
    """Mirrors and shifts each image by whole pixels: it is as sharp as before."""
    height, width = images.shape[1:3]
    rows = _reflect(tf.range(height) - down[:, None], height)
    columns = _reflect(tf.range(width) - right[:, None], width)
    columns = tf.where(mirror[:, None], width - 1 - columns, columns)
    images = tf.gather(images, rows, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _reflect(places, side):
    """Brings positions beyond the border back: ... 1 0 | 0 1 2 ..."""
    places = tf.where(places < 0, -1 - places, places)
    return tf.where(places >= side, 2 * side - 1 - places, places)


def _box_mask(boxes, height, width):
    """Returns which pixels are inside boxes, bool `(boxes, height, width, 1)`."""
    top, left, bottom, right = (edge[:, None] for edge in tf.unstack(boxes, axis=-1))
    rows, columns = tf.range(height), tf.range(width)
    tall = (rows >= top) & (rows < bottom)
    wide = (columns >= left) & (columns < right)
    return (tall[:, :, None] & wide[:, None, :])[..., None]


def _mix_examples(images, labels, params):
    """Mixes each example with its neighbour, a random one, since the batch is in random order."""
    patch = _box_mask(params["patch"][None], *images.shape[1:3])
    weight = tf.where(patch, 0.0, params["weight"])
    one = tf.cast(images, tf.float32)
    mean = weight * one + (1 - weight) * tf.roll(one, 1, 0)
    label_weight = params["kept"]
    return tf.cast(tf.round(mean), tf.uint8), label_weight * labels + (1 - label_weight) * tf.roll(
        labels, 1, 0
    )
