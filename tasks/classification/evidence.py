"""The section of a report with saliency maps of a classifier, one image at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tasks.classification import metrics
from tasks.explain import overlays
from tasks.report import image_channels, plots
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np, tf

methods = LazyModule("tasks.explain.methods")
Image = LazyModule("PIL.Image")

log = logging.getLogger("zoo")

TITLE = "Saliency maps"
SHOWN = 6  # of the worst and of the best predictions each
MAX_SIDE = 224  # pixels of a picture
NOTES = {
    "grad_cam": "Grad-CAM of the predicted class, from blue, little evidence, to red, much.",
    "attention_rollout": "Attention rollout, which does not depend on the class.",
}


def sections(model, examples, classes: Sequence[str], logits) -> list[tuple[str, str]]:
    """Returns a section `(title, HTML)` with saliency maps of the worst and the best predictions.

    It is empty for models without a cheap map, and on other backends than TensorFlow.

    Args:
        model: The `keras.Model`, from images to logits.
        examples: The images with their true classes, `labels` of shape `(count,)`.
        classes: The class names, in the order of the logits.
        logits: `(count, classes)`.
    """
    if keras.backend.backend() != "tensorflow" or np.ndim(examples.labels) != 1:
        return []
    try:
        explained = methods.prepare(model)
    except UsageError:
        return []
    method = methods.default_method(explained)
    shown = _shown(logits, examples.labels)
    if method not in NOTES or not len(shown):
        return []
    images, predicted = np.asarray(examples.pixels[shown]), metrics.predictions(logits)[shown]
    try:
        maps = [
            methods.METHODS[method](explained, image[None], [label])[0]
            for image, label in zip(images, predicted, strict=True)
        ]
    except (MemoryError, tf.errors.AbortedError, tf.errors.ResourceExhaustedError):
        log.warning("there is not enough memory for the saliency maps of the report")
        return []
    confidences = metrics.confidences(logits[shown])
    rows = zip(shown, images, maps, predicted, confidences, strict=True)
    pictures = [
        (
            _side_by_side(image, saliency),
            f"{classes[examples.labels[index]]}\npredicted {classes[label]}, {confidence:.0%}\n"
            f"{examples.title(index)}",
        )
        for index, image, saliency, label, confidence in rows
    ]
    return [(TITLE, f"<p>{NOTES[method]}</p>{plots.image_gallery(pictures)}")]


def _shown(logits, labels):
    """Returns the indices of the worst mistakes and of the most confident correct predictions."""
    finite = np.isfinite(logits).all(-1)
    worst = [i for i in metrics.worst_mistakes(logits, labels, SHOWN) if finite[i]]
    correct = np.flatnonzero(finite & (metrics.predictions(logits) == labels))
    order = np.argsort(-metrics.confidences(logits[correct]), kind="stable")
    return np.array([*worst, *correct[order[:SHOWN]]], int)


def _side_by_side(image, saliency):
    drawn = overlays.overlay(image, saliency)
    drawn = drawn[:: -(-drawn.shape[0] // MAX_SIDE), :: -(-drawn.shape[1] // MAX_SIDE)]
    plain = Image.fromarray(image_channels.to_rgb(image)).resize(drawn.shape[1::-1])
    return np.concatenate([np.asarray(plain), drawn], axis=1)
