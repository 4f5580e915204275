"""Notes about labeled images that are shown before training."""

import numpy as np
import pytest

from tasks.data import data_splits, decoding
from tasks.data.dataset import Source


def data(train, test, validation=None, *, classes="abc", dropped=(), skipped=(), items=None):
    """Returns `DataSplits` with some labels."""

    def examples(name, labels, **own):
        labels = np.array(labels)
        return decoding.Examples(name, np.zeros((len(labels), 2, 2, 1), "uint8"), labels, **own)

    several = np.ndim(train[0]) > 0
    source = Source("some", tuple(classes), {}, tuple(skipped), multi_label=several)
    return data_splits.DataSplits(
        source,
        examples("train", train, dropped=dropped),
        validation and examples("validation", validation),
        examples("test", test, items=items),
        (2, 2, 1),
    )


def test_small_classes_and_classes_without_test_images_are_reported():
    found = data([0] * 10 + [1] * 9 + [2] * 3, [0, 0, 1])
    assert data_splits.class_notes(found) == [
        "classes with fewer than 10 training images: b (9), c (3)",
        "classes without a test image: c",
    ]
    assert data_splits.class_notes(data([0] * 10 + [1] * 10, [0, 1], classes="ab")) == []
    rows = data([[1, 1, 0]] * 12, [[1, 0, 0]])
    assert data_splits.class_notes(rows) == [
        "classes with fewer than 10 training images: c (0)",
        "classes without a test image: b, c",
    ]


def test_the_majority_baseline_is_reported():
    found = data([0, 1], [0, 0, 1], [1, 1, 1, 2])
    assert data_splits.majority_baseline(found) == [
        "accuracy of always predicting the most frequent class: "
        "75.0% of validation (b), 66.7% of test (a)"
    ]
    assert data_splits.majority_baseline(data([[1, 0, 0]], [[1, 0, 0]])) == []


def test_skipped_files_are_counted_by_reason():
    texts = [(f"{number}.txt", "not an image by its suffix") for number in range(1000)]
    found = data([0], [0], skipped=texts, dropped=(("a.png", "truncated"), ("b.png", "truncated")))
    ((line, names),) = found.warnings()
    assert line == "skipped 1,002 files: 1,000 not an image by its suffix; 2 truncated"
    assert len(names) == 1002
    assert names[-1] == "b.png: truncated"
    assert found.notes() == [line]
    assert data([0], [0]).warnings() == []


def test_rare_reasons_are_counted_together():
    bad = [(str(n), f"reason {n}") for n in range(8)]
    ((line, _),) = data([0], [0], skipped=bad).warnings()
    assert line.endswith("1 reason 4; 3 other reasons")


@pytest.mark.parametrize(
    ("items", "title"),
    [
        (["/data/cat/1.png", "/data/cat/2.png"], "cat/2.png"),
        ([b"", b""], "test 1"),
        (None, "test 1"),
    ],
)
def test_examples_have_titles(items, title):
    assert data([0], [0, 0], items=items).test.title(1) == title
