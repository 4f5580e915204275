"""Prediction with segmenters: images of any size, tiles, and the files of `zoo predict`."""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
import zoo.layers
from scripts.__main__ import main
from tasks.data import shapes
from tasks.deploy.model_loader import load_predictor
from tasks.segmentation import predictor
from zoo import model_files
from zoo.errors import UsageError

SEGMENTERS = {  # small versions of every network, for any size
    "unet": {"widths": [4, 8, 16]},
    "unet_paper": {"widths": [4, 8, 16]},
    "unet_backbone": {"widths": [8, 8, 4]},
    "segnet": {"widths": [4, 4, 4, 4, 4]},
    "fcn8s": {"backbone": "resnet20.cifar10"},
    "fcn32s": {"backbone": "resnet20.cifar10"},
    "deeplabv3plus": {"backbone": "resnet20.cifar10", "width": 8},
}
FAST = ("unet", "fcn8s")  # the others are run by make check


def run(*words, status=0):
    assert main([str(word) for word in words]) == status


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of an untrained segmenter for scenes at their own size."""
    path = tmp_path_factory.mktemp("segmenter") / "model.keras"
    task = tasks.get("segmentation")(
        model_options="{widths: [4, 8]}",
        train_split="train[:8]",
        validation_split="none",
        test_split="test[:1]",
        image_size=128,
    )
    data = task.load()
    task.save(task.build(data), data, path)
    return path


# Images of any size.


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.check) for name in SEGMENTERS],
)
@pytest.mark.check
def test_a_network_of_one_size_is_rebuilt_for_any_size(name):
    options, channels = SEGMENTERS[name], zoo.spec(name).input_shape[-1]
    random = np.random.default_rng(0)

    def build(height, width):
        return zoo.build(name, input_shape=(height, width, channels), num_classes=3, **options)

    model = build(64, 64)
    for weight in model.weights:  # some start at zero
        weight.assign(weight + random.uniform(0, 0.1, weight.shape))
    rebuilt = predictor.rebuild_for_any_size(model, {"model": name, "options": options})
    assert rebuilt.input_shape == (None, None, None, channels)
    assert {id(weight) for weight in rebuilt.weights} == {id(weight) for weight in model.weights}
    wide = build(52, 107)
    wide.set_weights(model.get_weights())
    for fixed in (model, wide):
        image = random.integers(0, 256, (1, *fixed.input_shape[1:])).astype("float32")
        expected = np.asarray(fixed(image, training=False))
        np.testing.assert_allclose(
            rebuilt(image, training=False), expected, atol=1e-5 * np.abs(expected).max()
        )


@pytest.mark.parametrize("size", [(128, 128), (100, 200), (61, 333)])
def test_tiles_give_the_mask_of_the_whole_image(size):
    """The receptive field of the network is smaller than the overlap, so there are no seams."""
    net, pixels = (
        small_network(),
        np.random.default_rng(0).integers(0, 256, (*size, 3), dtype="uint8"),
    )
    whole = np.asarray(net(pixels[None]))[0].argmax(axis=-1)
    segmenter = predictor.SegmentationPredictor(
        net, ("a", "b", "c"), "net", (64, 64), native_size=True
    )
    sizes = []

    def run(images):
        sizes.append(images.shape[1:3])
        return np.asarray(net(images))

    assert (segmenter.mask(pixels, run, tile=64) == whole).all()
    assert len(sizes) > 1
    assert np.max(sizes) <= 64


def small_network():
    """Returns a network with strides for images of any size, of a small receptive field."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = keras.layers.MaxPooling2D(2, padding="same")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.UpSampling2D(2)(x)
    x = zoo.layers.CropLike()([x, image])
    return keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(x))


def test_a_network_of_one_size_predicts_in_tiles_of_that_size():
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    net = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    segmenter = predictor.from_file("net.keras", net, {"own_size": True})
    assert segmenter.classes == ("class 0", "class 1", "class 2")
    for size in [(20, 20), (32, 32), (50, 90)]:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype="uint8")
        kernel, bias = net.get_weights()
        expected = (pixels.astype("float32") @ kernel[0, 0] + bias).argmax(axis=-1)
        mask = segmenter.mask(pixels, lambda images: np.asarray(net(images)))
        assert (mask == expected).all()


