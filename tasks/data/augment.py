"""Random augmentation of training images: flips, shifts, RandAugment, erasing, mixup and CutMix.

The random parameters of a whole epoch are sampled beforehand from the seed and the epoch number. So
a resumed run gets the images that the uninterrupted run would have had, on any number of replicas,
and no random state needs saving. Images are uint8 before and after, with any number of channels.
"""

from __future__ import annotations

from tasks.data import randaugment
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np, tf

SHIFT = 0.125  # of height and width; 4 of 32 pixels, as in the ResNet paper, section 4.2
MIXUP_ALPHA = 0.2  # Zhang et al., 2017 (arXiv:1710.09412), section 3.1
CUTMIX_ALPHA = 1.0  # Yun et al., 2019 (arXiv:1905.04899), section 4.1
ERASED_AREA = (0.02, 0.4)  # of the image; Zhong et al., 2017 (arXiv:1708.04896), section 5.1
ERASED_ASPECT = (0.3, 1 / 0.3)  # height / width, likewise
AUGMENT_SEED = 1  # makes these random numbers independent of those for shuffling


def check_options(augment, mix, erase):
    """Raises `UsageError` for an invalid `augment`, `mix` or `erase`."""
    if augment not in LEVELS:
        raise unknown_name_error("level of augmentation", augment, LEVELS)
    if mix not in MIXES:
        raise unknown_name_error("mix", mix, MIXES)
    if not 0 <= erase <= 1:
        raise UsageError(f"erase is a fraction of images, from 0 to 1, not {erase}")


def sample_params(seed, epoch, size, steps, shape, *, augment="none", mix="none", erase=0.0):
    """Samples the augmentation parameters of an epoch.

    Args:
        seed, epoch: Non-negative integers.
        size, steps: The batch size, and the number of batches.
        shape: `(height, width, channels)` of an image.
        augment: One of `LEVELS`. `light` flips half of the images horizontally, and shifts all by
            up to an eighth of their sides, with reflection padding. `rand` is RandAugment.
        mix: One of `MIXES`. `mixup` makes each image and label a weighted mean of two; `cutmix`
            pastes a rectangle of one image into the other; `both` is either, by batch.
        erase: The fraction of images in which a rectangle is replaced with noise.

    Returns:
        A dict of arrays `(steps, ...)`, for `apply`.
    """
    random = np.random.default_rng([seed, epoch, AUGMENT_SEED])
    height, width, _ = shape
    return {
        **LEVELS[augment](random, (steps, size), height, width),
        **_erase(random, (steps, size), height, width, erase),
        **MIXES[mix](random, steps, height, width),
    }


def apply(images, labels, params):
    """Returns the augmented images, rounded to uint8, and labels of a batch.

    Args:
        images: uint8 `(batch, height, width, channels)`.
        labels: float32 `(batch, classes)`.
        params: One step of what `sample_params` returns.
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


def _erase(random, shape, height, width, fraction):
    """Samples rectangles `(top, left, bottom, right)`, empty where nothing is erased.

    A rectangle longer than the image is cut to its size; the paper samples another.
    """
    if not fraction:
        return {}
    area = random.uniform(*ERASED_AREA, shape) * height * width
    aspect = np.exp(random.uniform(*np.log(ERASED_ASPECT), shape))
    erased = random.random(shape) < fraction
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
    """Samples mixup or CutMix for each batch."""
    one, other = (sample(random, steps, height, width) for sample in (_mixup, _cutmix))
    first = random.random(steps) < 0.5
    return {
        name: np.where(first.reshape(-1, *[1] * (one[name].ndim - 1)), one[name], other[name])
        for name in one
    }


LEVELS = {"none": _no_augmentation, "light": _light, "rand": _rand}
MIXES = {"none": _no_augmentation, "mixup": _mixup, "cutmix": _cutmix, "both": _mixup_or_cutmix}


def _flip_and_shift(images, mirror, down, right):
    """Flips and shifts each image by integer pixels, so that it stays sharp."""
    height, width = images.shape[1:3]
    rows = _reflect(tf.range(height) - down[:, None], height)
    columns = _reflect(tf.range(width) - right[:, None], width)
    columns = tf.where(mirror[:, None], width - 1 - columns, columns)
    images = tf.gather(images, rows, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _reflect(indices, side):
    """Reflects indices beyond the border: ... 1 0 | 0 1 2 ..."""
    indices = tf.where(indices < 0, -1 - indices, indices)
    return tf.where(indices >= side, 2 * side - 1 - indices, indices)


def _box_mask(boxes, height, width):
    """Returns which pixels are inside boxes, bool `(boxes, height, width, 1)`."""
    top, left, bottom, right = (edge[:, None] for edge in tf.unstack(boxes, axis=-1))
    rows, columns = tf.range(height), tf.range(width)
    tall = (rows >= top) & (rows < bottom)
    wide = (columns >= left) & (columns < right)
    return (tall[:, :, None] & wide[:, None, :])[..., None]


def _mix_examples(images, labels, params):
    """Mixes each example with its neighbor, a random one, since batches are shuffled."""
    patch = _box_mask(params["patch"][None], *images.shape[1:3])
    weight = tf.where(patch, 0.0, params["weight"])
    one = tf.cast(images, tf.float32)
    mean = weight * one + (1 - weight) * tf.roll(one, 1, 0)
    label_weight = params["kept"]
    return tf.cast(tf.round(mean), tf.uint8), label_weight * labels + (1 - label_weight) * tf.roll(
        labels, 1, 0
    )
