"""Feature pyramids: maps of every stride that all know what the coarsest one knows.

maps = pyramids.feature_pyramid(image, "resnet20.cifar10", levels=(2, 6), channels=64)
x = maps[4]  # the map of stride 4
"""

from __future__ import annotations

from zoo.catalog import models
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks, encoder, padding


def feature_pyramid(image, backbone, weights=None, *, levels, channels, batch_norm=True):
    """Puts a backbone and the pyramid of Lin et al., 2016 (section 3), on an image.

    Levels that the backbone does not reach are made of its last stage by convolutions of stride
    2, and are part of the way down again. (The paper's top level is every other pixel of the one
    below it.) Departure: each convolution is normalised, unless `batch_norm` is off.

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        backbone: a name of `zoo.names()` that has stages.
        weights: a weights file for it in place of its tag's source, or `"random"`.
        levels: first and last N of a row of maps of stride `2**N`.
        channels: of each map.
        batch_norm: whether the pyramid's convolutions are normalised.

    Returns:
        Strides, finest first, to the maps.

    Raises:
        UsageError: the image's size is not fixed, there is no such row of levels, or the backbone
            begins with a coarser one.
    """
    first, last = levels
    if None in image.shape[1:]:
        raise UsageError("a detector is built for images of one size; give input_shape")
    if not 0 <= first <= last:
        raise UsageError(f"levels are a first and a last one, such as (2, 6), not {tuple(levels)}")
    stages = [encoder.stage_level(stage) for stage in models.get(backbone).stages]
    if stages and first < stages[0]:
        raise UsageError(f"{backbone} begins with stage{stages[0]}; levels {tuple(levels)} do not")
    own = [level for level in stages if first <= level <= last] or stages[-1:]
    ends = encoder.backbone_features(image, backbone, weights, own)
    maps = {encoder.stage_level(stage): x for stage, x in ends.items()}
    for level in range(max(maps) + 1, last + 1):
        maps[level] = blocks.conv_bn(maps[level - 1], channels, 3, 2, name=f"p{level}_down")
    row = {level: maps[level] for level in range(first, last + 1)}
    return _top_down(row, channels, batch_norm)


def apply_shared(maps, chain):
    """Calls the same layers, one after the other, on every map."""
    for layer in chain:
        maps = [layer(x) for x in maps]
    return maps


def concatenate_levels(maps, width, *, name):
    """Lists what is said in all maps: (batch, rows, columns, k * width) -> (batch, all, width).

    In the order of `boxes.generate_anchors`, and in float32.
    """
    rows = []
    for index, x in enumerate(maps):
        flat = keras.layers.Reshape((-1, width), dtype="float32", name=f"{name}_{index}")
        rows.append(flat(x))
    if len(rows) == 1:
        return keras.layers.Identity(dtype="float32", name=name)(rows[0])
    return keras.layers.Concatenate(axis=1, dtype="float32", name=name)(rows)


def _top_down(maps, channels, batch_norm):
    """The way down: each map, in as many channels, plus the coarser one at twice the size."""

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
