"""What a GAN knows of its data: images in splits, and what a network sees in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from tasks.data import labelled, readers
from tasks.engine import gan_judges, memory
from tasks.engine.gan_diary import Diary
from zoo.errors import UsageError
from zoo.lazy import np

LARGEST = 64  # side of the images where nobody names one
LEAST = 16  # images of a split that something is said of


@dataclass(frozen=True)
class Painting(labelled.Data):
    """What a run learns from and is judged by.

    Attributes:
        network: name of the network whose features are compared.
        weights: a file in place of its own weights, or "".
        batch_size: images at a time.
        diary: of the run.
    """

    network: str = ""
    weights: str = ""
    batch_size: int = 64
    diary: Diary = field(default_factory=Diary)

    @cached_property
    def seeing(self):
        """The network for features, a `keras.Model`."""
        return gan_judges.network(self.network, self.weights, self.image_shape)

    def features(self, pixels):
        """Returns the features of uint8 images `(count, height, width, channels)`."""
        return gan_judges.features(self.seeing, pixels, self.batch_size)

    @cached_property
    def validated(self):
        """The features of the validation split."""
        return self.features(self.validation.pixels)

    @cached_property
    def tested(self):
        """The features of the test split."""
        return self.features(self.test.pixels)


def load(source, names, shape, resize, bits, **options):
    """Returns the `Painting` of a source.

    Args:
        source, names, shape, resize, bits: as `labelled.load` takes them.
        **options: of `Painting`.

    Raises:
        UsageError: also where there are too few images to compare.
    """
    data = labelled.load(source, names, shape, resize, bits)
    for part in data.parts:
        enough(part)
    return Painting(**vars(data), **options)


def enough(part):
    """Returns a split; raises `UsageError` if it has too few images to compare."""
    if len(part) < LEAST:
        raise UsageError(f"{part.name} has {len(part)} images; a GAN needs {LEAST} or more")
    return part


def shape(source, image_size, channels, halved):
    """Returns the `(height, width, channels)` of the images to paint.

    Args:
        source: a `sources.Source`.
        image_size: their side; 0 for the longer one of the first image, as far as the networks
            paint such, and not over `LARGEST`.
        channels: their number; 0 for that of the first image.
        halved: raises `UsageError` for a side that the networks do not paint.
    """
    first = next(iter(source.splits.values())).items[0]
    if not channels:
        channels = 1 if np.ndim(readers.stored(first)) == 2 else 3
    if image_size:
        memory.check_images((image_size, image_size, channels), 1)
        halved(image_size)
        return image_size, image_size, channels
    side = min(max(readers.size(first)), LARGEST)
    while True:
        try:
            halved(side)
            return side, side, channels
        except UsageError:
            if side < LEAST:
                raise
            side -= 1
