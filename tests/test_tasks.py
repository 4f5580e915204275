"""The contract of a task: what every name in `tasks` must do.

Each task is run on a few real images, small enough for a laptop.
"""

import dataclasses
import json
import math
import zipfile

import checks
import keras
import numpy as np
import pytest

import tasks
from tasks.engine import resume, trainer
from zoo.errors import UsageError

TINY = {
    "classification": {
        "model": "lenet5",
        "dataset": "fashion_sample",
        "train_split": "train[:256]",
        "validation_split": "train[256:384]",
        "test_split": "test[:100]",
        "augment": "light",
        "precision": "float32",
    },
    "segmentation": {
        "model": "unet",
        "model_options": "{widths: [4, 8]}",
        "dataset": "shapes",
        "train_split": "train[:64]",
        "validation_split": "validation[:16]",
        "test_split": "test[:16]",
        "image_size": 64,
        "augment": "light",
        "precision": "float32",
    },
    "detection": {
        "model": "faster_rcnn",
        "backbone": "lenet5",
        "model_options": "{levels: [2, 3], channels: 8, proposals: 12, hidden: [8], least: 0.0}",
        "dataset": "shapes",
        "train_split": "train[:64]",
        "validation_split": "validation[:16]",
        "test_split": "test[:16]",
        "image_size": 64,
        "augment": "light",
        "precision": "float32",
    },
    "captioning": {
        "model": "show_attend_tell",
        "backbone": "lenet5",
        "model_options": "{widths: [8], embedding: 8, units: 12, attention: 8}",
        "dataset": "shapes",
        "train_split": "train[:64]",
        "validation_split": "validation[:16]",
        "test_split": "test[:16]",
        "image_size": 32,
        "precision": "float32",
    },
    "gan": {
        "width": 4,
        "latent_size": 8,
        "dataset": "fashion_sample",
        "train_split": "train[:64]",
        "validation_split": "train[64:96]",
        "test_split": "test[:32]",
        "samples": 32,
        "validation_samples": 32,
        "shown": 16,
        "precision": "float32",
    },
    "style_transfer": {
        "model": "fast_style",
        "model_options": "{width: 4, depth: 1}",
        "backbone": "lenet5",
        "backbone_weights": "random",
        "train_split": "train[:8]",
        "validation_split": "validation[:2]",
        "test_split": "test[:2]",
        "image_size": 32,
        "patch_size": 32,
        "batch_size": 4,
        "steps": 2,
        "precision": "float32",
    },
    "dqn": {
        "epoch_steps": 96,
        "learning_starts": 60,
        "replay": 400,
        "batch_size": 16,
        "train_every": 4,
        "environments": 2,
        "validation_episodes": 3,
        "test_episodes": 5,
        "model_options": "{widths: [8]}",
        "precision": "float32",
    },
}
MORE = {"style_transfer": ("picture.png",)}  # files that a run leaves besides
TIMES = {"seconds", "images_per_second"}


def tiny(name, **flags):
    """The task called `name`, at a size that trains in seconds."""
    return tasks.get(name)(**{"epochs": 2, **TINY[name], **flags})


def figures(record):
    """The figures that a second run must repeat."""
    return {key: value for key, value in record["figures"].items() if key not in TIMES}


# Tasks that take long, of which what others show by default is shown by `--slow`.
LONG = ("captioning", "detection", "segmentation", "style_transfer")


def each(*, slow=()):
    """Returns all tasks; the tests of one share a run, so they stay in one process."""
    marks = {name: [pytest.mark.xdist_group(name)] for name in tasks.names()}
    for name in slow:
        marks[name].append(pytest.mark.slow)
    return [pytest.param(name, marks=marks[name]) for name in marks]


