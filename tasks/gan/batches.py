"""Batches for a generator and its critic: real images, latent vectors and mixing weights."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import batches, class_folders, sources
from tasks.data.dataset import Source, Split
from tasks.data.decoding import Examples
from zoo.lazy import np, tf
from zoo.paths import expand_user

NOISE_STREAM = 5  # makes the random numbers of the noise independent of those of the order
SINGLE_CLASS = "image"  # the only class of a folder without class folders


def load(name, data_dir=None):
    """Loads a data set by name, as `sources.load` does, or a folder of unlabeled images.

    Args:
        name: as for `sources.load`, or a folder of images without subfolders.
        data_dir: folder of the TFDS data sets.

    Raises:
        UsageError: as `sources.load`.
    """
    path = expand_user(str(name))
    flat = path.is_dir() and not any(each.is_dir() for each in path.iterdir())
    if name in ("", *sources.BUILT_IN) or not flat:
        return sources.load(name, data_dir)
    files = sorted(
        class_folders.iter_files(path),
        key=lambda file: class_folders.name_hash(file.relative_to(path)),
    )
    skipped = dict(class_folders.find_non_images(files))
    readable = [str(file) for file in files if file not in skipped]
    if not readable:
        return sources.load(name, data_dir)  # raises the error that describes the folder
    items = Split("all", readable, np.zeros(len(readable), "int64"))
    listed = tuple((str(file), reason) for file, reason in skipped.items())
    return Source(str(name), (SINGLE_CLASS,), {"all": items}, listed)


@dataclass(frozen=True, eq=False)
class GanBatches(batches.EpochBatches):
    """The training batches of each epoch.

    Attributes:
        examples: the training images, `decoding.Examples`.
        size: images per batch.
        seed: seed of the order and of the noise.
        latent_size: length of the latent vectors.
        conditional: whether batches hold the labels of the images.
    """

    examples: Examples
    size: int
    seed: int
    latent_size: int
    conditional: bool = False

    def epoch(self, number, start=0):
        """Returns the batches of an epoch, as `EpochBatches.epoch`.

        Returns:
            A `tf.data.Dataset` of dicts: `image`, uint8 `(size, height, width, channels)`;
            `latent`, float32 `(size, latent_size)`, standard normal; `mix`, float32
            `(size, 1, 1, 1)`, uniform in [0, 1), for the gradient penalty; and, if `conditional`,
            `label`, int32 `(size,)`.
        """
        examples = self.examples
        indices = batches.shuffled_indices(len(examples), self.size, self.seed, number)
        random = np.random.default_rng([self.seed, number, NOISE_STREAM])
        seeds = random.integers(0, 2**31, (self.steps, 2, 2), "int32")
        gather = {"image": batches.make_gather(examples.pixels, self.size, examples.pixels_tensor)}
        if self.conditional:
            labels = np.asarray(examples.labels, "int32")
            gather["label"] = batches.make_gather(labels, self.size)

        def batch(rows, step_seeds):
            gathered = {name: gather_rows(rows) for name, gather_rows in gather.items()}
            latent = tf.random.stateless_normal((self.size, self.latent_size), step_seeds[0])
            mix = tf.random.stateless_uniform((self.size, 1, 1, 1), step_seeds[1])
            return {**gathered, "latent": latent, "mix": mix}

        return batches.make_dataset((indices, seeds), batch, start)
