"""A detector with all that is needed to use it: it finds the objects in an image and names them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from tasks.data import batches, image_io, pillow_images
from tasks.detection import metrics as metrics
from tasks.detection import report, selective_search
from tasks.inference import threads
from tasks.inference.predictor import Predictor, describe_channels
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

Image = LazyModule("PIL.Image")

DEFAULT_SCORE_THRESHOLD = (
    0.5  # score of an object that is told, where nobody has found a better one
)


@dataclass(frozen=True)
class DetectionPredictor(Predictor):
    """A model that finds objects.

    Keras itself computes: other runtimes cannot drop what is found twice.

    Attributes:
        model: a `keras.Model` from images, and perhaps proposals, to boxes, scores and classes.
        classes: name of each class.
        name: of the model, for people.
        resize_to: how an image is brought to the model's size.
        least: score of the objects that are told.
        search: how proposals are searched for, where the model takes them.
    """

    model: keras.Model = field(repr=False)
    classes: tuple[str, ...]
    name: str
    resize_to: str = "stretch"
    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    search: str = "fast"

    columns: ClassVar = (
        *("path", "rank", "class", "score", "x0", "y0", "x1", "y1", "picture", "error"),
    )
    writes_images: ClassVar = True
    keras_only: ClassVar = True
    resize: ClassVar = "stretch"

    @property
    def image_shape(self):
        """`(None, None, channels)`: images are read at their own size, in which boxes are told."""
        return (None, None, self._input.shape[-1])

    @property
    def protocol(self):
        """How an image is prepared, in words."""
        height, width, channels = self._input.shape[1:]
        how = f"{self.resize_to} to {height} x {width}, bilinear with antialiasing"
        return f"{how}, {describe_channels(channels)}; boxes in pixels of the image itself"

    def prepare(self, images, start):
        """Returns what asks Keras, one thread at a time."""
        return threads.with_lock(batches.without_xla(self.model).predict_on_batch)

    def predict(self, images, run, options):
        """Returns for each image its size, its `objects`, the surest first, and the drawing."""
        return [self._predict_image(image, run, options) for image in images]

    def text_lines(self, prediction):
        """Returns a line for each object, and one for what was drawn."""
        found = [
            f"{obj['score']:6.1%}  {obj['name']}  {' '.join(f'{x:.0f}' for x in obj['box'])}"
            for obj in prediction["objects"]
        ]
        drawn = [f"picture: {prediction['picture']}"] if prediction.get("picture") else []
        return [*(found or ["nothing"]), *drawn]

    def csv_rows(self, prediction):
        """Returns rank, name, score and box of each object, and what was drawn; a row without
        any where there is none."""
        drawn = prediction.get("picture") or ""
        rows = [
            (n, x["name"], f"{x['score']:.6g}", *(f"{edge:.6g}" for edge in x["box"]), drawn)
            for n, x in enumerate(prediction["objects"], 1)
        ]
        return rows or [(*[""] * 7, drawn)]

    def find(self, pixels, run):
        """Returns the objects of an image: boxes in its own pixels, scores and classes.

        Args:
            pixels: uint8 `(height, width, channels)`.
            run: what `prepare` returned.
        """
        resized = image_io.read_image(pixels, self._input.shape[1:], self.resize_to)
        inputs = resized[None]
        if isinstance(self.model.input, dict):
            most = self.model.input["proposals"].shape[1] or selective_search.MAX_PROPOSALS
            some = selective_search.search_image(resized, mode=self.search)[:most]
            padded = np.zeros((1, most, 4), "float32")
            padded[0, : len(some)] = some
            inputs = {"image": inputs, "proposals": padded}
        boxes, scores, classes = metrics.image_predictions(run(inputs), 0)
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
            marks = report.boxes_of_classes(boxes, scores, classes, self.classes)
            path = options.drawings_dir / f"{image.stem}-boxes.png"
            with atomic_write(path) as partial:
                Image.fromarray(report.draw_boxes(image.pixels, marks)).save(partial, "PNG")
            prediction["picture"] = str(path)
        return prediction


def from_file(path, model, about):
    """Returns the detector of a file: its model and what it tells about itself.

    Raises:
        UsageError: it is no detector.
    """
    if not (isinstance(model.output, dict) and {"boxes", "scores", "classes"} <= set(model.output)):
        raise UsageError(f"{path} is no detector: it gives {model.output_shape}")
    return DetectionPredictor(
        model,
        tuple(about["classes"]),
        str(path),
        about.get("resize", "stretch"),
        float(about.get("least", DEFAULT_SCORE_THRESHOLD)),
        about.get("search", "fast"),
    )


def _to_original_size(boxes, size, target, resize):
    """Returns boxes of a resized image as they are in the image itself:
    `box_annotations.resize_ground_truth`, undone.

    Args:
        boxes: `(objects, 4)`.
        size: `(width, height)` of the image.
        target, resize: the size that it was brought to, and how.
    """
    inner, window = pillow_images.RESIZE_MODES[resize](tuple(size), tuple(target))
    scale = np.divide(inner, np.subtract(window[2:], window[:2]))
    margin = np.subtract(target, inner) // 2
    boxes = (boxes - np.tile(margin, 2)) / np.tile(scale, 2) + np.tile(window[:2], 2)
    return boxes.clip(0, np.tile(size, 2))
