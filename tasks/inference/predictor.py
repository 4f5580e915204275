"""The interface of a predictor: a trained model with its class names and preprocessing."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.data import image_io
from tasks.data.pillow_images import MAX_BITS
from tasks.inference.exported_file import ExportedNetwork
from zoo.lazy import keras, np

CHANNEL_NAMES = {1: "gray", 2: "gray and alpha", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction; a predictor uses those that concern it.

    Attributes:
        top: the number of classes to return.
        drawings_dir: the folder for masks, overlays and other drawn predictions, or `None` to
            draw none.
        scale: of dense predictions: `fit` resizes the image to the size of the training images,
            and the prediction back; `native` keeps the image as it is; `auto` does what was done
            with the training images.
        tile: side in pixels above which an image is processed in tiles; 0 for the default size.
        explain: whether to draw an explanation of the prediction.
        temperature: of sampled text: the number that logits are divided by; 0 takes the most
            probable character.
        steps: of text and series: the number of steps to continue it by; 0 for the default.
        seed: the seed of sampled text.
    """

    top: int = 5
    drawings_dir: Path | None = None
    scale: str = "auto"
    tile: int = 0
    explain: bool = False
    temperature: float = 1.0
    steps: int = 0
    seed: int = 0


@dataclass(frozen=True)
class InputImage:
    """A decoded image.

    Attributes:
        path: path of its file.
        pixels: uint8 `(height, width, channels)`.
        stem: unique name of its drawings, relative to the folder of drawings and without a suffix
            such as `-mask.png`.
    """

    path: Path
    pixels: object
    stem: str


class Predictor(abc.ABC):
    """A trained model with everything that is needed to use it on images.

    Attributes:
        model: a `keras.Model` whose input is a batch of images.
        name: name of the model in messages.
        image_shape: `(height, width, channels)` that images are resized to; `None` for a side
            that keeps its size.
        resize: the resize mode: `stretch`, `crop` or `pad`.
        protocol: the preprocessing in words.
        columns: columns of the CSV output, from `path` to `error`.
        writes_images: whether it draws its predictions into `PredictOptions.drawings_dir`.
        has_explanations: whether it can draw an explanation of its predictions.
        bits: number of significant bits of images of more than 8 bits per channel, as in
            `image_io.read_image`.
        keras_only: whether no runtime other than Keras can run the model.
        noun: what an input is called in messages.
    """

    model: keras.Model
    name: str
    image_shape: tuple
    resize: str
    protocol: str
    columns: tuple[str, ...]
    writes_images = False
    has_explanations = False
    bits = MAX_BITS
    keras_only = False
    noun = "image"

    def read(self, path: Path, stem: str):
        """Returns the input that a file holds, here an `InputImage`.

        Args:
            path: the path of the file.
            stem: as in `InputImage`.

        Raises:
            UnreadableImage: it cannot be read.
        """
        pixels = image_io.read_image(path, self.image_shape, self.resize, self.bits)
        return InputImage(path, pixels, stem)

    @property
    def is_exported(self):
        """Whether the model is an exported file, which runs without TensorFlow."""
        return isinstance(self.model, ExportedNetwork)

    def prepare(self, images: Sequence[InputImage], start: Callable):
        """Returns the function that `predict` takes as `run`.

        Args:
            images: the first images that could be decoded.
            start: a function of a model and a sample batch `(batch, height, width, channels)`
                that returns the function from such batches to the outputs of the model.
        """
        return start(self.model, np.stack([image.pixels for image in images]))

    @abc.abstractmethod
    def predict(self, images: Sequence[InputImage], run, options: PredictOptions) -> list[dict]:
        """Returns one prediction per image, a dict of plain values. Must be thread-safe."""

    @abc.abstractmethod
    def text_lines(self, prediction: dict) -> list[str]:
        """Returns a prediction as lines of text, printed below the path of its image."""

    @abc.abstractmethod
    def csv_rows(self, prediction: dict) -> list[tuple]:
        """Returns a prediction as rows of the CSV columns between `path` and `error`."""


def describe_channels(channels: int) -> str:
    """Returns the name of the color space of images with so many channels."""
    return CHANNEL_NAMES.get(channels, f"{channels} channels")
