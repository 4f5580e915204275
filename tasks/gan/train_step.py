"""The game of a generator and a critic: their losses, and one step of each."""

from __future__ import annotations

import functools

from tasks.engine import optimize
from zoo.lazy import keras, tf

PIXEL_SCALE = 127.5  # what is 1 to the networks, which see [-1, 1]
METRIC_NAMES = ("loss", "critic_loss", "generator_loss", "told_apart")

# Of the scores of real images and of painted ones: the critic's loss; of the latter: the
# generator's. The first is that of Goodfellow et al., 2014, section 3, the second that of Lim and
# Ye, 2017, the third that of Arjovsky et al., 2017.
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
    """Returns the step of a `custom_step.CustomStepModel` whose networks are a `generator` and a
    `critic`.

    The critic learns from each part of a batch, and then the generator from what it painted for
    the last one, so that this is painted once.

    Args:
        loss: one of `LOSSES`.
        penalty: factor of the gradient penalty; 0 for none.
        critic_steps: how many parts of equal size a batch has.
    """
    options = {"loss": loss, "penalty": penalty, "critic_steps": critic_steps}
    return functools.partial(_train_step, **options)


def gradient_penalty(critic, real, generated, mix, conditioning):
    """Returns how far the critic's slope is from 1 between images (Gulrajani et al., 2017, 4).

    Args:
        critic: takes images, and what else is `conditioning` with them.
        real, generated: images in [0, 255], `(batch, height, width, channels)`.
        mix: share of the real one in the image in between, `(batch, 1, 1, 1)`.
        conditioning: further inputs by name.

    Returns:
        The mean of `(|slope| - 1) ** 2`. The slope is by values in [-1, 1], as the network has
        them.
    """
    interpolated = mix * keras.ops.cast(real, generated.dtype) + (1 - mix) * generated
    with tf.GradientTape() as tape:
        tape.watch(interpolated)
        score = tf.reduce_sum(critic_scores(critic, interpolated, conditioning))
    gradients = PIXEL_SCALE * tape.gradient(score, interpolated)
    # The root has no slope at 0, where a critic begins that sees no difference.
    gradient_norm = tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=(1, 2, 3)) + 1e-12)
    return tf.reduce_mean(tf.square(gradient_norm - 1))


def critic_scores(critic, images, conditioning, training=True):
    """Returns a critic's scores `(batch,)` of images, and of what else is `given` with them."""
    inputs = {"image": images, **conditioning} if conditioning else images
    return critic(inputs, training=training)[:, 0]


def generate_images(generator, latent, conditioning, training=True):
    """Returns a generator's images `(batch, height, width, channels)` of latent vectors."""
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

    found = {name: sum(mean[name] for mean in means) / critic_steps for name in means[0]}
    found["generator_loss"] = loop.minimize(generator_optimizer, generator_objective, tape)
    return {"loss": found["critic_loss"] + found["generator_loss"], **found}


def _critic_step(loop, optimizer, critic, critic_loss, penalty, part, generated):
    """Teaches the critic by a part of a batch; returns means."""
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

    return {"critic_loss": loop.minimize(optimizer, loss), "told_apart": pair_accuracy[0]}


def _softplus(x):
    return keras.ops.softplus(x)
