"""A picture that learns: its model, what it begins as, and its steps by L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.engine import style_learner, style_losses
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, layers, np, tf

lbfgs = LazyModule("tasks.engine.lbfgs")
loop = LazyModule("tasks.engine.loop")

NAME = "gatys"
LBFGS = "lbfgs"
STARTS = ("content", "noise")
PIXELS = 10.0  # how far the first step of L-BFGS moves a pixel at most
MARGIN = 16  # pixels, from which the first layers of VGG are not seen to have a border
GREY, NOISE = 127.5, 40.0  # mean and deviation of the noise to begin with


def build(content, start, seed):
    """Returns the model of a picture: whatever image it is given, it gives what it has learned.

    Args:
        content: uint8 `(height, width, 3)`.
        start: what the picture is at first: one of `STARTS`.
        seed: of the noise.
    """
    image = keras.Input(content.shape, name="content")
    canvas = layers.Canvas(name="canvas")
    model = keras.Model(image, canvas(image), name=NAME)
    first = np.asarray(content, "float32")
    if start == "noise":
        first = GREY + NOISE * np.random.default_rng(seed).standard_normal(content.shape)
    canvas.picture.assign(first)
    return model


def margin(pictures):
    """Returns how much mirror image is laid round pictures, in pixels: none is smaller."""
    return min(MARGIN, *(side - 1 for picture in pictures for side in picture.shape[:2]))


def picture(model):
    """Returns the picture of a model, uint8 `(height, width, 3)`."""
    found = keras.ops.convert_to_numpy(model.get_layer("canvas").picture)
    return found.round().clip(0, 255).astype("uint8")


def optimizer(model, rate):
    """Returns L-BFGS for the picture of a model; `rate` is the factor of its full steps."""
    if keras.config.backend() != "tensorflow":
        raise UsageError(
            f"--optimizer {LBFGS} runs on TensorFlow alone, not on {keras.config.backend()}; "
            "take --optimizer adam, or unset KERAS_BACKEND"
        )
    made = lbfgs.LBFGS(rate, scale=PIXELS)
    made.build(model.trainable_variables)
    return made


def compile_loop(learner, optimizer, weights, *, jit_compile=False):
    """Compiles what takes a step of L-BFGS at each batch, which is always the same one.

    Args:
        learner: what `looped` returned.
        optimizer: L-BFGS.
        weights: of the losses.
        jit_compile: as `keras.Model.compile` takes it.

    Raises:
        UsageError: losses would have to be scaled, to which L-BFGS is blind.
    """
    if keras.config.dtype_policy().name == "mixed_float16":
        raise UsageError(
            f"--optimizer {LBFGS} looks at losses as they are, which --precision mixed_float16 "
            "would scale; take --precision float32, or --optimizer adam"
        )
    learner.weights_of_losses = weights
    learner.compile(optimizer=optimizer, jit_compile=jit_compile)


def looped(learner):
    """Returns a `loop.Loop` that makes the losses of a learner small by L-BFGS."""
    names = ("loss", *style_losses.NAMES)
    return loop.Loop({"learner": learner}, names, _step)


def _step(loop, batch):
    [learner] = loop.networks.values()
    images, _ = batch
    with tf.GradientTape() as tape:
        found = learner(images, training=True)
        loss = tf.reduce_mean(style_learner.weighted(found, loop.weights_of_losses))
    variables = loop.optimizer._trainable_variables
    loop.optimizer.advance(loss, tape.gradient(loss, variables))
    means = tf.unstack(tf.reduce_mean(found, axis=0))
    return {"loss": loss, **dict(zip(style_losses.NAMES, means, strict=True))}


@dataclass(frozen=True, eq=False)
class Sittings:
    """The same content in every step: the stream that a picture learns from.

    Attributes:
        content: uint8 `(height, width, 3)`.
        steps: in an epoch.
    """

    content: object
    steps: int
    size = 1

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, the same in all, without the first `start`."""
        content = np.asarray(self.content, "float32")
        pair = content[None], np.zeros((1, len(style_losses.NAMES)), "float32")
        with tf.device("cpu:0"):
            return tf.data.Dataset.from_tensors(pair).repeat(self.steps - start)
