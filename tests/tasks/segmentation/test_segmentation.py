"""Training of segmenters: losses, plans, cached features, evaluation, and flags."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from tasks.deploy import evaluate, predict
from tasks.deploy.model_loader import load_predictor
from tasks.engine import backbones, finetune, trainer
from tasks.segmentation import dataset, evaluation
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

TINY = {
    "model_options": "{widths: [4, 8]}",
    "train_split": "train[:32]",
    "validation_split": "validation[:8]",
    "test_split": "test[:9]",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 1,
}
SPLITS = {
    "train_split": "all[:44]",
    "validation_split": "all[44:50]",
    "test_split": "all[50:]",
}
shares_run = pytest.mark.xdist_group("segmentation")


def task(**flags):
    return tasks.get("segmentation")(**{**TINY, **flags})


def write_rectangles(folder, count, names="ground,red,blue"):
    """Writes a folder of images with a red and a blue rectangle each, and their masks."""
    random = np.random.default_rng(0)
    for index in range(count):
        pixels = random.integers(60, 120, (40, 40, 3)).astype("uint8")
        mask = np.zeros((40, 40), "uint8")
        for label, channel in ((1, 0), (2, 2)):
            top, left = random.integers(0, 20, 2)
            pixels[top : top + 18, left : left + 18] = 20
            pixels[top : top + 18, left : left + 18, channel] = 230
            mask[top : top + 18, left : left + 18] = label
        for kind, array in (("images", pixels), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{index}.png")
    (folder / "classes.txt").write_text("\n".join(names.split(",")) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on rectangles of plain colors, which a small network learns within seconds."""
    folder = tmp_path_factory.mktemp("segmentation")
    segmenter = task(
        dataset=str(write_rectangles(folder / "data", count=60)),
        model_options="{widths: [8, 16]}",
        loss="cross_entropy+dice",
        class_weight="median",
        batch_size=4,
        epochs=12,
        learning_rate=5e-3,
        **SPLITS,
    )
    record = trainer.train(segmenter, folder / "run")
    return SimpleNamespace(out=folder / "run", data=folder / "data", figures=record["figures"])


def test_warnings_about_masks_are_shown_before_training():
    data = SimpleNamespace(parts=[SimpleNamespace(notes=("strange",))], notes=lambda: ["skipped"])
    assert task().notes(data) == ["skipped", "strange"]


@shares_run
def test_training_reaches_a_high_miou(run):
    assert run.figures["miou"] > 0.9
    assert run.figures["miou_low"] <= run.figures["miou"]
    assert set(run.figures) == {
        *("miou", "miou_low", "miou_high", "pixel_accuracy", "mean_accuracy", "fwiou", "loss"),
        *("seconds", "images_per_second"),
    }
    first, *_, last = checks.column(run.out, "loss")
    assert last < first


@shares_run
def test_the_report_has_tables_images_and_curves(run):
    page = (run.out / "report.html").read_text()
    for heading in ("Classes", "Worst images", "Best images", "Curves", "Plan"):
        assert f"<h2>{heading}</h2>" in page
    for curve in ("mean IoU by epoch", "loss by epoch", "pixel accuracy by epoch"):
        assert curve in page


@shares_run
@pytest.mark.check
def test_evaluation_matches_classes_by_name(run, tmp_path):
    found = evaluate.evaluate(run.out)["figures"]
    for name in ("miou", "pixel_accuracy", "loss"):
        assert found[name] == pytest.approx(run.figures[name], rel=1e-5)
    one = evaluate.evaluate(run.out, dataset=str(run.data))["figures"]
    other = write_rectangles(tmp_path / "other", 60, names="ground,blue,red")
    for path in (other / "masks").iterdir():  # the same masks with other labels
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.array([0, 2, 1], "uint8")[mask]).save(path)
    assert evaluate.evaluate(run.out, dataset=str(other))["figures"] == pytest.approx(one)
    unknown = write_rectangles(tmp_path / "unknown", 4, names="ground,green,red")
    with pytest.raises(UsageError, match="not trained on"):
        evaluate.evaluate(run.out, dataset=str(unknown))


@shares_run
def test_segmentation_has_no_test_time_augmentation(run):
    with pytest.raises(UsageError, match="segmentation has no --tta"):
        evaluate.evaluate(run.out, tta="ten")


@shares_run
def test_images_are_resized_for_prediction_if_training_images_were(run):
    predictor = load_predictor(run.out)
    assert not predictor.native_size
    assert "stretch to 32 x 32" in predictor.protocol
    (prediction,) = predict.predict(predictor, [run.data / "images/0.png"])
    assert prediction["size"] == [40, 40]


