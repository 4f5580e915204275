"""Who answers what is in an image: what every answerer can do, and what it may be asked."""

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
    """What is wanted of each image; an answerer looks at what concerns it.

    Attributes:
        top: how many classes to give.
        pictures: the folder for drawn answers, or `None` for none.
        scale: of masks: `fit`, the image is brought to the size of the training images, and the
            answer back; `own`, it stays as it is; `auto`, as the training images were.
        tile: pixels along a side of an image from which it is answered in parts; 0 for what suits.
        explain: whether to draw why the answer is what it is.
    """

    top: int = 5
    pictures: Path | None = None
    scale: str = "auto"
    tile: int = 0
    explain: bool = False


@dataclass(frozen=True)
class InputImage:
    """An image that could be read.

    Attributes:
        path: of its file.
        pixels: uint8 `(height, width, channels)`.
        stem: what drawn answers are called, below the folder for these, before `-mask.png` and
            the like. No two images have the same.
    """

    path: Path
    pixels: object
    stem: str


class Predictor(abc.ABC):
    """A model with all that is needed to use it on images.

    Attributes:
        model: a `keras.Model` from images.
        name: of the model, for people.
        image_shape: `(height, width, channels)` to which an image is read; `None` for a side that
            stays as it is.
        resize: how it gets there.
        protocol: how an image is prepared, in words.
        columns: of a CSV file, from `path` to `error`.
        draws: whether it draws its answers, into the folder that is wanted for them.
        explains: whether it can draw why it answers so.
    """

    model: keras.Model
    name: str
    image_shape: tuple
    resize: str
    protocol: str
    columns: tuple[str, ...]
    draws = False
    explains = False
    bits = MAX_BITS  # in use of images of more than 8, as `image_io.read_image` takes them
    keras_only = False  # whether no other runtime can compute the model

    def prepared(self, photos: Sequence[InputImage], start):
        """Returns what `answers` takes as `run`, after a look at the first images.

        Args:
            photos: some that could be read.
            start: makes of a model and images `(batch, height, width, channels)` to look at the
                function from such images to what the model gives.
        """
        return start(self.model, np.stack([photo.pixels for photo in photos]))

    @abc.abstractmethod
    def answers(self, photos: Sequence[InputImage], run, wanted: PredictOptions) -> list[dict]:
        """Returns what is in each image: plain values by name. Several threads call it at once."""

    @abc.abstractmethod
    def lines(self, answer: dict) -> list[str]:
        """Returns an answer as lines for a person, below the path of its image."""

    @abc.abstractmethod
    def cells(self, answer: dict) -> list[tuple]:
        """Returns an answer as rows of what stands under the columns between path and error."""


def describe_channels(channels):
    """Says what images of so many channels are."""
    return CHANNEL_NAMES.get(channels, f"{channels} channels")
