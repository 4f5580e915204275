"""Batches of images and masks, shuffled and augmented together, reproducibly on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tasks.data import batches, geometry
from tasks.segmentation.dataset import SegmentationExamples


def training(examples, *, batch_size, seed, augment="none"):
    """Returns the training batches of every epoch.

    Args:
        examples: `SegmentationExamples`, or `Examples` with features in place of images.
        batch_size: The batch size, limited to the number of examples.
        seed: The seed of shuffling and augmentation.
        augment: The level of augmentation, a key of `geometry.LEVELS`.

    Returns:
        `SegmentationBatches`.

    Raises:
        UsageError: `augment` is not a key of `geometry.LEVELS`.
    """
    geometry.check_level(augment)
    return SegmentationBatches(examples, min(batch_size, len(examples)), seed, augment)


def evaluation_batches(examples, *, batch_size, batch_range=slice(None)):
    """Returns every example once and in order, in full batches.

    The last batch is padded, see `batches.sequential_indices`.

    Args:
        examples: As in `training`.
        batch_size: The batch size.
        batch_range: The slice of batches to return.

    Returns:
        A `tf.data.Dataset` of uint8 images `(batch, height, width, channels)` and uint8 masks
        `(batch, height, width)`.
    """
    size = batches.bounded_batch_size(batch_size, len(examples))
    indices = batches.sequential_indices(len(examples), size)[batch_range]
    return batches.make_dataset(indices, _make_gather(examples, size))


@dataclass(frozen=True, eq=False)
class SegmentationBatches(batches.EpochBatches):
    """The training batches of each epoch.

    Attributes:
        examples: `SegmentationExamples`.
        size: The batch size.
        seed: The seed of shuffling and augmentation.
        augment: The level of augmentation, a key of `geometry.LEVELS`.
    """

    examples: SegmentationExamples
    size: int
    seed: int
    augment: str = "none"

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, as `EpochBatches.epoch`.

        Returns:
            Batches of uint8 images `(size, height, width, channels)` and uint8 masks
            `(size, height, width)`, `IGNORE_LABEL` where a pixel has no class.
        """
        examples = self.examples.for_epoch(number)
        indices = batches.shuffled_indices(len(self.examples), self.size, self.seed, number)
        shape = examples.pixels.shape[1:]
        params = geometry.sample_params(
            self.seed, number, self.size, self.steps, shape, self.augment
        )
        batch = partial(_augmented, _make_gather(examples, self.size))
        return batches.make_dataset((indices, params), batch, start)


def _make_gather(examples, size):
    """Returns a function of `size` indices that returns images and masks, inside a graph."""
    images = batches.make_gather(examples.pixels, size, examples.pixels_tensor)
    masks = batches.make_gather(examples.labels, size)
    return lambda indices: (images(indices), masks(indices))


def _augmented(gather, indices, params):
    images, masks = gather(indices)
    return geometry.transform_images(images, params), geometry.transform_masks(masks, params)
