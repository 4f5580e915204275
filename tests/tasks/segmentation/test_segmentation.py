"""Segmentation: what is counted, what is learnt, and masks for images of any size."""

import csv
import dataclasses
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
import zoo.layers
from scripts.__main__ import main
from tasks.data import decoding
from tasks.data.geometry import IGNORE_LABEL
from tasks.deploy import evaluate, predict
from tasks.deploy.model_loader import load_predictor
from tasks.distributed import strategies
from tasks.engine import backbones, finetune, resume, trainer
from tasks.inference import tiles
from tasks.segmentation import dataset, evaluation, metrics, predictor
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

CLASSES = 5
TINY = {
    "model_options": "{widths: [4, 8]}",
    "train_split": "train[:32]",
    "validation_split": "validation[:8]",
    "test_split": "test[:9]",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 1,
}
WHOLE = {"train_split": "", "validation_split": "", "test_split": ""}
SEGMENTERS = {  # small versions of every network, for any size
    "unet": {"widths": [4, 8, 16]},
    "unet_paper": {"widths": [4, 8, 16]},
    "unet_backbone": {"widths": [8, 8, 4]},
    "segnet": {"widths": [4, 4, 4, 4, 4]},
    "fcn8s": {"backbone": "resnet20.cifar10"},
    "fcn32s": {"backbone": "resnet20.cifar10"},
    "deeplabv3plus": {"backbone": "resnet20.cifar10", "width": 8},
}


def task(**flags):
    return tasks.get("segmentation")(**{**TINY, **flags})


def run(*words, status=0):
    assert main([str(word) for word in words]) == status


def random_examples(count, side=16, seed=0):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, side, side, 3), dtype="uint8")
    labels = random.choice([*range(CLASSES), IGNORE_LABEL], (count, side, side)).astype("uint8")
    return decoding.Examples("test", pixels, labels)


