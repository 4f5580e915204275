"""FCN: a classifier turned into a fully convolutional network that classifies every pixel."""

from __future__ import annotations

import inspect

from zoo.catalog import register, spec
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import encoder, padding

PAPER = "https://arxiv.org/abs/1411.4038"

VARIANTS = {  # figure 3: the number of stages that are scored, counted from the last
    "fcn32s": {"scored": 1},
    "fcn16s": {"scored": 2},
    "fcn8s": {"scored": 3},
}

COUNTS = {  # trainable parameters, FLOPs
    "fcn32s": (134_346_581, 42_416_381_952),
    "fcn16s": (134_364_410, 42_421_288_224),
    "fcn8s": (134_376_863, 42_432_483_744),
}


@register(
    VARIANTS,
    kind="segmenter",
    input_shape=(224, 224, 3),
    preprocessing="none",
    paper=PAPER,
    counts=COUNTS,
)
def fcn(
    image,
    num_classes=21,
    *,
    scored,
    backbone="vgg16",
    backbone_weights=None,
    hidden=None,
    kernel_size=7,
    dropout=0.5,
):
    """Builds a fully convolutional network (Long et al., 2014, section 4).

    The dense layers of VGG16 become convolutions (`fc1`, 7 x 7, and `fc2`), with VGG16's weights if
    its weights file includes the head. A 1 x 1 convolution scores each pixel of the last stage; in
    `16s` and `8s` also those of the one or two stages before it, each of half the stride. Scores
    are upsampled by trainable transposed convolutions, initialized as bilinear interpolation, and
    summed. Score layers are initialized with zeros, so that a fresh network outputs zeros.

    With VGG16, the scored stages are `pool3`, `pool4` and `fc2`. With 21 classes `fcn8s` has
    134,376,863 parameters, the paper's "134M": 14,714,688 in VGG16's convolutions, 119,545,856 in
    `fc1` and `fc2`, 102,207 in the scores, 14,112 in two transposed convolutions.

    Departures: the paper pads the image by 100 pixels and crops the scores; here `fc1` pads, and
    the image is padded by reflection to a multiple of the stride. The last upsampling, by 8, 16 or
    32, which the paper fixes to be bilinear, has no weights (the authors' file holds 112,896 for it
    in `fcn8s`). All streams are trained at once, without the factors on `pool3` and `pool4` that
    the authors use in that case. With other backbones, the scored stages are the last one, two or
    three, so that the final stride is that of the name only where the last stage has stride 32.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255]; any height and width.
        num_classes: width of the logits.
        scored: the number of stages that are scored, from 1.
        backbone: name of a model with stages.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        hidden: channels of the convolutions before the scores of the last stage; by default the
            units of the backbone's dense layers before its logits, such as 4096 and 4096 of VGG.
        kernel_size: height and width of the first of these convolutions.
        dropout: rate after each of them, in [0, 1).

    Returns:
        Endpoints: the stages of the backbone, and `logits` of the image's height and width,
        `(batch, height, width, num_classes)`.
    """
    hidden = _hidden(backbone) if hidden is None else hidden
    full_weights = (
        encoder.fetch_full_weights(backbone, backbone_weights) if hidden else backbone_weights
    )
    padded = padding.pad_to_multiple(image, encoder.stage_stride(backbone))
    endpoints = encoder.backbone_features(padded, backbone, full_weights)
    last, *others = list(endpoints)[::-1][:scored]
    if len(others) + 1 < scored:
        raise UsageError(
            f"fcn needs a backbone with {scored} stages to score; {backbone} has {len(endpoints)}"
        )
    x = _dense_as_convolutions(endpoints[last], hidden, kernel_size, dropout)
    if hidden:
        encoder.load_weights_into(image, x, full_weights)
    x = _score(x, num_classes, last)
    for stage in others:
        skip = _score(_stage_input(endpoints, stage), num_classes, stage)
        factor = 2 ** (encoder.stage_level(last) - encoder.stage_level(stage))
        x = padding.resize_to(_upsample_scores(x, factor, stage), skip, name=f"resized_{stage}")
        x = keras.layers.Add(dtype="float32", name=f"sum_{stage}")([x, skip])
        last = stage
    return {**endpoints, "logits": padding.restore_size(x, padded, image)}


def _hidden(backbone):
    """Returns the units of the dense layers before the logits of a network such as VGG."""
    entry = spec(backbone)
    option = inspect.signature(entry.builder).parameters.get("hidden")
    return entry.options.get("hidden", option.default if option else ())


def _dense_as_convolutions(x, hidden, kernel_size, dropout):
    for index, width in enumerate(hidden, start=1):
        x = keras.layers.Conv2D(
            width,
            kernel_size if index == 1 else 1,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"fc{index}",
        )(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"fc{index}_dropout")(x)
    return x


def _score(x, num_classes, stage):
    name = f"score_{stage}"
    return keras.layers.Conv2D(
        num_classes, 1, kernel_initializer="zeros", dtype="float32", name=name
    )(x)


def _upsample_scores(x, factor, stage):
    """Upsamples scores by a kernel that is initialized as bilinear interpolation."""
    return keras.layers.Conv2DTranspose(
        x.shape[-1],
        2 * factor - factor % 2,
        strides=factor,
        padding="same",
        use_bias=False,
        kernel_initializer=layers.BilinearInitializer(),
        dtype="float32",
        name=f"stretch_{stage}",
    )(x)


def _stage_input(endpoints, stage):
    """Returns the output of the pooling that begins a stage, or the stage's own endpoint.

    In VGG this is `pool3`, not the output of the fourth block.
    """
    before = endpoints.get(f"stage{encoder.stage_level(stage) - 1}")
    consumers = before._keras_history.operation._outbound_nodes if before is not None else ()
    pools = [node for node in consumers if type(node.operation) is keras.layers.MaxPooling2D]
    return pools[0].output_tensors[0] if pools else endpoints[stage]
