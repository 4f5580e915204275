"""The command that explains: files, figures, mistakes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from scripts.__main__ import main as zoo
from scripts.explain import METHODS
from tasks.data import image_io
from tasks.deploy import explain, model_loader
from tasks.explain import faithfulness, methods, overlays
from zoo import build, model_files

MODEL = "resnet20.cifar10"


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def test_the_command_lists_the_methods_that_there_are():
    assert [*METHODS] == ["auto", *methods.METHODS]


@pytest.mark.check
def test_a_map_and_an_overlay_are_written(photo, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["explain", MODEL, photo, f"--out={out}", "--faithfulness"]
    assert zoo([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["images"]
    assert row["method"] == "grad_cam"
    assert np.load(row["map"]).shape == (8, 8)
    with Image.open(row["overlay"]) as drawn:
        assert drawn.size == (224, 224)
    assert 0 <= row["border_share"] <= 1
    assert {"deletion", "insertion", "random_deletion", "random_insertion"} <= row.keys()
    assert zoo(["predict", MODEL, photo, "--json", "--top=10"]) == 0
    (predicted,) = json.loads(capsys.readouterr().out)["images"]
    assert row["class"] == predicted["classes"][0]["name"]
    assert row["probability"] == pytest.approx(predicted["classes"][0]["probability"], abs=1e-4)


def test_another_class_has_another_map(photo, tmp_path, capsys):
    maps = []
    for name in ("cat", "ship"):
        words = [f"--out={tmp_path / name}", f"--class={name}", "--json"]
        assert zoo(["explain", MODEL, photo, *words]) == 0
        (row,) = json.loads(capsys.readouterr().out)["images"]
        assert row["class"] == name
        maps.append(np.load(row["map"]))
    assert not np.allclose(*maps)


@pytest.mark.check
def test_the_figures_are_those_of_the_explained_class(photo, tmp_path):
    (row,) = explain.explain(MODEL, [photo], tmp_path / "out", label="ship", faithful=True)
    predictor = model_loader.load_predictor(MODEL)
    image = image_io.read_image(photo, predictor.image_shape, predictor.resize)
    index = predictor.classes.index("ship")
    explained, saliency = methods.prepare(predictor.model), np.load(row["map"])
    for name, measure in (
        ("deletion", faithfulness.deletion),
        ("insertion", faithfulness.insertion),
    ):
        assert row[name] == pytest.approx(measure(explained, image, saliency, index), abs=1e-6)


def test_unreadable_images_are_named(photo, tmp_path, capsys):
    (tmp_path / "b.png").write_bytes(b"none")
    assert zoo(["explain", MODEL, str(tmp_path), f"--out={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr()
    assert "b.png: " in printed.err
    assert "a.png: " in printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method=gradcam"], "no method named 'gradcam'; did you mean grad_cam"),
        (["--class=zebra"], "no class named 'zebra'"),
        (["--method=attention_rollout"], "attention_rollout is for vision transformers"),
    ],
)
def test_mistakes_are_one_line(words, message, photo, tmp_path, capsys):
    assert zoo(["explain", MODEL, photo, f"--out={tmp_path / 'out'}", *words]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "out").exists()


def test_an_overlay_of_a_grey_image_has_colors():
    image = np.full((16, 16, 1), 128, "uint8")
    saliency = np.zeros((4, 4), "float32")
    saliency[0, 0] = 1
    drawn = overlays.overlay(image, saliency)
    assert drawn.shape == (224, 224, 3)
    assert drawn[0, 0, 0] > drawn[0, 0, 2]  # red where it is high
    assert drawn[-1, -1, 2] > drawn[-1, -1, 0]  # blue where it is low


def saved(task, folder, **more):
    import keras

    from tests.tasks.export.test_every_task import NETWORKS

    keras.utils.set_random_seed(3)
    name, options, metadata = NETWORKS[task]
    path = folder / f"{task}.keras"
    model_files.save(build(name, **options), path, {**metadata, "task": task, **more})
    return str(path)


def test_the_pixels_of_a_segmenter_are_explained(photo, tmp_path, capsys):
    words = ["explain", saved("segmentation", tmp_path), photo, f"--out={tmp_path}", "--json"]
    assert zoo(words) == 0
    (row,) = json.loads(capsys.readouterr().out)["images"]
    assert row["method"] == "grad_cam"
    assert row["class"] in ("disc", "ring", "star")
    assert 0 < row["share"] <= 1
    with Image.open(row["overlay"]) as drawn:
        assert drawn.size == (224, 224)
    assert zoo([*words, "--faithfulness"]) == 1
    assert "--faithfulness is for classifiers" in capsys.readouterr().err


@pytest.mark.check
def test_each_box_of_a_detector_is_explained(photo, tmp_path, capsys):
    words = ["explain", saved("detection", tmp_path, least=0.0), photo, f"--out={tmp_path}"]
    assert zoo([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["images"]
    assert 1 < len(rows) <= explain.MAX_BOXES
    assert [row["method"] for row in rows] == ["occlusion"] * len(rows)
    assert rows[0]["overlay"].endswith("a-1-occlusion.png")
    assert len({row["overlay"] for row in rows}) == len(rows)
    assert zoo([*words, "--method=grad_cam"]) == 1
    assert "detectors are explained by occlusion" in capsys.readouterr().err


def test_other_models_are_refused(photo, tmp_path, capsys):
    assert zoo(["explain", saved("style_transfer", tmp_path), photo]) == 1
    assert "is not a classifier, segmenter or detector" in capsys.readouterr().err


def test_a_message_names_the_command_that_can_explain(photo, tmp_path, capsys):
    captioner, segmenter = saved("captioning", tmp_path), saved("segmentation", tmp_path)
    assert zoo(["explain", captioner, photo]) == 1
    assert "zoo predict --explain draws its attention" in capsys.readouterr().err
    assert zoo(["predict", segmenter, photo, "--explain"]) == 1
    assert "zoo explain is for classifiers, segmenters" in capsys.readouterr().err


@pytest.mark.check
def test_an_image_without_objects_is_not_called_unreadable(photo, tmp_path, capsys):
    detector = saved("detection", tmp_path, least=1.0)
    assert zoo(["explain", detector, photo, f"--out={tmp_path / 'out'}"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"zoo: no map of 1 image(s) could be made; the first: {photo}: no object found"
    assert not (tmp_path / "out").exists()


def test_the_probability_of_each_label_is_a_sigmoid(photo, tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    classes = ["cat", "dog", "sheep"]
    model = build("lenet5", input_shape=(28, 28, 3), num_classes=3)
    model.layers[-1].bias.assign([-3, 0, 2])  # far more than the differences between images
    model_files.save(model, tmp_path / "net.keras", {"classes": classes, "multi_label": True})
    predictor = model_loader.load_predictor(tmp_path / "net.keras")
    image = image_io.read_image(photo, predictor.image_shape, predictor.resize)
    expected = 1 / (1 + np.exp(-np.asarray(model(image[None].astype("float32")))[0]))
    for name, probability in zip(classes, expected, strict=True):
        out, options = tmp_path / name, {"method": "rise", "label": name, "faithful": True}
        (row,) = explain.explain(tmp_path / "net.keras", [photo], out, **options)
        assert row["probability"] == pytest.approx(probability, abs=1e-5)
        assert row["insertion"] == pytest.approx(probability, abs=0.05)
    sigmoids = predictor.explained.probabilities(image[None].astype("float32"))[0]
    np.testing.assert_allclose(sigmoids, expected, atol=1e-5)
