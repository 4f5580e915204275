"""Segmenters and detectors as the methods take them: a score for each class, or for each box."""

from __future__ import annotations

from tasks.explain import methods
from zoo.lazy import keras, np


def of_segmenter(model, shape) -> methods.Explained:
    """Returns a segmenter whose score of a class is its mean logit over its own pixels.

    Its own pixels are those where its logit is the largest (Seg-Grad-CAM, Vinogradova et al.,
    2020).

    Args:
        model: A `keras.Model` from images to logits `(batch, height, width, classes)`.
        shape: `(height, width, channels)` of the images.
    """
    image = keras.Input(shape)
    logits = keras.ops.cast(model(image), "float32")
    count = logits.shape[-1]
    own = keras.ops.one_hot(keras.ops.argmax(logits, -1), count, dtype="float32")
    pixels = keras.ops.maximum(keras.ops.sum(own, (1, 2)), 1)
    scores = keras.ops.sum(logits * own, (1, 2)) / pixels
    return methods.prepare(keras.Model(image, scores, name=model.name))


def of_boxes(detect, boxes, classes) -> methods.Explained:
    """Returns a detector whose scores are those of given boxes: how well they are still found.

    The score of a box is the largest product of the intersection over union and the score of an
    object of the same class (D-RISE, Petsiuk et al., 2021).

    Args:
        detect: A function of an image to the boxes `(objects, 4)`, scores and classes in it.
        boxes: The boxes to explain, `(count, 4)`.
        classes: The class of each.
    """

    def run(images):
        return np.stack([_similarities(*detect(image), boxes, classes) for image in images])

    return methods.Explained(None, None, run=run)


def _similarities(found, scores, labels, boxes, classes):
    values = np.zeros(len(boxes), "float32")
    for index, (box, own) in enumerate(zip(boxes, classes, strict=True)):
        low, high = np.maximum(found[:, :2], box[:2]), np.minimum(found[:, 2:], box[2:])
        overlap = np.prod(np.maximum(high - low, 0), axis=-1)
        areas = np.prod(found[:, 2:] - found[:, :2], axis=-1) + np.prod(box[2:] - box[:2])
        share = overlap / np.maximum(areas - overlap, 1e-9)
        values[index] = np.max(share * scores * (labels == own), initial=0)
    return values
