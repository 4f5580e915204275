"""Pictures without labels, and random patches of them for a painter to learn from."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import batches, class_folders, sources
from tasks.data.dataset import Source, Split
from tasks.data.decoding import Examples
from zoo.errors import UsageError
from zoo.lazy import np, tf
from zoo.paths import expand_user

CLASSES = ("picture",)  # all are alike


def load(name, data_dir=None):
    """Finds pictures by the name of a data set; what they show does not matter.

    Args:
        name: a folder, with all images in it at any depth, or in folders `train`, `val` and
            `test`; or what else `sources.load` takes.
        data_dir: where TFDS keeps its data sets.

    Returns:
        A `Source` of one class.

    Raises:
        UsageError: there is nothing of that name, or no image in it.
    """
    path = expand_user(name)
    if name in sources.BUILT_IN or not (name and path.is_dir()):
        source = sources.load(name, data_dir)
        splits = {key: _unlabelled(key, split.items) for key, split in source.splits.items()}
        return Source(source.name, CLASSES, splits, source.skipped, source.licence, source.citation)
    with class_folders.reading_errors(name):
        tops = [each for each in sorted(path.iterdir()) if each.name in class_folders.SPLIT_FOLDERS]
        found, skipped = {}, []
        for split, top in {each.name: each for each in tops}.items() or {"all": path}.items():
            paths = sorted(class_folders.iter_files(top))
            reasons = dict(class_folders.find_non_images(paths))
            skipped += [(str(each), reason) for each, reason in reasons.items()]
            good = [each for each in paths if each not in reasons]
            good.sort(key=lambda each, top=top: class_folders.name_hash(each.relative_to(top)))
            if not good:
                first = f"; skipped {len(skipped)}, {': '.join(skipped[0])}" if skipped else ""
                raise UsageError(f"no images in {top}{first}")
            found[split] = _unlabelled(split, [str(each) for each in good])
    return Source(name, CLASSES, found, tuple(skipped))


@dataclass(frozen=True, eq=False)
class PatchBatches:
    """Random squares of pictures; each epoch is a function of the seed and its number alone.

    Attributes:
        examples: `Examples`, square pictures of one size.
        size: patches in a batch.
        steps: batches in an epoch.
        side: of a patch, in pixels; it shows a square of this side at least, and of the whole
            picture at most.
        seed: of all random choices.
        columns: length of what stands beside each patch where a label would: zeros.
    """

    examples: Examples
    size: int
    steps: int
    side: int
    seed: int
    columns: int

    def epoch(self, number, start=0):
        """Returns one epoch, a `tf.data.Dataset` of `steps` batches, or of those that are left.

        Args:
            number: of the epoch, from 0.
            start: batches at its beginning that are left out.

        Returns:
            Pairs of float32 patches `(size, side, side, 3)` in [0, 255], mirrored at random, and
            zeros.
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
        boxes[flipped] = boxes[flipped][:, [0, 3, 2, 1]]  # from right to left
        gather = batches.make_gather(self.examples.pixels, self.size, self.examples.pixels_tensor)

        def batch(indices, boxes):
            images = tf.cast(gather(indices), tf.float32)
            places = tf.range(self.size)
            sides = (self.side, self.side)
            found = tf.image.crop_and_resize(images, boxes, places, sides)
            return found, tf.zeros((self.size, self.columns))

        return batches.make_dataset((indices, boxes.astype("float32")), batch, start)


def _unlabelled(name, items):
    return Split(name, items, np.zeros(len(items), "int64"))
