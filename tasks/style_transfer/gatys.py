"""A picture that learns: its model, what it begins as, and its steps by L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.style_transfer import perceptual_losses, train_model
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np, tf
from zoo.lazy_layers import layers

lbfgs = LazyModule("tasks.style_transfer.lbfgs")
custom_step = LazyModule("tasks.engine.custom_step")

NAME = "gatys"
LBFGS = "lbfgs"
INITIAL_IMAGES = ("content", "noise")
MAX_FIRST_STEP = 10.0  # how far the first step of L-BFGS moves a pixel at most
PADDING = 16  # pixels, from which the first layers of VGG are not seen to have a border
NOISE_MEAN, NOISE_STD = 127.5, 40.0  # mean and deviation of the noise to begin with


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
        first = NOISE_MEAN + NOISE_STD * np.random.default_rng(seed).standard_normal(content.shape)
    canvas.picture.assign(first)
    return model


def padding(pictures):
    """Returns how much mirror image is laid round pictures, in pixels: none is smaller."""
    return min(PADDING, *(side - 1 for picture in pictures for side in picture.shape[:2]))


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
    made = lbfgs.LBFGS(rate, scale=MAX_FIRST_STEP)
    made.build(model.trainable_variables)
    return made


def compile_loop(training_model, optimizer, weights, *, jit_compile=False):
    """Compiles what takes a step of L-BFGS at each batch, which is always the same one.

    Args:
        training_model: what `looped` returned.
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
    training_model.loss_weights = weights
    training_model.compile(optimizer=optimizer, jit_compile=jit_compile)


def lbfgs_loop(training_model):
    """Returns a `custom_step.CustomStepModel` that makes the losses of a learner small by
    L-BFGS."""
    names = ("loss", *perceptual_losses.LOSS_NAMES)
    return custom_step.CustomStepModel({"learner": training_model}, names, _train_step)


def _train_step(loop, batch):
    [training_model] = loop.networks.values()
    images, _ = batch
    with tf.GradientTape() as tape:
        found = training_model(images, training=True)
        loss = tf.reduce_mean(train_model.weighted_sum(found, loop.loss_weights))
    variables = loop.optimizer._trainable_variables
    loop.optimizer.line_search_step(loss, tape.gradient(loss, variables))
    means = tf.unstack(tf.reduce_mean(found, axis=0))
    return {"loss": loss, **dict(zip(perceptual_losses.LOSS_NAMES, means, strict=True))}


@dataclass(frozen=True, eq=False)
class RepeatDataset:
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
        pair = content[None], np.zeros((1, len(perceptual_losses.LOSS_NAMES)), "float32")
        with tf.device("cpu:0"):
            return tf.data.Dataset.from_tensors(pair).repeat(self.steps - start)
