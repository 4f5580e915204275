"""Short training runs of studies, in Keras's own compiled training step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zoo.lazy import LazyModule, keras, np, tf

tqdm = LazyModule("tqdm")

MIDDLE = 127.5  # of pixels, which the networks of the zoo map to 0


@dataclass(frozen=True)
class Curve:
    """The course of a training run.

    Attributes:
        steps: number of updates after which the values of the other arrays were measured.
        losses: mean training loss since the value before.
        scores: accuracy on the test examples, or their loss if it is a regression.
    """

    steps: np.ndarray
    losses: np.ndarray
    scores: np.ndarray


def train(
    model,
    x,
    y,
    *,
    steps,
    optimizer="adam",
    loss="cross_entropy",
    batch_size=32,
    seed=0,
    test=None,
    every=0,
    keep_best=False,
) -> Curve:
    """Compiles a model and trains it on random batches.

    Args:
        model: a model with logits, or with values for `mse`.
        x, y: the training examples.
        steps: number of updates, rounded up to a multiple of `every`.
        optimizer: a name or a Keras optimizer.
        loss: `cross_entropy` or `binary` (of logits), or `mse`.
        batch_size: examples per step; the order is random in each epoch.
        seed: of the order of the examples.
        test: a pair `(x, y)` for the scores; the training examples by default.
        every: steps between measurements; 0 for one at the end.
        keep_best: whether the model ends with the weights of the highest accuracy that was
            measured, as after `zoo train`, rather than with the last ones.
    """
    every = min(every or steps, steps)
    losses = {
        "cross_entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "binary": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
        "mse": lambda: keras.losses.MeanSquaredError(),
    }
    model.compile(optimizer, losses[loss]())
    model.optimizer.build(model.trainable_variables)
    images, targets = tf.constant(x), tf.constant(y)

    @tf.function
    def take_steps(rows):
        for row in rows:
            model.train_step((tf.gather(images, row), tf.gather(targets, row)))

    order, found, best = _batches(len(x), min(batch_size, len(x)), seed), [], None
    for done in range(every, steps + every, every):
        model.reset_metrics()
        take_steps(tf.constant([next(order) for _ in range(every)]))
        mean = model.get_metrics_result()["loss"]
        found.append((done, mean, score(model, *(test or (x, y)))))
        if keep_best and found[-1][2] == max(row[2] for row in found):
            best = model.get_weights()
    if best:
        model.set_weights(best)
    return Curve(*np.array(found, "float64").T)


def _batches(examples, size, seed):
    """Yields the rows of batches, epoch after epoch, each in a new random order."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(examples)[: examples // size * size]
        yield from order.reshape(-1, size).astype("int32")


def score(model, x, y) -> float:
    """Returns the accuracy of a compiled classifier, or the loss of a regression."""
    outputs = model(x, training=False)
    if getattr(model.loss, "from_logits", None) is None:
        return float(model.loss(y, outputs))
    found = outputs[:, 0] > 0 if outputs.shape[-1] == 1 else np.argmax(outputs, -1)
    return float(np.mean(np.array(found) == y))


def pixels(values):
    """Returns numbers around 0 as pixels, which a network of the zoo maps back to these numbers."""
    return (MIDDLE * (1 + np.asarray(values))).astype("float32")


def progress(items: Iterable, text: str = ""):
    """Returns items with a progress bar on standard error, if that is a terminal."""
    return tqdm.tqdm(items, desc=text, leave=False, disable=None)
