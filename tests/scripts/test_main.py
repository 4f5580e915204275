"""The command line: help at once, errors in one line, training from end to end."""

import dataclasses
import errno
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from scripts import _flag_groups
from scripts.__main__ import command_names, main
from tasks.engine import recipes

TINY = [
    *("--model", "lenet5", "--epochs", "1", "--precision", "float32"),
    *("--train-split", "train[:128]", "--validation-split", "none", "--test-split", "test[:50]"),
]


@pytest.fixture
def folder(tmp_path):
    """A data set of two classes, twelve images each, that a brightness tells apart."""
    random = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 210)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(12):
            pixels = random.normal(level, 20, (32, 32, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{index}.png")
    return tmp_path / "data"


def run(*words, status=0):
    """Runs a command and checks its exit status."""
    assert main([str(word) for word in words]) == status


def refused(capsys, *words):
    """Runs a command that must fail, and returns its one line."""
    run(*words, status=1)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("zoo: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


@pytest.mark.parametrize("command", command_names())
def test_help_of_every_command_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"zoo {command}" in capsys.readouterr().out


def test_the_overview_names_every_command(capsys):
    run("--help")
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in command_names())


@pytest.mark.parametrize("name", tasks.names())
def test_the_help_of_a_task_lists_its_flags_under_headings(name, capsys):
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


def test_each_flag_is_in_one_group_and_there_is_such_a_flag():
    names = [name for some in _flag_groups.GROUPS.values() for name in some]
    assert len(names) == len(set(names))
    of = [{f.name for f in dataclasses.fields(tasks.get(each))} for each in tasks.names()]
    assert set(names) <= set.union(*of)
    several = {name for name in set.union(*of) if sum(name in fields for fields in of) > 2}
    assert several <= set(names)


def test_list_names_every_model(capsys):
    run("list")
    out = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in out] == zoo.names()


def test_list_as_json_tells_the_spec(capsys):
    run("list", "resnet20.*", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert found["name"] == "resnet20.cifar10"
    assert found["parameters"] == zoo.spec("resnet20").parameters


def test_show_tells_the_spec(capsys):
    run("show", "resnet50.imagenet")
    assert "25,583,592" in capsys.readouterr().out


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
        ("finetune lenet5 --model vgg16", "given twice"),
        ("finetune lenet5 --model-options oops", "--model-options takes YAML"),
        ("finetune lenet5 --model-options {1:2}", "--model-options takes YAML|no option of"),
        ('finetune lenet5 --model-options {"num_classes":3}', "cannot set num_classes: the data"),
        ('finetune lenet5 --model-options {"input_shape":3}', "cannot set input_shape: --image-s"),
        ('finetune lenet5 --model-options {"weights":"x"}', "cannot set weights: --weights does"),
        ('finetune lenet5 --model-options {"name":"x"}', "cannot set name: --model does"),
        ('finetune lenet5 --model-options {"classes":["x"]}', "cannot set classes: the data do"),
        ('train captioning --model-options {"weights":"x"}', "cannot set weights: --weights does"),
        ('train dqn --model-options {"num_classes":3}', "cannot set num_classes: the data"),
        ('finetune mlp --model-options {"widths":5}', "mlp cannot be built with {'widths': 5}: "),
        ('finetune mlp --model-options {"widths":["a"]}', "mlp cannot be built with {'widths': "),
        ('finetune mlp --model-options {"dropout":7}', "mlp cannot be built with {'dropout': 7}: "),
        ("train classification --model dcgan_generator", "is a generator; .* needs a classifier"),
        ("train segmentation --model dcgan_generator", "is a generator; .* needs a segmenter"),
        ("train detection --model dcgan_generator", "is a generator; .* needs a detector"),
        ("train captioning --model dcgan_generator", "is a generator; .* needs a captioner"),
        ("lr-find dcgan_generator", "is a generator; classification needs a classifier"),
        ("finetune lenet5 --model-options {depth:1}", "--model-options takes YAML|no option of"),
        ("finetune lenet5 --num-classes 7", "has 10 classes, not 7"),
        ("finetune lenet5 --train-split train[:x]", "slice"),
        ("finetune lenet5 --weights nowhere.h5", "no weights file at nowhere.h5"),
        ("finetune lenet5 --colour red", "unrecognized arguments: --colour red"),
        ("train", "name a task"),
        ("train clasification", "did you mean classification"),
        ("train --recipe nowhere.yaml", "cannot be read as a recipe"),
        ("predict resnet50 x.png", "has random weights .* resnet50.imagenet"),
        ("predict nowhere.keras x.png", "no model file"),
        ("predict resnet20.cifar10 x.png", "no image at x.png"),
        ("predict resnet20.cifar10 *.png", r"no image is \*.png"),
        ("predict resnet20.cifar10 . ", "no images in ."),
        ("predict resnet20.cifar10 x.png --top 0", "--top must be 1 or more"),
        ("predict resnet20.cifar10 x.png --json --format csv", "two formats; give one"),
        ("predict resnet20.cifar10 x.png --format cvs", "did you mean csv"),
        ("evaluate nowhere", "holds no finished run"),
        ("fintune", "did you mean finetune"),
    ],
)
def test_a_mistake_is_answered_in_one_line(words, wanted, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(wanted, refused(capsys, *words.split()))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/y"), "No space left on device: x/y"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "Permission denied: x"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (MemoryError("Unable to allocate 9. GiB"), "memory ran out; Unable to allocate 9. GiB"),
        (MemoryError(), "memory ran out; take less at once"),
    ],
)
def test_what_the_system_refuses_is_one_line(error, line, capsys, monkeypatch):
    def run(args):
        raise error

    monkeypatch.setattr("scripts.list.run", run)
    assert refused(capsys, "list") == f"zoo: {line}"


