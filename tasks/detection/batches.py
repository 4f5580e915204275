"""Batches of images with boxes, shuffled and augmented the same way on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from tasks.data import batches, geometry
from tasks.detection.box_annotations import MIN_VISIBLE_FRACTION
from tasks.detection.dataset import DetectionExamples
from zoo.lazy import np, tf

NOISE_SEED = 3  # separates random inputs from the shuffling and augmentation of the same seed


def training(examples, *, batch_size, seed, augment="none", noise=None, heads=()):
    """Returns the batches that a detector is trained on, epoch by epoch.

    Args:
        examples: `DetectionExamples`, with `proposals` if the model takes them.
        batch_size: images per batch; fewer if there are fewer.
        seed: the seed of shuffling, augmentation and noise.
        augment: augmentation of images, boxes and proposals, one of `geometry.LEVELS`.
        noise: a dict from the names of inputs that are uniform random numbers in [0, 1) to their
            number per image.
        heads: names of the outputs, each of which is a loss whose target is 0; `()` for a single
            output without a name.

    Returns:
        `DetectionBatches`.

    Raises:
        UsageError: there is no such augmentation level.
    """
    geometry.check_level(augment)
    size = min(batch_size, len(examples))
    return DetectionBatches(examples, size, seed, augment, dict(noise or {}), tuple(heads))


@dataclass(frozen=True, eq=False)
class DetectionBatches(batches.EpochBatches):
    """The training batches of each epoch.

    Attributes:
        examples: `DetectionExamples`.
        size: images per batch.
        seed, augment, noise, heads: as in `training`.
    """

    examples: DetectionExamples
    size: int
    seed: int
    augment: str = "none"
    noise: Mapping[str, int] = field(default_factory=dict)
    heads: tuple[str, ...] = ()

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, as `EpochBatches.epoch`.

        Returns:
            Pairs of inputs and targets. Inputs are a dict: `image`, uint8 `(size, height, width,
            channels)`; `boxes`, float32 `(size, max_objects, 4)`; `labels`, int32 `(size,
            max_objects)`, -1 for padding, which may be in any row; `proposals`, float32 `(size,
            max_proposals, 4)`, padded with 0, where examples have them; and noise, float32
            `(size, ...)`, by name. Targets are zeros `(size,)`, or a dict of them by head.
        """
        shape = self.examples.pixels.shape[1:]
        indices = batches.shuffled_indices(len(self.examples), self.size, self.seed, number)
        params = geometry.sample_params(
            self.seed, number, self.size, self.steps, shape, self.augment
        )
        random = np.random.default_rng([self.seed, number, NOISE_SEED])
        seeds = random.integers(0, 2**31, (self.steps, len(self.noise), 2), "int32")
        batch = partial(self._batch, self._gatherers())
        return batches.make_dataset((indices, params, seeds), batch, start)

    def _gatherers(self):
        """Returns functions from indices to the rows of each array, by name."""
        examples = self.examples
        arrays = {"boxes": examples.boxes, "labels": training_labels(examples)}
        if examples.proposals is not None:
            arrays["proposals"] = examples.proposals
        gather = {name: batches.make_gather(array, self.size) for name, array in arrays.items()}
        return gather | {
            "image": batches.make_gather(examples.pixels, self.size, examples.pixels_tensor)
        }

    def _batch(self, gather, indices, params, seeds):
        rows = {name: gather_rows(indices) for name, gather_rows in gather.items()}
        shape = self.examples.pixels.shape[1:3]
        boxes, visible = clip_boxes(geometry.transform_boxes(rows["boxes"], params), shape)
        visible &= rows["labels"] >= 0
        inputs = {
            "image": geometry.transform_images(rows["image"], params),
            "boxes": tf.where(visible[..., None], boxes, 0.0),
            "labels": tf.where(visible, rows["labels"], -1),
        }
        if "proposals" in rows:
            moved, valid = clip_boxes(geometry.transform_boxes(rows["proposals"], params), shape)
            inputs["proposals"] = tf.where(valid[..., None], moved, 0.0)
        for index, (name, count) in enumerate(self.noise.items()):
            inputs[name] = tf.random.stateless_uniform((self.size, count), seeds[index])
        zeros = tf.zeros(self.size)
        return inputs, dict.fromkeys(self.heads, zeros) if self.heads else zeros


def training_labels(examples):
    """Returns the labels to train on: ignored objects become padding."""
    return np.where(examples.ignored, np.int32(-1), examples.labels)


def clip_boxes(boxes, shape):
    """Clips boxes to an image.

    Args:
        boxes: float32 `(..., 4)`, which may reach beyond the image.
        shape: its `(height, width)`.

    Returns:
        The clipped boxes, and bool `(...)`, true for those that have an area and keep
        `MIN_VISIBLE_FRACTION` of it.
    """
    height, width = shape
    clipped = tf.clip_by_value(boxes, 0.0, tf.constant([width, height] * 2, tf.float32))
    area, visible = (tf.reduce_prod(b[..., 2:] - b[..., :2], -1) for b in (boxes, clipped))
    return clipped, (visible > 0) & (visible >= MIN_VISIBLE_FRACTION * area)


def predict(model, examples, *, batch_size):
    """Returns the predictions of a detector for all examples, in order, as a dict of arrays.

    Every batch is full, as `batches.sequential_indices` explains.

    Args:
        model: a detector of the zoo, which takes images, or a dict of `image` and `proposals`.
        examples: `DetectionExamples`.
        batch_size: images per batch.

    Returns:
        `boxes`, float32 `(count, k, 4)`; `scores`, float32 `(count, k)`, highest first; `classes`,
        int32 `(count, k)`, -1 for padding.
    """
    size = batches.bounded_batch_size(batch_size, len(examples))
    gather = batches.make_gather(examples.pixels, size, examples.pixels_tensor)
    gather_proposals = None
    if isinstance(model.input, dict):
        gather_proposals = batches.make_gather(examples.proposals, size)

    def batch(rows):
        if gather_proposals is None:
            return gather(rows)
        return {"image": gather(rows), "proposals": gather_proposals(rows)}

    data = batches.make_dataset(batches.sequential_indices(len(examples), size), batch)
    predictions = batches.without_xla(model).predict(data, verbose=0)
    return {name: values[: len(examples)] for name, values in predictions.items()}
