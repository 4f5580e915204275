"""Painting with a generator: from which random numbers, and how its images become pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tasks.data import batches
from tasks.engine import finetune, resume
from tasks.gan import image_grid
from zoo import atomic_files, model_files
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np, tf

LATENT_STREAM = 11  # tells these random numbers from all others of a seed
CHUNK_SIZE = 2048  # images that are held as floats


def sample_latents(count, size, seed):
    """Returns what images are painted from, standard normal float32 `(count, size)`."""
    return np.random.default_rng([seed, LATENT_STREAM]).standard_normal((count, size), "float32")


def slerp(first, last, steps):
    """Returns latent vectors on the way from one to another, both ends among them.

    The way is an arc, on which vectors are as long as those that a generator knows (White, 2016).
    """
    t = np.linspace(0, 1, steps, dtype="float32")[:, None]
    cosine = np.dot(first, last) / (np.linalg.norm(first) * np.linalg.norm(last))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:
        return (1 - t) * first + t * last
    return (np.sin((1 - t) * angle) * first + np.sin(t * angle) * last) / np.sin(angle)


def generate(generator, latent, labels=None, *, batch_size=64):
    """Returns the images of latent vectors, uint8 `(count, height, width, channels)`.

    Args:
        generator: of the zoo.
        latent: `(count, size)`.
        labels: the class of each, for a generator that is told; else not looked at.
        batch_size: images at a time.
    """
    batches.without_xla(generator)
    chunks = []
    for start in range(0, len(latent), CHUNK_SIZE):
        part = slice(start, start + CHUNK_SIZE)
        size = batches.bounded_batch_size(batch_size, len(latent[part]))
        order = batches.sequential_indices(len(latent[part]), size).reshape(-1)
        told = None if labels is None else np.asarray(labels[part], "int32")[order]
        inputs = generator_inputs(generator, latent[part][order], told)
        images = generator.predict(inputs, batch_size=size, verbose=0)
        images = images[: len(latent[part])]
        chunks.append(np.rint(images).clip(0, 255).astype("uint8"))
    return np.concatenate(chunks)


def generator_inputs(generator, latent, labels):
    """Returns the inputs that a generator takes: latent vectors, and classes where it is told."""
    return {"latent": latent, "label": labels} if is_conditional(generator) else latent


def latent_size(generator):
    """Returns how many random numbers a generator paints an image from."""
    return next(x.shape[-1] for x in generator.inputs if x.name.startswith("latent"))


def is_conditional(generator):
    """Tells whether a generator is told the class to paint."""
    return len(generator.inputs) > 1


def recalibrate_batch_norm(generator, count, num_classes, *, seed, batch_size):
    """Estimates the statistics of a generator's batch normalisation anew.

    Those of training follow weights that go on learning; averaged weights need their own.

    Args:
        generator: changed in place.
        count: images to estimate from.
        num_classes: of a generator that is told the class.
        seed, batch_size: of what it paints.
    """
    if not finetune.batch_norm_layers(generator):
        return
    latent = sample_latents(count, latent_size(generator), seed)
    labels = np.arange(count, dtype="int32") % max(1, num_classes)
    finetune.recalibrate(
        generator, _SingleEpoch(generator_inputs(generator, latent, labels), batch_size)
    )


@dataclass(frozen=True, eq=False)
class TrainedGenerator:
    """A generator that a run has left.

    Attributes:
        generator: a `keras.Model`.
        classes: what it was told, in the order of its labels; none if it was not.
    """

    generator: object
    classes: tuple[str, ...]


def load_generator(target):
    """Returns the `Painter` in a run's folder or a `.keras` file.

    Raises:
        UsageError: there is none, or it was taught something else.
    """
    path = Path(target)
    model, about = model_files.load(resume.model_path(path) if path.is_dir() else path)
    if about.get("task") != "gan":
        origin = f"was taught {about['task']}" if "task" in about else "is not of a run"
        raise UsageError(f"{target} {origin}; zoo generate needs what zoo train gan leaves")
    return TrainedGenerator(model, tuple(about["classes"]))


def sample_images(trained, count, seed, label=None):
    """Returns images, uint8 `(count, height, width, channels)`, and their classes or `None`.

    Args:
        trained: a `Painter`.
        count: how many.
        seed: which.
        label: the name of the class to paint; `None` for all in turn.

    Raises:
        UsageError: there is no such class.
    """
    classes = trained.classes
    if label is not None and not classes:
        raise UsageError(
            "this generator was not told any class; leave --label out, or train with --condition"
        )
    if label is not None and label not in classes:
        raise unknown_name_error("class", label, list(classes))
    latent = sample_latents(count, latent_size(trained.generator), seed)
    labels = np.arange(count) % len(classes) if classes else None
    if label is not None:
        labels = np.full(count, classes.index(label))
    return generate(trained.generator, latent, labels), labels


def write_images(pixels, folder):
    """Writes images, each into a file and all into `grid.png`; returns the paths."""
    columns = math.ceil(len(pixels) ** 0.5)
    images_by_name = {f"{number:04}.png": image for number, image in enumerate(pixels)}
    images_by_name["grid.png"] = image_grid.grid(pixels, columns)
    for name, image in images_by_name.items():
        with atomic_files.atomic_write(folder / name) as partial:
            partial.write_bytes(image_grid.png(image))
    return [folder / name for name in images_by_name]


@dataclass(frozen=True)
class _SingleEpoch:
    """Inputs as a stream of one epoch."""

    inputs: object
    size: int

    def epoch(self, number):
        data = tf.data.Dataset.from_tensor_slices(self.inputs)
        batches = data.batch(self.size, drop_remainder=True)
        return tf.data.Dataset.zip((batches, tf.data.Dataset.range(batches.cardinality())))
