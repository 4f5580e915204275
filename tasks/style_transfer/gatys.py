"""Style transfer by optimization of an image (Gatys et al., 2016), with L-BFGS or Adam."""

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
MAX_FIRST_STEP = 10.0  # maximum change of a pixel in the first step of L-BFGS
PADDING = 16  # pixels of reflection padding, outside the receptive field of VGG's first layers
NOISE_MEAN, NOISE_STD = 127.5, 40.0  # of the initial image with --init noise


def build(content, init, seed):
    """Builds a model whose only weight is the image: its output is the image for any input.

    Args:
        content: the content image, uint8 `(height, width, 3)`.
        init: the initial image, one of `INITIAL_IMAGES`.
        seed: seed of the noise.
    """
    image = keras.Input(content.shape, name="content")
    canvas = layers.Canvas(name="canvas")
    model = keras.Model(image, canvas(image), name=NAME)
    initial = np.asarray(content, "float32")
    if init == "noise":
        noise = np.random.default_rng(seed).standard_normal(content.shape)
        initial = NOISE_MEAN + NOISE_STD * noise
    canvas.picture.assign(initial)
    return model


def max_padding(images):
    """Returns the reflection padding that all images are large enough for, in pixels."""
    return min(PADDING, *(side - 1 for image in images for side in image.shape[:2]))


def optimized_image(model):
    """Returns the image of a model of `build`, uint8 `(height, width, 3)`."""
    pixels = keras.ops.convert_to_numpy(model.get_layer("canvas").picture)
    return pixels.round().clip(0, 255).astype("uint8")


def optimizer(model, rate):
    """Returns L-BFGS for the image of a model; `rate` is the factor of its full steps."""
    if keras.config.backend() != "tensorflow":
        raise UsageError(
            f"--optimizer {LBFGS} needs TensorFlow, but the backend is {keras.config.backend()}; "
            "use --optimizer adam, or unset KERAS_BACKEND"
        )
    optimizer = lbfgs.LBFGS(rate, scale=MAX_FIRST_STEP)
    optimizer.build(model.trainable_variables)
    return optimizer


def compile_loop(training_model, optimizer, weights, *, jit_compile=False):
    """Compiles a training model of `lbfgs_loop`.

    Args:
        training_model: the model.
        optimizer: L-BFGS.
        weights: weights of the losses, in the order of `perceptual_losses.LOSS_NAMES`.
        jit_compile: as for `keras.Model.compile`.

    Raises:
        UsageError: the precision needs loss scaling, which L-BFGS does not support.
    """
    if keras.config.dtype_policy().name == "mixed_float16":
        raise UsageError(
            f"--optimizer {LBFGS} does not support the loss scaling of --precision mixed_float16; "
            "use --precision float32, or --optimizer adam"
        )
    training_model.loss_weights = weights
    training_model.compile(optimizer=optimizer, jit_compile=jit_compile)


def lbfgs_loop(training_model):
    """Returns a `custom_step.CustomStepModel` that minimizes the losses by L-BFGS.

    Args:
        training_model: a model of `train_model.build_training_model`.
    """
    names = ("loss", *perceptual_losses.LOSS_NAMES)
    return custom_step.CustomStepModel({"training_model": training_model}, names, _train_step)


def _train_step(loop, batch):
    [training_model] = loop.networks.values()
    images, _ = batch
    with tf.GradientTape() as tape:
        losses = training_model(images, training=True)
        loss = tf.reduce_mean(train_model.weighted_sum(losses, loop.loss_weights))
    variables = loop.optimizer._trainable_variables
    loop.optimizer.line_search_step(loss, tape.gradient(loss, variables))
    means = tf.unstack(tf.reduce_mean(losses, axis=0))
    return {"loss": loss, **dict(zip(perceptual_losses.LOSS_NAMES, means, strict=True))}


@dataclass(frozen=True, eq=False)
class RepeatDataset:
    """The content image as the only batch, repeated in each step.

    Attributes:
        content: uint8 `(height, width, 3)`.
        steps: steps per epoch.
    """

    content: object
    steps: int
    size = 1

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, without the first `start` ones."""
        content = np.asarray(self.content, "float32")
        pair = content[None], np.zeros((1, len(perceptual_losses.LOSS_NAMES)), "float32")
        with tf.device("cpu:0"):
            return tf.data.Dataset.from_tensors(pair).repeat(self.steps - start)
