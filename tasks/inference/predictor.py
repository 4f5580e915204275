"""The contract of predictors: a model with its preprocessing, and the output of predictions."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.data.pillow_images import MAX_BITS
from zoo.lazy import keras, np

CHANNEL_NAMES = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class PredictOptions:
    """Options of prediction; a predictor uses those that apply to it.

    Attributes:
        top: The number of most probable classes to return.
        pictures: The folder for drawn predictions, or `None` for none.
        scale: For masks: `fit` resizes the image to the size of the training images, and the
            prediction back; `own` keeps the image size; `auto` does as in training.
        tile: The side in pixels from which an image is predicted in tiles; 0 for the default.
        explain: Whether to draw an explanation of the prediction.
    """

    top: int = 5
    pictures: Path | None = None
    scale: str = "auto"
    tile: int = 0
    explain: bool = False


@dataclass(frozen=True)
class InputImage:
    """A decoded image.

    Attributes:
        path: The path of its file.
        pixels: uint8 `(height, width, channels)`.
        stem: The unique beginning of the names of drawn predictions in their folder, before
            `-mask.png` and the like.
    """

    path: Path
    pixels: object
    stem: str


class Predictor(abc.ABC):
    """A model with its preprocessing, and the formats of its predictions.

    Attributes:
        model: A `keras.Model` from images.
        name: The name of the model in messages.
        image_shape: The shape `(height, width, channels)` to which images are resized; `None`
            for a side that keeps its size.
        resize: The resize method.
        protocol: A description of the preprocessing.
        columns: Columns of a CSV file, from `path` to `error`.
        draws: Whether it can draw predictions.
        explains: Whether it can draw explanations.
    """

    model: keras.Model
    name: str
    image_shape: tuple
    resize: str
    protocol: str
    columns: tuple[str, ...]
    draws = False
    explains = False
    bits = MAX_BITS  # used by images of more than 8 bits, for `image_io.read_image`
    keras_only = False  # whether no other runtime can compute the model

    def prepared(self, photos: Sequence[InputImage], start):
        """Returns the function that `answers` takes as `run`.

        Args:
            photos: Some images, for the choice and verification of a runtime.
            start: A function of a model and images `(batch, height, width, channels)` that
                returns a predict function for such images.
        """
        return start(self.model, np.stack([photo.pixels for photo in photos]))

    @abc.abstractmethod
    def answers(self, photos: Sequence[InputImage], run, wanted: PredictOptions) -> list[dict]:
        """Returns the prediction for each image, a dict of JSON types. Must be thread-safe."""

    @abc.abstractmethod
    def lines(self, answer: dict) -> list[str]:
        """Returns the lines of text of a prediction, printed below the path of its image."""

    @abc.abstractmethod
    def cells(self, answer: dict) -> list[tuple]:
        """Returns the CSV rows of a prediction, for the columns between `path` and `error`."""


def describe_channels(channels):
    """Returns the name of images with a number of channels, such as `RGB`."""
    return CHANNEL_NAMES.get(channels, f"{channels} channels")
