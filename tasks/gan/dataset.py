"""What a GAN knows of its data: images in splits, and what a network sees in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from tasks.data import data_splits, image_io, memory_limits
from tasks.gan import evaluation
from tasks.gan.history import GanHistory
from zoo.errors import UsageError
from zoo.lazy import np

MAX_DEFAULT_SIDE = 64  # side of the images where nobody names one
MIN_IMAGES = 16  # images of a split that something is said of


@dataclass(frozen=True)
class GanData(data_splits.DataSplits):
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
    history: GanHistory = field(default_factory=GanHistory)

    @cached_property
    def extractor(self):
        """The network for features, a `keras.Model`."""
        return evaluation.feature_extractor(self.network, self.weights, self.image_shape)

    def features(self, pixels):
        """Returns the features of uint8 images `(count, height, width, channels)`."""
        return evaluation.extract_features(self.extractor, pixels, self.batch_size)

    @cached_property
    def validation_features(self):
        """The features of the validation split."""
        return self.features(self.validation.pixels)

    @cached_property
    def test_features(self):
        """The features of the test split."""
        return self.features(self.test.pixels)


def load(source, names, shape, resize, bits, **options):
    """Returns the `Painting` of a source.

    Args:
        source, names, shape, resize, bits: as `data_splits.load` takes them.
        **options: of `Painting`.

    Raises:
        UsageError: also where there are too few images to compare.
    """
    data = data_splits.load(source, names, shape, resize, bits)
    for part in data.parts:
        check_split_size(part)
    return GanData(**vars(data), **options)


def check_split_size(part):
    """Returns a split; raises `UsageError` if it has too few images to compare."""
    if len(part) < MIN_IMAGES:
        raise UsageError(f"{part.name} has {len(part)} images; a GAN needs {MIN_IMAGES} or more")
    return part


def resolve_image_shape(source, image_size, channels, check_side):
    """Returns the `(height, width, channels)` of the images to paint.

    Args:
        source: a `sources.Source`.
        image_size: their side; 0 for the longer one of the first image, as far as the networks
            paint such, and not over `LARGEST`.
        channels: their number; 0 for that of the first image.
        check_side: raises `UsageError` for a side that the networks do not paint.
    """
    first = next(iter(source.splits.values())).items[0]
    if not channels:
        channels = 1 if np.ndim(image_io.read_stored(first)) == 2 else 3
    if image_size:
        memory_limits.check_images((image_size, image_size, channels), 1)
        check_side(image_size)
        return image_size, image_size, channels
    side = min(max(image_io.image_size(first)), MAX_DEFAULT_SIDE)
    while True:
        try:
            check_side(side)
            return side, side, channels
        except UsageError:
            if side < MIN_IMAGES:
                raise
            side -= 1
