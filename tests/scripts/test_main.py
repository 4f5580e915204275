"""The command line: help, one-line errors, and training, prediction and evaluation."""

import dataclasses
import errno
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tasks
import zoo
from scripts import _flag_groups
from scripts.__main__ import command_names, main
from tasks.engine import recipes

TINY = [
    *("--model", "mlp", "--epochs", "1", "--precision", "float32"),
    *("--train-split", "train[:128]", "--validation-split", "none", "--test-split", "test[:50]"),
]


def make_folder(path):
    """Creates a data set of two classes of dark and light images, twelve each."""
    random = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 210)):
        (path / label).mkdir(parents=True)
        for index in range(12):
            pixels = random.normal(level, 20, (32, 32, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(path / label / f"{index}.png")
    return path


@pytest.fixture
def folder(tmp_path):
    """A data set of two classes of dark and light images, twelve each."""
    return make_folder(tmp_path / "data")


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    """The folder of a finished run on such a data set."""
    path = tmp_path_factory.mktemp("finetuned")
    words = ["finetune", "lenet5", make_folder(path / "data"), "--epochs", 20, "--batch-size", 8]
    run(*words, "--out", path / "run", "--precision", "float32")
    return path / "run"


def run(*words, status=0):
    """Runs a command and checks its exit status."""
    assert main([str(word) for word in words]) == status


def error_line(capsys, *words):
    """Runs a command that must fail, and returns its one line."""
    run(*words, status=1)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("zoo: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


@pytest.mark.parametrize("command", command_names())
def test_help_of_every_command_has_an_example_and_fits_the_terminal(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert f"\n    zoo {command}" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_usage_of_many_options_is_short(capsys):
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    assert capsys.readouterr().out.startswith("usage: zoo finetune [options] [MODEL] [DATASET]\n\n")


def test_overview_lists_every_command(capsys):
    run("--help")
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in command_names())


@pytest.mark.parametrize("name", tasks.names())
def test_help_of_a_task_groups_its_flags(name, capsys):
    with pytest.raises(SystemExit):
        main(["train", name, "--help"])
    options, *parts = re.split(r"\n\n(?=[\w ]+:\n)", capsys.readouterr().out)[2:]
    shown = {part.partition(":")[0]: re.findall(r"^  --([\w-]+)", part, re.M) for part in parts}
    flags = [flag.replace("-", "_") for found in shown.values() for flag in found]
    assert sorted(flags) == sorted(field.name for field in dataclasses.fields(tasks.get(name)))
    assert {"data", "model", "optimization", "learning rate schedule", "hardware"} <= set(shown)
    assert "--dataset" not in options
    shared = set.intersection(
        *({field.name for field in dataclasses.fields(tasks.get(each))} for each in tasks.names())
    )
    assert not shared & set(shown.get(name, ()))  # such belong to a group


def test_groups_contain_existing_flags_once():
    names = [name for some in _flag_groups.GROUPS.values() for name in some]
    assert len(names) == len(set(names))
    of = [{f.name for f in dataclasses.fields(tasks.get(each))} for each in tasks.names()]
    assert set(names) <= set.union(*of)
    several = {name for name in set.union(*of) if sum(name in fields for fields in of) > 2}
    assert several <= set(names)


def test_list_prints_every_model(capsys):
    run("list")
    out = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in out] == zoo.names()


def test_list_prints_specs_as_json(capsys):
    run("list", "resnet20.*", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert found["name"] == "resnet20.cifar10"
    assert found["parameters"] == zoo.spec("resnet20").parameters


def check(*values):
    """A parameter set that only `make check` runs."""
    return pytest.param(*values, marks=pytest.mark.check)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("finetune vgg61", "no model named 'vgg61'; did you mean"),
        ("finetune lenet5 fashion_sampel", "did you mean fashion_sample"),
        ("finetune lenet5 --epochs many", "--epochs: invalid int value"),
        ("finetune lenet5 --epochs 0", "--epochs must be from 1 to"),
        ("finetune lenet5 --learning-rate nan", "must be from 0 to 1000000, not nan"),
        ("finetune lenet5 --resize squash", "no choice of --resize named 'squash'"),
        ("finetune lenet5 --optimizer addam", "did you mean"),
        ("finetune lenet5 --optimizer sgd", "needs a --learning-rate"),
        ("finetune lenet5 --precision float23", "no precision named 'float23'"),
        ("finetune lenet5 --image-size 8", "needs images of 16 x 16 pixels or more, not 8 x 8"),
        ("finetune lenet5 --model vgg16", "passed twice"),
        ("finetune lenet5 --model-options oops", "--model-options takes YAML"),
        check("finetune lenet5 --model-options {1:2}", "--model-options takes YAML|no option of"),
        ('finetune lenet5 --model-options {"num_classes":3}', "cannot set num_classes: the data"),
        check(
            'finetune lenet5 --model-options {"input_shape":3}', "cannot set input_shape: --image-s"
        ),
        check(
            'finetune lenet5 --model-options {"weights":"x"}', "cannot set weights: --weights does"
        ),
        check('finetune lenet5 --model-options {"name":"x"}', "cannot set name: --model does"),
        check(
            'finetune lenet5 --model-options {"classes":["x"]}', "cannot set classes: the data do"
        ),
        ('train captioning --model-options {"weights":"x"}', "cannot set weights: --weights does"),
        ('train dqn --model-options {"num_classes":3}', "cannot set num_classes: the data"),
        ('finetune mlp --model-options {"widths":5}', "mlp cannot be built with {'widths': 5}: "),
        check(
            'finetune mlp --model-options {"widths":["a"]}', "mlp cannot be built with {'widths': "
        ),
        check(
            'finetune mlp --model-options {"dropout":7}',
            "mlp cannot be built with {'dropout': 7}: ",
        ),
        ("train classification --model dcgan_generator", "is a generator; .* needs a classifier"),
        ("train segmentation --model dcgan_generator", "is a generator; .* needs a segmenter"),
        ("train detection --model dcgan_generator", "is a generator; .* needs a detector"),
        ("train captioning --model dcgan_generator", "is a generator; .* needs a captioner"),
        ("lr-find dcgan_generator", "is a generator; classification needs a classifier"),
        check(
            "finetune lenet5 --model-options {depth:1}", "--model-options takes YAML|no option of"
        ),
        ("finetune lenet5 --num-classes 7", "has 10 classes, not 7"),
        ("finetune lenet5 --train-split train[:x]", "slice"),
        ("finetune lenet5 --weights nowhere.h5", "no weights file at nowhere.h5"),
        ("finetune lenet5 --colour red", "unrecognized arguments: --colour red"),
        ("train", "no task given"),
        ("train clasification", "did you mean classification"),
        ("train --recipe nowhere.yaml", "cannot be read as a recipe"),
        ("predict resnet50 x.png", "has random weights; pretrained: resnet50.imagenet"),
        ("predict nowhere.keras x.png", "does not exist; pass a model file"),
        ("predict resnet20.cifar10 x.png", "image x.png does not exist"),
        ("predict resnet20.cifar10 *.png", r"no image matches \*.png"),
        ("predict resnet20.cifar10 . ", "no images in ."),
        ("predict resnet20.cifar10 x.png --top 0", "--top must be 1 or more"),
        ("predict resnet20.cifar10 x.png --json --format csv", "exclude each other; pass one"),
        ("predict resnet20.cifar10 x.png --format cvs", "did you mean csv"),
        ("evaluate nowhere", "contains no finished run"),
        ("fintune", "did you mean finetune"),
    ],
)
def test_errors_are_one_line(words, wanted, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(wanted, error_line(capsys, *words.split()))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/y"), "No space left on device: x/y"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "Permission denied: x"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (MemoryError("Unable to allocate 9. GiB"), "out of memory; Unable to allocate 9. GiB"),
        (MemoryError(), "out of memory; reduce the batch size or the image size"),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nwith shape"),
            "out of memory; reduce the batch size or the image size",
        ),
    ],
)
def test_system_errors_are_one_line(error, line, capsys, monkeypatch):
    def run(args):
        raise error

    monkeypatch.setattr("scripts.list.run", run)
    assert error_line(capsys, "list") == f"zoo: {line}"


