"""Images with boxes as batches, shuffled and moved the same way on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from tasks.data import batches, geometry
from tasks.detection.box_annotations import MIN_VISIBLE_FRACTION
from tasks.detection.dataset import DetectionExamples
from zoo.lazy import np, tf

NOISE_SEED = 3  # tells the draws of noise from those of the order and of changes


def training(examples, *, batch_size, seed, augment="none", noise=None, heads=()):
    """Returns the batches that a detector learns from, epoch by epoch.

    Args:
        examples: `Boxed`, with `proposals` if the model takes them.
        batch_size: images in a batch; fewer if there are fewer.
        seed: of the order and of all that is random.
        augment: how images move, one of `geometry.LEVELS`; their boxes and proposals follow.
        noise: names of inputs that are even random numbers in [0, 1), and how many of them each
            image has.
        heads: names of the outputs, each of which is a loss and learns to be 0; `()` for one
            without a name.

    Returns:
        `BoxBatches`.

    Raises:
        UsageError: there is no such level.
    """
    geometry.check_level(augment)
    size = min(batch_size, len(examples))
    return BoxBatches(examples, size, seed, augment, dict(noise or {}), tuple(heads))


@dataclass(frozen=True, eq=False)
class BoxBatches:
    """The batches of every epoch, each a function of the seed and the number of the epoch alone.

    Attributes:
        examples: `Boxed`.
        size: images in a batch.
        seed, augment, noise, heads: as `training` has them.
    """

    examples: DetectionExamples
    size: int
    seed: int
    augment: str = "none"
    noise: Mapping[str, int] = field(default_factory=dict)
    heads: tuple[str, ...] = ()

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
            Pairs. The first is a dict: `image`, uint8 `(size, height, width, channels)`; `boxes`,
            float32 `(size, most, 4)`; `labels`, int32 `(size, most)`, -1 where there is no object,
            which may be anywhere; `proposals`, float32 `(size, some, 4)`, where examples have
            them, 0 where there is none; and noise, float32 `(size, ...)`, by name. The second is
            zeros `(size,)`, or a dict of them by head.
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
        """Returns what takes indices to rows of each table, by name."""
        examples = self.examples
        tables = {"boxes": examples.boxes, "labels": training_labels(examples)}
        if examples.proposals is not None:
            tables["proposals"] = examples.proposals
        gather = {name: batches.make_gather(table, self.size) for name, table in tables.items()}
        return gather | {
            "image": batches.make_gather(examples.pixels, self.size, examples.pixels_tensor)
        }

    def _batch(self, gather, indices, params, seeds):
        found = {name: rows(indices) for name, rows in gather.items()}
        shape = self.examples.pixels.shape[1:3]
        boxes, visible = clip_boxes(geometry.transform_boxes(found["boxes"], params), shape)
        visible &= found["labels"] >= 0
        inputs = {
            "image": geometry.transform_images(found["image"], params),
            "boxes": tf.where(visible[..., None], boxes, 0.0),
            "labels": tf.where(visible, found["labels"], -1),
        }
        if "proposals" in found:
            moved, some = clip_boxes(geometry.transform_boxes(found["proposals"], params), shape)
            inputs["proposals"] = tf.where(some[..., None], moved, 0.0)
        for place, (name, count) in enumerate(self.noise.items()):
            inputs[name] = tf.random.stateless_uniform((self.size, count), seeds[place])
        zeros = tf.zeros(self.size)
        return inputs, dict.fromkeys(self.heads, zeros) if self.heads else zeros


def training_labels(examples):
    """Returns the labels of examples as a model learns them: what is to be ignored is not there."""
    return np.where(examples.ignored, np.int32(-1), examples.labels)


def clip_boxes(boxes, shape):
    """Returns boxes cut to an image, and of which enough is left.

    Args:
        boxes: float32 `(..., 4)`, which may reach beyond the image.
        shape: its `(height, width)`.

    Returns:
        The boxes, and bool `(...)`, true of those that keep `LEFT` of their area or more, and
        that have one.
    """
    height, width = shape
    inside = tf.clip_by_value(boxes, 0.0, tf.constant([width, height] * 2, tf.float32))
    full_area, left = (tf.reduce_prod(b[..., 2:] - b[..., :2], -1) for b in (boxes, inside))
    return inside, (left > 0) & (left >= MIN_VISIBLE_FRACTION * full_area)


def predict(model, examples, *, batch_size):
    """Returns a detector's answers to every example, once and in order, as a dict of arrays.

    Every batch is full, as `batches.sequential_indices` says.

    Args:
        model: a detector of the zoo, which takes images, or a dict of `image` and `proposals`.
        examples: `Boxed`.
        batch_size: images at a time.

    Returns:
        `boxes`, float32 `(count, most, 4)`; `scores`, float32 `(count, most)`, falling; `classes`,
        int32 `(count, most)`, -1 where there is no more.
    """
    size = batches.bounded_batch_size(batch_size, len(examples))
    gather = batches.make_gather(examples.pixels, size, examples.pixels_tensor)
    regions = None
    if isinstance(model.input, dict):
        regions = batches.make_gather(examples.proposals, size)

    def batch(rows):
        if regions is None:
            return gather(rows)
        return {"image": gather(rows), "proposals": regions(rows)}

    data = batches.make_dataset(batches.sequential_indices(len(examples), size), batch)
    predictions = batches.without_xla(model).predict(data, verbose=0)
    return {name: values[: len(examples)] for name, values in predictions.items()}
