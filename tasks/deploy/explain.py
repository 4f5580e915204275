"""Explains the predictions of a classifier, a segmenter or a detector on image files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.classification.predictor import ClassificationPredictor
from tasks.data import image_io
from tasks.deploy import model_loader, predict
from tasks.detection.predictor import DetectionPredictor
from tasks.explain import faithfulness, fixed_inputs, methods, overlays, targets
from tasks.report import palette
from tasks.segmentation.predictor import SegmentationPredictor
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np

AUTO = "auto"
MAX_BOXES = 5  # of an image that are explained, the highest scores first
DETECTOR_METHOD = "occlusion"  # scores after non-maximum suppression have no useful gradients


@dataclass(frozen=True)
class Subject:
    """What is explained in an image.

    Attributes:
        explained: The `methods.Explained`.
        index: The index of the score that the map explains.
        facts: What is reported of it: `class`, and `probability`, `share` or `score` and `box`.
    """

    explained: methods.Explained
    index: int
    facts: Mapping[str, object]


def explain(
    target, images, out, *, method=AUTO, label=None, weights=None, faithful=False, inputs=None
) -> list[dict]:
    """Writes saliency maps and overlays for each image.

    A classifier has one per image; a segmenter too, of the pixels of a class; a detector has one
    per box.

    Args:
        target: A run folder, a `.keras` file or a pretrained classifier.
        images: Paths of files or folders, or patterns.
        out: The folder for `NAME-METHOD.png`, the overlay, and `NAME-METHOD.npy`, the map; of the
            boxes of an image, `NAME-1-METHOD.png` and so on.
        method: One of `methods.METHODS`, or `auto` for the one that suits the model.
        label: Name of the class to explain; by default the predicted one, and all boxes.
        weights: A weights file for a pretrained model.
        faithful: Whether to measure deletion and insertion, also of a random map, of a classifier.
        inputs: For each input of a classifier but the image, by name, its value for all images, an
            array without the batch dimension or a number.

    Returns:
        One dict per map with `path`, `method`, `class`, `map`, `overlay` and `border_share`; of a
        classifier `probability`, and perhaps `deletion`, `insertion`, `random_deletion` and
        `random_insertion`; of a segmenter `share`, of the pixels; of a detector `score` and `box`.
        An image that cannot be read, or has no object, has `path` and `error`.

    Raises:
        UsageError: There is no such model, image, method or class, or the method cannot explain
            the model.
    """
    if method not in (AUTO, *methods.METHODS):
        raise unknown_name_error("method", method, [AUTO, *methods.METHODS])
    paths = predict.find_images(images)
    predictor = model_loader.load_predictor(
        target, weights, adapt=lambda model: fixed_inputs.fix_inputs(model, inputs or {})
    )
    find_subjects = _subject_finder(predictor, method, faithful)
    if label is not None and label not in predictor.classes:
        raise unknown_name_error("class", label, list(predictor.classes))
    if keras.backend.backend() != "tensorflow":
        raise UsageError("zoo explain needs the TensorFlow backend; unset KERAS_BACKEND")
    rows = []
    for path, stem in zip(paths, predict.output_stems(paths, out), strict=True):
        try:
            image = _read(predictor, path)
            subjects = find_subjects(image, label)
        except image_io.UnreadableImage as error:
            rows.append({"path": str(path), "error": error.reason})
            continue
        for number, subject in enumerate(subjects, 1):
            name = f"{stem}-{number}" if len(subjects) > 1 else stem
            found = _explain_subject(subject, image, Path(out) / name, method, faithful)
            rows.append({"path": str(path), **found})
        if not subjects:
            rows.append({"path": str(path), "error": f"no {label or 'object'} found"})
    return rows


def _subject_finder(predictor, method, faithful):
    """Returns the function of an image and a class name that returns the `Subject`s in it."""
    make = next((make for kind, make in SUBJECTS.items() if isinstance(predictor, kind)), None)
    if make is None:
        attention = "; zoo predict --explain draws its attention"
        raise UsageError(
            f"{predictor.name} is not a classifier, segmenter or detector, which zoo explain is "
            f"for{attention if predictor.has_explanations else ''}"
        )
    if predictor.is_exported:
        raise UsageError(
            f"{predictor.name} is an exported file, which has no gradients; pass the run or the "
            ".keras file that it was exported from"
        )
    if isinstance(predictor, DetectionPredictor) and method not in (AUTO, DETECTOR_METHOD):
        raise UsageError(f"detectors are explained by {DETECTOR_METHOD}, not by {method}")
    if faithful and not isinstance(predictor, ClassificationPredictor):
        raise UsageError("--faithfulness is for classifiers")
    return make(predictor)


def _read(predictor, path):
    shape, resize = predictor.image_shape, predictor.resize
    if isinstance(predictor, SegmentationPredictor):
        shape, resize = (*predictor.size, predictor.model.input_shape[-1]), predictor.resize_to
    return image_io.read_image(path, shape, resize, predictor.bits)


def _of_classifier(predictor):
    explained = predictor.explained

    def find(image, label):
        logits = explained.logits(image[None].astype("float32"))
        probabilities = predictor.probabilities(logits)[0]
        index = predictor.classes.index(label) if label else int(np.argmax(probabilities))
        facts = {"class": predictor.classes[index], "probability": float(probabilities[index])}
        return [Subject(explained, index, facts)]

    return find


def _of_segmenter(predictor):
    classes = predictor.classes
    shape = (*predictor.size, predictor.model.input_shape[-1])
    explained = targets.of_segmenter(predictor.model, shape)

    def find(image, label):
        logits = np.asarray(predictor.model(image[None].astype("float32"), training=False))[0]
        shares = (
            np.bincount(logits.argmax(-1).reshape(-1), minlength=len(classes)) / logits[..., 0].size
        )
        objects = [name not in palette.BACKGROUND_NAMES for name in classes]
        index = classes.index(label) if label else int(np.argmax(shares * objects))
        facts = {"class": classes[index], "share": float(shares[index])}
        return [Subject(explained, index, facts)] if shares[index] else []

    return find


def _of_detector(predictor):
    run = predictor.prepare(None, None)
    all_scores = dataclasses.replace(predictor, score_threshold=0.0)

    def find(image, label):
        boxes, scores, classes = predictor.find(image, run)
        wanted = [n for n, c in enumerate(classes) if label in (None, predictor.classes[c])]
        wanted = wanted[:MAX_BOXES]
        boxes, classes = np.asarray(boxes)[wanted], np.asarray(classes)[wanted]

        def detect(image):
            return all_scores.find(np.rint(image).astype("uint8"), run)

        explained = targets.of_boxes(detect, boxes, classes)
        return [
            Subject(
                explained,
                index,
                {
                    "class": predictor.classes[classes[index]],
                    "score": float(scores[wanted[index]]),
                    "box": [float(x) for x in boxes[index]],
                },
            )
            for index in range(len(wanted))
        ]

    return find


SUBJECTS = {
    ClassificationPredictor: _of_classifier,
    SegmentationPredictor: _of_segmenter,
    DetectionPredictor: _of_detector,
}


def _explain_subject(subject, image, stem, method, faithful):
    """Writes the map of a subject, and returns its row."""
    explained, index = subject.explained, subject.index
    if method == AUTO:
        method = methods.default_method(explained)
    (saliency,) = methods.METHODS[method](explained, image[None], [index])
    files = {"map": f"{stem}-{method}.npy", "overlay": f"{stem}-{method}.png"}
    with atomic_write(Path(files["map"])) as partial, partial.open("wb") as file:
        np.save(file, saliency.astype("float32"))
    overlays.write(image, saliency, Path(files["overlay"]))
    return {
        "method": method,
        **subject.facts,
        **files,
        "border_share": faithfulness.border_share(saliency),
        **(_faithfulness(explained, image, saliency, index) if faithful else {}),
    }


def _faithfulness(explained, image, saliency, label):
    """Returns the deletion and insertion figures of a map, and of a random one."""
    other = np.random.default_rng(0).random(saliency.shape).astype("float32")
    return {
        "deletion": faithfulness.deletion(explained, image, saliency, label),
        "insertion": faithfulness.insertion(explained, image, saliency, label),
        "random_deletion": faithfulness.deletion(explained, image, other, label),
        "random_insertion": faithfulness.insertion(explained, image, other, label),
    }
