"""Batches for a generator and its critic: real images, and the noise to paint others from."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import batches, class_folders, sources
from tasks.data.dataset import Source, Split
from tasks.data.decoding import Examples
from zoo.lazy import np, tf
from zoo.paths import expand_user

NOISE_STREAM = 5  # tells the draws of noise from that of the order
SINGLE_CLASS = "image"  # the one class of images that stand in no class folder


def load(name, data_dir=None):
    """Finds a data set by name, as `sources.load` does, or a folder of images without classes.

    Args:
        name: also a folder of images that has no folders in it.
        data_dir: where TFDS keeps its data sets.

    Raises:
        UsageError: as `sources.load`.
    """
    path = expand_user(str(name))
    flat = path.is_dir() and not any(each.is_dir() for each in path.iterdir())
    if name in ("", *sources.BUILT_IN) or not flat:
        return sources.load(name, data_dir)
    found = sorted(
        class_folders.iter_files(path),
        key=lambda file: class_folders.name_hash(file.relative_to(path)),
    )
    skipped = dict(class_folders.find_non_images(found))
    readable = [str(file) for file in found if file not in skipped]
    if not readable:
        return sources.load(name, data_dir)  # which says what is wrong
    items = Split("all", readable, np.zeros(len(readable), "int64"))
    listed = tuple((str(file), reason) for file, reason in skipped.items())
    return Source(str(name), (SINGLE_CLASS,), {"all": items}, listed)


@dataclass(frozen=True, eq=False)
class GanBatches:
    """The batches of every epoch, each a function of the seed and the number of the epoch alone.

    Attributes:
        examples: `Examples`.
        size: images in a batch.
        seed: of the order and of the noise.
        latent_size: numbers that an image is painted from.
        labelled: whether the classes of the images are told.
    """

    examples: Examples
    size: int
    seed: int
    latent_size: int
    labelled: bool = False

    @property
    def steps(self):
        """Batches in an epoch."""
        return len(self.examples) // self.size

    def epoch(self, number, start=0):
        """Returns one epoch, a `tf.data.Dataset` of `steps` batches, or of those that are left.

        Args:
            number: of the epoch, from 0.
            start: batches at its beginning that are left out.

        Returns:
            Dicts: `image`, uint8 `(size, height, width, channels)`; `latent`, float32 `(size,
            latent_size)`, standard normal; `mix`, float32 `(size, 1, 1, 1)`, even in [0, 1);
            and, where it is told, `label`, int32 `(size,)`.
        """
        examples = self.examples
        indices = batches.shuffled_indices(len(examples), self.size, self.seed, number)
        random = np.random.default_rng([self.seed, number, NOISE_STREAM])
        seeds = random.integers(0, 2**31, (self.steps, 2, 2), "int32")
        gather = {"image": batches.make_gather(examples.pixels, self.size, examples.pixels_tensor)}
        if self.labelled:
            labels = np.asarray(examples.labels, "int32")
            gather["label"] = batches.make_gather(labels, self.size)

        def batch(rows, drawn):
            found = {name: of(rows) for name, of in gather.items()}
            latent = tf.random.stateless_normal((self.size, self.latent_size), drawn[0])
            mix = tf.random.stateless_uniform((self.size, 1, 1, 1), drawn[1])
            return {**found, "latent": latent, "mix": mix}

        return batches.make_dataset((indices, seeds), batch, start)
