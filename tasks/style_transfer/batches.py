"""Unlabeled training images, and batches of random crops of them."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import batches, class_folders, sources
from tasks.data.dataset import Source, Split
from tasks.data.decoding import Examples
from zoo.errors import UsageError
from zoo.lazy import np, tf
from zoo.paths import expand_user

CLASSES = ("picture",)  # labels are not used


def load(name, data_dir=None):
    """Loads a data set or a folder of images, without its labels.

    Args:
        name: a folder, with images at any depth or in folders `train`, `val` and `test`; or
            another name that `sources.load` takes.
        data_dir: folder of the TFDS data sets.

    Returns:
        A `Source` of one class.

    Raises:
        UsageError: there is no such data set, or no image in it.
    """
    path = expand_user(name)
    if name in sources.BUILT_IN or not (name and path.is_dir()):
        source = sources.load(name, data_dir)
        splits = {key: _unlabelled(key, split.items) for key, split in source.splits.items()}
        return Source(source.name, CLASSES, splits, source.skipped, source.licence, source.citation)
    with class_folders.reading_errors(name):
        tops = [each for each in sorted(path.iterdir()) if each.name in class_folders.SPLIT_FOLDERS]
        found_splits, skipped = {}, []
        for split, top in {each.name: each for each in tops}.items() or {"all": path}.items():
            paths = sorted(class_folders.iter_files(top))
            reasons = dict(class_folders.find_non_images(paths))
            skipped += [(str(each), reason) for each, reason in reasons.items()]
            good = [each for each in paths if each not in reasons]
            good.sort(key=lambda each, top=top: class_folders.name_hash(each.relative_to(top)))
            if not good:
                first = f"; skipped {len(skipped)}, {': '.join(skipped[0])}" if skipped else ""
                raise UsageError(f"no images in {top}{first}")
            found_splits[split] = _unlabelled(split, [str(each) for each in good])
    return Source(name, CLASSES, found_splits, tuple(skipped))


@dataclass(frozen=True, eq=False)
class PatchBatches:
    """Batches of random square crops; an epoch depends on the seed and its index only.

    Attributes:
        examples: `decoding.Examples`, square images of one size.
        size: patches per batch.
        steps: batches per epoch.
        side: side of a patch in pixels; it is resized from a random crop whose side is between
            this one and that of the image.
        seed: seed of crops and order.
        columns: width of the zeros that stand for labels.
    """

    examples: Examples
    size: int
    steps: int
    side: int
    seed: int
    columns: int

    def epoch(self, number, start=0):
        """Returns the batches of one epoch as a finite `tf.data.Dataset`.

        Args:
            number: index of the epoch, from 0.
            start: the number of batches to skip.

        Returns:
            A `tf.data.Dataset` of pairs: float32 patches `(size, side, side, 3)` in [0, 255],
            flipped horizontally at random, and zeros `(size, columns)`.
        """
        random = np.random.default_rng([self.seed, number])
        shape = self.steps, self.size
        image_size = self.examples.pixels.shape[1]
        indices = random.integers(len(self.examples), size=shape)
        sides = random.uniform(min(self.side / image_size, 1.0), 1.0, shape)
        corners = random.uniform(0, 1, (2, *shape)) * (1 - sides)
        top, left = corners
        boxes = np.stack([top, left, top + sides, left + sides], axis=-1)
        flipped = random.random(shape) < 0.5
        boxes[flipped] = boxes[flipped][:, [0, 3, 2, 1]]  # horizontal flip
        gather = batches.make_gather(self.examples.pixels, self.size, self.examples.pixels_tensor)

        def batch(indices, boxes):
            images = tf.cast(gather(indices), tf.float32)
            patches = tf.image.crop_and_resize(
                images, boxes, tf.range(self.size), (self.side, self.side)
            )
            return patches, tf.zeros((self.size, self.columns))

        return batches.make_dataset((indices, boxes.astype("float32")), batch, start)


def _unlabelled(name, items):
    return Split(name, items, np.zeros(len(items), "int64"))
