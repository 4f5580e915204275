"""Adversarial training: losses, gradient penalty and the training step of a GAN."""

from __future__ import annotations

import functools

from tasks.engine import optimize
from zoo.lazy import keras, tf

PIXEL_SCALE = 127.5  # half the range of pixels: the networks scale [0, 255] to [-1, 1]
METRIC_NAMES = ("loss", "critic_loss", "generator_loss", "critic_accuracy")

# Pairs of functions: the critic's loss of the scores of real and of generated images, and the
# generator's loss of the latter. By Goodfellow et al., 2014, section 3; Lim and Ye, 2017; Arjovsky
# et al., 2017.
LOSSES = {
    "non_saturating": (
        lambda real, generated: _softplus(-real) + _softplus(generated),
        lambda generated: _softplus(-generated),
    ),
    "hinge": (
        lambda real, generated: keras.ops.relu(1 - real) + keras.ops.relu(1 + generated),
        lambda generated: -generated,
    ),
    "wasserstein": (lambda real, generated: generated - real, lambda generated: -generated),
}


def make_train_step(loss, penalty, critic_steps):
    """Returns the training step of a `custom_step.CustomStepModel` of a `generator` and a `critic`.

    A batch has a part for each step of the critic. The generator is trained on the images that it
    generated for the last of them, so that they are generated once.

    Args:
        loss: adversarial loss, one of `LOSSES`.
        penalty: factor of the gradient penalty; 0 for none.
        critic_steps: steps of the critic per step of the generator, which divide a batch into
            equal parts.
    """
    options = {"loss": loss, "penalty": penalty, "critic_steps": critic_steps}
    return functools.partial(_train_step, **options)


def gradient_penalty(critic, real, generated, mix, conditioning):
    """Returns the gradient penalty of WGAN-GP (Gulrajani et al., 2017, section 4).

    It is the mean of `(|gradient| - 1) ** 2` at points between real and generated images. Gradients
    are taken with respect to pixels in [-1, 1], the range inside the networks.

    Args:
        critic: a model from images, and `conditioning`, to scores `(batch, 1)`.
        real, generated: images in [0, 255], `(batch, height, width, channels)`.
        mix: weight of the real image in the interpolated one, `(batch, 1, 1, 1)`.
        conditioning: further inputs of the critic by name, such as `label`.
    """
    interpolated = mix * keras.ops.cast(real, generated.dtype) + (1 - mix) * generated
    with tf.GradientTape() as tape:
        tape.watch(interpolated)
        score = tf.reduce_sum(critic_scores(critic, interpolated, conditioning))
    gradients = PIXEL_SCALE * tape.gradient(score, interpolated)
    # The square root has no derivative at 0, the gradient of a critic that is constant at first.
    gradient_norm = tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=(1, 2, 3)) + 1e-12)
    return tf.reduce_mean(tf.square(gradient_norm - 1))


def critic_scores(critic, images, conditioning, training=True):
    """Returns a critic's scores `(batch,)` of images, with further inputs by name."""
    inputs = {"image": images, **conditioning} if conditioning else images
    return critic(inputs, training=training)[:, 0]


def generate_images(generator, latent, conditioning, training=True):
    """Returns generated images, `(batch, height, width, channels)`, for latent vectors."""
    inputs = {"latent": latent, **conditioning} if conditioning else latent
    return generator(inputs, training=training)


def _train_step(loop, batch, *, loss, penalty, critic_steps):
    generator, critic = loop.networks["generator"], loop.networks["critic"]
    generator_optimizer, critic_optimizer = optimize.inner_optimizers(loop.optimizer)
    critic_loss, generator_loss = LOSSES[loss]
    size = tf.shape(batch["image"])[0] // critic_steps
    means = []
    for number in range(critic_steps):
        part = {name: x[number * size : (number + 1) * size] for name, x in batch.items()}
        conditioning = {"label": part["label"]} if "label" in part else {}
        with tf.GradientTape() as tape:
            generated = generate_images(generator, part["latent"], conditioning)
        means.append(
            _critic_step(
                loop,
                critic_optimizer,
                critic,
                critic_loss,
                penalty,
                part,
                tf.stop_gradient(generated),
            )
        )

    def generator_objective():
        return tf.reduce_mean(generator_loss(critic_scores(critic, generated, conditioning)))

    metrics = {name: sum(mean[name] for mean in means) / critic_steps for name in means[0]}
    metrics["generator_loss"] = loop.minimize(generator_optimizer, generator_objective, tape)
    # Not a sum by `+`: TensorFlow merges it with the sum over steps into an `AddN`, in an order of
    # terms that differs between processes.
    total = tf.reduce_sum(tf.stack([metrics["critic_loss"], metrics["generator_loss"]]))
    return {"loss": total, **metrics}


def _critic_step(loop, optimizer, critic, critic_loss, penalty, part, generated):
    """Trains the critic on a part of a batch; returns its metrics by name."""
    conditioning = {"label": part["label"]} if "label" in part else {}
    pair_accuracy = []

    def loss():
        scores = [
            critic_scores(critic, images, conditioning) for images in (part["image"], generated)
        ]
        pair_accuracy.append(tf.reduce_mean(tf.cast(scores[0] > scores[1], tf.float32)))
        value = tf.reduce_mean(critic_loss(*scores))
        if not penalty:
            return value
        return value + penalty * gradient_penalty(
            critic, part["image"], generated, part["mix"], conditioning
        )

    return {"critic_loss": loop.minimize(optimizer, loss), "critic_accuracy": pair_accuracy[0]}


def _softplus(x):
    return keras.ops.softplus(x)
