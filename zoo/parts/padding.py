"""Sizes of images and maps for networks that answer for every pixel: tensors in, tensors out.

Where a size is known it is dealt with by what needs no other tensor, so that a network is a chain
wherever it can be, and `zoo.surgery.split` finds a place to cut it.
"""

from __future__ import annotations

from zoo.lazy import keras
from zoo.lazy_layers import layers


def pad_to_multiple(image, multiple, remainder=0, margin=0):
    """Continues an image at the bottom and on the right until `multiple` divides its sides.

    See `zoo.layers.ReflectPadToMultiple2D`; an image of a fitting size is returned as it is.
    """
    known = None not in image.shape[1:3]
    if known and not margin and all(side % multiple == remainder for side in image.shape[1:3]):
        return image
    return layers.ReflectPadToMultiple2D(multiple, remainder, margin, name="pad")(image)


def crop_to(x, image, *, name):
    """Leaves out what maps have more at the bottom and on the right than an image."""
    if None in (*x.shape[1:3], *image.shape[1:3]):
        return layers.CropLike(dtype=x.dtype, name=name)([x, image])
    more = [source - target for source, target in zip(x.shape[1:3], image.shape[1:3], strict=True)]
    if not any(more):
        return x
    return keras.layers.Cropping2D([(0, side) for side in more], dtype=x.dtype, name=name)(x)


def resize_to(x, other, *, name):
    """Stretches maps, bilinearly, to the size of others, unless they have it."""
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
    """Brings logits to the size of the padded image, and cuts them to that of the image."""
    x = resize_to(x, padded, name="logits_resized")
    return crop_to(x, image, name="logits_cut")
