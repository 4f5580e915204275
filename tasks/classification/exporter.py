"""What a classifier exports: class probabilities."""

from __future__ import annotations

from tasks.classification import metrics, saved_classifier
from tasks.classification.relabel import relabel
from tasks.data import decoding, sources
from tasks.inference.export_model import (
    ExportModel,
    SplitReader,
    check_single_input,
    with_image_input,
)
from zoo.lazy import keras, np

PROBABILITIES = "probabilities"
SHOW = (
    'best = sorted(zip(outputs["probabilities"], metadata["classes"]), reverse=True)[:5]\n'
    '    print(*(f"{share:6.1%}  {name}" for share, name in best), sep="\\n")'
)


def export_model(model, about, path):
    """Returns the `ExportModel` of a classifier.

    Args:
        model: a `keras.Model` from images to logits.
        about: the metadata of its file.
        path: its path or name, for messages.

    Raises:
        UsageError: the model is not an image classifier.
    """
    check_single_input(model, path)
    found = saved_classifier.read(path, model, about)
    activation = "sigmoid" if found.multi_label else "softmax"
    layer = keras.layers.Activation(activation, dtype="float32", name=PROBABILITIES)
    with_probabilities = with_image_input(
        found.model, lambda logits: {PROBABILITIES: layer(logits)}
    )
    metadata = {
        "task": "classification",
        "classes": list(found.classes),
        "resize": found.resize,
        "multi_label": found.multi_label,
    }
    measure = None if found.multi_label else _accuracy
    return ExportModel(
        with_probabilities,
        metadata,
        {PROBABILITIES: "probabilities"},
        show=SHOW,
        data=SplitReader(_load_source, _decode, "accuracy", measure),
    )


def _load_source(task, name):
    return sources.load(name, task.data_dir or None)


def _decode(task, source, part, exported):
    part = relabel(part, source.classes, exported.metadata["classes"])
    return decoding.decode(part, exported.image_shape, task.resize)


def _accuracy(batches, examples):
    probabilities = np.concatenate([batch[PROBABILITIES] for batch in batches])
    correct = (metrics.predictions(probabilities) == examples.labels).astype("float64")
    return lambda counts: counts @ correct / counts.sum(axis=1)