def test_the_former_name_of_the_class_map_flag_is_known():
    fields = dataclasses.fields(tasks.get("segmentation"))
    former = {field.name: field.metadata.get("former") for field in fields}
    assert former["class_map"] == "colours"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [{"loss": "focal"}, {"loss": "dice", "class_weight": "balanced"}])
def test_training_reduces_every_loss(flags, tmp_path):
    trainer.train(task(epochs=4, learning_rate=3e-3, **flags), tmp_path)
    first, *_, last = checks.column(tmp_path, "loss")
    assert last < first


@pytest.mark.slow
def test_class_weights_change_the_predictions_and_not_the_metrics(tmp_path):
    for weight in ("none", "balanced"):
        trainer.train(task(class_weight=weight, epochs=2), tmp_path / weight)
    one, other = (checks.column(tmp_path / weight, "loss")[0] for weight in ("none", "balanced"))
    assert abs(one - other) > 1e-3
    shares = [predicted_background(tmp_path / weight) for weight in ("none", "balanced")]
    assert shares[1] < shares[0]  # the background is nine pixels in ten


def predicted_background(out):
    model, _ = model_files.load(out / "model.keras")
    data = dataset.prepare(
        dataset.load("shapes"), ("train[:1]", "none", "test[:9]"), (32, 32, 3), "pad"
    )
    counter, _ = evaluation.evaluate(model, data.test, batch_size=9)
    return counter.matrix[:, 0].sum() / counter.matrix.sum()


@pytest.mark.check  # as that of classification
def test_cached_features_of_frozen_layers_give_the_same_result(tmp_path, monkeypatch, capsys):
    from tasks.inference import feature_cache

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(feature_cache, "is_worthwhile", lambda *args, **options: True)
    flags = {"model": "fcn32s", "backbone": "resnet20.cifar10", "model_options": ""}
    flags |= {"augment": "none", "plan": "probe"}
    fast = trainer.train(task(**flags), tmp_path / "fast")["figures"]
    assert "of the network is frozen" in capsys.readouterr().err
    slow = trainer.train(task(features="off", **flags), tmp_path / "slow")["figures"]
    assert fast["miou"] == pytest.approx(slow["miou"], abs=0.01)
    assert fast["loss"] == pytest.approx(slow["loss"], rel=1e-2)


def test_a_backbone_is_pretrained_unless_its_weights_are_random():
    assert task().stages()[0].batch_norm == "update"
    flags = {"model": "unet_backbone", "model_options": "", "epochs": 4}
    assert backbones.is_pretrained(task(**flags))
    assert not backbones.is_pretrained(task(**flags, backbone="resnet20"))
    assert not backbones.is_pretrained(task(**flags, backbone_weights="random"))
    assert not backbones.is_pretrained(task(**flags, weights="random"))
    assert backbones.is_pretrained(task(**flags, backbone="resnet20", backbone_weights="x.h5"))
    default = {**flags, "epochs": 0}
    assert task(**default).epochs < task(**default, weights="random").epochs


def test_batch_norm_of_a_pretrained_encoder_is_frozen_and_that_of_its_decoder_is_not():
    model = zoo.build("unet_backbone", input_shape=(32, 32, 3), num_classes=3, widths=[8, 8, 4])
    (head, *_) = task(model="unet_backbone", model_options="", epochs=4).stages()
    assert head.batch_norm == "frozen"
    finetune.set_trainable(model, dataclasses.replace(head, learn="all"))
    trainable = {layer.name for layer in finetune.batch_norm_layers(model) if layer.trainable}
    assert trainable == {
        layer.name for layer in finetune.batch_norm_layers(model) if "decoder" in layer.name
    }
    assert len(trainable) < len(finetune.batch_norm_layers(model))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"loss": "cross_entropi"}, "did you mean cross_entropy"),
        ({"loss": "dice+dice"}, "twice"),
        ({"model": "lenet5", "model_options": ""}, "segmentation needs a segmenter"),
        ({"model_options": "[1]"}, "takes YAML"),
        ({"num_classes": 3}, "has 7 classes, not 3"),
        ({"dataset": "shaeps"}, "no data set named"),
        ({"backbone": "resnet20"}, "no option of unet named 'backbone'"),
        ({"augment": "lihgt"}, "did you mean light"),
    ],
    ids=str,
)
def test_invalid_flags_are_refused_before_training(flags, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        trainer.train(task(**flags), tmp_path)
