"""Sampling from a generator: latent vectors, generated images and image files."""

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

LATENT_STREAM = 11  # makes the latent vectors independent of other random numbers of a seed
CHUNK_SIZE = 2048  # images in float32 at a time, to bound memory


def sample_latents(count, size, seed):
    """Returns standard normal latent vectors, float32 `(count, size)`."""
    return np.random.default_rng([seed, LATENT_STREAM]).standard_normal((count, size), "float32")


def slerp(first, last, steps):
    """Returns latent vectors on the arc between two, both ends included (White, 2016).

    Spherical interpolation keeps the norm of the vectors within the range seen in training.

    Args:
        first, last: latent vectors, `(size,)`.
        steps: the number of vectors to return.
    """
    t = np.linspace(0, 1, steps, dtype="float32")[:, None]
    cosine = np.dot(first, last) / (np.linalg.norm(first) * np.linalg.norm(last))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:
        return (1 - t) * first + t * last
    return (np.sin((1 - t) * angle) * first + np.sin(t * angle) * last) / np.sin(angle)


def generate(generator, latent, labels=None, *, batch_size=64):
    """Generates images, uint8 `(count, height, width, channels)`.

    Args:
        generator: a generator of the zoo.
        latent: latent vectors, `(count, size)`.
        labels: class indices `(count,)`; ignored by unconditional generators.
        batch_size: images per batch.
    """
    batches.without_xla(generator)
    chunks = []
    for start in range(0, len(latent), CHUNK_SIZE):
        part = slice(start, start + CHUNK_SIZE)
        size = batches.bounded_batch_size(batch_size, len(latent[part]))
        order = batches.sequential_indices(len(latent[part]), size).reshape(-1)
        chunk_labels = None if labels is None else np.asarray(labels[part], "int32")[order]
        inputs = generator_inputs(generator, latent[part][order], chunk_labels)
        images = generator.predict(inputs, batch_size=size, verbose=0)
        images = images[: len(latent[part])]
        chunks.append(np.rint(images).clip(0, 255).astype("uint8"))
    return np.concatenate(chunks)


def generate_like(generator, examples, count, *, seed, batch_size):
    """Generates images for classes that are drawn from those of some examples.

    Args:
        generator: a generator of the zoo.
        examples: `decoding.Examples`, whose class frequencies the images have.
        count: the number of images.
        seed: seed of latent vectors and labels.
        batch_size: images per batch.

    Returns:
        uint8 images `(count, height, width, channels)` and int32 labels `(count,)`; the labels are
        `None` for unconditional generators.
    """
    latent = sample_latents(count, latent_size(generator), seed)
    labels = None
    if is_conditional(generator):
        random = np.random.default_rng([seed, LATENT_STREAM, count])
        labels = examples.labels[random.integers(0, len(examples), count)].astype("int32")
    return generate(generator, latent, labels, batch_size=batch_size), labels


def generator_inputs(generator, latent, labels):
    """Returns the inputs of a generator: latent vectors, with labels if it is class-conditional."""
    return {"latent": latent, "label": labels} if is_conditional(generator) else latent


def latent_size(generator):
    """Returns the length of a generator's latent vectors."""
    return next(x.shape[-1] for x in generator.inputs if x.name.startswith("latent"))


def is_conditional(generator):
    """Returns whether a generator is class-conditional."""
    return len(generator.inputs) > 1


def recalibrate_batch_norm(generator, count, num_classes, *, seed, batch_size):
    """Estimates the BatchNorm statistics of a generator anew, in place.

    The moving statistics of training belong to the current weights; averaged weights need their
    own.

    Args:
        generator: the generator to change.
        count: the number of generated images to estimate from.
        num_classes: the number of classes of a class-conditional generator.
        seed: seed of the latent vectors.
        batch_size: images per batch; fewer if `count` is less.
    """
    if not finetune.batch_norm_layers(generator):
        return
    latent = sample_latents(count, latent_size(generator), seed)
    labels = np.arange(count, dtype="int32") % max(1, num_classes)
    inputs = generator_inputs(generator, latent, labels)
    finetune.recalibrate(generator, _SingleEpoch(inputs, min(batch_size, count)))


@dataclass(frozen=True, eq=False)
class TrainedGenerator:
    """A trained generator.

    Attributes:
        generator: a `keras.Model`.
        classes: the class names in the order of the labels; empty if it is unconditional.
    """

    generator: object
    classes: tuple[str, ...]


def load_generator(target):
    """Loads the `TrainedGenerator` of a run.

    Args:
        target: the run's folder, or a `.keras` file.

    Raises:
        UsageError: there is no model, or it was trained for another task.
    """
    path = Path(target)
    model, about = model_files.load(resume.model_path(path) if path.is_dir() else path)
    if about.get("task") != "gan":
        origin = f"is a model of {about['task']}" if "task" in about else "is not of a run"
        raise UsageError(f"{target} {origin}; zoo generate needs a run of zoo train gan")
    return TrainedGenerator(model, tuple(about["classes"]))


def sample_images(trained, count, seed, label=None):
    """Generates images of one class, or of all classes in turn.

    Args:
        trained: a `TrainedGenerator`.
        count: the number of images.
        seed: seed of the latent vectors.
        label: name of the class to generate; `None` for all in turn.

    Returns:
        uint8 images `(count, height, width, channels)` and class indices `(count,)`; the latter are
        `None` for unconditional generators.

    Raises:
        UsageError: the generator has no such class.
    """
    classes = trained.classes
    if label is not None and not classes:
        raise UsageError(
            "this generator is unconditional; leave --label out, or train with --condition "
            "projection"
        )
    if label is not None and label not in classes:
        raise unknown_name_error("class", label, list(classes))
    latent = sample_latents(count, latent_size(trained.generator), seed)
    labels = np.arange(count) % len(classes) if classes else None
    if label is not None:
        labels = np.full(count, classes.index(label))
    return generate(trained.generator, latent, labels), labels


def write_images(pixels, folder):
    """Writes each image to a PNG file, and all of them to `grid.png`; returns the paths."""
    columns = math.ceil(len(pixels) ** 0.5)
    images_by_name = {f"{number:04}.png": image for number, image in enumerate(pixels)}
    images_by_name["grid.png"] = image_grid.grid(pixels, columns)
    for name, image in images_by_name.items():
        with atomic_files.atomic_write(folder / name) as partial:
            partial.write_bytes(image_grid.png(image))
    return [folder / name for name in images_by_name]


@dataclass(frozen=True)
class _SingleEpoch:
    """Batches of inputs for a single pass, as `finetune.recalibrate` takes them."""

    inputs: object
    size: int

    def epoch(self, number):
        data = tf.data.Dataset.from_tensor_slices(self.inputs)
        batches = data.batch(self.size, drop_remainder=True)
        return tf.data.Dataset.zip((batches, tf.data.Dataset.range(batches.cardinality())))
