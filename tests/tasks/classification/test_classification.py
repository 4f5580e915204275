"""The classification task: each flag has its effect, and runs leave what they should."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from scripts import __main__ as cli
from tasks.data import sources
from tasks.data.dataset import Source, Split
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
WHOLE = {"train_split": "", "validation_split": "", "test_split": ""}
shares_run = pytest.mark.xdist_group("classification")


def task(**flags):
    return tasks.get("classification")(**{**TINY, **flags})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with a calibrated model, and its record."""
    out = tmp_path_factory.mktemp("classification") / "run"
    record = trainer.train(task(calibrate="temperature", epochs=1), out)
    return SimpleNamespace(out=out, figures=record["figures"])


@pytest.fixture(scope="module")
def data():
    return task().load()


def uncalibrated(run):
    """Returns the model of a run up to its logits, and the temperature layer."""
    model, _ = model_files.load(run.out / "model.keras")
    temperature = model.get_layer("temperature")
    return keras.Model(model.input, temperature.input), temperature


@pytest.mark.slow
def test_auxiliary_heads_are_trained_and_not_saved(tmp_path):
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


@shares_run
def test_the_temperature_is_saved_in_the_model_and_changes_no_prediction(run, data):
    plain, temperature = uncalibrated(run)
    figures = task().build_report(plain, data).figures
    assert run.figures["accuracy"] == figures["accuracy"]
    assert run.figures["loss"] != figures["loss"]
    model, _ = model_files.load(run.out / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (4, *model.input_shape[1:]), "uint8")
    logits = plain.predict(images, verbose=0)
    assert temperature.scale != 1
    np.testing.assert_allclose(
        model.predict(images, verbose=0), logits * temperature.scale, rtol=1e-4
    )


@shares_run
def test_a_temperature_without_a_validation_split_is_refused(run):
    model, _ = uncalibrated(run)
    with pytest.raises(UsageError, match="needs a validation split"):
        task(calibrate="temperature").finish(model, SimpleNamespace(validation=None))


