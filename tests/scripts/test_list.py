"""`zoo list` and `zoo show`: filters, sort order and formats."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

import zoo
from scripts import _output
from scripts import list as list_command
from scripts.__main__ import main


def output_of(capsys, *words):
    """Runs a command and returns what it prints."""
    assert main(list(words)) == 0
    return capsys.readouterr().out


def names(capsys, *words):
    return [spec["name"] for spec in json.loads(output_of(capsys, "list", "--json", *words))]


def error_line(capsys, *words):
    assert main(list(words)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_list_is_a_table_of_80_columns(capsys):
    head, *lines = output_of(capsys, "list").splitlines()
    assert len(lines) == len(zoo.names())
    assert max(map(len, (head, *lines))) <= 80
    for title in ("input", "licence"):  # columns of text start below their heads
        start = head.index(title)
        assert {line[start - 1 : start] for line in lines if len(line) > start} == {" "}
    for title in ("params", "FLOPs", "accuracy"):  # numbers end below theirs
        end = head.index(title) + len(title)
        assert {line[end : end + 1] for line in lines} <= {" ", ""}
    line = next(line for line in lines if line.startswith("resnet50.imagenet "))
    assert line.split()[1:5] == ["25.6M", "7.72G", "224x224x3", "74.9%"]
    assert line.endswith("  MIT")


@pytest.mark.parametrize(
    ("flag", "value", "known", "most"),
    [("--max-params", "3M", "parameters", 3e6), ("--max-flops", "0.5G", "flops", 5e8)],
)
def test_list_filters_by_size(flag, value, known, most, capsys):
    found = set(names(capsys, flag, value))
    wanted = {
        name
        for name in zoo.names()
        if getattr(zoo.spec(name), known) is not None and getattr(zoo.spec(name), known) <= most
    }
    assert found == wanted
    assert 0 < len(found) < len(zoo.names())


def test_list_filters_by_accuracy(capsys):
    found = names(capsys, "--min-accuracy", "75%", "--sort", "accuracy")
    figures = [zoo.spec(name).weights.figures["accuracy"] for name in found]
    assert figures == sorted(figures, reverse=True)
    assert min(figures) >= 0.75
    assert names(capsys, "--min-accuracy", "0.75", "--sort", "accuracy") == found


def test_list_combines_filters(capsys):
    words = ("res*", "--weights", "imagenet", "--family", "resnet", "--kind", "classifier")
    found = names(capsys, *words, "--max-params", "30M")
    assert found == [name for name in names(capsys, *words) if zoo.spec(name).parameters <= 3e7]
    assert "resnet50.imagenet" in found
    assert "resnet152.imagenet" not in found


@pytest.mark.parametrize(("sort", "known"), [("params", "parameters"), ("flops", "flops")])
def test_list_sorts_in_ascending_order(sort, known, capsys):
    sizes = [getattr(zoo.spec(name), known) for name in names(capsys, "--sort", sort)]
    assert len(sizes) == len(zoo.names())
    sizes = [float("inf") if size is None else size for size in sizes]
    assert sizes == sorted(sizes)
    assert names(capsys, "--sort", "name") == sorted(zoo.names())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--max-params", "3Q"), "'3Q' is not a number such as 25M"),
        (("--max-params", "-1"), "not a number"),
        (("--max-flops", "nan"), "'nan' is not a number"),
        (("--max-flops", "G"), "'G' is not a number"),
        (("--min-accuracy", "75"), "'75' is not a fraction"),
        (("--sort", "speed"), "choose from"),
        (("--max-params", "1"), "no model matches"),
    ],
)
def test_errors_of_list_are_one_line(words, wanted, capsys):
    assert wanted in error_line(capsys, "list", *words)


@pytest.mark.parametrize(
    ("text", "number"),
    [("25M", 25e6), ("3.5k", 3500), ("4g", 4e9), ("1e6", 1e6), ("0", 0), ("2T", 2e12)],
)
def test_counts_are_parsed(text, number):
    assert list_command.parse_count(text) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "?"),
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (61_706, "61.7k"),
        (999_499, "999k"),
        (999_999, "1.00M"),
        (25_583_592, "25.6M"),
        (7_715_946_496, "7.72G"),
        (350_196_968, "350M"),
    ],
)
def test_counts_have_three_digits(number, text):
    assert _output.format_count(number) == text


def test_show_lists_the_layers_of_a_small_network(capsys):
    out = output_of(capsys, "show", "lenet5")
    assert "input          32 x 32 x 1, at least 16 x 16" in out
    assert "stage1         10 x 10 x 16" in out
    # Figure 2 and section II.B: C1 has 156 parameters and 117,600 multiply-adds (less the biases).
    row = next(line for line in out.splitlines() if line.startswith("c1 "))
    assert " ".join(row.split()) == "c1 Conv2D 28 x 28 x 6 156 117,600"


def test_show_prints_the_shape_of_a_vector_input(capsys):
    assert "input          4\n" in output_of(capsys, "show", "vector_dqn")


def test_show_lists_the_blocks_of_a_large_network(capsys):
    out = output_of(capsys, "show", "resnet50.imagenet")
    for known in ("25,583,592", "7.72G", "74.9%", "MIT", "caffe", "keras.io/api/applications"):
        assert known in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("conv", "pool"))]
    assert [int(row[1]) for row in rows if "block" in row[0]] == [1, 2, 1, 3, 1, 5, 1, 2]
    assert sum(int(row[-2].replace(",", "")) for row in rows) == 25_583_592
    assert "179 layers; --layers lists them all" in out


def test_show_lists_every_layer_with_layers(capsys):
    assert "stage1_block1_1_conv " not in output_of(capsys, "show", "resnet20")
    rows = [line.split() for line in output_of(capsys, "show", "resnet20", "--layers").splitlines()]
    kinds = [row[1] for row in rows if len(row) > 2]
    assert kinds.count("Conv2D") == 19
    assert kinds.count("Dense") == 1


def test_show_prints_stages_and_layers_as_json(capsys):
    found = json.loads(output_of(capsys, "show", "resnet20.cifar10", "--json"))
    assert found["name"] == "resnet20.cifar10"
    assert found["stage_shapes"] == {
        "stage0": [32, 32, 16],
        "stage1": [16, 16, 32],
        "stage2": [8, 8, 64],
    }
    layers = found["layers"]
    assert sum(layer["parameters"] for layer in layers) == found["parameters"]
    assert 2 * sum(layer["multiply_adds"] for layer in layers) == found["flops"]


def test_show_of_a_network_without_stages(capsys):
    assert "stage" not in output_of(capsys, "show", "mlp")


def test_show_plots_the_network(tmp_path, capsys):
    path = tmp_path / "new" / "net.svg"
    assert str(path) in output_of(capsys, "show", "resnet20", "--plot", str(path))
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    error_line(capsys, "show", "resnet20", "--plot", str(path / "net.svg"))  # below a file


def test_show_suggests_the_nearest_model(capsys):
    assert "did you mean" in error_line(capsys, "show", "resnet51")


def test_unknown_name_error_lists_some_of_many_names():
    from zoo.errors import unknown_name_error

    known = [f"name{number:03}" for number in range(100)]
    message = str(unknown_name_error("thing", "?" * 10_000, known))
    assert message.endswith("name038, name039, 60 others")
    assert len(message) < 1_000
    assert (
        str(unknown_name_error("thing", "x", ("a", "b"))) == "no thing named 'x'; choose from a, b"
    )