def small_network(seed=0):
    keras.utils.set_random_seed(seed)
    return zoo.build("unet", input_shape=(16, 16, 3), num_classes=CLASSES, widths=[4, 8])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run on scenes that are as large as its network takes them."""
    out = tmp_path_factory.mktemp("segmentation") / "run"
    trainer.train(task(image_size=128, train_split="train[:8]", test_split="test[:4]"), out)
    return out


# What is counted.


@pytest.mark.parametrize("batch_size", [2, 3, 7, 10])
def test_measures_are_those_of_a_slow_count(batch_size):
    model, examples = small_network(), random_examples(7)
    count, loss = evaluation.evaluate(model, examples, batch_size=batch_size)
    logits = np.asarray(model(examples.pixels, training=False), "float64")
    wanted, entropies = np.zeros((7, CLASSES, CLASSES), "int64"), []
    for place in np.argwhere(examples.labels != IGNORE_LABEL):
        scores, label = logits[tuple(place)], examples.labels[tuple(place)]
        wanted[place[0], label, scores.argmax()] += 1
        entropies.append(np.log(np.exp(scores).sum()) - scores[label])
    assert (count.matrix == wanted.sum(axis=0)).all()
    assert (count.counts_per_image == metrics.iou_counts(wanted)).all()
    assert loss == pytest.approx(np.mean(entropies), rel=1e-5)


def test_confusions_of_images_are_held_for_a_few_batches_only(monkeypatch):
    model, examples, held = small_network(), random_examples(7), []
    whole, loss = evaluation.evaluate(model, examples, batch_size=2)
    add = metrics.ConfusionCounter.add_matrices
    monkeypatch.setattr(
        metrics.ConfusionCounter, "add_matrices", lambda s, m: held.append(m.nbytes) or add(s, m)
    )
    matrix = 4 * CLASSES**2  # bytes, of one image
    monkeypatch.setattr(evaluation, "MAX_MATRIX_BYTES", 4 * matrix)
    parts, same = evaluation.evaluate(model, examples, batch_size=2)
    assert held == [4 * matrix, 3 * matrix]
    assert (parts.matrix == whole.matrix).all()
    assert (parts.counts_per_image == whole.counts_per_image).all()
    assert same == loss


def test_masks_of_some_examples_are_the_largest_logits():
    model, examples = small_network(), random_examples(7)
    wanted = np.asarray(model(examples.pixels, training=False)).argmax(axis=-1)
    found = evaluation.predict(model, examples, [6, 0, 3], batch_size=2)
    assert found.dtype == "uint8"
    assert (found == wanted[[6, 0, 3]]).all()


def test_two_replicas_give_the_metrics_of_one_on_an_uneven_last_batch(two_devices):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs tf.distribute")
    examples = random_examples(11)  # batches of 4 and 4, and one of 3: 2 for a replica, 1 for one

    def figures(strategy):
        with strategies.create_strategy(strategy).scope():
            model = small_network()
        count, loss = evaluation.evaluate(model, examples, batch_size=4)
        assert evaluation._evaluation_models[model].distribute_strategy.num_replicas_in_sync == (
            1 if strategy == "one" else 2
        )
        return {**metrics.segmentation_metrics(count.matrix), "loss": loss}, int(count.matrix.sum())

    (one, pixels), (two, others) = figures("one"), figures("mirrored")
    assert pixels == others == int((examples.labels != IGNORE_LABEL).sum())
    assert two == pytest.approx(one, abs=1e-6)


def test_a_model_that_is_gone_is_not_kept():
    import gc

    before = len(evaluation._evaluation_models)
    model = small_network()
    evaluation.evaluate(model, random_examples(2), batch_size=2)
    assert len(evaluation._evaluation_models) == before + 1
    del model
    gc.collect()
    assert len(evaluation._evaluation_models) <= before


def test_what_is_strange_about_masks_is_said_before_training():
    data = SimpleNamespace(parts=[SimpleNamespace(notes=("strange",))], notes=lambda: ["skipped"])
    assert task().notes(data) == ["skipped", "strange"]


# What is learnt.


def test_it_learns(tmp_path):
    """Two shapes of plain colours, which a small network tells apart within seconds."""
    folder = two_colours(tmp_path / "data", count=60)
    flags = {"model_options": "{widths: [8, 16]}", "loss": "cross_entropy+dice", **WHOLE}
    asked = task(dataset=str(folder), epochs=16, learning_rate=5e-3, **flags)
    record = trainer.train(asked, tmp_path / "run")
    assert record["figures"]["miou"] > 0.9
    assert record["figures"]["miou_low"] <= record["figures"]["miou"]
    assert set(record["figures"]) == {
        *("miou", "miou_low", "miou_high", "pixel_accuracy", "mean_accuracy", "fwiou", "loss"),
        *("seconds", "images_per_second"),
    }
    page = (tmp_path / "run/report.html").read_text()
    for heading in ("Classes", "Worst images", "Best images", "Curves", "Plan"):
        assert f"<h2>{heading}</h2>" in page
    for curve in ("mean IoU by epoch", "loss by epoch", "pixel accuracy by epoch"):
        assert curve in page

    found = evaluate.evaluate(tmp_path / "run")
    for name in ("miou", "pixel_accuracy", "loss"):
        assert found["figures"][name] == pytest.approx(record["figures"][name], rel=1e-5)


def two_colours(folder, count, names="ground,red,blue"):
    """A folder of images with a red and a blue rectangle each, and their masks."""
    random = np.random.default_rng(0)
    for index in range(count):
        pixels = random.integers(60, 120, (32, 32, 3)).astype("uint8")
        mask = np.zeros((32, 32), "uint8")
        for label, channel in ((1, 0), (2, 2)):
            top, left = random.integers(0, 16, 2)
            pixels[top : top + 14, left : left + 14] = 20
            pixels[top : top + 14, left : left + 14, channel] = 230
            mask[top : top + 14, left : left + 14] = label
        for kind, array in (("images", pixels), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{index}.png")
    (folder / "classes.txt").write_text("\n".join(names.split(",")) + "\n")
    return folder


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({"loss": "focal"}, id="focal", marks=pytest.mark.slow),
        pytest.param(
            {"loss": "dice", "class_weight": "balanced"}, id="dice", marks=pytest.mark.slow
        ),
        pytest.param({"loss": "cross_entropy+dice", "class_weight": "median"}, id="sum"),
    ],
)
def test_every_loss_teaches(flags, tmp_path):
    trainer.train(task(epochs=4, learning_rate=3e-3, **flags), tmp_path)
    first, *_, last = checks.column(tmp_path, "loss")
    assert last < first


@pytest.mark.slow
def test_class_weights_change_what_is_learnt_and_not_what_is_measured(tmp_path):
    for weight in ("none", "balanced"):
        trainer.train(task(class_weight=weight, epochs=2), tmp_path / weight)
    one, other = (checks.column(tmp_path / weight, "loss")[0] for weight in ("none", "balanced"))
    assert abs(one - other) > 1e-3
    shares = [predicted_ground(tmp_path / weight) for weight in ("none", "balanced")]
    assert shares[1] < shares[0]  # which is nine pixels in ten


def predicted_ground(out):
    model, _ = model_files.load(out / "model.keras")
    data = dataset.data(
        dataset.load("shapes"), ("train[:1]", "none", "test[:9]"), (32, 32, 3), "pad"
    )
    count, _ = evaluation.evaluate(model, data.test, batch_size=9)
    return count.matrix[:, 0].sum() / count.matrix.sum()


def test_what_rests_is_computed_once(tmp_path, monkeypatch, capsys):
    from tasks.inference import feature_cache

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(feature_cache, "is_worthwhile", lambda *args, **options: True)
    flags = {"model": "fcn32s", "backbone": "resnet20.cifar10", "model_options": "", "epochs": 2}
    flags["augment"] = "none"
    fast = trainer.train(task(plan="probe", **flags), tmp_path / "fast")["figures"]
    assert "of the network is frozen" in capsys.readouterr().err
    slow = trainer.train(task(plan="probe", features="off", **flags), tmp_path / "slow")["figures"]
    assert fast["miou"] == pytest.approx(slow["miou"], abs=0.01)
    assert fast["loss"] == pytest.approx(slow["loss"], rel=1e-2)


def test_a_pretrained_encoder_is_known_to_be_one():
    assert task().stages()[0].batch_norm == "update"
    flags = {"model": "unet_backbone", "model_options": "", "epochs": 4}
    assert backbones.is_pretrained(task(**flags))
    assert not backbones.is_pretrained(task(**flags, backbone="resnet20"))
    assert not backbones.is_pretrained(task(**flags, backbone_weights="random"))
    assert not backbones.is_pretrained(task(**flags, weights="random"))
    assert backbones.is_pretrained(task(**flags, backbone="resnet20", backbone_weights="x.h5"))
    default = {**flags, "epochs": 0}
    assert task(**default).epochs < task(**default, weights="random").epochs


def test_statistics_of_a_pretrained_encoder_rest_and_those_of_its_decoder_do_not():
    model = zoo.build("unet_backbone", input_shape=(32, 32, 3), num_classes=3, widths=[8, 8, 4])
    (head, *_) = task(model="unet_backbone", model_options="", epochs=4).stages()
    assert head.batch_norm == "frozen"
    finetune.set_trainable(model, dataclasses.replace(head, learn="all"))
    moving = {layer.name for layer in finetune.batch_norm_layers(model) if layer.trainable}
    assert moving == {
        layer.name for layer in finetune.batch_norm_layers(model) if "decoder" in layer.name
    }
    assert len(moving) < len(finetune.batch_norm_layers(model))


@pytest.mark.parametrize(
    ("flags", "wanted"),
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
def test_a_mistake_is_said_before_training(flags, wanted, tmp_path):
    with pytest.raises(UsageError, match=wanted):
        trainer.train(task(**flags), tmp_path)


def test_evaluation_goes_by_the_names_of_classes(tmp_path):
    folder = two_colours(tmp_path / "data", 30)
    trainer.train(
        task(dataset=str(folder), **WHOLE, epochs=3, learning_rate=1e-2), tmp_path / "run"
    )
    one = evaluate.evaluate(tmp_path / "run", dataset=str(tmp_path / "data"))["figures"]
    other = two_colours(tmp_path / "other", 30, names="ground,blue,red")
    for path in (other / "masks").iterdir():  # the same masks under other numbers
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.array([0, 2, 1], "uint8")[mask]).save(path)
    assert evaluate.evaluate(tmp_path / "run", dataset=str(other))["figures"] == pytest.approx(one)
    strange = two_colours(tmp_path / "strange", 4, names="ground,green,red")
    with pytest.raises(UsageError, match="not taught"):
        evaluate.evaluate(tmp_path / "run", dataset=str(strange))


def test_views_are_not_for_masks(finished):
    with pytest.raises(UsageError, match="views"):
        evaluate.evaluate(finished, views="ten")


# Images of any size.


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_network_of_one_size_becomes_one_of_any(name):
    options, channels = SEGMENTERS[name], zoo.spec(name).input_shape[-1]
    random = np.random.default_rng(0)

    def build(height, width):
        return zoo.build(name, input_shape=(height, width, channels), num_classes=3, **options)

    model = build(64, 64)
    for weight in model.weights:  # some start at zero
        weight.assign(weight + random.uniform(0, 0.1, weight.shape))
    found = predictor.rebuild_for_any_size(model, {"model": name, "options": options})
    assert found.input_shape == (None, None, None, channels)
    assert {id(weight) for weight in found.weights} == {id(weight) for weight in model.weights}
    wide = build(52, 107)
    wide.set_weights(model.get_weights())
    for same in (model, wide):
        image = random.integers(0, 256, (1, *same.input_shape[1:])).astype("float32")
        wanted = np.asarray(same(image, training=False))
        np.testing.assert_allclose(
            found(image, training=False), wanted, atol=1e-5 * np.abs(wanted).max()
        )


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 333, 1000])
@pytest.mark.parametrize(("tile", "grid"), [(64, 32), (96, 32), (64, 1), (100, 1)])
def test_spans_keep_every_pixel_once_and_see_what_is_around_it(length, tile, grid):
    found = tiles.spans(length, tile, grid)
    kept = [place for span in found for place in range(span.first, span.last)]
    assert kept == list(range(length))
    for span in found:
        assert span.start % grid == 0
        assert span.end - span.start <= tile
        assert span.start <= span.first < span.last <= span.end
        assert span.start == 0 or span.first - span.start >= tile // 16
        assert span.end == length or span.end - span.last >= tile // 16


@pytest.mark.parametrize("size", [(128, 128), (100, 200), (61, 333)])
def test_tiles_give_the_mask_of_the_whole_image(size):
    """A network that sees 6 pixels far, less than tiles overlap: there is no seam to be seen."""
    net, pixels = blurring(), np.random.default_rng(0).integers(0, 256, (*size, 3), dtype="uint8")
    whole = np.asarray(net(pixels[None]))[0].argmax(axis=-1)
    found = predictor.SegmentationPredictor(net, ("a", "b", "c"), "net", (64, 64), own=True)
    seen = []

    def answered(images):
        seen.append(images.shape[1:3])
        return np.asarray(net(images))

    assert (found.mask(pixels, answered, tile=64) == whole).all()
    assert len(seen) > 1
    assert np.max(seen) <= 64


def blurring():
    """A network of strides and unpadded context, for images of any size."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = keras.layers.MaxPooling2D(2, padding="same")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.UpSampling2D(2)(x)
    x = zoo.layers.CropLike()([x, image])
    return keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(x))