@pytest.mark.parametrize(
    ("resize", "sides"), [("stretch", (32, 32)), ("pad", (16, 32)), ("crop", (32, 64))]
)
def test_an_image_is_resized_like_the_training_images_and_its_mask_back(resize, sides):
    """The border between a dark and a light half stays in its place at any size."""
    image = keras.Input((None, None, 1))
    net = keras.Model(image, keras.layers.Conv2D(2, 1)(image))
    net.set_weights([np.array([[[[-1.0, 1.0]]]]), np.array([100.0, -100.0])])
    segmenter = predictor.SegmentationPredictor(net, ("dark", "light"), "net", (32, 32), resize)
    pixels = np.zeros((60, 120, 1), "uint8")
    pixels[:, 60:] = 200
    sizes = []

    def run(images):
        sizes.append(images.shape[1:3])
        return np.asarray(net(images))

    mask = segmenter.mask(pixels, run)
    assert sizes == [sides]
    assert mask.shape == (60, 120)
    assert (mask == pixels[..., 0] // 200).all()
    assert segmenter.mask(pixels, run, scale="native").shape == (60, 120)
    assert sizes[-1] == (60, 120)


# The predict command.


SIZES = {"a/one.png": (40, 70), "b/one.png": (128, 128), "b/one.jpg": (33, 200), "c.png": (7, 5)}


@pytest.fixture
def photos(tmp_path):
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype="uint8")).save(folder / name)
    (folder / "broken.png").write_bytes(b"")
    return folder


def test_predict_writes_masks_and_overlays_next_to_the_csv_file(saved, photos, tmp_path, capsys):
    out = tmp_path / "answers.csv"
    run("predict", saved, photos, "--output", out, "--tile", 64, "--top", 9)
    errors = capsys.readouterr().err
    assert "broken.png: empty file" in errors
    assert "1 of 5 images could not be read" in errors
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == ["path", "rank", "class", "share", "mask", "overlay", "error"]
    assert [row["error"] for row in rows if row["error"]] == ["empty file"]
    folder = tmp_path / "answers-pictures"
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    stems = ["a/one", "b/one.png", "b/one.jpg", "c"]
    assert written == {f"{stem}-{name}.png" for stem in stems for name in ("mask", "overlay")}
    for path in {row["path"] for row in rows if not row["error"]}:
        check_written_files(path, [row for row in rows if row["path"] == path])


def check_written_files(path, rows):
    """Asserts that the mask of an image has the shares of its rows, and the overlay its size."""
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-5)
    with Image.open(path) as image, Image.open(rows[0]["mask"]) as mask:
        assert mask.size == image.size
        assert mask.mode == "P"
        labels, palette = np.asarray(mask), mask.getpalette()
    names = ("ground", *shapes.SHAPES)
    shares = {names[i]: (labels == i).mean() for i in np.unique(labels)}
    assert {row["class"]: float(row["share"]) for row in rows} == pytest.approx(shares, abs=1e-5)
    assert palette[:3] == [0, 0, 0]
    with Image.open(rows[0]["overlay"]) as overlay:
        assert overlay.size == mask.size
        assert overlay.mode == "RGB"


@pytest.mark.check
def test_all_formats_contain_the_same_predictions(saved, photos, tmp_path, capsys):
    words = ["predict", saved, photos, "--drawings-dir", tmp_path / "drawn", "--top", "2"]
    run(*words, "--format", "jsonl")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    run(*words, "--json")
    whole = json.loads(capsys.readouterr().out)
    assert whole["images"] == lines
    assert "at its own size, RGB" in whole["protocol"]
    predictions = [line for line in lines if "error" not in line]
    assert all(len(line["classes"]) <= 2 for line in predictions)
    assert [line["size"] for line in predictions] == [[40, 70], [33, 200], [128, 128], [7, 5]]
    run(*words)
    text = capsys.readouterr().out
    assert all(f"  mask: {line['mask']}\n" in text for line in predictions)


@pytest.mark.check
def test_masks_are_written_unless_that_is_turned_off(saved, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("predict", saved, photos / "c.png", "--drawings-dir", "none", "--json")
    (prediction,) = json.loads(capsys.readouterr().out)["images"]
    assert set(prediction) == {"path", "size", "classes"}
    assert not list(tmp_path.glob("predictions*"))
    run("predict", saved, photos / "c.png")
    assert len(list((tmp_path / "predictions").iterdir())) == 2


@pytest.mark.parametrize("words", ["--scale fitt", "--tile -1"])
def test_an_invalid_flag_is_reported_in_one_line(words, saved, photos, capsys):
    run("predict", saved, photos, *words.split(), status=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert words.split()[0].removeprefix("--") in line


def test_a_model_of_another_task_is_refused(saved, tmp_path):
    assert load_predictor(saved).native_size
    model, metadata = model_files.load(saved)
    model_files.save(model, tmp_path / "model.keras", {**metadata, "task": "juggling"})
    with pytest.raises(UsageError, match="unknown task 'juggling'"):
        load_predictor(tmp_path / "model.keras")
    model_files.save(model, tmp_path / "bare.keras", {})
    with pytest.raises(UsageError, match="not an image classifier"):
        load_predictor(tmp_path / "bare.keras")
