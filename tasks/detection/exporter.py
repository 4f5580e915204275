"""What a detector exports: boxes, scores and classes after non-maximum suppression."""

from __future__ import annotations

from tasks.detection import bootstrap, coco_metrics, dataset, predictor
from tasks.inference.export_model import ExportModel, SplitReader, with_image_input
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import np

DECODING_LAYERS = ("DecodeDetections", "ProposalLayer", "RoIAlign", "RoIPool")
SHOW = (
    'rows = zip(outputs["boxes"].round(1), outputs["scores"], outputs["classes"])\n'
    '    sure = [row for row in rows if row[1] >= metadata["score_threshold"]]\n'
    '    print(*(f"{s:6.1%}  {metadata[\'classes\'][c]}  {b}" for b, s, c in sure), sep="\\n")'
)


def export_model(model, about, path):
    """Returns the `ExportModel` of a detector.

    Args:
        model: a `keras.Model` from images to boxes, scores and classes.
        about: the metadata of its file.
        path: its path or name, for messages.

    Raises:
        UsageError: the model is not a detector, or takes region proposals.
    """
    found = predictor.from_file(path, model, about)
    if len(model.inputs) > 1:
        raise UsageError(
            f"{path} also takes region proposals, which are computed outside of the network; "
            "faster_rcnn and retinanet can be exported"
        )
    metadata = {
        "task": "detection",
        "classes": list(found.classes),
        "resize": found.resize_to,
        "score_threshold": found.score_threshold,
        "boxes": "x0, y0, x1, y1 in pixels of the resized image; rows with a class of -1 are "
        "padding",
    }
    return ExportModel(
        with_image_input(model, dict),
        metadata,
        {"boxes": "boxes", "scores": "scores", "classes": "labels"},
        show=SHOW,
        float_layers=_decoding_layers(model),
        data=SplitReader(_load_source, _decode, "ap", _average_precision),
    )


def _decoding_layers(model):
    """Returns the names of the layers that compute boxes, which 8 bits would round to a grid."""
    layers = graphs.leaf_layers(model)
    return tuple(layer.name for layer in layers if type(layer).__name__ in DECODING_LAYERS)


def _load_source(task, name):
    return dataset.load(name, task.data_dir or None)


def _decode(task, source, part, exported):
    examples = dataset.decode(part, exported.image_shape, task.resize)
    return dataset.remap_labels(examples, source.classes, exported.metadata["classes"])


def _average_precision(batches, examples):
    found = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    num_classes, count = int(max(examples.labels.max(), found["classes"].max())) + 1, len(examples)
    eval_images = coco_metrics.evaluate(examples, found, num_classes).evalImgs
    rows = [eval_images[n * count : (n + 1) * count] for n in range(num_classes)]
    classes = [one for one in map(bootstrap.class_matches, rows) if one is not None]
    return lambda draws: bootstrap.average_precision(classes, draws)
