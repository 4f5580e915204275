"""Batches of images and their captions, shuffled the same way on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tasks.captioning.dataset import CaptionedExamples
from tasks.captioning.train_model import RANDOM_INPUT
from tasks.captioning.vocabulary import PAD
from tasks.data import batches, geometry
from zoo.lazy import np, tf

# Seeds that separate these random numbers from those of shuffling and augmentation.
CAPTION_CHOICE_STREAM, SCHEDULED_SAMPLING_STREAM = 4, 5


def training(examples, *, batch_size, captions_per_image, seed, augment="none", sampling=()):
    """Returns the batches that a captioner is trained on, epoch by epoch.

    Args:
        examples: `CaptionedExamples`, or what `for_epoch` turns into such.
        batch_size: images per batch; fewer if there are fewer.
        captions_per_image: captions per image and step; where an image has more, each epoch has a
            random choice of them.
        seed: the seed of shuffling, choices and augmentation.
        augment: one of `geometry.LEVELS`.
        sampling: for each epoch, the probability of a word being replaced by the model's own
            (scheduled sampling); `()` for teacher forcing alone.

    Returns:
        `CaptionBatches`.

    Raises:
        UsageError: there is no such augmentation level.
    """
    geometry.check_level(augment)
    size = min(batch_size, len(examples))
    captions_per_image = min(captions_per_image, examples.labels.shape[1])
    return CaptionBatches(examples, size, captions_per_image, seed, augment, tuple(sampling))


@dataclass(frozen=True, eq=False)
class CaptionBatches(batches.EpochBatches):
    """The training batches of each epoch.

    Attributes:
        examples: `CaptionedExamples`.
        size: images per batch.
        captions_per_image, seed, augment, sampling: as in `training`.
    """

    examples: CaptionedExamples
    size: int
    captions_per_image: int
    seed: int
    augment: str = "none"
    sampling: tuple[float, ...] = ()

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, as `EpochBatches.epoch`.

        Returns:
            Pairs of inputs and targets. Inputs are a dict: `image`, uint8 `(size, height, width,
            channels)`, or the features of images; `words`, int32 `(size, captions_per_image,
            length)`; and, with scheduled sampling, `train_model.RANDOM_INPUT`, float32 of the same
            shape, in [0, 1), or -1 where the ground truth word is kept. Targets are the next
            words, int32 `(size, captions_per_image, length)`.
        """
        examples = self.examples.for_epoch(number)
        indices = batches.shuffled_indices(len(self.examples), self.size, self.seed, number)
        shape = examples.pixels.shape[1:]
        params = geometry.sample_params(
            self.seed, number, self.size, self.steps, shape, self.augment
        )
        random = np.random.default_rng([self.seed, number, SCHEDULED_SAMPLING_STREAM])
        seeds = random.integers(0, 2**31, (self.steps, 2), "int32")
        images = batches.make_gather(examples.pixels, self.size, examples.pixels_tensor)
        words = batches.make_gather(self._sampled_labels(number), self.size)
        rate = self.sampling[min(number, len(self.sampling) - 1)] if self.sampling else None
        batch = partial(self._batch, images, words, rate)
        return batches.make_dataset((indices, params, seeds), batch, start)

    def _sampled_labels(self, number):
        """Returns the captions of an epoch, `(count, captions_per_image, 1 + length)`.

        Those of an image are drawn without replacement, and before any padding.
        """
        labels = self.examples.labels
        if labels.shape[1] == self.captions_per_image:
            return labels
        random = np.random.default_rng([self.seed, number, CAPTION_CHOICE_STREAM])
        rank = random.random(labels.shape[:2]) + (labels[..., 0] == PAD)
        order = np.argsort(rank, axis=1)[:, : self.captions_per_image, None]
        return np.take_along_axis(labels, order, axis=1)

    def _batch(self, images, words, rate, indices, params, seeds):
        rows = words(indices)
        inputs = {
            "image": geometry.transform_images(images(indices), params),
            "words": rows[..., :-1],
        }
        if rate is not None:
            random = tf.random.stateless_uniform((2, *inputs["words"].shape), seeds)
            inputs[RANDOM_INPUT] = tf.where(random[0] < rate, random[1], -1.0)
        return inputs, rows[..., 1:]
