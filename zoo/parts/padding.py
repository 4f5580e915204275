"""Sizes of images and maps in networks for dense prediction: tensors in, tensors out.

Operations on static sizes take no second tensor, so that a network stays a chain wherever possible,
which `zoo.surgery.split` needs.
"""

from __future__ import annotations

from zoo.lazy import keras
from zoo.lazy_layers import layers


def pad_to_multiple(image, multiple, remainder=0, margin=0):
    """Pads an image by reflection until height and width are `remainder` modulo `multiple`.

    See `zoo.layers.ReflectPadToMultiple2D`; an image of a suitable size is returned unchanged.
    """
    static = None not in image.shape[1:3]
    if static and not margin and all(side % multiple == remainder for side in image.shape[1:3]):
        return image
    return layers.ReflectPadToMultiple2D(multiple, remainder, margin, name="pad")(image)


def crop_to(x, image, *, name):
    """Crops maps at the bottom and on the right to the size of an image."""
    if None in (*x.shape[1:3], *image.shape[1:3]):
        return layers.CropLike(dtype=x.dtype, name=name)([x, image])
    sides = zip(x.shape[1:3], image.shape[1:3], strict=True)
    excess = [source - target for source, target in sides]
    if not any(excess):
        return x
    return keras.layers.Cropping2D([(0, side) for side in excess], dtype=x.dtype, name=name)(x)


def resize_to(x, other, *, name):
    """Resizes maps bilinearly to the size of others, if it differs."""
    source, target = x.shape[1:3], other.shape[1:3]
    if None in (*source, *target):
        return layers.ResizeLike(dtype=x.dtype, name=name)([x, other])
    if source == target:
        return x
    if any(larger % side for side, larger in zip(source, target, strict=True)):
        return layers.ResizeLike(dtype=x.dtype, name=name)([x, other])
    times = [larger // side for side, larger in zip(source, target, strict=True)]
    interpolation = {"interpolation": "bilinear", "dtype": x.dtype}
    return keras.layers.UpSampling2D(times, **interpolation, name=name)(x)


def restore_size(x, padded, image):
    """Resizes logits to the padded image, and crops them to the image."""
    x = resize_to(x, padded, name="logits_resized")
    return crop_to(x, image, name="logits_cut")
