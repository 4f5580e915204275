"""Images and their captions as batches, shuffled the same way on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tasks.captioning.dataset import CaptionedExamples
from tasks.captioning.vocabulary import PAD
from tasks.data import batches, geometry
from zoo.lazy import np, tf

CAPTION_CHOICE_STREAM, SCHEDULED_SAMPLING_STREAM = (
    4,
    5,
)  # tell these draws from those of the order and of changes


def training_batches(examples, *, batch_size, sentences, seed, augment="none", sampling=()):
    """Returns the batches that a captioner learns from, epoch by epoch.

    Args:
        examples: `Captioned`, or `Turns` of such.
        batch_size: images in a batch; fewer if there are fewer.
        sentences: of each image at a time, others each epoch where there are more.
        seed: of the order and of all that is random.
        augment: one of `geometry.LEVELS`.
        sampling: of each epoch, the share of words in place of which a model gets its own; `()`
            for true words alone.

    Returns:
        `CaptionBatches`.

    Raises:
        UsageError: there is no such level.
    """
    geometry.check_level(augment)
    size = min(batch_size, len(examples))
    sentences = min(sentences, examples.labels.shape[1])
    return CaptionBatches(examples, size, sentences, seed, augment, tuple(sampling))


@dataclass(frozen=True, eq=False)
class CaptionBatches:
    """The batches of every epoch, each a function of the seed and the number of the epoch alone.

    Attributes:
        examples: `Captioned`.
        size: images in a batch.
        sentences, seed, augment, sampling: as `training` has them.
    """

    examples: CaptionedExamples
    size: int
    sentences: int
    seed: int
    augment: str = "none"
    sampling: tuple[float, ...] = ()

    @property
    def steps(self):
        """Batches in an epoch."""
        return len(self.examples) // self.size

    def epoch(self, number, start=0):
        """Returns one epoch, a `tf.data.Dataset` of `steps` batches, or of those that are left.

        Args:
            number: of the epoch, from 0.
            start: batches at its beginning that are left out.

        Returns:
            Pairs. The first is a dict: `image`, uint8 `(size, height, width, channels)` or what
            stands for it; `words`, int32 `(size, sentences, length)`; and, where words are
            sampled, `draws`, float32 likewise, in [0, 1), -1 where the true word stays. The
            second are the words that come next, int32 `(size, sentences, length)`.
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
        share = self.sampling[min(number, len(self.sampling) - 1)] if self.sampling else None
        batch = partial(self._batch, images, words, share)
        return batches.make_dataset((indices, params, seeds), batch, start)

    def _sampled_labels(self, number):
        """Returns the words of the sentences of an epoch `(count, sentences, 1 + length)`.

        Those of an image are drawn without repetition, and what is there before what is not.
        """
        labels = self.examples.labels
        if labels.shape[1] == self.sentences:
            return labels
        random = np.random.default_rng([self.seed, number, CAPTION_CHOICE_STREAM])
        rank = random.random(labels.shape[:2]) + (labels[..., 0] == PAD)
        order = np.argsort(rank, axis=1)[:, : self.sentences, None]
        return np.take_along_axis(labels, order, axis=1)

    def _batch(self, images, words, share, indices, params, seeds):
        rows = words(indices)
        found = {
            "image": geometry.transform_images(images(indices), params),
            "words": rows[..., :-1],
        }
        if share is not None:
            shape = found["words"].shape
            draws = tf.random.stateless_uniform((2, *shape), seeds)
            found["draws"] = tf.where(draws[0] < share, draws[1], -1.0)
        return found, rows[..., 1:]
