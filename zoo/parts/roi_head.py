"""The region head of the R-CNN family: classification and box regression of regions."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.lazy_layers import layers


def proposals_input(image, count):
    """Returns an input of external region proposals: `(batch, count, 4)`.

    Args:
        image: `(batch, height, width, channels)`, of a fixed size.
        count: the number of proposals per image, or `None` for any number.

    Raises:
        UsageError: the image's size is not fixed.
    """
    if None in image.shape[1:]:
        raise UsageError("a detector needs images of a fixed size; pass input_shape")
    return keras.Input((count, 4), name="proposals")


def classify_regions(regions, maps, image, num_classes, *, hidden, **options):
    """Classifies each region and refines its box, by dense layers over its features.

    Args:
        regions: `(batch, n, 4)`, in pixels of the image.
        maps: `(batch, n, rows, columns, channels)`, the features of each region.
        image: `(batch, height, width, channels)`.
        num_classes: the number of classes, without background.
        hidden: units of each dense layer before the outputs.
        **options: options of `layers.DecodeDetections`.

    Returns:
        Endpoints `roi_logits`, float32 `(batch, n, 1 + num_classes)`, background first;
        `roi_deltas`, float32 `(batch, n, num_classes, 4)`; and `detections`, the output of
        `layers.DecodeDetections`.
    """
    x = keras.layers.Reshape((-1, _product(maps.shape[2:])), name="roi_flatten")(maps)
    for index, units in enumerate(hidden, start=1):
        init, name = "he_normal", f"roi_fc{index}"
        x = keras.layers.Dense(units, activation="relu", kernel_initializer=init, name=name)(x)
    logits = _dense(1 + num_classes, 0.01, name="roi_logits")(x)
    deltas = _dense(4 * num_classes, 0.001, name="roi_boxes")(x)
    deltas = keras.layers.Reshape((-1, num_classes, 4), dtype="float32", name="roi_deltas")(deltas)
    found = layers.DecodeDetections(**options, name="detections")(regions, logits, deltas, image)
    return {"roi_logits": logits, "roi_deltas": deltas, "detections": found}


def _dense(units, stddev, *, name):
    """Returns a float32 dense layer, initialized as in Girshick, 2015 (section 2.3)."""
    init = keras.initializers.RandomNormal(stddev=stddev)
    return keras.layers.Dense(units, kernel_initializer=init, dtype="float32", name=name)


def _product(sides):
    rows, columns, channels = sides
    return rows * columns * channels
