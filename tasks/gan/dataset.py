"""The data of a GAN: images in splits, and their features for the Frechet distance."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from tasks.data import data_splits, image_io, memory_limits
from tasks.gan import evaluation
from tasks.gan.history import GanHistory
from zoo.errors import UsageError
from zoo.lazy import np

MAX_DEFAULT_SIDE = 64  # side of the images without --image-size
MIN_IMAGES = 16  # images in a split, at least, to estimate a distance from


@dataclass(frozen=True)
class GanData(data_splits.DataSplits):
    """The splits of a data set, with the features of their images.

    Attributes:
        feature_network: name of the model for the features.
        feature_network_weights: weights file in place of the model's own weights, or "".
        batch_size: images per forward pass of the feature network.
        history: the `GanHistory` of the run.
    """

    feature_network: str = ""
    feature_network_weights: str = ""
    batch_size: int = 64
    history: GanHistory = field(default_factory=GanHistory)

    @cached_property
    def extractor(self):
        """The feature network, a `keras.Model` from images to features."""
        return evaluation.feature_extractor(
            self.feature_network, self.feature_network_weights, self.image_shape
        )

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
    """Returns the `GanData` of a source.

    Args:
        source, names, shape, resize, bits: as for `data_splits.load`.
        **options: further fields of `GanData`.

    Raises:
        UsageError: as `data_splits.load`, or a split has fewer than `MIN_IMAGES` images.
    """
    data = data_splits.load(source, names, shape, resize, bits)
    for part in data.parts:
        check_split_size(part)
    return GanData(**vars(data), **options)


def check_split_size(part):
    """Returns a split; raises `UsageError` if it has fewer than `MIN_IMAGES` images."""
    if len(part) < MIN_IMAGES:
        raise UsageError(f"{part.name} has {len(part)} images; a GAN needs {MIN_IMAGES} or more")
    return part


def resolve_image_shape(source, image_size, channels, check_side):
    """Returns the shape `(height, width, channels)` of the images to generate.

    Args:
        source: a `sources.Source`.
        image_size: height and width in pixels; 0 for the longer side of the first image, reduced
            to `MAX_DEFAULT_SIDE` and to a size that the networks support.
        channels: the number of channels; 0 for that of the first image.
        check_side: function that raises `UsageError` for a size that the networks do not support.
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
