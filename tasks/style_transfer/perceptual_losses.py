"""How far a picture is from a content and from a style: functions of what a network sees in it.

Gatys et al., 2016, say what is compared; here each difference is a share of what it is compared
with, so that weights which suit one network and layer suit the others, too.
"""

from __future__ import annotations

from zoo.lazy import keras

LOSS_NAMES = ("content_loss", "style_loss", "variation")
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in the brightness that an eye sees
EPSILON = 1e-8  # what is compared with is no smaller


def gram_matrix(maps):
    """Returns how maps go together, averaged over places: of `(batch, height, width, channels)`
    the Gram matrices `(batch, channels, channels)` divided by height times width.
    """
    ops = keras.ops
    batch, height, width, channels = ops.shape(maps)
    rows = ops.reshape(maps, (batch, height * width, channels))
    return ops.matmul(ops.transpose(rows, (0, 2, 1)), rows) / ops.cast(height * width, maps.dtype)


def content_loss(maps, target):
    """Returns for each picture the squared difference of maps, as a share of the wanted ones'
    squares: two tensors `(batch, height, width, channels)` -> `(batch,)`."""
    return _relative_error(maps - target, target, (1, 2, 3))


def style_loss(maps, target):
    """Returns for each picture the squared difference of the Gram matrices of its maps to a
    wanted one, `(channels, channels)`, as a share of that one's squares: `(batch,)`."""
    return _relative_error(gram_matrix(maps) - target, target[None], (1, 2))


def total_variation(pictures):
    """Returns the total variation of each picture: the mean over pixels and colours of the squared
    differences to the next pixel below and on the right, where 255 counts as one: `(batch,)`."""
    ops = keras.ops
    down = pictures[:, 1:] - pictures[:, :-1]
    right = pictures[:, :, 1:] - pictures[:, :, :-1]
    _, height, width, channels = ops.shape(pictures)
    total = ops.sum(down**2, axis=(1, 2, 3)) + ops.sum(right**2, axis=(1, 2, 3))
    return total / ops.cast(height * width * channels, pictures.dtype) / 255.0**2


def stack_losses(tensors):
    """Returns the losses of pictures, `(batch, 3)`, in the order of `NAMES`.

    Those of several layers are averaged.

    Args:
        tensors: a dict of the `pictures`; of lists of maps, `content` with `wanted_content`, and
            `style` with `wanted_style`, which are Gram matrices.
    """
    content = map(content_loss, tensors["content"], tensors["wanted_content"])
    style = map(style_loss, tensors["style"], tensors["wanted_style"])
    parts = [_mean(content), _mean(style), total_variation(tensors["pictures"])]
    return keras.ops.stack(parts, axis=-1)


def luminance(pictures):
    """Returns the brightness of pictures as three equal colours, of the same shape."""
    luma = keras.ops.convert_to_tensor(LUMA, pictures.dtype)
    bright = keras.ops.sum(pictures * luma, axis=-1, keepdims=True)
    return keras.ops.repeat(bright, 3, axis=-1)


def _relative_error(difference, target, axes):
    scale = keras.ops.sum(target**2, axis=axes)
    return keras.ops.sum(difference**2, axis=axes) / keras.ops.maximum(scale, EPSILON)


def _mean(losses):
    losses = list(losses)
    return sum(losses[1:], losses[0]) / len(losses)
