"""A model that is served: its predictor, its runtime and its batches."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import tempfile
from pathlib import Path

from tasks.classification.predictor import ClassificationPredictor
from tasks.data import image_io
from tasks.deploy import model_loader
from tasks.inference import exported_file, runtimes, threads
from tasks.inference.predictor import InputImage, PredictOptions
from tasks.serve.batcher import Batcher
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MANY_IMAGES = 10**6  # a server predicts as many as pay for the conversion to any runtime
SAMPLE_SIDE = 64  # pixels of the first image of a model without a size of its own
MAX_TOP = 1000


@dataclasses.dataclass(frozen=True)
class RequestOptions:
    """Options of a request.

    Attributes:
        top: The number of classes to return.
        draw: Whether to return masks, overlays and other drawn predictions.
        explain: Whether to return an explanation of the prediction.
    """

    top: int = 5
    draw: bool = False
    explain: bool = False


class ServedModel:
    """A model with its batches.

    Args:
        target: A run folder, a `.keras` file or a pretrained model.
        name: Its name in requests.
        runtime: `auto` or one of `runtimes.RUNTIMES`.
        precision: `float32` or `bfloat16`.
        max_wait: Seconds to wait for a batch to fill.
        queue_size: The largest number of waiting images.
        observe: A function of the number of images of each batch.

    Raises:
        UsageError: There is no such model, or it does not take images.
    """

    def __init__(self, target, name, *, runtime, precision, max_wait, queue_size, observe):
        self.name = name
        cached = (runtime, precision) == ("auto", "float32")
        self.predictor = predictor = model_loader.load_predictor(target, cached=cached)
        if predictor.noun != "image":
            raise UsageError(f"{target} takes a {predictor.noun}, not images; use zoo predict")
        exported = predictor.is_exported
        size = runtimes.batch_size(predictor.image_shape, MANY_IMAGES, on_cpu=exported)
        if exported:
            self.runtime, start = _title(predictor.model.file.path), lambda model, images: model
        else:
            start = self._starter(runtime, precision, size)
        self._run = predictor.prepare([self._sample()], start)
        self._predict_batch([self._sample()], RequestOptions())  # nothing is traced in a request
        self.batcher = Batcher(
            self._predict_batch,
            batch_size=size,
            workers=threads.num_workers(),
            max_wait=max_wait,
            queue_size=queue_size,
            observe=observe,
        )

    def describe(self) -> dict:
        """Returns what a client may want to know about the model, as JSON types."""
        predictor = self.predictor
        return {
            "name": self.name,
            "kind": type(predictor).__name__.removesuffix("Predictor").lower(),
            "classes": list(getattr(predictor, "classes", ())),
            "preprocessing": predictor.protocol,
            "runtime": self.runtime,
            "draws": predictor.writes_images,
            "explains": self._explains,
            "generates": False,
        }

    def _starter(self, runtime, precision, size):
        """Returns the `start` function of `Predictor.prepare`."""
        self.runtime = "keras"
        if not self.predictor.keras_only:
            self.runtime = runtimes.choose_runtime(runtime, precision, MANY_IMAGES)
        return functools.partial(
            runtimes.create_predict_function,
            self.runtime,
            size=size,
            precision=precision,
            count=MANY_IMAGES,
            strict=runtime != "auto",
        )

    def decode(self, content: bytes, max_pixels: int) -> InputImage:
        """Returns the image in encoded bytes.

        Raises:
            image_io.UnreadableImage: It is no image, or has more than `max_pixels` pixels.
        """
        try:
            with Image.open(io.BytesIO(content)) as header:
                width, height = header.size
        except Exception as error:  # Pillow's plugins raise anything
            raise image_io.UnreadableImage("image", "not an image, or damaged") from error
        if width * height > max_pixels:
            raise image_io.UnreadableImage(
                "image", f"{width} x {height} pixels; the limit is {max_pixels:,} pixels"
            )
        predictor = self.predictor
        pixels = image_io.read_image(
            content, predictor.image_shape, predictor.resize, predictor.bits
        )
        return InputImage(Path("image"), pixels, "image")

    @property
    def _explains(self):
        """The name of what an explanation shows; empty if the model has none."""
        predictor = self.predictor
        if isinstance(predictor, ClassificationPredictor):
            return "heat map"
        return "attention" if predictor.has_explanations and not predictor.is_exported else ""

    def _sample(self):
        *sides, channels = self.predictor.image_shape
        shape = (*(side or SAMPLE_SIDE for side in sides), channels)
        pixels = np.random.default_rng(0).integers(0, 256, shape, "uint8")
        return InputImage(Path("image"), pixels, "image")

    def _predict_batch(self, images, options):
        draws = options.draw and self.predictor.writes_images
        explains = options.explain and self._explains
        if not (draws or explains):
            chosen = PredictOptions(top=options.top)
            return self.predictor.predict(images, self._run, chosen)
        with tempfile.TemporaryDirectory() as folder:
            named = [dataclasses.replace(x, stem=str(n)) for n, x in enumerate(images)]
            chosen = PredictOptions(
                top=options.top, drawings_dir=Path(folder), explain=bool(explains)
            )
            found = self.predictor.predict(named, self._run, chosen)
            return [_with_drawings(prediction, folder) for prediction in found]


def _title(path):
    """Returns the name of the runtime of an exported file."""
    if path.suffix == ".keras":  # the path of the model that an export in a run folder is of
        return "OpenVINO, kept export"
    return exported_file.SUFFIXES[path.suffix].title


def _with_drawings(value, folder):
    """Returns a prediction in which the paths of drawn files are their content, as data URLs."""
    if isinstance(value, dict):
        return {name: _with_drawings(each, folder) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_drawings(each, folder) for each in value]
    if isinstance(value, str) and value.startswith(folder) and Path(value).is_file():
        return f"data:image/png;base64,{base64.b64encode(Path(value).read_bytes()).decode()}"
    return value
