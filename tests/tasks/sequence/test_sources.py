"""Sources of sequences: built-in ones, texts, tables, arrays and class folders."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.sequence import arrays, sources, synthetic, table
from zoo.errors import UsageError

SIGNAL = "time,x,y\n0,1,2.5\n1,3,4\n2,5,6e1\n"


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Built-in sources


@pytest.mark.parametrize("name", sources.BUILT_IN)
def test_built_in_sources_are_the_same_each_time(name):
    first, second = (sources.load(name, 20) for _ in range(2))
    assert len(first.sequences) == len(second.sequences)
    for one, other in zip(first.sequences[:50], second.sequences[:50], strict=True):
        np.testing.assert_array_equal(one, other)
    if first.classes:
        counts = np.bincount(first.labels)
        assert len(counts) == len(first.classes)
        assert counts.min() == counts.max()


def test_mackey_glass_solves_the_delay_equation():
    """Central differences of the series are the right side of the equation."""
    x = synthetic.mackey_glass()[:, 0]
    assert len(x) == synthetic.MACKEY_GLASS_STEPS
    now, late = x[17:-1], x[:-18]
    found = (x[18:] - x[16:-2]) / 2
    expected = 0.2 * late / (1 + late**10) - 0.1 * now
    np.testing.assert_allclose(found, expected, atol=0.004)
    assert np.abs(expected).max() > 0.07


def test_temporal_order_has_two_marks_whose_order_is_the_class():
    texts, labels = synthetic.temporal_order(40)
    for text, label in zip(texts, labels, strict=True):
        marks = [(place, sign) for place, sign in enumerate(text) if sign in synthetic.MARKS]
        assert "".join(sign for _, sign in marks) == synthetic.ORDERS[label]
        (first, _), (second, _) = marks
        assert 4 <= first < 8
        assert 16 <= second < 20
        assert len(text) == 40


def test_waves_have_different_lengths_and_the_amplitude_of_their_shape():
    sequences, labels = synthetic.waves(40)
    assert {len(each) for each in sequences} == set(range(20, 41))
    squares = [x for x, label in zip(sequences, labels, strict=True) if label == 1]
    # Without noise a square wave has two values: the noise is left around their size.
    spread = [np.abs(np.abs(x) - np.median(np.abs(x))).mean() for x in squares]
    assert np.mean(spread) == pytest.approx(synthetic.NOISE * np.sqrt(2 / np.pi), rel=0.1)


# Tables


@pytest.mark.parametrize(
    "text",
    [
        SIGNAL,
        "\ufeff" + SIGNAL,
        SIGNAL.replace("\n", "\r\n"),
        SIGNAL.replace(",", ";"),
        SIGNAL.replace(",", "\t"),
        SIGNAL.replace(",", ";").replace(".", ","),  # a decimal comma
        SIGNAL.replace("\n", "\n\n") + "\n",
        SIGNAL.replace(",", " , "),
    ],
    ids=["commas", "bom", "crlf", "semicolons", "tabs", "decimal commas", "blank lines", "spaces"],
)
def test_tables_of_other_programs_are_read(text, tmp_path):
    source = sources.load(write(tmp_path, "a.csv", text), 2)
    assert source.channels == ("time", "x", "y")
    np.testing.assert_array_equal(source.sequences[0], [[0, 1, 2.5], [1, 3, 4], [2, 5, 60]])
    chosen = sources.load(tmp_path / "a.csv", 2, columns="y, x")
    assert chosen.channels == ("y", "x")
    np.testing.assert_array_equal(chosen.sequences[0], [[2.5, 1], [4, 3], [60, 5]])


def test_a_table_without_a_header_has_numbered_channels(tmp_path):
    source = sources.load(write(tmp_path, "a.csv", "1,2\n3,4\n"), 2)
    assert source.channels == ("channel 1", "channel 2")
    np.testing.assert_array_equal(source.sequences[0], [[1, 2], [3, 4]])


def test_windows_of_a_label_do_not_cross_its_end(tmp_path):
    rows = [(0, "walk")] * 5 + [(1, "sit")] * 4 + [(2, "walk")] * 3
    text = "x,what\n" + "".join(f"{place},{label}\n" for place, (_, label) in enumerate(rows))
    source = sources.load(write(tmp_path, "a.csv", text), 2, label_column="what")
    found = [each[:, 0].tolist() for each in source.sequences]
    assert found == [[0, 1], [2, 3], [5, 6], [7, 8], [9, 10]]
    assert source.classes == ("sit", "walk")
    assert source.labels.tolist() == [1, 1, 0, 0, 1]
    assert source.channels == ("x",)
    assert source.in_time_order
    assert source.notes == ("2 steps left out, which fill no window",)


def test_labels_that_are_numbers_are_in_their_order():
    assert table.sort_labels({"10", "9", "-1"}) == ["-1", "9", "10"]
    assert table.sort_labels({"b", "10", "a"}) == ["10", "a", "b"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("x,y\n1,\n2,3\n,4\n", {}, "'y' has no number in 1 row, the first in line 2: ''; fill"),
        ("x,y\n1,2\nnan,3\ninf,3\n", {}, "'x' has no number in 2 rows, the first in line 3: 'nan'"),
        ("t,x\n8:00,1\n8:01,2\n", {}, "column 't' holds text, such as '8:00'; leave it out: --co"),
        ("t,x\na,1\nb,2\n", {}, "or classes: --label-column 't'"),
        ("x,y\n1,2\n3\n", {}, "line 3: 1 cells, expected 2 as in line 1"),
        ("x,x\n1,2\n", {}, "several columns named 'x'"),
        ("", {}, "is empty; expected a row per step"),
        ("x,y\n", {}, "no rows below its header"),
        ("x,y\n1,2\n", {"columns": "z"}, "'z'"),
        ("x,y\n1,2\n", {"label_column": "label"}, "'label'"),
        ("x\na\nb\n", {"label_column": "x"}, "no column besides x; expected channels"),
        ("x,k\n1,a\n2,\n", {"label_column": "k"}, "line 3: no k; fill in or delete the row"),
        ("x,k\n1,a\n2,b\n", {"label_column": "k"}, "no 2 steps in a row have the same k"),
        (b"x,y\n1,2\xff\n", {}, "not encoded in UTF-8"),
        ('x,y\n"1,2\n', {}, "is not a table: unexpected end of data"),
    ],
)
def test_what_is_wrong_with_a_table_is_stated(text, options, message, tmp_path):
    path = write(tmp_path, "a.csv", text)
    with pytest.raises(UsageError) as error:
        sources.load(path, 2, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# Texts, arrays and folders


def test_a_text_is_one_sequence(tmp_path):
    source = sources.load(write(tmp_path, "a.txt", "\ufeffein\r\nWörtchen"), 2)
    assert (source.sequences, source.classes, source.is_text) == (["ein\nWörtchen"], (), True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.txt is empty; expected a text"),
        ("zzzz", "a.txt holds the character 'z' only; there is nothing to learn"),
    ],
)
def test_a_text_without_content_is_refused(text, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        sources.load(write(tmp_path, "a.txt", text), 2)


def test_an_empty_text_of_a_class_is_refused(tmp_path):
    write(tmp_path, "one/a.txt", "text")
    write(tmp_path, "two/b.txt", "")
    with pytest.raises(UsageError, match=r"two/b.txt is empty; expected a text"):
        sources.load(tmp_path, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.txt", 2), "no data set absent.txt: pass python_docs, mackey_glass, waves, temp"),
        (("waves", 2, "x"), "--columns is for tables"),
        (("waves", 2, "", "x"), "--label-column is for tables"),
        (("temporal_order", 9), "temporal_order needs --length 10 or more, not 9"),
    ],
)
def test_a_wrong_name_or_flag_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        sources.load(*arguments)


def test_a_binary_file_is_no_text(tmp_path):
    with pytest.raises(UsageError, match=r"a.bin is not encoded in UTF-8 \(byte 0x89"):
        sources.load(write(tmp_path, "a.bin", b"\x89PNG\r\n"), 2)


def test_arrays_are_series_or_labelled_sequences(tmp_path):
    np.save(tmp_path / "one.npy", np.arange(6, dtype="int16"))
    np.save(tmp_path / "two.npy", np.ones((6, 2), "float32"))
    x, y = np.arange(24.0).reshape(4, 3, 2), np.array(["b", "a", "b", "a"])
    np.savez(tmp_path / "labelled.npz", x=x, y=y)
    np.savez(tmp_path / "flat.npz", x=x[:, :, 0], y=[10, 9, 10, 9])
    one, two = (sources.load(tmp_path / name, 2) for name in ("one.npy", "two.npy"))
    assert one.sequences[0].tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]
    assert two.channels == ("channel 1", "channel 2")
    labelled, flat = (sources.load(tmp_path / f"{name}.npz", 2) for name in ("labelled", "flat"))
    np.testing.assert_array_equal(np.stack(labelled.sequences), x)
    assert (labelled.classes, labelled.labels.tolist()) == (("a", "b"), [1, 0, 1, 0])
    np.testing.assert_array_equal(np.stack(flat.sequences), x[:, :, :1])
    assert (flat.classes, flat.labels.tolist()) == (("9", "10"), [1, 0, 1, 0])


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("a.npy", np.array([1.0, np.nan]), r"nan at \(1,\); fill the gaps"),
        ("a.npy", np.array(["a", "b"]), "expected numbers, got <U1"),
        ("a.npy", np.zeros((2, 2, 2)), r"has the shape \(2, 2, 2\); expected \(steps, channels\)"),
        ("a.npy", np.array([{}]), "is not an array of numbers: Object arrays cannot be loaded"),
        ("a.npz", {"z": np.zeros(3)}, "holds z; expected the arrays x and, for labels, y"),
        ("a.npz", {"x": np.zeros((3, 2)), "y": np.zeros(2)}, r"x \(3, 2\) and y \(2,\); expected"),
    ],
)
def test_what_is_wrong_with_an_array_is_stated(name, values, message, tmp_path):
    path = tmp_path / name
    np.savez(path, **values) if isinstance(values, dict) else np.save(path, values)
    with pytest.raises(UsageError, match=message):
        arrays.read(path)


def test_a_damaged_array_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(1000))
    content = (tmp_path / "a.npy").read_bytes()
    for damaged in (content[:100], content[:-8], b"", b"PK\x03\x04" + content):
        (tmp_path / "b.npy").write_bytes(damaged)
        with pytest.raises(UsageError, match=r"b\.npy is not an array of numbers"):
            arrays.read(tmp_path / "b.npy")


def test_folders_are_classes_of_series_or_texts(tmp_path):
    for label, rows in (("up", "1\n2\n"), ("down", "2\n1\n0\n")):
        write(tmp_path, f"series/{label}/a.csv", f"x\n{rows}")
        write(tmp_path, f"texts/{label}/a.txt", label)
    series, texts = (sources.load(tmp_path / name, 2) for name in ("series", "texts"))
    assert series.classes == texts.classes == ("down", "up")
    assert [each.tolist() for each in series.sequences] == [[[2.0], [1.0], [0.0]], [[1.0], [2.0]]]
    assert texts.sequences == ["down", "up"]


def test_folders_of_other_files_or_channels_are_refused(tmp_path):
    write(tmp_path, "a/1.csv", "x\n1\n")
    write(tmp_path, "b/1.csv", "y\n1\n")
    with pytest.raises(UsageError, match=r"b/1.csv has the channels y, not x as .*a/1.csv"):
        sources.load(tmp_path, 2)
    write(tmp_path, "b/1.txt", "text")
    (tmp_path / "b/1.csv").unlink()
    with pytest.raises(UsageError, match=r"b/1.txt is not a series"):
        sources.load(tmp_path, 2)
    with pytest.raises(UsageError, match=r"no CLASS/FILE in .* ends in .txt, .csv, .tsv, .npy"):
        sources.load(tmp_path / "a", 2)