def test_a_network_of_one_size_answers_in_tiles_of_it():
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    net = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    found = predictor.from_file("net.keras", net, {"own_size": True})
    assert found.classes == ("class 0", "class 1", "class 2")
    for size in [(20, 20), (32, 32), (50, 90)]:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype="uint8")
        kernel, bias = net.get_weights()
        wanted = (pixels.astype("float32") @ kernel[0, 0] + bias).argmax(axis=-1)
        assert (found.mask(pixels, lambda images: np.asarray(net(images))) == wanted).all()


@pytest.mark.parametrize(
    ("resize", "sides"), [("stretch", (32, 32)), ("pad", (16, 32)), ("crop", (32, 64))]
)
def test_an_image_is_brought_to_the_size_of_those_learned_from_and_its_mask_back(resize, sides):
    """Left half dark, right half light: the border stays where it is, at any size."""
    image = keras.Input((None, None, 1))
    net = keras.Model(image, keras.layers.Conv2D(2, 1)(image))
    net.set_weights([np.array([[[[-1.0, 1.0]]]]), np.array([100.0, -100.0])])
    found = predictor.SegmentationPredictor(net, ("dark", "light"), "net", (32, 32), resize)
    pixels = np.zeros((60, 120, 1), "uint8")
    pixels[:, 60:] = 200
    seen = []

    def answered(images):
        seen.append(images.shape[1:3])
        return np.asarray(net(images))

    mask = found.mask(pixels, answered)
    assert seen == [sides]
    assert mask.shape == (60, 120)
    assert (mask == pixels[..., 0] // 200).all()
    assert found.mask(pixels, answered, scale="native").shape == (60, 120)
    assert seen[-1] == (60, 120)


# Predict.


@pytest.fixture
def photos(tmp_path):
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    sizes = {
        "a/one.png": (40, 70),
        "b/one.png": (128, 128),
        "b/one.jpg": (33, 200),
        "c.png": (7, 5),
    }
    for name, size in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype="uint8")).save(folder / name)
    (folder / "broken.png").write_bytes(b"")
    return folder


