"""Classification, flag by flag: each changes what it says, and nothing else."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from scripts import __main__ as cli
from tasks.deploy import evaluate
from tasks.engine import trainer
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

TINY = {
    "model": "lenet5",
    "train_split": "train[:192]",
    "validation_split": "train[192:256]",
    "test_split": "test[:64]",
    "epochs": 2,
}


def task(**flags):
    return tasks.get("classification")(**{**TINY, **flags})


@pytest.mark.slow
def test_auxiliary_heads_train_and_are_gone_in_what_is_saved(tmp_path):
    options = {"model": "googlenet", "image_size": 32, "train_split": "train[:32]", "epochs": 1}
    trainer.train(task(**options), tmp_path)
    row = checks.history(tmp_path)[0]
    assert {"auxiliary1_loss", "auxiliary2_loss", "logits_loss", "accuracy"} <= {
        key.replace("logits_accuracy", "accuracy") for key in row
    }
    total = float(row["logits_loss"]) + 0.3 * sum(float(row[f"auxiliary{n}_loss"]) for n in (1, 2))
    assert float(row["loss"]) == pytest.approx(total, rel=1e-3)
    model, _ = model_files.load(tmp_path / "model.keras")
    assert model.output_shape == (None, 10)
    assert not [layer.name for layer in model.layers if "auxiliary" in layer.name]


def test_a_temperature_is_saved_in_the_model_and_changes_no_answer(tmp_path):
    plain = trainer.train(task(), tmp_path / "plain")["figures"]
    warm = trainer.train(task(calibrate="temperature"), tmp_path / "warm")["figures"]
    assert warm["accuracy"] == plain["accuracy"]
    assert warm["loss"] != plain["loss"]
    one, other = (model_files.load(tmp_path / run / "model.keras")[0] for run in ("plain", "warm"))
    images = np.random.default_rng(0).integers(0, 256, (4, *one.input_shape[1:]), "uint8")
    scale = other.get_layer("temperature").scale
    np.testing.assert_allclose(
        other.predict(images, verbose=0), one.predict(images, verbose=0) * scale, rtol=1e-4
    )


def test_a_temperature_without_validation_is_refused(tmp_path):
    with pytest.raises(UsageError, match="needs a validation split"):
        trainer.train(task(calibrate="temperature", validation_split="none", epochs=1), tmp_path)


HARD = {
    "ema_decay": 0.9,
    "gradient_accumulation_steps": 2,
    "clip_norm": 1.0,
    "l2": 1e-4,
    "dropout": 0.0,
}
CHANGED = {"augment": "rand", "mix": "both", "erase": 0.5, "class_weight": "balanced"}


@pytest.mark.parametrize("flags", [HARD, CHANGED], ids=["optimiser", "data"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(flags, tmp_path, cut_short):
    whole = trainer.train(task(epochs=3, **flags), tmp_path / "whole")
    assert cut_short(task(epochs=3, **flags), tmp_path / "cut") == [1]
    cut = trainer.train(task(epochs=3, **flags), tmp_path / "cut")
    assert checks.column(tmp_path / "cut", "loss") == checks.column(tmp_path / "whole", "loss")
    assert cut["figures"]["loss"] == whole["figures"]["loss"]


def test_what_is_judged_and_saved_is_the_average(tmp_path):
    one = trainer.train(task(ema_decay=0.99, epochs=1), tmp_path / "average")["figures"]
    other = trainer.train(task(epochs=1), tmp_path / "last")["figures"]
    assert one["loss"] != other["loss"]
    model, about = model_files.load(tmp_path / "average" / "model.keras")
    judged, _ = task().evaluate(model, about, "train[192:256]")
    assert judged["loss"] == pytest.approx(
        checks.column(tmp_path / "average", "val_loss")[0], rel=1e-4
    )


@pytest.mark.parametrize(
    ("counts", "class_weight", "balanced"),
    [((20, 20), "none", False), ((20, 20), "balanced", True), ((20, 3), "none", False),
     ((20, 2), "none", True), ((9, 0), "none", False)],
)  # fmt: skip
def test_the_epoch_is_chosen_by_balanced_accuracy_where_classes_are_to_weigh_the_same(
    counts, class_weight, balanced, monkeypatch
):
    asked = task(class_weight=class_weight)
    source = SimpleNamespace(classes=("a", "b"), multi_label=False)
    parts = [SimpleNamespace(labels=np.repeat([0, 1], many)) for many in (counts, (9, 1))]
    data = SimpleNamespace(source=source, train=parts[0], validation=parts[1])
    events = SimpleNamespace(confusion=lambda *args: None)
    rows = []
    for said in ([0] * 10, [0] * 7 + [1] * 3):  # all of the first; both, with two mistakes
        monkeypatch.setattr(asked.__class__, "_logits", lambda *args, x=said: np.eye(2)[x])
        figures = asked.validate(None, data, events, 1)
        rows.append({f"val_{name}": value for name, value in figures.items()})
    assert ("val_balanced_accuracy" in rows[0]) == balanced
    assert asked.better(rows[1], rows[0]) == balanced


@pytest.mark.parametrize("loss", ["focal", "squared_error"])
def test_every_loss_teaches(loss, tmp_path):
    trainer.train(task(loss=loss, epochs=4, learning_rate=3e-3), tmp_path)
    first, *_, last = checks.column(tmp_path, "loss")
    assert last < first


def test_views_change_what_is_judged_and_not_what_is_saved(tmp_path):
    one = trainer.train(task(), tmp_path / "one")["figures"]
    ten = trainer.train(task(views="ten"), tmp_path / "ten")["figures"]
    assert one["loss"] != ten["loss"]
    again = evaluate.evaluate(tmp_path / "one", views="ten")
    assert again["figures"]["loss"] == pytest.approx(ten["loss"], rel=1e-5)
    assert again["evaluation"].endswith("-ten.json")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), "uint8")
    answers = [
        model_files.load(tmp_path / run / "model.keras")[0].predict(images, verbose=0)
        for run in ("one", "ten")
    ]
    np.testing.assert_array_equal(*answers)


@pytest.fixture
def labelled(tmp_path):
    """Pictures that are red or not on the left and blue or not on the right, as a CSV says."""
    random, rows = np.random.default_rng(0), ["path,label"]
    for index in range(160):
        red, blue = random.integers(0, 2, 2)
        pixels = random.integers(0, 60, (16, 16, 3)).astype("uint8")
        pixels[:, :8, 0] += np.uint8(180 * red)
        pixels[:, 8:, 2] += np.uint8(180 * blue)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{'|'.join(['red'] * red + ['blue'] * blue)}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "table.csv"


def test_several_labels_are_learnt_judged_and_predicted(labelled, tmp_path):
    flags = {"train_split": "", "validation_split": "", "test_split": ""}
    asked = task(
        dataset=str(labelled), model="mlp", channels=3, epochs=12, learning_rate=3e-3, **flags
    )
    record = trainer.train(asked, tmp_path / "run")
    assert record["figures"]["map"] > 0.95
    assert record["figures"]["map_low"] <= record["figures"]["map"]
    model, about = model_files.load(tmp_path / "run" / "model.keras")
    assert about["multi_label"] is True
    assert about["classes"] == ["blue", "red"]
    found = evaluate.evaluate(tmp_path / "run")
    assert found["figures"]["map"] == pytest.approx(record["figures"]["map"])
    with Image.open(labelled.parent / "0.png") as picture:
        pixels = np.asarray(picture.resize((16, 16)))
    assert model.predict(pixels[None], verbose=0).shape == (1, 2)


@pytest.mark.parametrize(("channels", "suffix"), [(1, "png"), (5, "npy")])
def test_images_of_other_channels_are_learnt(channels, suffix, tmp_path):
    random = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(level - 30, level + 30, (12, 12, channels)).astype("uint8")
            if suffix == "npy":
                np.save(folder / f"{index}.npy", pixels)
            else:
                Image.fromarray(pixels[..., 0]).save(folder / f"{index}.png")
    flags = {"train_split": "", "validation_split": "", "test_split": ""}
    asked = task(dataset=str(tmp_path / "data"), model="mlp", channels=channels, epochs=10, **flags)
    record = trainer.train(asked, tmp_path / "run")
    assert record["figures"]["accuracy"] == 1.0
    model, _ = model_files.load(tmp_path / "run" / "model.keras")
    assert model.input_shape == (None, 16, 16, channels)


@pytest.mark.parametrize(
    ("channels", "suffix"),
    [
        pytest.param(2, "npy", marks=pytest.mark.check),
        (4, "png"),
        pytest.param(13, "npy", marks=pytest.mark.check),
    ],
)
def test_images_of_other_channels_pass_through_every_command(channels, suffix, tmp_path, capsys):
    """Also where the page shows mistakes: every class has images of the other."""
    random = np.random.default_rng(0)
    for name in ("ones", "others"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(0, 256, (12, 12, channels)).astype("uint8")
            if suffix == "npy":
                np.save(folder / f"{index}.npy", pixels)
            else:
                Image.fromarray(pixels).save(folder / f"{index}.{suffix}")
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    image = f"{data}/ones/0.{suffix}"
    train = (
        f"train classification --model mlp --image-size 16 --epochs 1 --batch-size 8 --out {run}"
    )
    for words in (
        [*train.split(), "--dataset", data, "--channels", str(channels)],
        ["predict", run, image],
        ["evaluate", run],
        ["rank", data, "--models", "resnet20.cifar10", "--channels", str(channels)],
    ):
        assert cli.main(words) == 0, words
        capsys.readouterr()
    assert cli.main(["doctor", run]) in (0, 1)  # 1: pixels of noise have no class
    assert "cannot be read" not in capsys.readouterr().out
    assert "Worst mistakes" in (tmp_path / "run" / "report.html").read_text()


def test_pictures_and_confusion_matrix_go_to_tensorboard(tmp_path):
    import tensorflow as tf

    trainer.train(task(), tmp_path)
    (file,) = (tmp_path / "logs").glob("events*")
    tags = set()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        tags |= {value.tag for value in tf.compat.v1.Event.FromString(record).summary.value}
    assert {"loss", "val_accuracy", "training images", "confusion"} <= tags


def test_auxiliary_heads_are_a_dict_of_logits():
    model = zoo.build("googlenet", auxiliary=True, num_classes=3, input_shape=(32, 32, 3))
    assert {name: x.shape for name, x in model.output.items()} == dict.fromkeys(
        ("auxiliary1", "auxiliary2", "logits"), (None, 3)
    )
    assert isinstance(model, keras.Model)
