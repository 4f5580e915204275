"""The run folder: its lock, its state files, its name, and the data it was trained on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from scripts import _flags
from scripts.__main__ import main
from tasks.data import data_fingerprint, sources
from tasks.engine import callbacks, recipes, resume, run_folder, trainer
from tests.support import checks
from tests.support.paths import ROOT
from zoo import model_files
from zoo.atomic_files import write_text
from zoo.errors import UsageError

TINY = {
    "model": "mlp",
    "model_options": "{widths: [4]}",
    "image_size": 8,
    "batch_size": 8,
    "epochs": 2,
    "precision": "float32",
}
CLASSES = ("black", "grey", "white")


def task(dataset="fashion_sample", **flags):
    own = {"train_split": "train[:16]", "validation_split": "none", "test_split": "test[:8]"}
    own = own if dataset == "fashion_sample" else {}
    return tasks.get("classification")(**{**TINY, **own, "dataset": str(dataset), **flags})


def refused(capsys, *words):
    """Runs a command that must fail; returns the error message."""
    assert main([str(word) for word in words]) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("zoo: ")]
    assert (out, len(lines)) == ("", 1)
    return lines[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Returns a data set of three classes in three splits."""
    top, random = tmp_path_factory.mktemp("data") / "images", np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for level, name in enumerate(CLASSES):
            (top / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 60, (8, 8)) + 90 * level
                Image.fromarray(pixels.astype("uint8")).save(top / split / name / f"{index}.png")
    return top


@pytest.fixture(scope="module")
def _interrupted(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
        checks.kill(task(images, checkpoint_steps=1), out, 1)
    assert resume.RunState(out).step == 1
    return out


@pytest.fixture
def interrupted(_interrupted, tmp_path):
    """Returns the folder of a run on `images` that was killed after its first step."""
    return shutil.copytree(_interrupted, tmp_path / "run")


@pytest.fixture
def copied(images, tmp_path):
    """Returns a copy of the images in another folder."""
    return shutil.copytree(images, tmp_path / "elsewhere" / "images")


def changed(out, name, **fields):
    """Writes other fields into a JSON file of a run."""
    path = out / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


# Data


def rename_class(top):
    for split in ("train", "val", "test"):
        (top / split / "black").rename(top / split / "xblack")


def add_image(top):
    shutil.copy(top / "train/black/0.png", top / "train/black/new.png")


def relabel(top):
    (top / "train/black/0.png").rename(top / "train/white/moved.png")


def edit(top):
    path = top / "test/black/0.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (rename_class, r"classes removed: 'black' and new: 'xblack'"),
        (add_image, r"train had 18 examples, digest \w+, and has 19 examples, digest \w+"),
        (relabel, r"train had 18 examples, digest (\w+), and has 18 examples, digest (?!\1)"),
        (edit, r"other data: test had 9 examples, digest (\w+), and has 9 examples, digest (?!\1)"),
    ],
)
def test_a_run_is_not_resumed_with_other_data(change, expected, interrupted, copied, monkeypatch):
    monkeypatch.setattr(callbacks, "print_status", lambda line: None)
    changed(interrupted, resume.STATE, data=task(copied).data_fingerprint(task(copied).load()))
    change(copied)
    before = sorted(path.name for path in interrupted.rglob("*"))
    recipe = recipes.read_recipe(interrupted / recipes.RECIPE)
    recipes.write_recipe(interrupted, task(copied, checkpoint_steps=1))
    with pytest.raises(UsageError, match=expected):
        trainer.train(task(copied, checkpoint_steps=1), interrupted)
    assert sorted(path.name for path in interrupted.rglob("*")) == before
    assert recipe["dataset"] != str(copied)


@pytest.mark.check
def test_a_run_is_resumed_after_its_data_were_moved(interrupted, copied, images):
    with pytest.raises(UsageError, match=r"epochs: 2 there, 3 requested"):
        trainer.train(task(copied, checkpoint_steps=1, epochs=3), interrupted)
    trainer.train(task(copied, checkpoint_steps=1), interrupted)
    assert recipes.read_recipe(interrupted / recipes.RECIPE)["dataset"] == str(copied)
    # A finished run is compared by its flags only.
    with pytest.raises(UsageError, match=r"contains another run \(dataset"):
        trainer.train(task(images, checkpoint_steps=1), interrupted)


def test_moved_data_are_not_read_from_their_former_place(interrupted, copied, images, tmp_path):
    # The classes of the weights file affect the plan, for which the data set is read.
    weights = tmp_path / "own.keras"
    model = zoo.build("mlp", input_shape=(8, 8, 1), num_classes=3, widths=[4])
    model_files.save(model, weights, {"classes": list(CLASSES)})
    flags = {"checkpoint_steps": 1, "weights": str(weights)}
    recipes.write_recipe(interrupted, task(images, **flags))
    before = recipes.read_recipe(interrupted / recipes.RECIPE)
    write_text(
        interrupted / recipes.RECIPE, json.dumps({**before, "dataset": str(tmp_path / "gone")})
    )
    assert resume.check_folder(interrupted, task(copied, **flags))