def test_an_error_of_ours_is_shown_in_full(monkeypatch):
    def run(args):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")

    monkeypatch.setattr("scripts.list.run", run)
    with pytest.raises(FileNotFoundError):
        main(["list"])


def test_a_flag_that_fails_before_training_leaves_no_claim(capsys, tmp_path, monkeypatch):
    """A mistake corrected must not be told that the folder holds another run."""
    monkeypatch.chdir(tmp_path)
    refused(capsys, "finetune", *TINY, "--dataset", "nowhere", "--out", "run")
    run("finetune", *TINY, "--out", "run")


def test_finetune_predict_evaluate_from_end_to_end(folder, tmp_path, capsys):
    out = tmp_path / "run"
    words = ("finetune", "lenet5", folder, "--epochs", 30, "--batch-size", 8, "--out", out)
    run(*words, "--precision", "float32", "--json")
    record = json.loads(capsys.readouterr().out)
    assert record["out"] == str(out)
    assert record["figures"]["accuracy"] == 1

    run("predict", out, folder / "light" / "0.png", "--json")
    (answer,) = json.loads(capsys.readouterr().out)["images"]
    assert answer["classes"][0]["name"] == "light"
    assert sum(guess["probability"] for guess in answer["classes"]) == pytest.approx(1)

    run("evaluate", out, "--dataset", folder, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["figures"]["accuracy"] == 1
    assert json.loads((tmp_path / found["evaluation"]).read_text())["split"] == found["split"]
    assert json.loads((out / "report.json").read_text())["figures"] == record["figures"]


def test_evaluation_matches_classes_by_name_and_refuses_strange_ones(folder, tmp_path, capsys):
    out = tmp_path / "run"
    run("finetune", "lenet5", folder, "--epochs", 30, "--batch-size", 8, "--out", out)
    # With only one of the classes the labels are numbered anew; names still tell them apart.
    (folder / "dark").rename(folder / "zebra")
    (folder / "light").rename(tmp_path / "light")
    capsys.readouterr()
    (folder / "light").mkdir()
    (tmp_path / "light" / "0.png").rename(folder / "light" / "0.png")
    assert "classes that the model was not taught: zebra" in refused(
        capsys, "evaluate", out, "--dataset", folder
    )
    (folder / "zebra").rename(tmp_path / "zebra")
    (folder / "dark").mkdir()
    for index in range(3):
        (tmp_path / "zebra" / f"{index}.png").rename(folder / "dark" / f"{index}.png")
    run("evaluate", out, "--dataset", folder, "--json")
    assert json.loads(capsys.readouterr().out)["figures"]["accuracy"] == 1


def test_unreadable_images_are_named_and_skipped(folder, tmp_path, capsys):
    whole = (folder / "dark" / "0.png").read_bytes()
    (folder / "dark" / "broken.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "run"
    run("finetune", "lenet5", folder, "--epochs", 1, "--out", out)
    assert "broken.png" in (out / "report.html").read_text()

    run("predict", out, folder / "dark" / "broken.png", folder / "dark" / "1.png")
    shown = capsys.readouterr()
    assert "broken.png" in shown.err
    assert "light" in shown.out
    assert "none of the 1 images" in refused(capsys, "predict", out, folder / "dark/broken.png")


def test_a_recipe_repeats_a_run_and_flags_change_it(tmp_path, capsys):
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


@pytest.mark.parametrize(
    "line",
    [
        "import zoo; zoo.names()",
        "import tasks; tasks.names()",
        "import scripts.train, scripts.list, scripts.finetune, scripts.predict",
        "from scripts.__main__ import main; main(['list'])",
    ],
)
def test_importing_loads_no_framework(line):
    check = "import sys; sys.exit(bool({'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    code = f"{line}; {check}"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
