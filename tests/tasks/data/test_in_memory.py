"""Arrays and pipelines as data sets: the same images and labels, whatever holds them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.data import in_memory, sources
from zoo.errors import UsageError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 6, 5, 3), "uint8")
LABELS = np.arange(12) % 3
NAMES = np.array(["a", "b", "c"])[LABELS]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return IMAGES[part], LABELS[part]


def endless():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4).repeat()


def generator():
    yield from zip(np.split(IMAGES, 3), np.split(LABELS, 3), strict=True)


PIPELINES = {
    "arrays": lambda: (IMAGES, LABELS),
    "lists": lambda: [IMAGES.tolist(), LABELS.tolist()],
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(5),
    "tf.data, not batched": lambda: tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)),
    "one-hot, not batched": lambda: tf.data.Dataset.from_tensor_slices((IMAGES, np.eye(3)[LABELS])),
    "PyDataset": Batches,
    "generator": generator,
    "in [0, 1]": lambda: (IMAGES / 255, LABELS),
    "one-hot": lambda: (IMAGES, np.eye(3)[LABELS]),
    "a column of labels": lambda: (IMAGES, LABELS[:, None]),
    "two batches": lambda: [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])],
    "names": lambda: (IMAGES, NAMES),
    "names, tf.data": lambda: tf.data.Dataset.from_tensor_slices((IMAGES, NAMES)).batch(5),
    "names, bytes": lambda: (IMAGES, NAMES.astype("S")),
    "float16": lambda: ((IMAGES / 255).astype("float16"), LABELS),
    "bfloat16": lambda: (tf.cast(IMAGES, tf.bfloat16), LABELS),
}


def pixels(**splits):
    """Returns the images of each split as the data set has them."""
    name = in_memory.register({key: (images, LABELS) for key, images in splits.items()})
    return {key: split.items for key, split in sources.load(name).splits.items()}


@pytest.mark.parametrize("kind", PIPELINES)
def test_every_kind_of_data_gives_the_same_data_set(kind):
    name = in_memory.register({"train": PIPELINES[kind]()}, ["a", "b", "c"])
    assert name == in_memory.register({"train": (IMAGES, LABELS)}, ["a", "b", "c"])
    source = sources.load(name)
    assert source.classes == ("a", "b", "c")
    np.testing.assert_array_equal(source.splits["train"].items, IMAGES)
    np.testing.assert_array_equal(source.splits["train"].labels, LABELS)


@pytest.mark.parametrize("batch_size", [5, None])
def test_pytorch_images_have_their_channels_first(batch_size):
    torch = pytest.importorskip("torch")
    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2)).float() / 255
    pairs = torch.utils.data.TensorDataset(images, torch.tensor(LABELS))
    loader = torch.utils.data.DataLoader(pairs, batch_size=batch_size)
    name = in_memory.register({"train": loader}, ["a", "b", "c"])
    np.testing.assert_array_equal(sources.load(name).splits["train"].items, IMAGES)


@pytest.mark.parametrize("kind", ["Dataset", "IterableDataset", "bfloat16"])
def test_pytorch_data_need_no_loader(kind):
    torch = pytest.importorskip("torch")
    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2)).float()

    class Iterable(torch.utils.data.IterableDataset):
        def __iter__(self):
            return zip(images, torch.tensor(LABELS), strict=True)

    data = {
        "Dataset": torch.utils.data.TensorDataset(images, torch.tensor(LABELS)),
        "IterableDataset": Iterable(),
        "bfloat16": (images.to(torch.bfloat16), LABELS),
    }
    name = in_memory.register({"train": data[kind]}, (name for name in "abc"))
    assert name == in_memory.register({"train": (IMAGES, LABELS)}, ["a", "b", "c"])


def test_other_content_has_another_name():
    changed = IMAGES.copy()
    changed[3, 0, 0, 0] ^= 1
    assert in_memory.register({"train": (IMAGES, LABELS)}, np.unique(NAMES)) == in_memory.register(
        {"train": (IMAGES, LABELS)}, ["a", "b", "c"]
    )
    names = {
        in_memory.register({"train": (IMAGES, LABELS)}),
        in_memory.register({"train": (changed, LABELS)}),
        in_memory.register({"train": (IMAGES, LABELS[::-1])}),
        in_memory.register({"train": (IMAGES, LABELS)}, ["a", "b", "c"]),
        in_memory.register({"test": (IMAGES, LABELS)}),
    }
    assert len(names) == 5


def test_rows_with_several_ones_are_multi_label():
    rows = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]])
    source = sources.load(in_memory.register({"train": (IMAGES[:3], rows)}))
    assert source.multi_label
    np.testing.assert_array_equal(source.splits["train"].labels, rows)


def test_grey_images_may_lack_a_channel_axis():
    source = sources.load(in_memory.register({"train": (IMAGES[..., 0], LABELS)}))
    assert source.splits["train"].items.shape == (12, 6, 5, 1)


@pytest.mark.parametrize(
    ("data", "names", "message"),
    [
        (endless, None, r"train is infinite; .*\.take"),
        (lambda: (IMAGES, LABELS[:5]), None, "12 images and 5 labels"),
        (lambda: (IMAGES[:0], LABELS[:0]), None, "0 images"),
        (lambda: iter(()), None, "yields nothing"),
        (lambda: iter([IMAGES]), None, "yields ndarray; expected pairs"),
        (lambda: 5, None, "expected .images, labels. .* got int"),
        (lambda: (IMAGES - 300.0, LABELS), None, r"pixels lie in \[-300, "),
        (lambda: (np.full(IMAGES.shape, np.nan), LABELS), None, "pixels lie in"),
        (lambda: (IMAGES.astype(str), LABELS), None, "dtype <U"),
        (lambda: (IMAGES[0], LABELS[:6]), None, None),
        (lambda: (IMAGES, LABELS + 0.5), None, "must be class indices"),
        (lambda: (IMAGES, LABELS - 1), None, "must be class indices"),
        (lambda: (IMAGES, LABELS), ["a", "b"], "a label 2, but class_names has 2"),
        (lambda: (IMAGES, np.eye(3)[LABELS] * 2), None, "must be 0 or 1"),
        (lambda: (IMAGES, np.eye(3)[LABELS]), ["a"], "3 columns, but class_names has 1"),
        (lambda: (IMAGES, np.array(["x", "y", "z"])[LABELS]), ["x", "y"], "not among .*: z"),
        (lambda: (IMAGES, np.zeros((12, 2, 2))), None, "labels have shape"),
        (lambda: ([IMAGES[0], IMAGES[1, :3]], [0, 1]), None, "of different shapes"),
        (lambda: (IMAGES, LABELS), ["a", "b", "a"], "class_names has a more than once"),
        (lambda: (IMAGES, LABELS), [1, 2, 3], "must be a list of strings"),
        (lambda: (IMAGES, 0 * LABELS), None, "one class, '0'; classification needs two or more"),
        (lambda: (IMAGES, LABELS), "abc", "must be a list of strings"),
        (lambda: (IMAGES, [*"abcabcabcab", None]), None, "a label is None; leave out"),
        (lambda: (IMAGES, np.array([*"ab" * 5, "a", np.nan], object)), None, "a label is nan"),
        (lambda: (IMAGES, np.full(12, np.nan)), None, "must be class indices"),
        (lambda: (IMAGES, LABELS.astype("M8[D]")), None, "must be class indices"),
        (lambda: (IMAGES.transpose(0, 3, 1, 2), LABELS), None, "channels first; .*transpose"),
        (lambda: (IMAGES / 254, LABELS), None, r"train lie in \[0, 1.00394\]; .* rescale or clip"),
        (lambda: (IMAGES.astype("uint16") * 16, LABELS), None, "16-bit .*divide by the largest"),
        (
            lambda: (IMAGES, LABELS * 10**9),
            None,
            "a label 2000000000, but 12 images; .*class_names",
        ),
        (lambda: (IMAGES, [*"abcabcabcab", ""]), None, "a label is empty; leave out"),
        (lambda: ("a.png", "cat"), None, "expected arrays of images and labels, got .'a.png', 'c"),
        (
            lambda: [(IMAGES[:4], LABELS[:4]), (IMAGES[4:, :5], LABELS[4:])],
            None,
            r"yields images of shapes \(4, 6, 5, 3\) uint8 and \(8, 5, 5, 3\)",
        ),
        (
            lambda: [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], np.eye(3)[LABELS[4:]])],
            None,
            r"yields labels of shapes \(4,\) int64 and \(8, 3\) float64",
        ),
        (
            lambda: [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], NAMES[4:])],
            None,
            "yields labels of shapes .* int64 and .* <U1",
        ),
    ],
)
def test_wrong_data_are_refused_in_one_line(data, names, message):
    if message is None:  # six gray images of 5 x 3 pixels
        assert in_memory.register({"train": data()}, names)
        return
    with pytest.raises(UsageError, match=message) as error:
        in_memory.register({"train": data()}, names)
    assert "\n" not in str(error.value)


def test_labels_of_the_splits_must_agree():
    with pytest.raises(UsageError, match=r"different shapes or types: train .*, test"):
        in_memory.register({"train": (IMAGES, LABELS), "test": (IMAGES, np.eye(3)[LABELS])})


def test_names_and_indices_are_not_mixed():
    with pytest.raises(UsageError, match=r"different shapes or types: train .* int64, test .* <U1"):
        in_memory.register({"train": (IMAGES, LABELS), "test": (IMAGES, NAMES)})


def test_a_pipeline_that_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(in_memory, "available_bytes", lambda: 2 * IMAGES.nbytes - 2)
    with pytest.raises(UsageError, match="half of the available memory; write them to a folder"):
        in_memory.register({"train": generator()})


def test_data_of_another_process_are_missed_by_name():
    with pytest.raises(UsageError, match="pass the arrays again"):
        sources.load("memory:0123456789ab")


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (IMAGES / 255, IMAGES / 255, IMAGES),
        (IMAGES * 1.0, IMAGES * 1.0, IMAGES),
        (IMAGES / 255, IMAGES, IMAGES),
        (IMAGES * 1.0, np.minimum(IMAGES, 1) * 1.0, np.minimum(IMAGES, 1)),  # almost black
        (IMAGES / 255, np.minimum(IMAGES, 1) * 1.0, np.minimum(IMAGES, 1) * 255),
        (IMAGES * 1.0, IMAGES > 99, (IMAGES > 99) * 255),
    ],
    ids=["unit", "bytes as floats", "uint8", "almost black", "black and white", "bool"],
)
def test_floats_of_all_splits_have_one_scale(train, test, expected):
    found = pixels(train=train, test=test)
    np.testing.assert_array_equal(found["train"], IMAGES)
    np.testing.assert_array_equal(found["test"], expected)


def test_splits_of_different_scales_are_refused():
    with pytest.raises(
        UsageError, match=r"train lie in \[0, 1\], those of test in \[0, 255\]; give"
    ):
        pixels(train=IMAGES / 255, test=IMAGES * 1.0)