def test_a_run_of_an_earlier_version_is_resumed(interrupted, images):
    path = interrupted / resume.STATE
    state = json.loads(path.read_text())
    del state["data"], state["times"]
    path.write_text(json.dumps(state))
    trainer.train(task(images, checkpoint_steps=1), interrupted)
    assert resume.RunState(interrupted).data["classes"] == list(CLASSES)


def test_the_fingerprint_ignores_modification_times_and_folders(images, copied):
    os.utime(copied / "train/black/0.png", (0, 0))
    one, other = (
        task(each).source_fingerprint(sources.load(str(each))) for each in (images, copied)
    )
    assert one == other
    assert one["classes"] == list(CLASSES)
    assert list(one["splits"]) == ["train", "validation", "test"]


def test_differences_name_classes_and_splits():
    before = {"classes": ["a", "b"], "splits": {"train": "2 examples", "test": "1 examples"}}
    now = {"classes": ["b", "a"], "splits": {"train": "2 examples"}}
    assert data_fingerprint.differences(before, before) == []
    assert data_fingerprint.differences(before, now) == [
        "the classes are in another order",
        "test had 1 examples, and has nothing",
    ]


@pytest.mark.check
def test_evaluate_states_how_to_pass_data_that_were_moved(interrupted, copied, capsys):
    out = interrupted
    trainer.train(task(copied, checkpoint_steps=1), out)
    page = (out / "report.html").read_text()
    assert "<title>mlp on images" in page
    assert str(copied) not in page.partition("<h2>")[0].partition("zoo train")[0]
    moved = copied.rename(copied.parent / "moved")
    message = refused(capsys, "evaluate", out)
    assert message.endswith("(default: all): --dataset PATH --split 'SLICE'")
    assert main(["evaluate", str(out), "--dataset", str(moved), "--split", "test"]) == 0
    capsys.readouterr()
    [found] = (out / "evaluations").iterdir()
    assert found.name.startswith("moved-test-")
    message = refused(capsys, "evaluate", out, "--dataset", copied)  # which is not the run's own
    assert "--split" not in message


# The lock

HOLD = """
import sys, time
from pathlib import Path
from tasks.engine import run_folder
with run_folder.lock_folder(Path(sys.argv[1]), lambda: True):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_with_the_owner_of_the_lock(tmp_path, capsys):
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        flags = [word for pair in TINY.items() for word in pair]
        flags = [f"--{word.replace('_', '-')}" if word in TINY else word for word in flags]
        message = refused(capsys, "finetune", *flags, "--out", tmp_path / "run")
        assert f"process {process.pid} on " in message
        assert "choose another --out" in message
        process.kill()
    with run_folder.lock_folder(tmp_path / "run", lambda: True):  # its owner is dead
        pass
    assert not list((tmp_path / "run").iterdir())


def test_a_run_locks_its_folder_during_training(tmp_path, monkeypatch):
    step, message = callbacks.TrainingCallback.step, []

    def step_and_lock(recorder, number, logs):
        step(recorder, number, logs)
        with (
            pytest.raises(UsageError, match=f"process {os.getpid()} on"),
            run_folder.lock_folder(tmp_path / "run", lambda: True),
        ):
            message.append("never")

    monkeypatch.setattr(callbacks.TrainingCallback, "step", step_and_lock)
    trainer.train(task(epochs=1), tmp_path / "run")
    assert not message
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".lock")]


# Cleaning up after errors


@pytest.mark.parametrize(
    "flags",
    [{"dataset": "nowhere"}, {"test_split": "dev"}, {"num_classes": 7}, {"weights": "nowhere.h5"}],
    ids=str,
)
def test_a_refused_run_leaves_no_folder(flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused_task = task(**{"dataset": "fashion_sample", **flags})
    with pytest.raises(UsageError):
        trainer.train(refused_task, "runs/one")
    assert not list(tmp_path.iterdir())
    Path("runs/one").mkdir(parents=True)
    with pytest.raises(UsageError):
        trainer.train(refused_task, "runs/one")
    assert [str(path) for path in Path().rglob("*")] == ["runs", "runs/one"]


# Files in the folder


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"older": ["../../../victim"]}, "'older' is .*expected a list of names of checkpoints"),
        ({"older": ["/victim"]}, "'older'"),
        ({"older": [""]}, "'older'"),
        ({"weights": "../victim.npz"}, "'weights' is .*expected the name of a checkpoint"),
        ({"best_weights": "state.json"}, "'best_weights'"),
        ({"epoch": -1}, "'epoch' is -1, expected a number of epochs"),
        ({"epoch": True}, "'epoch'"),
        ({"step": 1.5}, "'step'"),
        ({"step": 4}, "resumes after step 4 of an epoch that has 2"),
        ({"seconds": "long"}, "'seconds'"),
        ({"best": 7}, "is inconsistent"),
        ({"epoch": 1}, "is inconsistent"),
        ({"weights": ""}, "is inconsistent"),
        ({"history": [{"loss": 1.0}]}, "'history'"),
        ({"history": {}}, "'history'"),
        ({"times": {"training": None}}, "'times'"),
        ({"data": {"classes": 5}}, "'data'"),
    ],
    ids=str,
)
def test_a_malformed_state_is_refused(fields, expected, interrupted, images):
    victim = interrupted.parent / "victim"
    victim.write_text("precious")
    changed(interrupted, resume.STATE, **fields)
    with pytest.raises(UsageError, match=expected):
        trainer.train(task(images, checkpoint_steps=1), interrupted)
    assert victim.read_text() == "precious"
    assert (interrupted / resume.STATE).exists()


def test_a_state_does_not_contain_its_path(interrupted):
    changed(interrupted, resume.STATE, path="/victim")
    assert resume.RunState(interrupted).path == interrupted / resume.STATE


DAMAGED = [b"", b'{"epoch": 1', b"[]", b"null", b"\xff\xfe", b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda each: repr(each[:8]))
@pytest.mark.parametrize("name", [resume.STATE, resume.REPORT])
def test_a_damaged_file_is_refused_by_name(content, name, interrupted, images):
    (interrupted / name).write_bytes(content)
    with pytest.raises(UsageError, match=name) as caught:
        trainer.train(task(images, checkpoint_steps=1), interrupted)
    assert "\n" not in str(caught.value)


def damaged_flag(path):
    """Marks the first member of a ZIP archive as encrypted."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)


