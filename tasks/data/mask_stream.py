"""Images and masks as batches, shuffled and moved together, the same way on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tasks.data import batches, geometry
from tasks.data.masked import MaskedExamples


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
    geometry.check(augment)
    return MaskBatches(examples, min(batch_size, len(examples)), seed, augment)


def whole(examples, *, batch_size, some=slice(None)):
    """Returns every example once and in order, in batches that are all full.

    The last one is padded, as `batches.in_order` says.

    Args:
        examples: as `training` has them.
        batch_size: images in a batch.
        some: which of the batches.

    Returns:
        A `tf.data.Dataset` of uint8 images `(batch, height, width, channels)` and uint8 masks
        `(batch, height, width)`.
    """
    size = batches.bounded(batch_size, len(examples))
    indices = batches.in_order(len(examples), size)[some]
    return batches.made(indices, _gatherers(examples, size))


@dataclass(frozen=True, eq=False)
class MaskBatches:
    """The batches of every epoch, each a function of the seed and the number of the epoch alone.

    Attributes:
        examples: `MaskedExamples`.
        size: images in a batch.
        seed: of the order and of all random changes.
        augment: one of `geometry.LEVELS`.
    """

    examples: MaskedExamples
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
        examples = self.examples.turn(number)
        indices = batches.shuffled(len(self.examples), self.size, self.seed, number)
        shape = examples.pixels.shape[1:]
        drawn = geometry.draw(self.seed, number, self.size, self.steps, shape, self.augment)
        batch = partial(_moved, _gatherers(examples, self.size))
        return batches.made((indices, drawn), batch, start)


def _gatherers(examples, size):
    """Returns what takes `size` indices to images and masks, inside a graph."""
    images = batches.gatherer(examples.pixels, size, examples.held)
    masks = batches.gatherer(examples.labels, size)
    return lambda indices: (images(indices), masks(indices))


def _moved(gather, indices, drawn):
    images, masks = gather(indices)
    return geometry.warp(images, drawn), geometry.warp_masks(masks, drawn)