EACH, SHORT = each(), each(slow=LONG)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns what trains a task once, for all tests; it returns the record and the folder."""
    done = {}

    def run(name):
        if name not in done:
            out = tmp_path_factory.mktemp(name) / "run"
            done[name] = trainer.train(tiny(name), out), out
        return done[name]

    return run


def test_every_task_has_a_tiny_version():
    assert sorted(TINY) == sorted(tasks.names())


@pytest.mark.parametrize("name", tasks.names())
def test_every_flag_has_help_and_a_plain_default(name):
    for field in dataclasses.fields(tasks.get(name)):
        assert field.metadata["help"], f"{name}.{field.name} has no help"
        assert isinstance(field.default, int | float | str)
        choices = field.metadata["choices"]
        assert not choices or field.default in choices


@pytest.mark.parametrize("name", EACH)
def test_a_run_leaves_what_the_contract_says(name, whole):
    record, out = whole(name)
    assert json.loads((out / "report.json").read_text()) == record
    assert set(record) == {"task", "flags", "figures", "environment"}
    assert all(math.isfinite(value) for value in record["figures"].values())
    left = {path.name for path in out.iterdir()}
    assert left == {
        *("recipe.yaml", "report.json", "report.html", "history.csv", "model.keras"),
        *("logs", "checkpoint"),
        *MORE.get(name, ()),
    }
    with zipfile.ZipFile(out / "model.keras") as archive:
        assert not json.loads(archive.read("config.json")).get("compile_config")
    assert len(checks.history(out)) == 2
    recipe = resume.read_recipe(out / "recipe.yaml")
    followed = {key: recipe[key] for key in recipe.get("resolved", ())}  # from the data
    again = resume.to_task(recipe)
    assert resume.recipe(again) == resume.recipe(tiny(name)) | followed


@pytest.mark.parametrize("name", EACH)
def test_a_finished_run_is_not_trained_again(name, whole):
    first, out = whole(name)
    before = (out / "model.keras").stat().st_mtime_ns
    assert trainer.train(tiny(name), out) == first
    assert (out / "model.keras").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", SHORT)
def test_another_seed_gives_other_losses(name, tmp_path, whole, cut_short):
    _, out = whole(name)
    cut_short(tiny(name, seed=1), tmp_path)
    assert resume.State(tmp_path).history[0]["loss"] != checks.column(out, "loss")[0]


@pytest.mark.parametrize("name", EACH)
def test_an_interrupted_run_ends_as_if_it_had_not_been(name, tmp_path, whole, cut_short):
    """The same seed gives the same figures, then, in one go or two."""
    record, out = whole(name)
    assert cut_short(tiny(name), tmp_path / "cut") == [1]
    assert not (tmp_path / "cut/report.json").exists()

    again = trainer.train(tiny(name), tmp_path / "cut")
    assert figures(again) == figures(record)
    assert checks.column(tmp_path / "cut", "loss") == checks.column(out, "loss")


@pytest.mark.parametrize("name", SHORT)  # the others have such a test of their own
def test_two_replicas_give_figures_of_the_whole_split(name, tmp_path, two_devices):
    if keras.backend.backend() != "tensorflow":
        with pytest.raises(UsageError, match="needs KERAS_BACKEND=tensorflow; this is"):
            trainer.train(tiny(name, strategy="mirrored"), tmp_path / "r")
        return
    split = {"test_split": "test[:33]"} if "test_split" in TINY[name] else {}
    record = trainer.train(tiny(name, strategy="mirrored", epochs=1, **split), tmp_path / "r")
    assert all(math.isfinite(value) for value in record["figures"].values())
    if name == "classification":
        # Every one of the 33 images counts once: accuracy is a multiple of 1 / 33.
        assert (record["figures"]["accuracy"] * 33) % 1 == pytest.approx(0, abs=1e-9)


def test_classification_learns(tmp_path):
    task = tiny("classification", epochs=6, train_split="train[384:1900]", augment="none")
    assert trainer.train(task, tmp_path / "run")["figures"]["accuracy"] > 0.6


def test_another_run_in_the_folder_is_refused(tmp_path):
    resume.claim(tmp_path / "run", tiny("classification"))
    resume.claim(tmp_path / "run", tiny("classification", seed=1))  # the first has left nothing
    (tmp_path / "run" / "report.json").write_text("{}")
    resume.claim(tmp_path / "run", tiny("classification", seed=1))
    with pytest.raises(UsageError, match=r"seed: 1 there, 0 asked.*another --out"):
        resume.claim(tmp_path / "run", tiny("classification"))


def test_somebody_elses_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="no run's folder"):
        resume.claim(tmp_path, tiny("classification"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_best_epoch_is_kept(tmp_path, monkeypatch):
    """Epoch 1 of 3 is declared the best: the model saved must be that of a run of 1 epoch."""
    make = tasks.get("classification")
    monkeypatch.setattr(make, "better", lambda task, row, best: False)
    flags = {"schedule": "constant"}
    one = trainer.train(tiny("classification", epochs=1, **flags), tmp_path / "one")
    three = trainer.train(tiny("classification", epochs=3, **flags), tmp_path / "three")
    assert figures(three) == figures(one)


def test_patience_stops_early(tmp_path, monkeypatch):
    make = tasks.get("classification")
    monkeypatch.setattr(make, "better", lambda task, row, best: False)
    trainer.train(tiny("classification", epochs=9, patience=2), tmp_path / "run")
    assert len(checks.history(tmp_path / "run")) == 3


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(UsageError, match="lower --learning-rate"):
        trainer.train(tiny("classification", optimizer="sgd", learning_rate=1e30), tmp_path / "run")


def test_batch_norm_is_frozen_in_a_pretrained_model_only():
    import zoo
    from tasks.engine import finetune, plans

    def learning(plan, policy="auto"):
        model = zoo.build("resnet20", num_classes=3)
        pretrained = plan != "scratch"
        (stage,) = plans.resolve(plan, epochs=1, pretrained=pretrained, batch_norm=policy)
        finetune.prepare(model, stage)
        return {w.path.split("/")[-1] for w in model.trainable_weights}, model

    assert learning("scratch")[0] == {"kernel", "bias", "gamma", "beta"}
    assert learning("full")[0] == {"kernel", "bias"}
    assert learning("full", "update")[0] == {"kernel", "bias", "gamma", "beta"}
    _, model = learning("probe")
    assert [layer.name for layer in model.layers if layer.trainable_weights] == ["logits"]

    _, model = learning("full")
    before = [np.array(w) for layer in model.layers for w in layer.non_trainable_weights]
    model.compile("sgd", "mse")
    model.fit(np.full((4, 32, 32, 3), 200), np.ones((4, 3)), verbose=0)
    after = [np.array(w) for layer in model.layers for w in layer.non_trainable_weights]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