OPTIMIZER = {
    "ema_decay": 0.9,
    "gradient_accumulation_steps": 2,
    "clip_norm": 1.0,
    "l2": 1e-4,
    "dropout": 0.0,
}
DATA = {"augment": "rand", "mix": "both", "random_erasing": 0.5, "class_weight": "balanced"}


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({**OPTIMIZER, **DATA}, id="all", marks=pytest.mark.check),
        pytest.param({**OPTIMIZER, "epochs": 3}, id="optimizer", marks=pytest.mark.slow),
        pytest.param({**DATA, "epochs": 3}, id="data", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_like_an_uninterrupted_one(flags, tmp_path, cut_short):
    whole = trainer.train(task(**flags), tmp_path / "whole")
    assert cut_short(task(**flags), tmp_path / "cut") == [1]
    cut = trainer.train(task(**flags), tmp_path / "cut")
    assert checks.column(tmp_path / "cut", "loss") == checks.column(tmp_path / "whole", "loss")
    assert cut["figures"]["loss"] == whole["figures"]["loss"]


@shares_run
@pytest.mark.check
def test_averaged_weights_are_evaluated_and_saved(run, tmp_path):
    record = trainer.train(task(ema_decay=0.99, epochs=1), tmp_path)
    val_loss = checks.column(tmp_path, "val_loss")[0]
    assert checks.column(tmp_path, "loss") == checks.column(run.out, "loss")
    assert val_loss != checks.column(run.out, "val_loss")[0]  # of the last weights
    model, metadata = model_files.load(tmp_path / "model.keras")
    for split, loss in (("train[192:256]", val_loss), ("", record["figures"]["loss"])):
        figures = task().evaluate(model, metadata, split).figures
        assert figures["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize(
    ("counts", "class_weight", "balanced"),
    [((20, 20), "none", False), ((20, 20), "balanced", True), ((20, 3), "none", False),
     ((20, 2), "none", True), ((9, 0), "none", False)],
)  # fmt: skip
def test_balanced_accuracy_selects_the_epoch_of_imbalanced_or_weighted_classes(
    counts, class_weight, balanced, monkeypatch
):
    classifier = task(class_weight=class_weight)
    source = SimpleNamespace(classes=("a", "b"), multi_label=False)
    parts = [SimpleNamespace(labels=np.repeat([0, 1], some)) for some in (counts, (9, 1))]
    data = SimpleNamespace(source=source, train=parts[0], validation=parts[1])
    events = SimpleNamespace(confusion=lambda *args: None)
    rows = []
    for predicted in ([0] * 10, [0] * 7 + [1] * 3):  # the first class only; both, two mistakes
        monkeypatch.setattr(
            classifier.__class__, "_logits", lambda *args, x=predicted: np.eye(2)[x]
        )
        figures = classifier.validate(None, data, events, 1)
        rows.append({f"val_{name}": value for name, value in figures.items()})
    assert ("val_balanced_accuracy" in rows[0]) == balanced
    assert classifier.better(rows[1], rows[0]) == balanced


@pytest.mark.parametrize("loss", ["focal", pytest.param("squared_error", marks=pytest.mark.check)])
@pytest.mark.check
def test_training_reduces_every_loss(loss, tmp_path):
    trainer.train(task(loss=loss, epochs=4, learning_rate=3e-3), tmp_path)
    first, *_, last = checks.column(tmp_path, "loss")
    assert last < first


@shares_run
@pytest.mark.check
def test_test_time_augmentation_changes_the_metrics_and_not_the_model(run, data):
    augmented = task(tta="ten")
    model, _ = model_files.load(run.out / "model.keras")
    figures = augmented.build_report(model, data).figures
    assert figures["loss"] != run.figures["loss"]
    again = evaluate.evaluate(run.out, tta="ten")
    assert again["figures"]["loss"] == pytest.approx(figures["loss"], rel=1e-5)
    assert again["evaluation"].endswith("-ten.json")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), "uint8")
    finished = augmented.finish(model, data)
    np.testing.assert_array_equal(
        finished.predict(images, verbose=0), model.predict(images, verbose=0)
    )


@shares_run
def test_former_names_of_flags_are_accepted(run, monkeypatch):
    fields = dataclasses.fields(tasks.get("classification"))
    former = {field.name: field.metadata.get("former") for field in fields}
    names = {"random_erasing": "erase", "cached_views": "feature_views", "tta": "views"}
    assert {name: former[name] for name in names} == names
    assert evaluate.evaluate(run.out, views="flip")["evaluation"].endswith("-flip.json")
    passed = {}
    monkeypatch.setattr(evaluate, "evaluate", lambda out, **flags: passed.update(flags) or {})
    for flag in ("--tta", "--views"):
        passed.clear()
        cli.main(["evaluate", str(run.out), flag, "flip", "--json"])
        assert passed["tta"] == "flip"


@pytest.fixture
def labelled(tmp_path):
    """A CSV file of images labeled red if the left half is, and blue if the right half is."""
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


@pytest.mark.check
def test_a_multi_label_classifier_is_trained_evaluated_and_used(labelled, tmp_path):
    classifier = task(
        dataset=str(labelled), model="mlp", channels=3, epochs=12, learning_rate=3e-3, **WHOLE
    )
    record = trainer.train(classifier, tmp_path / "run")
    assert record["figures"]["map"] > 0.95
    assert record["figures"]["map_low"] <= record["figures"]["map"]
    model, metadata = model_files.load(tmp_path / "run" / "model.keras")
    assert metadata["multi_label"] is True
    assert metadata["classes"] == ["blue", "red"]
    found = evaluate.evaluate(tmp_path / "run")
    assert found["figures"]["map"] == pytest.approx(record["figures"]["map"])
    with Image.open(labelled.parent / "0.png") as image:
        pixels = np.asarray(image.resize((16, 16)))
    assert model.predict(pixels[None], verbose=0).shape == (1, 2)