def test_predict_draws_masks_and_overlays_beside_the_rows(finished, photos, tmp_path, capsys):
    out = tmp_path / "answers.csv"
    run("predict", finished, photos, "--output", out, "--tile", 64, "--top", 9)
    said = capsys.readouterr().err
    assert "broken.png: empty file" in said
    assert "1 of 5 images could not be read" in said
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == ["path", "rank", "class", "share", "mask", "overlay", "error"]
    assert [row["error"] for row in rows if row["error"]] == ["empty file"]
    folder = tmp_path / "answers-pictures"
    drawn = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    stems = ["a/one", "b/one.png", "b/one.jpg", "c"]
    assert drawn == {f"{stem}-{what}.png" for stem in stems for what in ("mask", "overlay")}
    for path in {row["path"] for row in rows if not row["error"]}:
        mine = [row for row in rows if row["path"] == path]
        assert sum(float(row["share"]) for row in mine) == pytest.approx(1, abs=1e-5)
        with Image.open(path) as image, Image.open(mine[0]["mask"]) as mask:
            assert mask.size == image.size
            assert mask.mode == "P"
            labels, palette = np.asarray(mask), mask.getpalette()
        names = ("ground", *dataset.load("shapes").classes[1:])
        shares = {names[i]: (labels == i).mean() for i in np.unique(labels)}
        assert {row["class"]: float(row["share"]) for row in mine} == pytest.approx(
            shares, abs=1e-5
        )
        assert palette[:3] == [0, 0, 0]
        with Image.open(mine[0]["overlay"]) as overlay:
            assert overlay.size == mask.size
            assert overlay.mode == "RGB"


