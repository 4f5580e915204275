"""The game of a generator and a critic: their losses, and one step of each."""

from __future__ import annotations

import functools

from tasks.engine import optimize
from zoo.lazy import keras, tf

PIXEL = 127.5  # what is 1 to the networks, which see [-1, 1]
NAMES = ("loss", "critic_loss", "generator_loss", "told_apart")

# Of the scores of real images and of painted ones: the critic's loss; of the latter: the
# generator's. The first is that of Goodfellow et al., 2014, section 3, the second that of Lim and
# Ye, 2017, the third that of Arjovsky et al., 2017.
LOSSES = {
    "non_saturating": (
        lambda real, painted: _softplus(-real) + _softplus(painted),
        lambda painted: _softplus(-painted),
    ),
    "hinge": (
        lambda real, painted: keras.ops.relu(1 - real) + keras.ops.relu(1 + painted),
        lambda painted: -painted,
    ),
    "wasserstein": (lambda real, painted: painted - real, lambda painted: -painted),
}


def step(loss, penalty, critic_steps):
    """Returns the step of a `loop.Loop` whose networks are a `generator` and a `critic`.

    The critic learns from each part of a batch, and then the generator from what it painted for
    the last one, so that this is painted once.

    Args:
        loss: one of `LOSSES`.
        penalty: factor of the gradient penalty; 0 for none.
        critic_steps: how many parts of equal size a batch has.
    """
    options = {"loss": loss, "penalty": penalty, "critic_steps": critic_steps}
    return functools.partial(_step, **options)


def gradient_penalty(critic, real, painted, mix, given):
    """Returns how far the critic's slope is from 1 between images (Gulrajani et al., 2017, 4).

    Args:
        critic: takes images, and what else is `given` with them.
        real, painted: images in [0, 255], `(batch, height, width, channels)`.
        mix: share of the real one in the image in between, `(batch, 1, 1, 1)`.
        given: further inputs by name.

    Returns:
        The mean of `(|slope| - 1) ** 2`. The slope is by values in [-1, 1], as the network has
        them.
    """
    between = mix * keras.ops.cast(real, painted.dtype) + (1 - mix) * painted
    with tf.GradientTape() as tape:
        tape.watch(between)
        score = tf.reduce_sum(judged(critic, between, given))
    slope = PIXEL * tape.gradient(score, between)
    # The root has no slope at 0, where a critic begins that sees no difference.
    length = tf.sqrt(tf.reduce_sum(tf.square(slope), axis=(1, 2, 3)) + 1e-12)
    return tf.reduce_mean(tf.square(length - 1))


def judged(critic, images, given, training=True):
    """Returns a critic's scores `(batch,)` of images, and of what else is `given` with them."""
    inputs = {"image": images, **given} if given else images
    return critic(inputs, training=training)[:, 0]


def painted_by(generator, latent, given, training=True):
    """Returns a generator's images `(batch, height, width, channels)` of latent vectors."""
    inputs = {"latent": latent, **given} if given else latent
    return generator(inputs, training=training)


def _step(loop, batch, *, loss, penalty, critic_steps):
    generator, critic = loop.networks["generator"], loop.networks["critic"]
    painter, judge = optimize.parts(loop.optimizer)
    critic_loss, generator_loss = LOSSES[loss]
    size = tf.shape(batch["image"])[0] // critic_steps
    means = []
    for number in range(critic_steps):
        part = {name: x[number * size : (number + 1) * size] for name, x in batch.items()}
        given = {"label": part["label"]} if "label" in part else {}
        with tf.GradientTape() as tape:
            painted = painted_by(generator, part["latent"], given)
        means.append(
            _judge(loop, judge, critic, critic_loss, penalty, part, tf.stop_gradient(painted))
        )

    def pleased():
        return tf.reduce_mean(generator_loss(judged(critic, painted, given)))

    found = {name: sum(mean[name] for mean in means) / critic_steps for name in means[0]}
    found["generator_loss"] = loop.minimize(painter, pleased, tape)
    return {"loss": found["critic_loss"] + found["generator_loss"], **found}


def _judge(loop, optimizer, critic, critic_loss, penalty, part, painted):
    """Teaches the critic by a part of a batch; returns means."""
    given = {"label": part["label"]} if "label" in part else {}
    told = []

    def loss():
        scores = [judged(critic, images, given) for images in (part["image"], painted)]
        told.append(tf.reduce_mean(tf.cast(scores[0] > scores[1], tf.float32)))
        value = tf.reduce_mean(critic_loss(*scores))
        if not penalty:
            return value
        return value + penalty * gradient_penalty(
            critic, part["image"], painted, part["mix"], given
        )

    return {"critic_loss": loop.minimize(optimizer, loss), "told_apart": told[0]}


def _softplus(x):
    return keras.ops.softplus(x)
