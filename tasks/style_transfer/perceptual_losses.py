"""Perceptual losses: content and style loss on feature maps, and total variation.

After Gatys et al., 2016. Each loss is relative to the squared norm of its target, so that the same
loss weights suit different feature extractors and layers.
"""

from __future__ import annotations

from zoo.lazy import keras

LOSS_NAMES = ("content_loss", "style_loss", "variation")
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in luminance
EPSILON = 1e-8  # lower bound of the squared norm of a target


def gram_matrix(maps):
    """Returns the Gram matrices of feature maps, averaged over positions.

    Args:
        maps: `(batch, height, width, channels)`.

    Returns:
        `(batch, channels, channels)`, divided by height times width.
    """
    ops = keras.ops
    batch, height, width, channels = ops.shape(maps)
    rows = ops.reshape(maps, (batch, height * width, channels))
    return ops.matmul(ops.transpose(rows, (0, 2, 1)), rows) / ops.cast(height * width, maps.dtype)


def content_loss(maps, target):
    """Returns the squared difference of feature maps, relative to the target's squared norm.

    Args:
        maps, target: `(batch, height, width, channels)`.

    Returns:
        The loss per image, `(batch,)`.
    """
    return _relative_error(maps - target, target, (1, 2, 3))


def style_loss(maps, target):
    """Returns the squared difference of Gram matrices, relative to the target's squared norm.

    Args:
        maps: `(batch, height, width, channels)`.
        target: Gram matrix of the style, `(channels, channels)`.

    Returns:
        The loss per image, `(batch,)`.
    """
    return _relative_error(gram_matrix(maps) - target, target[None], (1, 2))


def total_variation(images):
    """Returns the total variation per image, `(batch,)`.

    It is the mean over pixels and channels of the squared differences to the next pixel below and
    to the right, with pixels scaled to [0, 1].

    Args:
        images: `(batch, height, width, channels)` in [0, 255].
    """
    ops = keras.ops
    down = images[:, 1:] - images[:, :-1]
    right = images[:, :, 1:] - images[:, :, :-1]
    _, height, width, channels = ops.shape(images)
    total = ops.sum(down**2, axis=(1, 2, 3)) + ops.sum(right**2, axis=(1, 2, 3))
    return total / ops.cast(height * width * channels, images.dtype) / 255.0**2


def stack_losses(tensors):
    """Returns the losses of images, `(batch, 3)`, in the order of `LOSS_NAMES`.

    The losses of several layers are averaged.

    Args:
        tensors: a dict of `images`; lists of feature maps `content`, with the maps
            `target_content`; and lists of feature maps `style`, with the Gram matrices
            `target_style`.
    """
    content = map(content_loss, tensors["content"], tensors["target_content"])
    style = map(style_loss, tensors["style"], tensors["target_style"])
    parts = [_mean(content), _mean(style), total_variation(tensors["images"])]
    return keras.ops.stack(parts, axis=-1)


def luminance(images):
    """Returns the luminance of RGB images as images of three equal channels."""
    luma = keras.ops.convert_to_tensor(LUMA, images.dtype)
    values = keras.ops.sum(images * luma, axis=-1, keepdims=True)
    return keras.ops.repeat(values, 3, axis=-1)


def _relative_error(difference, target, axes):
    scale = keras.ops.sum(target**2, axis=axes)
    return keras.ops.sum(difference**2, axis=axes) / keras.ops.maximum(scale, EPSILON)


def _mean(losses):
    losses = list(losses)
    return sum(losses[1:], losses[0]) / len(losses)