def test_bugs_show_a_traceback(monkeypatch):
    def run(args):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")

    monkeypatch.setattr("scripts.list.run", run)
    with pytest.raises(FileNotFoundError):
        main(["list"])


def test_failed_command_does_not_claim_the_run_folder(capsys, tmp_path, monkeypatch):
    """The corrected command must not find that the folder contains another run."""
    monkeypatch.chdir(tmp_path)
    error_line(capsys, "finetune", *TINY, "--dataset", "nowhere", "--out", "run")
    run("finetune", *TINY, "--out", "run")


@pytest.mark.xdist_group("finetuned")
def test_finetune_predict_and_evaluate(finetuned, folder, capsys):
    figures = json.loads((finetuned / "report.json").read_text())["figures"]
    assert figures["accuracy"] == 1
    # The same command finds the run finished, and prints it.
    words = ("finetune", "lenet5", finetuned.parent / "data", "--epochs", 20, "--batch-size", 8)
    run(*words, "--out", finetuned, "--precision", "float32", "--json")
    record = json.loads(capsys.readouterr().out)
    assert record["out"] == str(finetuned)
    assert record["figures"] == figures

    run("predict", finetuned, folder / "light" / "0.png", "--json")
    (prediction,) = json.loads(capsys.readouterr().out)["images"]
    assert prediction["classes"][0]["name"] == "light"
    assert sum(top["probability"] for top in prediction["classes"]) == pytest.approx(1)

    run("evaluate", finetuned, "--dataset", folder, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["figures"]["accuracy"] == 1
    assert json.loads(Path(found["evaluation"]).read_text())["split"] == found["split"]
    assert json.loads((finetuned / "report.json").read_text())["figures"] == figures


@pytest.mark.xdist_group("finetuned")
@pytest.mark.check
def test_evaluation_matches_classes_by_name(finetuned, folder, tmp_path, capsys):
    # With one of two classes the labels are other indices; names still identify the classes.
    (folder / "dark").rename(folder / "zebra")
    (folder / "light").rename(tmp_path / "light")
    (folder / "light").mkdir()
    (tmp_path / "light" / "0.png").rename(folder / "light" / "0.png")
    line = error_line(capsys, "evaluate", finetuned, "--dataset", folder)
    assert "classes that the model was not trained on: zebra" in line
    (folder / "zebra").rename(tmp_path / "zebra")
    (folder / "dark").mkdir()
    for index in range(3):
        (tmp_path / "zebra" / f"{index}.png").rename(folder / "dark" / f"{index}.png")
    run("evaluate", finetuned, "--dataset", folder, "--json")
    assert json.loads(capsys.readouterr().out)["figures"]["accuracy"] == 1


@pytest.mark.check
def test_unreadable_images_are_reported_and_skipped(folder, tmp_path, capsys):
    whole = (folder / "dark" / "0.png").read_bytes()
    (folder / "dark" / "broken.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "run"
    run("finetune", "mlp", folder, "--epochs", 1, "--out", out)
    assert "broken.png" in (out / "report.html").read_text()

    run("predict", out, folder / "dark" / "broken.png", folder / "dark" / "1.png")
    shown = capsys.readouterr()
    assert "broken.png" in shown.err
    assert "light" in shown.out
    assert "none of the 1 images" in error_line(capsys, "predict", out, folder / "dark/broken.png")


@pytest.mark.check
def test_recipe_repeats_a_run_and_flags_override_it(tmp_path, capsys):
    run("finetune", *TINY, "--out", tmp_path / "one")
    run("train", "--recipe", tmp_path / "one/recipe.yaml", "--out", tmp_path / "two")
    run("train", "--recipe", tmp_path / "one/recipe.yaml", "--seed", 5, "--out", tmp_path / "new")
    read = [recipes.read_recipe(tmp_path / name / "recipe.yaml") for name in ("one", "two", "new")]
    # With what `auto` was resolved to.
    one, two, new = [recipes.recipe(recipes.task_from_recipe(each)) for each in read]
    assert "auto" not in (one["jit_compile"], one["precision"], one["strategy"])
    assert one == two
    assert new == {**one, "seed": 5}
    figures = [
        json.loads((tmp_path / n / "report.json").read_text())["figures"] for n in ("one", "two")
    ]
    assert figures[0]["loss"] == figures[1]["loss"]


def test_former_name_of_generate_still_works(capsys):
    with pytest.raises(SystemExit):
        main(["paint", "--help"])
    assert "zoo generate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("predict run x.png --pictures drawn", "drawings_dir", "drawn"),
        ("tune classification --lag 3", "tune_median_stopping_epochs", 3),
    ],
)
def test_former_names_of_options_still_work(words, field, value, monkeypatch):
    seen = []
    monkeypatch.setattr(f"scripts.{words.split()[0]}.run", seen.append)
    run(*words.split(), status=0)
    assert getattr(seen[0], field) == value