def unknown_compression(path):
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(mark) + offset] = 99
    path.write_bytes(data)


def an_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def texts(path):
    with path.open("wb") as file:
        np.savez(file, **{f"run/{n}": np.array("text") for n in range(99)})


def no_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run/0.npy", b"\x93NUMPY\x01\x00")


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [damaged_flag, unknown_compression, an_array, cut, texts, no_archive, a_pipe, Path.unlink],
)
def test_a_damaged_checkpoint_is_refused(damage, interrupted, images):
    damage(interrupted / "checkpoint" / resume.RunState(interrupted).weights)
    with pytest.raises(UsageError, match=r"checkpoint .*another --out"):
        trainer.train(task(images, checkpoint_steps=1), interrupted)


# Names


@pytest.mark.parametrize("out", ["x" * 300, "a\0b", "file/run"], ids=["long", "nul", "in a file"])
@pytest.mark.parametrize("command", ["finetune", "tune classification"])
def test_an_invalid_folder_name_is_refused(command, out, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    message = refused(capsys, *command.split(), "--model", "lenet5", "--epochs", "1", "--out", out)
    assert "cannot be used" in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "words", ["evaluate {}", "predict {} a.png", "paint {} --out a", "doctor {}"]
)
def test_a_file_name_that_is_too_long_is_refused(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, *words.format("x" * 300).split())
    assert message == f"zoo: File name too long: {'x' * 200}"


class Args:
    out = ""


def test_the_default_folder_name_is_short_and_without_parent_folders(tmp_path):
    place = tmp_path / "flowers"
    name = _flags.output_folder(Args, task(place)).name
    assert name.startswith("mlp-flowers-")
    assert _flags.output_folder(Args, task(tmp_path / "other" / "flowers")).name != name
    assert _flags.output_folder(Args, task("data/flowers")).name.startswith("mlp-data-flowers-")
    long = [_flags.output_folder(Args, task("tfds:" + letter * 300)).name for letter in "ab"]
    assert all(len(name) < 255 for name in long)
    assert long[0] != long[1]


# Time


@pytest.mark.check
def test_seconds_include_all_processes_of_a_run(interrupted, images, monkeypatch):
    before = resume.RunState(interrupted).times
    assert before["preparation"] > 0
    changed(interrupted, resume.STATE, times={**before, "training": 1000.0})
    found = trainer.train(task(images, checkpoint_steps=1), interrupted)
    assert found["times"]["training"] > 1000
    assert {"preparation", "training", "validation", "evaluation"} <= found["times"].keys()
    assert found["figures"]["seconds"] == pytest.approx(sum(found["times"].values()))
    assert json.loads((interrupted / "report.json").read_text())["times"] == found["times"]
    page = (interrupted / "report.html").read_text()
    assert "<h2>Time</h2>" in page
    assert "preparation" in page
