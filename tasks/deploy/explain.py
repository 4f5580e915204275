"""Explains the predictions of a classifier on image files."""

from __future__ import annotations

from pathlib import Path

from tasks.classification.predictor import ClassificationPredictor
from tasks.data import image_io
from tasks.deploy import model_loader, predict
from tasks.explain import faithfulness, methods, overlays
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np


def explain(
    target, images, out, *, method="grad_cam", label=None, weights=None, faithful=False
) -> list[dict]:
    """Writes a saliency map and an overlay for each image.

    Args:
        target: A run folder, a `.keras` file or a pretrained classifier.
        images: Paths of files or folders, or patterns.
        out: The folder for `NAME-METHOD.png`, the overlay, and `NAME-METHOD.npy`, the map.
        method: One of `methods.METHODS`.
        label: Name of the class to explain; by default the predicted one.
        weights: A weights file for a pretrained model.
        faithful: Whether to measure deletion and insertion, also of a random map.

    Returns:
        One dict per image with `path`, and `class`, `probability`, `map`, `overlay`,
        `border_share` and perhaps `deletion`, `insertion`, `random_deletion`,
        `random_insertion`; or `error`.

    Raises:
        UsageError: There is no such model, image, method or class, or the method cannot explain
            the model.
    """
    if method not in methods.METHODS:
        raise unknown_name_error("method", method, list(methods.METHODS))
    paths = predict.find_images(images)
    predictor = model_loader.load_predictor(target, weights)
    if not isinstance(predictor, ClassificationPredictor):
        raise UsageError(f"{predictor.name} is not a classifier; zoo explain is for classifiers")
    if label is not None and label not in predictor.classes:
        raise unknown_name_error("class", label, list(predictor.classes))
    if keras.backend.backend() != "tensorflow":
        raise UsageError("zoo explain needs the TensorFlow backend; unset KERAS_BACKEND")
    explained = methods.prepare(predictor.model)
    stems = predict.output_stems(paths, out)
    return [
        _explain_file(
            predictor,
            explained,
            path,
            Path(out) / f"{stem}-{method}",
            methods.METHODS[method],
            label,
            faithful,
        )
        for path, stem in zip(paths, stems, strict=True)
    ]


def _explain_file(predictor, explained, path, stem, find, label, faithful):
    try:
        image = image_io.read_image(path, predictor.image_shape, predictor.resize, predictor.bits)
    except image_io.UnreadableImage as error:
        return {"path": str(path), "error": error.reason}
    logits = explained.logits(image[None].astype("float32"))
    best = predictor.top_classes(logits, len(predictor.classes))[0]
    name = label or best[0]["name"]
    index = predictor.classes.index(name)
    (saliency,) = find(explained, image[None], [index])
    files = {"map": f"{stem}.npy", "overlay": f"{stem}.png"}
    with atomic_write(Path(files["map"])) as partial, partial.open("wb") as file:
        np.save(file, saliency.astype("float32"))
    overlays.write(image, saliency, Path(files["overlay"]))
    probabilities = {found["name"]: found["probability"] for found in best}
    return {
        "path": str(path),
        "class": name,
        "probability": probabilities.get(name, 0.0),
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
