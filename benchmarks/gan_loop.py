"""Compares the GAN task with a plain Keras loop: python benchmarks/gan_loop.py --data-dir DIR

The loop is that of Keras's own example, "DCGAN to generate face images"
(https://keras.io/examples/generative/dcgan_overriding_train_step/): a `keras.Model` whose
`train_step` trains the discriminator on real and generated images in one batch, with noisy labels,
and then the generator on further generated images. Both have the same networks (`dcgan_generator`
and `dcgan_critic` of the zoo, width 32, initialized with one seed), Adam at 2e-4 with beta_1 = 0.5,
batches of 64, float32, the same in-memory images and number of epochs. The difference that is
compared: ours keeps running averages of the generator's weights, and generates one batch for both
updates.

A speed is images per second of the best epoch except the first, which compiles, without validation.
The plain loop runs with XLA, which is Keras's default, and without; the distance is that of the run
without. It is the Frechet distance of 10,000 generated images to the 10,000 test images of
Fashion-MNIST, in the features of the packaged `resnet20.cifar10`.

Measured on 2 cores of an AMD EPYC with AVX-512, TensorFlow 2.21, Keras 3.15.1, `--images 18000`,
with 6 epochs (an installation ran beside the last loop) and with 4; the machine's speed varied:

    plain, XLA             2,017       21             1,767       23
    plain, no XLA          2,041       61    22.274   1,653       54    20.654
    zoo                    1,931       64     9.501   2,034       40    13.152
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import loops
import numpy as np
import tensorflow as tf

import tasks
import zoo
from tasks.engine import trainer
from tasks.gan import frechet, sampling


class Plain(keras.Model):
    """The GAN of the example, unchanged except for logits and pixel ranges."""

    def __init__(self, critic, generator, latent_size):
        super().__init__()
        self.critic, self.generator, self.latent_size = critic, generator, latent_size
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.built = True

    def compile(self, d_optimizer, g_optimizer, loss_fn, **options):
        super().compile(**options)
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn
        self.d_loss_metric = keras.metrics.Mean(name="d_loss")
        self.g_loss_metric = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        """What `fit` resets."""
        return [self.d_loss_metric, self.g_loss_metric]

    def train_step(self, real_images):
        """One step of the discriminator and of the generator."""
        batch_size = tf.shape(real_images)[0]
        shape = (batch_size, self.latent_size)
        noise = keras.random.normal(shape, seed=self.seed_generator)
        generated = self.generator(noise, training=True)
        combined = tf.concat([generated, tf.cast(real_images, tf.float32)], axis=0)
        labels = tf.concat([tf.ones((batch_size, 1)), tf.zeros((batch_size, 1))], axis=0)
        labels += 0.05 * tf.random.uniform(tf.shape(labels))
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.critic(combined, training=True))
        grads = tape.gradient(d_loss, self.critic.trainable_weights)
        self.d_optimizer.apply_gradients(zip(grads, self.critic.trainable_weights, strict=True))

        noise = keras.random.normal(shape, seed=self.seed_generator)
        misleading = tf.zeros((batch_size, 1))
        with tf.GradientTape() as tape:
            predictions = self.critic(self.generator(noise, training=True), training=True)
            g_loss = self.loss_fn(misleading, predictions)
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights, strict=True))
        self.d_loss_metric.update_state(d_loss)
        self.g_loss_metric.update_state(g_loss)
        return {"d_loss": self.d_loss_metric.result(), "g_loss": self.g_loss_metric.result()}


def main():
    """Prints speeds and distances."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", default="", help="where TFDS keeps its data sets")
    parser.add_argument("--dataset", default="tfds:fashion_mnist")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=54_000, help="of an epoch")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    print("loop                images/s  seconds  distance")
    for seed in range(args.seeds):
        task = tasks.get("gan")(
            dataset=args.dataset,
            data_dir=args.data_dir,
            train_split=f"train[:{args.images}]",
            validation_split="none",
            epochs=args.epochs,
            width=args.width,
            seed=seed,
            precision="float32",
        )
        data = task.load()
        for name, jit in (("plain, XLA", "auto"), ("plain, no XLA", False)):
            epochs = 2 if jit else args.epochs
            rate, seconds, generator = plain(task, data, jit, epochs)
            show(name, rate, seconds, distance(task, data, generator) if not jit else None)
        rate, seconds, value = ours(task)
        show("zoo", rate, seconds, value)


def plain(task, data, jit, epochs):
    """Trains as the example does; returns images per second, seconds and the generator."""
    keras.utils.set_random_seed(task.seed)
    shape = data.image_shape
    generator = zoo.build(
        "dcgan_generator",
        input_shape=(task.latent_size,),
        image_size=shape[0],
        channels=shape[-1],
        width=task.width,
    )
    critic = zoo.build("dcgan_critic", input_shape=shape, width=task.width)
    gan = Plain(critic, generator, task.latent_size)
    adams = [keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2)]
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    gan.compile(*adams, loss, jit_compile=jit)
    images = np.asarray(data.train.pixels)
    stream = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images), seed=task.seed)
    stream = stream.batch(task.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    clock = loops.Clock()
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=clock.go, on_epoch_end=clock.stop)
    start = time.perf_counter()
    gan.fit(stream, epochs=epochs, callbacks=[callback], verbose=0)
    seconds = time.perf_counter() - start
    return len(images) / min(clock.seconds[1:] or clock.seconds), seconds, generator


def ours(task):
    """Trains as the zoo does; returns images per second, seconds and the distance."""
    with tempfile.TemporaryDirectory() as folder:
        figures = trainer.train(task, Path(folder) / "run")["figures"]
        with open(Path(folder) / "run" / "history.csv") as file:
            rows = list(csv.DictReader(file))
    columns = ("images_per_second", "seconds")
    rates, seconds = ([float(row[name]) for row in rows] for name in columns)
    return max(rates[1:] or rates), sum(seconds), figures["fd_resnet20_cifar10"]


def distance(task, data, generator):
    """Returns the Frechet distance of generated images to the test images."""
    latent = sampling.sample_latents(task.num_samples, task.latent_size, task.seed)
    generated = sampling.generate(generator, latent, batch_size=task.batch_size)
    return frechet.frechet_distance(data.test_features, data.features(generated))


def show(name, rate, seconds, value):
    """Prints a row of the table."""
    cell = "" if value is None else f"{value:10.3f}"
    print(f"{name:<18}{rate:>10,.0f}{seconds:>9.0f}{cell}", flush=True)


if __name__ == "__main__":
    main()