def test_all_formats_say_the_same(finished, photos, tmp_path, capsys):
    words = ["predict", finished, photos, "--drawings-dir", tmp_path / "drawn", "--top", "2"]
    run(*words, "--format", "jsonl")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    run(*words, "--json")
    whole = json.loads(capsys.readouterr().out)
    assert whole["images"] == lines
    assert "at its own size, RGB" in whole["protocol"]
    good = [line for line in lines if "error" not in line]
    assert all(len(line["classes"]) <= 2 for line in good)
    assert [line["size"] for line in good] == [[40, 70], [33, 200], [128, 128], [7, 5]]
    run(*words)
    text = capsys.readouterr().out
    assert all(f"  mask: {line['mask']}\n" in text for line in good)


def test_nothing_is_drawn_where_nothing_is_wanted(finished, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("predict", finished, photos / "c.png", "--drawings-dir", "none", "--json")
    (answer,) = json.loads(capsys.readouterr().out)["images"]
    assert set(answer) == {"path", "size", "classes"}
    assert not list(tmp_path.glob("predictions*"))
    run("predict", finished, photos / "c.png")
    assert len(list((tmp_path / "predictions").iterdir())) == 2


@pytest.mark.parametrize("words", ["--scale fitt", "--tile -1"])
def test_a_wrong_flag_is_said_in_one_line(words, finished, photos, capsys):
    run("predict", finished, photos, *words.split(), status=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert words.split()[0].removeprefix("--") in line


def test_scenes_are_answered_as_they_are_and_photos_as_they_were_learned_from(finished, tmp_path):
    assert load_predictor(finished).own
    folder = two_colours(tmp_path / "data", 20)
    trainer.train(task(dataset=str(folder), image_size=16, **WHOLE), tmp_path / "run")
    opened = load_predictor(tmp_path / "run")
    assert not opened.own
    assert "stretch to 16 x 16" in opened.protocol
    (answer,) = predict.predict(opened, [folder / "images/0.png"])
    assert answer["size"] == [32, 32]


def test_a_model_of_another_task_is_refused(finished, tmp_path):
    model, about = model_files.load(finished / resume.MODEL)
    model_files.save(model, tmp_path / "model.keras", {**about, "task": "juggling"})
    with pytest.raises(UsageError, match="unknown task 'juggling'"):
        load_predictor(tmp_path / "model.keras")
    model_files.save(model, tmp_path / "bare.keras", {})
    with pytest.raises(UsageError, match="no classifier of images"):
        load_predictor(tmp_path / "bare.keras")
