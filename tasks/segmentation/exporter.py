"""What a segmenter exports: a mask of class indices, and the logits."""

from __future__ import annotations

from tasks.inference.export_model import (
    ExportModel,
    SplitReader,
    check_single_input,
    with_image_input,
)
from tasks.segmentation import dataset, metrics, predictor
from zoo.lazy import keras, np

MASK, LOGITS = "mask", "logits"
SHOW = (
    'Image.fromarray(outputs["mask"]).save(pathlib.Path(file).stem + "-mask.png")\n'
    '    shares = np.bincount(outputs["mask"].ravel()) / outputs["mask"].size\n'
    '    print(*(f"{s:6.1%}  {n}" for s, n in zip(shares, metadata["classes"]) if s), sep="\\n")'
)


def export_model(model, about, path):
    """Returns the `ExportModel` of a segmenter, for images of any size if its network allows it.

    Args:
        model: a `keras.Model` from images to logits of each pixel.
        about: the metadata of its file.
        path: its path or name, for messages.

    Raises:
        UsageError: the model is not a segmenter.
    """
    check_single_input(model, path)
    found = predictor.from_file(path, model, about)
    metadata = {
        "task": "segmentation",
        "classes": list(found.classes),
        "resize": found.resize_to,
        "size": list(found.size),
        "own_size": found.native_size,
    }
    return ExportModel(
        with_image_input(found.model, _outputs),
        metadata,
        {MASK: "labels", LOGITS: "values"},
        show=SHOW,
        data=SplitReader(_load_source, _decode, "miou", _miou),
    )


def _outputs(logits):
    # Of equal logits the first, as by `argmax`, which Keras computes with bitwise operations
    # that converters lack.
    _, index = keras.ops.top_k(logits, 1)
    return {MASK: keras.ops.cast(index[..., 0], "uint8"), LOGITS: logits}


def _load_source(task, name):
    return dataset.load(name, task.data_dir or None, task.class_map, threshold=task.threshold)


def _decode(task, source, part, exported):
    classes = tuple(exported.metadata["classes"])
    part = dataset.relabel(part, source.classes, classes)
    shape = (*exported.metadata["size"], exported.image_shape[-1])
    return dataset.decode(part, len(classes), shape, task.resize)


def _miou(batches, examples):
    masks = np.concatenate([batch[MASK] for batch in batches])
    classes = batches[0][LOGITS].shape[-1]
    labels = np.asarray(examples.labels[np.arange(len(examples))])
    matrices = metrics.confusion_matrices(labels, masks, classes)
    counts_per_image = metrics.iou_counts(matrices)

    def measure(draws):
        hits, support, predicted = np.moveaxis(np.tensordot(draws, counts_per_image, axes=1), -2, 0)
        union = support + predicted - hits
        present = union > 0
        return np.where(present, hits / np.maximum(union, 1), 0).sum(-1) / present.sum(-1)

    return measure
