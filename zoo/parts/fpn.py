"""Feature pyramid networks: maps of several strides, each with the semantics of the coarsest.

maps = fpn.feature_pyramid(image, "resnet20.cifar10", levels=(2, 6), channels=64)
x = maps[4]  # the map of stride 4
"""

from __future__ import annotations

from zoo.catalog import models
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks, encoder, padding


def feature_pyramid(image, backbone, weights=None, *, levels, channels, batch_norm=True):
    """Builds a backbone with a feature pyramid (Lin et al., 2016, section 3).

    Levels beyond the last stage of the backbone are computed from it by convolutions of stride 2,
    and are part of the top-down pathway. (The paper subsamples the level below for its top level.)
    Departure: each convolution is normalized, unless `batch_norm` is off.

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        backbone: name of a model with stages.
        weights: a weights file instead of the tag's source, or `"random"`.
        levels: first and last level, N for a stride of `2**N`.
        channels: width of each map.
        batch_norm: whether the pyramid's convolutions are normalized.

    Returns:
        A dict of strides to maps `(batch, rows, columns, channels)`, finest first.

    Raises:
        UsageError: the image's size is not fixed, the levels are invalid, or the first stage of
            the backbone is coarser than the first level.
    """
    first, last = levels
    if None in image.shape[1:]:
        raise UsageError("a detector needs images of a fixed size; pass input_shape")
    if not 0 <= first <= last:
        raise UsageError(f"levels need a first and a last one, such as (2, 6); got {tuple(levels)}")
    stages = [encoder.stage_level(stage) for stage in models.get(backbone).stages]
    if stages and first < stages[0]:
        raise UsageError(f"{backbone} begins with stage{stages[0]}; got levels {tuple(levels)}")
    own = [level for level in stages if first <= level <= last] or stages[-1:]
    endpoints = encoder.backbone_features(image, backbone, weights, own)
    maps = {encoder.stage_level(stage): x for stage, x in endpoints.items()}
    for level in range(max(maps) + 1, last + 1):
        maps[level] = blocks.conv_bn(maps[level - 1], channels, 3, 2, name=f"p{level}_down")
    row = {level: maps[level] for level in range(first, last + 1)}
    return _top_down(row, channels, batch_norm)


def apply_shared(maps, chain):
    """Applies the same layers, one after the other, to every map."""
    for layer in chain:
        maps = [layer(x) for x in maps]
    return maps


def concatenate_levels(maps, width, *, name):
    """Concatenates levels: (batch, rows, columns, k * width) each -> (batch, n, width).

    The order is that of `boxes.generate_anchors`, the dtype float32.
    """
    rows = []
    for index, x in enumerate(maps):
        flat = keras.layers.Reshape((-1, width), dtype="float32", name=f"{name}_{index}")
        rows.append(flat(x))
    if len(rows) == 1:
        return keras.layers.Identity(dtype="float32", name=name)(rows[0])
    return keras.layers.Concatenate(axis=1, dtype="float32", name=name)(rows)


def _top_down(maps, channels, batch_norm):
    """Applies the top-down pathway: lateral connections plus the upsampled coarser level."""

    def conv(x, kernel_size, name):
        if batch_norm:
            return blocks.conv_bn(x, channels, kernel_size, activation=None, name=name)
        return blocks.conv(x, channels, kernel_size, bias=True, name=name)

    coarser, found = None, {}
    for level, x in reversed(maps.items()):
        x = conv(x, 1, f"p{level}_lateral")
        if coarser is not None:
            up = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"p{level}_up")(coarser)
            up = padding.crop_to(up, x, name=f"p{level}_up_cut")
            x = keras.layers.Add(name=f"p{level}_sum")([x, up])
        coarser = x
        found[2**level] = conv(x, 3, f"p{level}")
    return dict(reversed(found.items()))
