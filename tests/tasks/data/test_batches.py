"""Batches: each example at most once per epoch, in a reproducible order."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tasks.data import batches, decoding
from tasks.data.dataset import Split
from tasks.detection import batches as detection_batches
from tasks.segmentation import batches as segmentation_batches
from zoo.errors import UsageError

COUNT, SHAPE = 23, (4, 4, 1)


@pytest.fixture
def examples():
    """Images whose pixels are all the index of the example."""
    pixels = np.full((COUNT, *SHAPE), np.arange(COUNT)[:, None, None, None], "uint8")
    return decoding.Examples("train", pixels, np.arange(COUNT) % 3)


def batched(examples, **options):
    return batches.training(examples, **{"batch_size": 5, "seed": 7, "num_classes": 3, **options})


def epochs(examples, count, start=0, **options):
    """Returns the indices of the examples in each of some epochs, in order."""
    found = batched(examples, **options)
    orders = []
    for number in range(start, start + count):
        taken = list(found.epoch(number).as_numpy_iterator())
        assert len(taken) == found.steps == found.epoch(number).cardinality()
        for images, labels in taken:
            assert images.shape == (found.size, *SHAPE)
            assert labels.dtype == np.float32
            assert (labels == np.eye(3)[images[:, 0, 0, 0] % 3]).all()
        orders.append(np.concatenate([images[:, 0, 0, 0] for images, _ in taken]).tolist())
    return orders


def test_an_epoch_has_no_example_twice_and_drops_the_remainder(examples):
    for order in epochs(examples, 3):
        assert len(order) == 20
        assert len(set(order)) == 20


def test_epochs_are_shuffled_differently_and_drop_other_examples(examples):
    orders = epochs(examples, 6)
    assert len({tuple(order) for order in orders}) == 6
    assert set().union(*orders) == set(range(COUNT))


def test_the_order_depends_on_seed_and_epoch_alone(examples):
    whole = epochs(examples, 4)
    assert epochs(examples, 2, start=2) == whole[2:]
    assert epochs(examples, 4) == whole
    assert epochs(examples, 4, seed=8) != whole


def test_an_epoch_may_have_several_passes(examples):
    def numbers(batched):
        return np.concatenate([images[:, 0, 0, 0] for images, _ in batched.as_numpy_iterator()])

    once = batched(examples)
    thrice = batches.repeat(once, 3)
    assert (thrice.steps, thrice.size) == (12, 5)
    wanted = np.concatenate([numbers(once.epoch(number)) for number in (3, 4, 5)])
    for start in (0, 3, 4, 5, 11):
        found = thrice.epoch(1, start)
        assert found.cardinality() == 12 - start
        assert (numbers(found) == wanted[5 * start :]).all()
    assert batches.repeat(once, 1) is once


def test_fewer_examples_than_a_batch_are_one_batch(examples):
    (order,) = epochs(examples, 1, batch_size=64)
    assert sorted(order) == list(range(COUNT))


def test_several_heads_get_the_same_labels(examples):
    images, labels = next(batched(examples, heads=("near", "far")).epoch(0).as_numpy_iterator())
    plain = next(batched(examples).epoch(0).as_numpy_iterator())
    assert list(labels) == ["near", "far"]
    np.testing.assert_array_equal(images, plain[0])
    for each in labels.values():
        np.testing.assert_array_equal(each, plain[1])


def test_lazy_images_have_the_same_order(examples, monkeypatch):
    inside = epochs(examples, 2)
    monkeypatch.setattr(decoding, "SMALL_IMAGE_BYTES", 0)
    assert epochs(examples, 2) == inside


def test_batches_are_sharded_by_data(examples):
    options = batched(examples).epoch(0).options()
    assert options.experimental_distribute.auto_shard_policy.name == "DATA"


def test_predictions_are_in_order(examples):
    import keras

    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, keras.layers.Flatten()(inputs)[:, :1])
    for size in (1, 5, 23, 64):
        predictions = batches.predict(model, examples, batch_size=size)
        np.testing.assert_array_equal(predictions[:, 0], np.arange(COUNT))


@pytest.fixture
def split(tmp_path):
    """Twelve files of noise, of which the fifth is truncated."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{index:02}.png" for index in range(12)]
    for path in paths:
        Image.fromarray(random.integers(0, 255, (9, 7, 3), "uint8")).save(path)
    paths[4].write_bytes(paths[4].read_bytes()[:60])
    return Split("train", paths, np.arange(12))


LIMITS = {
    "memory": {},
    "disk": {"memory": 0},
    "neither": {"memory": 0, "disk": 0},
}


@pytest.mark.parametrize("where", LIMITS)
def test_images_are_the_same_in_memory_on_disk_and_lazy(split, where):
    found = decoding.decode(split, (8, 8, 3), "stretch", **LIMITS[where])
    assert isinstance(found.pixels, decoding.LazyImages) == (where == "neither")
    assert isinstance(found.pixels, np.memmap) == (where == "disk")
    assert found.labels.tolist() == [0, 1, 2, 3, *range(5, 12)]
    expected = [
        np.asarray(Image.open(split.items[label]).resize((8, 8), Image.BILINEAR))
        for label in found.labels
    ]
    np.testing.assert_array_equal(found.pixels[np.arange(11)], expected)


def test_unreadable_images_are_reported_with_the_reason(split):
    found = decoding.decode(split, (8, 8, 3), "stretch")
    ((path, reason),) = found.dropped
    assert path.endswith("04.png")
    assert "truncated" in reason


def test_no_readable_image_is_an_error(split):
    with pytest.raises(UsageError, match=r"no image of train can be read; the first: .*04\.png"):
        decoding.decode(split.take([4]), (8, 8, 3), "stretch")


class RecordingModel:
    """A model that predicts the index of an image, and records the batch sizes."""

    input = None

    def __init__(self):
        self.sizes = set()

    def predict(self, data, verbose, batch_size=None):
        """Returns the predictions for all batches."""
        found = []
        for images in data.as_numpy_iterator():
            self.sizes.add(len(images))
            found.append(images[:, 0, 0, 0])
        return np.concatenate(found)


@pytest.mark.parametrize(("batch_size", "bounded"), [(5, 5), (32, 32), (64, 64), (100_000, 64)])
def test_the_batch_size_is_bounded_by_the_split(batch_size, bounded, examples):
    model = RecordingModel()
    found = batches.predict(model, examples, batch_size=batch_size)
    assert found.tolist() == list(range(COUNT))
    assert model.sizes == {bounded}
    assert batches.bounded_batch_size(100_000, 1000) == 1024


def test_the_batch_size_is_bounded_for_masks_and_boxes(examples):
    masks = dataclasses.replace(examples, labels=examples.pixels[..., 0])
    for images, labels in segmentation_batches.evaluation_batches(
        masks, batch_size=100_000
    ).as_numpy_iterator():
        assert images.shape == (64, *SHAPE)
        assert labels.shape == (64, *SHAPE[:2])
    model = RecordingModel()
    model.predict = lambda data, verbose: {"boxes": RecordingModel.predict(model, data, verbose)}
    found = detection_batches.predict(model, examples, batch_size=100_000)
    assert found["boxes"].tolist() == list(range(COUNT))
    assert model.sizes == {64}
