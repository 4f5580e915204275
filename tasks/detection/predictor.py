"""Inference with a detector: boxes, classes and scores of the objects in an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from tasks.data import batches, image_io, pillow_images
from tasks.detection import coco_metrics, report, selective_search
from tasks.inference import threads
from tasks.inference.exported_file import ExportedNetwork
from tasks.inference.predictor import Predictor, describe_channels
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

Image = LazyModule("PIL.Image")

DEFAULT_SCORE_THRESHOLD = 0.5  # of models saved without one


@dataclass(frozen=True)
class DetectionPredictor(Predictor):
    """A detector with its classes and preprocessing.

    It runs in Keras only: other runtimes cannot suppress duplicates.

    Attributes:
        model: a `keras.Model` from images, and proposals if it takes any, to boxes, scores and
            classes.
        classes: class names.
        name: name of the model for messages.
        resize_to: how an image is resized to the model's input.
        score_threshold: the lowest score of the objects to output.
        search_mode: mode of selective search, where the model takes proposals.
    """

    model: keras.Model = field(repr=False)
    classes: tuple[str, ...]
    name: str
    resize_to: str = "stretch"
    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    search_mode: str = "fast"

    columns: ClassVar = (
        *("path", "rank", "class", "score"),
        *("x0", "y0", "x1", "y1", "picture", "error"),
    )
    writes_images: ClassVar = True
    keras_only: ClassVar = True
    resize: ClassVar = "stretch"

    @property
    def image_shape(self):
        """`(None, None, channels)`: images are read at their own size, which boxes refer to."""
        return (None, None, self._input.shape[-1])

    @property
    def protocol(self):
        """The preprocessing of an image, as text."""
        height, width, channels = self._input.shape[1:]
        how = f"{self.resize_to} to {height} x {width}, bilinear with antialiasing"
        return f"{how}, {describe_channels(channels)}; boxes in pixels of the original image"

    def prepare(self, images, start):
        """Returns the prediction function, which one thread at a time runs."""
        if self.is_exported:
            return self.model
        return threads.with_lock(batches.without_xla(self.model).predict_on_batch)

    def predict(self, images, run, options):
        """Returns a dict per image: its size, its `objects`, highest score first, and picture."""
        return [self._predict_image(image, run, options) for image in images]

    def text_lines(self, prediction):
        """Returns a line per object, and one for the picture."""
        found = [
            f"{obj['score']:6.1%}  {obj['name']}  {' '.join(f'{x:.0f}' for x in obj['box'])}"
            for obj in prediction["objects"]
        ]
        drawn = [f"picture: {prediction['picture']}"] if prediction.get("picture") else []
        return [*(found or ["nothing"]), *drawn]

    def csv_rows(self, prediction):
        """Returns rank, name, score and box of each object, and the picture; one empty row for an
        image without objects."""
        drawn = prediction.get("picture") or ""
        rows = [
            (n, x["name"], f"{x['score']:.6g}", *(f"{edge:.6g}" for edge in x["box"]), drawn)
            for n, x in enumerate(prediction["objects"], 1)
        ]
        return rows or [(*[""] * 7, drawn)]

    def find(self, pixels, run):
        """Detects the objects of an image.

        Args:
            pixels: uint8 `(height, width, channels)`.
            run: what `prepare` returned.

        Returns:
            Boxes in pixels of the image, scores and class indices, highest score first.
        """
        resized = image_io.read_image(pixels, self._input.shape[1:], self.resize_to)
        inputs = resized[None]
        if isinstance(self.model.input, dict):
            count = self.model.input["proposals"].shape[1] or selective_search.MAX_PROPOSALS
            proposals = selective_search.search_image(resized, mode=self.search_mode)[:count]
            padded = np.zeros((1, count, 4), "float32")
            padded[0, : len(proposals)] = proposals
            inputs = {"image": inputs, "proposals": padded}
        boxes, scores, classes = coco_metrics.image_predictions(run(inputs), 0)
        confident = scores >= self.score_threshold
        size = pixels.shape[1::-1]
        boxes = _to_original_size(boxes[confident], size, self._input.shape[2:0:-1], self.resize_to)
        return boxes, scores[confident], classes[confident]

    @property
    def _input(self):
        return self.model.input["image"] if isinstance(self.model.input, dict) else self.model.input

    def _predict_image(self, image, run, options):
        boxes, scores, classes = self.find(image.pixels, run)
        objects = [
            {"name": self.classes[label], "score": float(score), "box": [float(x) for x in box]}
            for box, score, label in zip(boxes, scores, classes, strict=True)
        ]
        prediction = {"size": [*image.pixels.shape[:2]], "objects": objects}
        if options.drawings_dir:
            drawn_boxes = report.boxes_of_classes(boxes, scores, classes, self.classes)
            path = options.drawings_dir / f"{image.stem}-boxes.png"
            with atomic_write(path) as partial:
                Image.fromarray(report.draw_boxes(image.pixels, drawn_boxes)).save(partial, "PNG")
            prediction["picture"] = str(path)
        return prediction


def from_file(path, model, about):
    """Returns the predictor of a saved detector.

    Args:
        path: of the file, for messages.
        model: the loaded model.
        about: the metadata saved with it.

    Raises:
        UsageError: the model is not a detector.
    """
    if not (isinstance(model.output, dict) and {"boxes", "scores", "classes"} <= set(model.output)):
        raise UsageError(f"{path} is not a detector: its output is {model.output_shape}")
    return DetectionPredictor(
        model,
        tuple(about["classes"]),
        str(path),
        about.get("resize", "stretch"),
        float(about.get("least", DEFAULT_SCORE_THRESHOLD)),
        about.get("search", "fast"),
    )


def from_export(opened):
    """Returns the predictor of an exported detector.

    Args:
        opened: its `exported_file.ExportedFile`.
    """
    about = opened.metadata
    return DetectionPredictor(
        ExportedNetwork(opened, dict),
        tuple(about["classes"]),
        str(opened.path),
        about["resize"],
        float(about["score_threshold"]),
    )


def _to_original_size(boxes, size, target, resize):
    """Returns boxes of a resized image in pixels of the original image.

    This is the inverse of `box_annotations.resize_ground_truth`.

    Args:
        boxes: `(objects, 4)`.
        size: `(width, height)` of the original image.
        target, resize: `(width, height)` of the resized image, and how it was resized.
    """
    inner, window = pillow_images.RESIZE_MODES[resize](tuple(size), tuple(target))
    scale = np.divide(inner, np.subtract(window[2:], window[:2]))
    margin = np.subtract(target, inner) // 2
    boxes = (boxes - np.tile(margin, 2)) / np.tile(scale, 2) + np.tile(window[:2], 2)
    return boxes.clip(0, np.tile(size, 2))
