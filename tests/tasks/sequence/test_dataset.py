"""Splits, windows, vocabularies and standardization."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.sequence import batches, dataset
from tasks.sequence.encoding import Encoding
from tasks.sequence.sources import Source
from tasks.sequence.vocabulary import UNKNOWN, Vocabulary
from zoo.errors import UsageError
from zoo.parts.sequences import PADDING_VALUE

SHARES = {"validation": 0.2, "test": 0.2}


def ramp(steps=100):
    return Source([np.arange(float(steps))[:, None]], channels=("x",))


def prepared(source, length=4, stride=0, **shares):
    return dataset.prepare(source, length=length, stride=stride, **{**SHARES, **shares})


def test_a_series_is_split_in_time_order_and_windows_do_not_overlap_other_parts():
    data = prepared(ramp())
    parts = [getattr(data, role).steps[:, 0] for role in dataset.ROLES]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(100.0))
    assert [len(part) for part in parts] == [60, 20, 20]
    seen = [set(), set(), set()]
    for found, role in zip(seen, dataset.ROLES, strict=True):
        part = getattr(data, role)
        for each in part.read(part.stride * np.arange(len(part))):
            found |= set(each.flatten().tolist())
    assert max(seen[0]) < min(seen[1])
    assert max(seen[1]) < min(seen[2])


def test_the_target_of_a_step_is_the_next_step():
    inputs, targets = prepared(ramp()).train.read([0, 7])
    assert inputs[:, :, 0].tolist() == [[0, 1, 2, 3], [7, 8, 9, 10]]
    np.testing.assert_array_equal(targets, inputs + 1)


@pytest.mark.parametrize(
    ("steps", "length", "stride", "expected"),
    [(100, 4, 0, 1), (100, 4, 9, 9), (40_000, 8, 0, 8), (8_000, 64, 0, 4)],
)
def test_a_short_series_has_overlapping_training_windows(steps, length, stride, expected):
    train = prepared(ramp(steps), length, stride).train
    assert train.stride == expected
    assert len(train) == (len(train.steps) - length) // expected


@pytest.mark.parametrize("stride", [1, 2])
def test_batches_are_windows_at_other_places_in_each_epoch_and_the_same_when_resumed(stride):
    stream = batches.training(prepared(ramp(), 4, stride).train, batch_size=5, seed=3)
    epochs = []
    for number in range(1 if stride == 1 else 5):
        rows = [[np.array(each) for each in batch] for batch in stream.epoch(number)]
        assert len(rows) == stream.steps == len(stream.examples) // 5
        again = [[np.array(each) for each in batch] for batch in stream.epoch(number, 2)]
        for one, other in zip(rows[2:], again, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
        for inputs, targets in rows:
            assert inputs.shape == targets.shape == (5, 4, 1)
            np.testing.assert_array_equal(targets, inputs + 1)
            np.testing.assert_array_equal(np.diff(inputs[:, :, 0], axis=1), 1)
        starts = np.concatenate([inputs[:, 0, 0] for inputs, _ in rows])
        assert len(set(starts)) == len(starts)
        assert len(set(starts % stride)) == 1
        epochs.append(starts[0] % stride)
    assert len(set(epochs)) == stride


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 20}, "the validation split has 20 of 100 steps, expected 30 or more for a"),
        ({"length": 60}, "the train split has 60 of 100 steps, expected 61 or more"),
        ({"stride": 57}, "the train split has 60 of 100 steps, expected 61 or more"),
        ({"validation": 0.02}, "the validation split has 2 of 100 steps, expected 6"),
    ],
)
def test_too_short_a_series_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        prepared(ramp(), **options)


def labelled(counts, **options):
    labels = np.repeat(np.arange(len(counts)), counts)
    sequences = [np.full((2 + i % 3, 1), float(i)) for i in range(len(labels))]
    classes = tuple("abc"[: len(counts)])
    return Source(sequences, labels, classes, channels=("x",), **options)


def test_labelled_sequences_are_split_by_class_without_overlap():
    data = prepared(labelled((10, 20)))
    parts = [getattr(data, role) for role in dataset.ROLES]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[6, 12], [2, 4], [2, 4]]
    first = np.concatenate([part.inputs[:, 0, 0] for part in parts])
    assert sorted(first) == list(range(30))
    assert sorted(first[:18]) != list(first[:18]) or (np.diff(first[:6]) != 1).any()
    again = prepared(labelled((10, 20)))
    np.testing.assert_array_equal(again.test.inputs, data.test.inputs)


def test_windows_of_one_recording_are_split_in_time_order():
    data = prepared(labelled((10, 20), in_time_order=True))
    parts = [getattr(data, role) for role in dataset.ROLES]
    for label in (0, 1):
        train, validation, test = (x.inputs[x.labels == label, 0, 0] for x in parts)
        assert max(train) < min(validation)
        assert max(validation) < min(test)


def test_sequences_are_padded_at_the_end():
    data = prepared(labelled((10, 20)))
    assert data.train.inputs.shape == (18, 4, 1)
    for row in data.train.inputs[..., 0]:
        steps = 2 + int(row[0]) % 3
        assert (row[:steps] == row[0]).all()
        assert (row[steps:] == np.float32(PADDING_VALUE)).all()


def test_without_validation_there_is_no_such_part():
    assert prepared(ramp(), validation=0.0).validation is None
    assert prepared(labelled((2, 2)), validation=0.0).validation is None


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((9,), "labels need two classes or more; found 'a' only"),
        ((9, 2), "class 'b' has 2 sequences; expected 3 or more, one for each split"),
    ],
)
def test_too_few_labels_are_refused(counts, message):
    with pytest.raises(UsageError, match=message):
        prepared(labelled(counts))


def test_mean_and_std_are_those_of_the_training_part():
    values = np.stack([np.arange(100.0), np.full(100, 7.0)], axis=1)
    values[60:] += 1000
    found = prepared(Source([values], channels=("x", "y"))).encoding
    assert found.mean == pytest.approx([29.5, 7])
    assert found.std == pytest.approx([np.arange(60).std(), 1])  # 1 for a constant channel
    assert found.naive_error == pytest.approx([1, 0])


def test_a_channel_that_float32_cannot_resolve_is_noted():
    values = np.stack([np.arange(100.0), 1.7e9 + np.arange(100.0)], axis=1)
    [note] = prepared(Source([values], channels=("x", "time"))).notes
    assert note.startswith("channel 'time' has the mean 1.7e+09 and the standard deviation 17.3")


@pytest.mark.parametrize("make", [lambda x: Source([x], channels=("x",)), None])
def test_values_whose_squares_are_no_float32_are_refused(make):
    """Their loss would not be a number, whatever the learning rate."""
    source = labelled((10, 20)) if make is None else make(np.arange(100.0)[:, None])
    source.sequences[0][0] = -1e20
    with pytest.raises(UsageError, match=r"is 1e\+20; expected at most 1e\+15"):
        prepared(source)


def test_padding_does_not_count_in_mean_and_std():
    found = prepared(labelled((10, 20), in_time_order=True)).encoding
    source = labelled((10, 20))
    train = [i for i in range(30) if i < 6 or 10 <= i < 22]
    steps = np.concatenate([source.sequences[i] for i in train])
    assert (found.mean[0], found.std[0]) == pytest.approx((steps.mean(), steps.std()))


def test_characters_that_training_lacks_are_one_token_and_counted():
    text = "abcabc" * 10 + "abcxxz" * 4 + "zz" + "abcabc" * 3
    data = prepared(Source([text]), length=2)
    assert data.encoding.vocabulary.characters == tuple("abc")
    assert (data.validation.steps == UNKNOWN).any()
    unknown = sum((getattr(data, role).steps == UNKNOWN).sum() for role in dataset.ROLES)
    assert unknown == 14
    assert sum(int(note.split()[0]) for note in data.notes) == 14
    assert "do not occur in that for training, and are not scored" in data.notes[0]


def test_a_vocabulary_decodes_what_it_encodes():
    vocabulary = Vocabulary.of(["b\n", "ä"])
    tokens = vocabulary.encode("ä\nbq")
    assert tokens.tolist() == [4, 2, 3, UNKNOWN]
    assert vocabulary.decode([0, *tokens]) == "ä\nb\N{REPLACEMENT CHARACTER}"
    assert len(vocabulary) == 5


@pytest.mark.parametrize("source", [ramp(), labelled((5, 5)), Source(["abcd" * 30])])
def test_an_encoding_is_restored_from_metadata(source):
    import json

    found = prepared(source).encoding
    again = Encoding.from_metadata(json.loads(json.dumps(found.metadata())))
    assert again.metadata() == found.metadata()
    np.testing.assert_array_equal(again.padded(source.sequences), found.padded(source.sequences))


def test_the_fingerprint_depends_on_values_and_labels():
    def fingerprint(source, **options):
        return prepared(source, **options).fingerprint()

    other = ramp()
    other.sequences[0][10] += 1e-3
    assert fingerprint(ramp()) == fingerprint(ramp())
    assert fingerprint(other)["splits"]["train"] != fingerprint(ramp())["splits"]["train"]
    assert fingerprint(other)["splits"]["test"] == fingerprint(ramp())["splits"]["test"]
    swapped = labelled((5, 5))
    swapped.labels[[0, 9]] = 1, 0
    assert fingerprint(swapped) != fingerprint(labelled((5, 5)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source(["abc"]), "trained on series; other is not"),
        (labelled((5, 5)), "needs one sequence without labels; other has 2 classes"),
        (Source([np.zeros((9, 2))], channels=("x", "y")), "the channels x; other has x, y"),
    ],
)
def test_other_data_must_be_of_the_same_kind(source, message):
    with pytest.raises(UsageError, match=message):
        prepared(ramp()).encoding.check_source(source, "other")


def test_other_data_may_not_have_other_classes():
    encoding = prepared(labelled((5, 5))).encoding
    encoding.check_source(labelled((5, 5)), "other")
    with pytest.raises(UsageError, match="other has the class 'c'; the model has a, b"):
        encoding.check_source(labelled((5, 5, 5)), "other")
