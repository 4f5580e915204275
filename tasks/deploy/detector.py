"""A detector with all that is needed to use it: it finds the objects in an image and names them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from tasks.data import batches, pictures, proposals, readers
from tasks.deploy.answerer import Answerer, colour
from tasks.engine import workers
from tasks.report import boxes as measures
from tasks.report import detections
from zoo.errors import UsageError
from zoo.files import replacing
from zoo.lazy import LazyModule, keras, np

Image = LazyModule("PIL.Image")

LEAST = 0.5  # score of an object that is told, where nobody has found a better one


@dataclass(frozen=True)
class Detector(Answerer):
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
    least: float = LEAST
    search: str = "fast"

    columns: ClassVar = (
        *("path", "rank", "class", "score", "x0", "y0", "x1", "y1", "picture", "error"),
    )
    draws: ClassVar = True
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
        return f"{how}, {colour(channels)}; boxes in pixels of the image itself"

    def prepared(self, photos, start):
        """Returns what asks Keras, one thread at a time."""
        return workers.one_at_a_time(batches.without_xla(self.model).predict_on_batch)

    def answers(self, photos, run, wanted):
        """Returns for each image its size, its `objects`, the surest first, and the drawing."""
        return [self._answer(photo, run, wanted) for photo in photos]

    def lines(self, answer):
        """Returns a line for each object, and one for what was drawn."""
        found = [
            f"{thing['score']:6.1%}  {thing['name']}  {' '.join(f'{x:.0f}' for x in thing['box'])}"
            for thing in answer["objects"]
        ]
        drawn = [f"picture: {answer['picture']}"] if answer.get("picture") else []
        return [*(found or ["nothing"]), *drawn]

    def cells(self, answer):
        """Returns rank, name, score and box of each object, and what was drawn; a row without
        any where there is none."""
        drawn = answer.get("picture") or ""
        rows = [
            (n, x["name"], f"{x['score']:.6g}", *(f"{edge:.6g}" for edge in x["box"]), drawn)
            for n, x in enumerate(answer["objects"], 1)
        ]
        return rows or [(*[""] * 7, drawn)]

    def find(self, pixels, run):
        """Returns the objects of an image: boxes in its own pixels, scores and classes.

        Args:
            pixels: uint8 `(height, width, channels)`.
            run: what `prepared` returned.
        """
        small = readers.image(pixels, self._input.shape[1:], self.resize_to)
        given = small[None]
        if isinstance(self.model.input, dict):
            most = self.model.input["proposals"].shape[1] or proposals.MOST
            some = proposals.find(small, mode=self.search)[:most]
            asked = np.zeros((1, most, 4), "float32")
            asked[0, : len(some)] = some
            given = {"image": given, "proposals": asked}
        boxes, scores, classes = measures.answered(run(given), 0)
        kept = scores >= self.least
        size = pixels.shape[1::-1]
        boxes = _at_home(boxes[kept], size, self._input.shape[2:0:-1], self.resize_to)
        return boxes, scores[kept], classes[kept]

    @property
    def _input(self):
        return self.model.input["image"] if isinstance(self.model.input, dict) else self.model.input

    def _answer(self, photo, run, wanted):
        boxes, scores, classes = self.find(photo.pixels, run)
        things = [
            {"name": self.classes[label], "score": float(score), "box": [float(x) for x in box]}
            for box, score, label in zip(boxes, scores, classes, strict=True)
        ]
        answer = {"size": [*photo.pixels.shape[:2]], "objects": things}
        if wanted.pictures:
            marks = detections.of_classes(boxes, scores, classes, self.classes)
            path = wanted.pictures / f"{photo.stem}-boxes.png"
            with replacing(path) as partial:
                Image.fromarray(detections.drawn(photo.pixels, marks)).save(partial, "PNG")
            answer["picture"] = str(path)
        return answer


def of_file(path, model, about):
    """Returns the detector of a file: its model and what it tells about itself.

    Raises:
        UsageError: it is no detector.
    """
    if not (isinstance(model.output, dict) and {"boxes", "scores", "classes"} <= set(model.output)):
        raise UsageError(f"{path} is no detector: it gives {model.output_shape}")
    return Detector(
        model,
        tuple(about["classes"]),
        str(path),
        about.get("resize", "stretch"),
        float(about.get("least", LEAST)),
        about.get("search", "fast"),
    )


def _at_home(boxes, size, target, resize):
    """Returns boxes of a resized image as they are in the image itself: `boxes.placed`, undone.

    Args:
        boxes: `(objects, 4)`.
        size: `(width, height)` of the image.
        target, resize: the size that it was brought to, and how.
    """
    inner, window = pictures.FITS[resize](tuple(size), tuple(target))
    scale = np.divide(inner, np.subtract(window[2:], window[:2]))
    margin = np.subtract(target, inner) // 2
    boxes = (boxes - np.tile(margin, 2)) / np.tile(scale, 2) + np.tile(window[:2], 2)
    return boxes.clip(0, np.tile(size, 2))