@pytest.mark.parametrize(
    ("channels", "suffix"), [pytest.param(1, "png", marks=pytest.mark.check), (5, "npy")]
)
@pytest.mark.check
def test_images_with_other_numbers_of_channels_are_learned(channels, suffix, tmp_path):
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
    folder = str(tmp_path / "data")
    classifier = task(dataset=folder, model="mlp", channels=channels, epochs=10, **WHOLE)
    record = trainer.train(classifier, tmp_path / "run")
    assert record["figures"]["accuracy"] == 1.0
    model, _ = model_files.load(tmp_path / "run" / "model.keras")
    assert model.input_shape == (None, 16, 16, channels)


@pytest.mark.parametrize(
    ("channels", "suffix"),
    [
        pytest.param(2, "npy", marks=pytest.mark.check),
        pytest.param(4, "png", marks=pytest.mark.check),
        pytest.param(13, "npy", marks=pytest.mark.check),
    ],
)
def test_every_command_takes_images_with_other_numbers_of_channels(
    channels, suffix, tmp_path, capsys
):
    """The classes cannot be told apart, so that the report shows mistakes too."""
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
    data, out = str(tmp_path / "data"), str(tmp_path / "run")
    image = f"{data}/ones/0.{suffix}"
    train = (
        f"train classification --model mlp --image-size 16 --epochs 1 --batch-size 8 --out {out}"
    )
    for words in (
        [*train.split(), "--dataset", data, "--channels", str(channels)],
        ["predict", out, image],
        ["evaluate", out],
        ["rank", data, "--models", "resnet20.cifar10", "--channels", str(channels)],
    ):
        assert cli.main(words) == 0, words
        capsys.readouterr()
    assert cli.main(["doctor", out]) in (0, 1)  # 1: the noise has no class
    assert "cannot be read" not in capsys.readouterr().out
    assert "Worst mistakes" in (tmp_path / "run" / "report.html").read_text()


@shares_run
def test_images_and_the_confusion_matrix_are_written_for_tensorboard(run):
    import tensorflow as tf

    (file,) = (run.out / "logs").glob("events*")
    tags = set()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        tags |= {value.tag for value in tf.compat.v1.Event.FromString(record).summary.value}
    assert {"loss", "val_accuracy", "training images", "confusion"} <= tags


def test_auxiliary_heads_are_a_dict_of_logits():
    with keras.StatelessScope(initialize_variables=False):
        model = zoo.build("googlenet", auxiliary=True, num_classes=3, input_shape=(32, 32, 3))
    assert {name: x.shape for name, x in model.output.items()} == dict.fromkeys(
        ("auxiliary1", "auxiliary2", "logits"), (None, 3)
    )
    assert isinstance(model, keras.Model)


def test_a_data_set_without_class_names_is_evaluated_by_number(monkeypatch, caplog):
    """Metadata of TFDS may lack the names of labels; another number of classes is refused."""
    model = zoo.build("lenet5", num_classes=3)
    images = list(np.random.default_rng(0).integers(0, 256, (30, 32, 32, 1), dtype="uint8"))
    labels = np.arange(30) % 3

    def evaluated(*classes):
        split = Split("test", images, labels)
        source = Source("tfds:numbers", classes, {"test": split})
        monkeypatch.setattr(sources, "load", lambda *arguments: source)
        other = task(dataset="tfds:numbers")
        return other.evaluate(model, {"classes": ["ant", "bee", "cow"]}, "all")[0]

    expected = (model.predict(np.stack(images), verbose=0).argmax(-1) == labels).mean()
    assert evaluated("0", "1", "2")["accuracy"] == pytest.approx(expected)
    assert "tfds:numbers has no class names" in caplog.text
    with pytest.raises(UsageError, match="classes that the model was not trained on: 0, 1, 2"):
        evaluated("0", "1", "2", "3")
