"""Images and masks as batches, shuffled and moved together, the same way on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tasks.data import batches, geometry
from tasks.segmentation.dataset import SegmentationExamples


def training(examples, *, batch_size, seed, augment="none"):
    """Returns the batches that a model learns from, epoch by epoch.

    Args:
        examples: `MaskedExamples`, or `Examples` with features in place of images.
        batch_size: images in a batch; fewer if there are fewer.
        seed: of the order and of all random changes.
        augment: one of `geometry.LEVELS`.

    Returns:
        `MaskBatches`.

    Raises:
        UsageError: there is no such level.
    """
    geometry.check_level(augment)
    return SegmentationBatches(examples, min(batch_size, len(examples)), seed, augment)


def evaluation_batches(examples, *, batch_size, batch_range=slice(None)):
    """Returns every example once and in order, in batches that are all full.

    The last one is padded, as `batches.sequential_indices` says.

    Args:
        examples: as `training` has them.
        batch_size: images in a batch.
        batch_range: which of the batches.

    Returns:
        A `tf.data.Dataset` of uint8 images `(batch, height, width, channels)` and uint8 masks
        `(batch, height, width)`.
    """
    size = batches.bounded_batch_size(batch_size, len(examples))
    indices = batches.sequential_indices(len(examples), size)[batch_range]
    return batches.make_dataset(indices, _gatherers(examples, size))


@dataclass(frozen=True, eq=False)
class SegmentationBatches:
    """The batches of every epoch, each a function of the seed and the number of the epoch alone.

    Attributes:
        examples: `MaskedExamples`.
        size: images in a batch.
        seed: of the order and of all random changes.
        augment: one of `geometry.LEVELS`.
    """

    examples: SegmentationExamples
    size: int
    seed: int
    augment: str = "none"

    @property
    def steps(self):
        """Batches in an epoch."""
        return len(self.examples) // self.size

    def epoch(self, number, start=0):
        """Returns one epoch, a `tf.data.Dataset` of `steps` batches, or of those that are left.

        What is left over is dropped, other examples each time.

        Args:
            number: of the epoch, from 0.
            start: batches at its beginning that are left out.

        Returns:
            Batches of uint8 images `(size, height, width, channels)` and uint8 masks
            `(size, height, width)`, 255 where there is nothing to learn.
        """
        examples = self.examples.for_epoch(number)
        indices = batches.shuffled_indices(len(self.examples), self.size, self.seed, number)
        shape = examples.pixels.shape[1:]
        params = geometry.sample_params(
            self.seed, number, self.size, self.steps, shape, self.augment
        )
        batch = partial(_augmented, _gatherers(examples, self.size))
        return batches.make_dataset((indices, params), batch, start)


def _gatherers(examples, size):
    """Returns what takes `size` indices to images and masks, inside a graph."""
    images = batches.make_gather(examples.pixels, size, examples.pixels_tensor)
    masks = batches.make_gather(examples.labels, size)
    return lambda indices: (images(indices), masks(indices))


def _augmented(gather, indices, params):
    images, masks = gather(indices)
    return geometry.transform_images(images, params), geometry.transform_masks(masks, params)
