"""Style transfer: what is compared, what learns by it, and pictures that come out."""

from __future__ import annotations

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from scripts.__main__ import main
from tasks.data import decoding
from tasks.deploy import evaluate
from tasks.deploy.model_loader import load_predictor
from tasks.engine import resume, trainer
from tasks.style_transfer import (
    batches,
    feature_extractor,
    gatys,
    perceptual_losses,
    predictor,
    style_images,
    train_model,
)
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

ONE = {  # picture
    "backbone": "lenet5",
    "backbone_weights": "random",
    "image_size": 32,
    "epochs": 2,
    "steps": 3,
    "precision": "float32",
}
MANY = {  # pictures
    **ONE,
    "model": "fast_style",
    "model_options": "{width: 4, depth: 1}",
    "patch_size": 32,
    "batch_size": 2,
    "train_split": "train[:8]",
    "validation_split": "validation[:2]",
    "test_split": "test[:2]",
}
TENSORFLOW = keras.config.backend() == "tensorflow"
NEEDS_LBFGS = pytest.mark.skipif(not TENSORFLOW, reason="L-BFGS runs on TensorFlow")
METHODS = [
    pytest.param("lbfgs", marks=NEEDS_LBFGS),
    pytest.param("adam", marks=pytest.mark.slow if TENSORFLOW else ()),
]


def task(**flags):
    return tasks.get("style_transfer")(**flags)


def random(shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape)


def picture(size, seed=0):
    return random((*size, 3), seed).astype("uint8")


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def tensor(x):
    return keras.ops.convert_to_tensor(np.asarray(x, "float32"))


def eye(
    backbone="lenet5", content=(), style=(), pooling="max", paper=feature_extractor.GATYS_LAYERS
):
    return feature_extractor.FeatureExtractor(backbone, "random", pooling, content, style, paper)


def run(*words, status=0):
    assert main([str(word) for word in words]) == status


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a painter's run, judged by a network that knows something."""
    out = tmp_path_factory.mktemp("style") / "run"
    trainer.train(task(**{**MANY, "backbone": "resnet20.cifar10", "backbone_weights": ""}), out)
    return out


# What is compared


def slow_gram(maps):
    height, width, channels = maps.shape
    found = np.zeros((channels, channels))
    for row in range(height):
        for place in range(width):
            for one in range(channels):
                for other in range(channels):
                    found[one, other] += maps[row, place, one] * maps[row, place, other]
    return found / (height * width)


def test_losses_are_those_of_a_slow_count():
    maps, wanted = random((2, 3, 4, 5)) / 100, random((2, 3, 4, 5), seed=1) / 100
    style = slow_gram(random((6, 2, 5), seed=2) / 100)
    grams = np.stack([slow_gram(each) for each in maps])
    np.testing.assert_allclose(numpy(perceptual_losses.gram_matrix(tensor(maps))), grams, rtol=1e-5)
    found = numpy(perceptual_losses.style_loss(tensor(maps), tensor(style)))
    expected = [((each - style) ** 2).sum() / (style**2).sum() for each in grams]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    found = numpy(perceptual_losses.content_loss(tensor(maps), tensor(wanted)))
    pairs = zip(maps, wanted, strict=True)
    expected = [((one - other) ** 2).sum() / (other**2).sum() for one, other in pairs]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_variation_is_that_of_a_slow_count():
    pictures = random((2, 4, 5, 3))
    expected = []
    for each in pictures / 255:
        total = 0.0
        for row in range(4):
            for place in range(5):
                if row < 3:
                    total += ((each[row + 1, place] - each[row, place]) ** 2).sum()
                if place < 4:
                    total += ((each[row, place + 1] - each[row, place]) ** 2).sum()
        expected.append(total / (4 * 5 * 3))
    np.testing.assert_allclose(
        numpy(perceptual_losses.total_variation(tensor(pictures))), expected, rtol=1e-4
    )


def test_columns_average_layers():
    maps, grams = [tensor(random((1, 2, 2, n)) / 100) for n in (2, 3)], [np.eye(2), np.eye(3)]
    given = {
        "pictures": tensor(np.zeros((1, 2, 2, 3))),
        "content": maps,
        "wanted_content": [2 * each for each in maps],
        "style": maps,
        "wanted_style": [tensor(each) for each in grams],
    }
    [found] = numpy(perceptual_losses.stack_losses(given))
    parts = [
        numpy(perceptual_losses.style_loss(each, tensor(gram)))
        for each, gram in zip(maps, grams, strict=True)
    ]
    np.testing.assert_allclose(found, [0.25, np.mean(parts), 0], rtol=1e-5)


@pytest.fixture
def exactly():
    """Lets Keras compute in float64."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)


@pytest.mark.parametrize("grey", [False, True])
def test_the_gradient_of_the_whole_loss_is_that_of_differences(grey, exactly):
    """Through a small network of smooth layers."""
    if not TENSORFLOW:
        pytest.skip("takes the gradient by TensorFlow")
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    content = picture((28, 30))
    loss_targets = train_model.LossTargets(
        eye(), [picture((30, 28), 1), picture((29, 29), 2)], (0.3, 0.7), content, grey=grey
    )
    model = gatys.build(content, "noise", 0)
    training_model = train_model.build_train_model(model, loss_targets)
    canvas = model.get_layer("canvas").picture
    start = numpy(canvas)

    def loss():
        return tf.reduce_sum(training_model(content[None].astype("float64")) * [1.0, 10.0, 5.0])

    with tf.GradientTape() as tape:
        value = loss()
    gradient = numpy(tape.gradient(value, canvas.value))
    rng = np.random.default_rng(3)
    for _ in range(3):
        direction = rng.normal(size=start.shape)
        ends = []
        for sign in (-1, 1):
            canvas.assign(start + sign * 1e-3 * direction)
            ends.append(float(loss()))
        slope = (ends[1] - ends[0]) / 2e-3
        assert slope == pytest.approx((gradient * direction).sum(), rel=1e-5)


def test_the_style_itself_has_no_style_loss_and_the_content_no_content_loss():
    content, style = picture((30, 40)), picture((30, 40), 1)
    loss_targets = train_model.LossTargets(eye(), [style], (1.0,), content)
    weights = (1.0, 1.0, 0.0)
    assert train_model.unstylized_losses(loss_targets, style[None], weights)["style_loss"] < 1e-8
    found = train_model.unstylized_losses(loss_targets, content[None], weights)
    assert found["content_loss"] < 1e-8
    assert found["loss"] == pytest.approx(found["style_loss"], rel=1e-5)
    blended = train_model.LossTargets(eye(), [style, style], (0.2, 0.8), content)
    again = train_model.unstylized_losses(blended, style[None], weights)
    assert again["style_loss"] < 1e-8


# The network that looks


def test_layers_are_the_papers_where_a_network_has_them():
    with keras.StatelessScope(initialize_variables=False):
        net, content, style = eye("vgg16").build()
        assert content == ("block4_conv2",)
        assert style == tuple(f"block{number}_conv1" for number in range(1, 6))
        assert set(net.output) == {*content, *style}
        assert "block5_conv2" not in {layer.name for layer in net.layers}
        assert not net.trainable_weights
        _, content, style = eye("vgg16", paper=feature_extractor.JOHNSON_LAYERS).build()
        assert content == ("block3_conv3",)
        assert style[-1] == "block4_conv3"
        _, content, style = eye("resnet20").build()
        assert (content, style) == (("stage1",), ("stage0", "stage1", "stage2"))
        _, content, style = eye("vgg11", content=("stage3",), style=("block1_conv1",)).build()
        assert (content, style) == (("stage3",), ("block1_conv1",))


def test_means_in_place_of_maxima():
    keras.utils.set_random_seed(0)
    image = random((1, 33, 34, 3))
    layers = ("block1_conv1", "block1_pool", "block2_pool")
    own, *_ = eye("vgg11", layers, layers).build()
    mean, *_ = eye("vgg11", layers, layers, pooling="average").build()
    mean.set_weights(own.get_weights())
    one, other = own(image), mean(image)
    np.testing.assert_array_equal(numpy(one["block1_conv1"]), numpy(other["block1_conv1"]))
    wanted = keras.ops.average_pool(one["block1_conv1"], 2, 2)
    np.testing.assert_allclose(numpy(other["block1_pool"]), numpy(wanted), rtol=1e-5)
    assert np.abs(numpy(one["block2_pool"]) - numpy(other["block2_pool"])).max() > 1e-3


# Pictures and colours


def test_a_match_has_the_colours_of_the_other():
    style, content = picture((40, 50)), (picture((30, 35), 1) // 3 + 60).astype("uint8")
    content[..., 0] = (content[..., 1].astype(int) + content[..., 2]) // 2
    found = style_images.match_colours(style, content).reshape(-1, 3).astype(float)
    wanted = content.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), atol=0.5)
    np.testing.assert_allclose(np.cov(found.T), np.cov(wanted.T), atol=3)


def test_recolouring_keeps_one_s_brightness_and_the_other_s_colours():
    own, its = picture((8, 9)) // 4 + 90, picture((8, 9), 1) // 4 + 90
    found = style_images.restore_colours(own, its).astype(float)
    luma = np.array(style_images.LUMA)
    np.testing.assert_allclose(found @ luma, own @ luma, atol=1)
    yiq = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    np.testing.assert_allclose(found @ yiq.T, its @ yiq.T, atol=1.5)
    grey = style_images.to_grey(own)
    assert (grey[..., 0] == grey[..., 2]).all()
    bright = style_images.match_luminance(grey, style_images.to_grey(its))
    assert bright.mean() == pytest.approx(style_images.to_grey(its).mean(), abs=0.5)


def test_shares_of_styles_are_one_together():
    assert style_images.parse_style_weights("", 2) == (0.5, 0.5)
    assert style_images.parse_style_weights("3,1", 2) == (0.75, 0.25)
    for text, count in (("1", 2), ("1,2,3", 2), ("a,b", 2), ("1,-1", 2), ("nan,1", 2)):
        with pytest.raises(UsageError, match="takes 2 positive numbers, one for each --style"):
            style_images.parse_style_weights(text, count)


def test_drawn_pictures_are_pictures_and_scaled():
    for name in ("hills", "mosaic", "waves"):
        found = style_images.read(name)
        assert found.shape == (256, 256, 3)
        assert found.std() > 20
        assert style_images.read(name, 64).shape == (64, 64, 3)
        inner = style_images.read(name, 0, 0.1)
        np.testing.assert_array_equal(inner, found[25:-25, 25:-25])


# Patches


def folder_of(folder, count, broken=False):
    for index in range(count):
        path = folder / ("deep" if index % 2 else "") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture((20 + index, 30), index)).save(path)
    if broken:
        (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
        (folder / "notes.txt").write_text("notes")
    return folder


def test_any_folder_of_pictures_will_do(tmp_path):
    source = batches.load(str(folder_of(tmp_path / "flat", 6, broken=True)))
    assert len(source.splits["all"]) == 6 + 1  # a picture by its first bytes
    assert [path.rpartition("/")[2] for path, _ in source.skipped] == ["notes.txt"]
    for name in ("train", "test"):
        folder_of(tmp_path / "parts" / name, 2)
    source = batches.load(str(tmp_path / "parts"))
    assert {name: len(part) for name, part in source.splits.items()} == {"train": 2, "test": 2}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images in"):
        batches.load(str(tmp_path / "empty"))
    assert batches.load("shapes").classes == ("picture",)


def test_patches_are_parts_of_pictures_and_follow_from_seed_and_epoch():
    ramp = np.zeros((1, 41, 41, 3), "uint8")
    ramp[..., 0] = 5 * np.arange(41)[:, None]
    ramp[..., 1] = 5 * np.arange(41)
    examples = decoding.Examples("train", ramp, np.zeros(1, "int64"))

    def patches(number=0, start=0, seed=0):
        stream = batches.PatchBatches(examples, size=4, steps=6, side=21, seed=seed, columns=3)
        return [np.asarray(images) for images, _ in stream.epoch(number, start)]

    first = patches()
    assert len(first) == 6
    assert first[0].shape == (4, 21, 21, 3)
    np.testing.assert_array_equal(patches(start=2), first[2:])
    assert np.abs(patches(1)[0] - first[0]).max() > 1
    assert np.abs(patches(seed=1)[0] - first[0]).max() > 1
    slopes = np.diff(np.concatenate(first), axis=2)[..., 1]
    np.testing.assert_allclose(slopes.max(axis=(1, 2)), slopes.min(axis=(1, 2)), atol=0.01)
    steps = slopes[:, 0, 0]  # of the picture for each of the patch, mirrored or not
    assert (steps < 0).any()
    assert (steps > 0).any()
    assert (abs(steps) <= 10.01).all()
    assert (abs(steps) >= 4.9).all()


# L-BFGS


def minimised(function, start, looks):
    """Looks at a function some times, and steps on after each look."""
    import tensorflow as tf

    from tasks.style_transfer import lbfgs

    weights = [keras.Variable(part) for part in start]
    optimizer = lbfgs.LBFGS()
    optimizer.build(weights)
    values = []

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = function(*(tf.convert_to_tensor(each) for each in weights))
        optimizer.line_search_step(value, tape.gradient(value, [each.value for each in weights]))
        return value

    for _ in range(looks):
        values.append(float(step()))
    return values, np.concatenate([numpy(each).reshape(-1) for each in weights]), optimizer


def stiff(x, y):
    """A convex function of 60 numbers in two tensors, with slopes that differ a thousand times."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    base, _ = np.linalg.qr(rng.normal(size=(60, 60)))
    matrix = tf.constant((base * np.logspace(-1, 2, 60)) @ base.T, "float32")
    z = tf.concat([tf.reshape(x, [-1]), y], 0) - 1.0
    return 0.5 * tf.tensordot(z, tf.linalg.matvec(matrix, z), 1) + tf.reduce_sum(z**4)


@NEEDS_LBFGS
def test_lbfgs_falls_as_scipys_does():
    import tensorflow as tf

    optimize = pytest.importorskip("scipy.optimize")
    start = [np.full((4, 5), 3.0, "float32"), np.linspace(-2, 2, 40).astype("float32")]

    @tf.function
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = stiff(x[:20], x[20:])
        return value, tape.gradient(value, x)

    def function(flat):
        value, gradient = slope(tf.constant(flat, "float32"))
        return float(value), numpy(gradient).astype("float64")

    for looks in (15, 60):
        flat = np.concatenate([part.reshape(-1) for part in start])
        theirs = optimize.minimize(
            function, flat, jac=True, method="L-BFGS-B", options={"maxfun": looks - 1}
        )
        ours, found, _ = minimised(stiff, start, looks)
        assert min(ours) < 1.5 * theirs.fun
    np.testing.assert_allclose(found, 1.0, atol=0.1)
    assert ours[-1] < 1e-4 * ours[0]


@NEEDS_LBFGS
def test_lbfgs_comes_back_from_a_step_that_is_too_long():
    """Rosenbrock's valley, where full steps often lead up."""
    start = [np.array([-1.2, 1.0], "float32")]
    values, found, _ = minimised(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, start, 80
    )
    assert max(np.diff(values)) > 0  # it looked at worse points
    np.testing.assert_allclose(found, [1, 1], atol=1e-2)


# What learns


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_learns(method, tmp_path):
    """Both losses fall in sum, and what is left is the picture in the run's folder."""
    asked = task(**{**ONE, "epochs": 4, "steps": 8}, optimizer=method)
    found = trainer.train(asked, tmp_path / "run")["figures"]
    losses = checks.column(tmp_path / "run", "val_loss")
    assert losses[-1] < losses[0]
    assert found["loss"] == pytest.approx(min(losses), rel=1e-5)
    assert found["style_loss"] < 0.5 * found["style_loss_before"]
    with Image.open(tmp_path / "run" / "picture.png") as image:
        assert image.size == (32, 32)
        model, _ = model_files.load(tmp_path / "run" / "model.keras")
        np.testing.assert_array_equal(np.asarray(image), gatys.picture(model))
    page = (tmp_path / "run" / "report.html").read_text()
    for heading in ("Pictures", "Losses", "Curves"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/jpeg") == 3
    assert "style loss by epoch" in page
    with pytest.raises(UsageError, match=r"holds one picture, .*picture\.png; to repaint others"):
        load_predictor(tmp_path / "run")
    with pytest.raises(UsageError, match="gatys is one picture"):
        evaluate.evaluate(tmp_path / "run")


@pytest.mark.slow
def test_a_painter_learns(tmp_path):
    flags = {**MANY, "epochs": 3, "steps": 12, "learning_rate": 1e-2, "style_weight": 1.0}
    found = trainer.train(task(**flags), tmp_path / "run")["figures"]
    losses = checks.column(tmp_path / "run", "loss")
    assert losses[-1] < 0.8 * losses[0]
    assert found["style_loss"] < found["style_loss_before"]


@pytest.mark.parametrize("case", [*METHODS, pytest.param("painter", marks=pytest.mark.slow)])
def test_killed_again_and_again_it_ends_as_if_it_had_not_been(case, tmp_path, monkeypatch):
    flags = {"checkpoint_steps": 1, "variation_weight": 3.0}
    flags |= MANY if case == "painter" else {**ONE, "optimizer": case, "start": "noise"}
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    trainer.train(task(**flags), tmp_path / "whole")
    checks.kill(task(**flags), tmp_path / "cut", 2, 3)
    trainer.train(task(**flags), tmp_path / "cut")
    checks.assert_same(*(checks.weights(tmp_path / name) for name in ("whole", "cut")))
    for name in ("loss", "style_loss", "val_loss"):
        assert checks.column(tmp_path / "whole", name) == checks.column(tmp_path / "cut", name)


def test_two_replicas_learn_what_one_does(two_devices, tmp_path):
    if not TENSORFLOW:
        pytest.skip("needs tf.distribute")
    for strategy in ("one", "mirrored"):
        flags = {**MANY, "strategy": strategy, "optimizer": "sgd", "learning_rate": 1e-3}
        trainer.train(task(**flags), tmp_path / strategy)
    one, two = (checks.column(tmp_path / name, "loss") for name in ("one", "mirrored"))
    assert two == pytest.approx(one, rel=1e-4)
    one, two = (checks.column(tmp_path / name, "val_loss") for name in ("one", "mirrored"))
    assert two == pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize("way", ["match", pytest.param("luminance", marks=pytest.mark.slow)])
def test_the_content_keeps_its_colours(way, tmp_path):
    content, style = (tmp_path / name for name in ("content.png", "style.png"))
    red = np.zeros((32, 32, 3), "uint8")
    red[..., 0] = 100 + 3 * np.arange(32)
    red[::4, :, 1] = 40
    Image.fromarray(red).save(content)
    blue = picture((32, 32))
    blue[..., 0] //= 4
    Image.fromarray(blue).save(style)
    found = {}
    for colours in ("none", way):
        flags = {**ONE, "content": str(content), "style": str(style), "keep_colours": colours}
        flags |= {"start": "noise", "optimizer": "adam", "steps": 10}
        trainer.train(task(**flags), tmp_path / colours)
        with Image.open(tmp_path / colours / "picture.png") as image:
            found[colours] = np.asarray(image).astype(float).mean(axis=(0, 1))
    means = red.astype(float).mean(axis=(0, 1))
    distances = {key: np.abs(value - means).max() for key, value in found.items()}
    assert distances[way] < distances["none"]


# Prediction


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name, size in {"a/one.png": (40, 70), "b/one.png": (33, 20), "c.jpg": (3, 5)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(size)).save(folder / name)
    (folder / "broken.png").write_bytes(b"")
    return folder


def test_predict_writes_restyled_pictures(finished, photos, tmp_path, capsys):
    out = tmp_path / "answers.csv"
    run("predict", finished, photos, "--output", out)
    assert "1 of 4 images could not be read" in capsys.readouterr().err
    with open(out, newline="") as file:
        rows = {row["path"].rpartition("photos/")[2]: row for row in csv.DictReader(file)}
    assert list(next(iter(rows.values()))) == ["path", "painted", "width", "height", "error"]
    assert rows["broken.png"]["error"] == "empty file"
    model, _ = model_files.load(finished / resume.MODEL)
    for name in ("a/one", "b/one", "c"):
        [key] = [key for key in rows if key.startswith(name)]
        with Image.open(rows[key]["painted"]) as stylize, Image.open(rows[key]["path"]) as photo:
            assert stylize.size == photo.size == (int(rows[key]["width"]), int(rows[key]["height"]))
            image = np.asarray(photo.convert("RGB"), "float32")
            wanted = numpy(model(image[None], training=False))[0]
            assert np.abs(np.asarray(stylize) - wanted).max() < 1
    assert (tmp_path / "answers-pictures" / "a" / "one-painted.png").exists()


def test_predict_says_what_it_did(finished, photos, tmp_path, capsys):
    words = ["predict", finished, photos / "c.jpg", "--drawings-dir", tmp_path / "drawn"]
    run(*words, "--json")
    [answer] = json.loads(capsys.readouterr().out)["images"]
    assert answer["size"] == [3, 5]
    assert answer["painted"].endswith("c-painted.png")
    run(*words)
    assert "painted, 5 x 3: " in capsys.readouterr().out
    run("predict", finished, photos / "c.jpg", "--drawings-dir", "none", "--json")
    assert set(json.loads(capsys.readouterr().out)["images"][0]) == {"path", "size"}
    run(*words, "--runtime", "onnx", status=1)
    assert "runs in Keras only" in capsys.readouterr().err


def test_parts_fit_together_and_sizes_come_back(monkeypatch, caplog):
    same = zoo.build("fast_style", input_shape=(None, None, 3), width=2, depth=1)
    seen = []

    def copy(images):
        seen.append(images.shape[1:3])
        return images.astype("float32")

    net = predictor.StyleTransferPredictor(same, "copy", 32)
    pixels = picture((100, 150))
    np.testing.assert_array_equal(net.stylize(pixels, copy, tile=64), pixels)
    assert len(seen) > 4
    assert np.max(seen) <= 64
    assert net.stylize(pixels, copy, scale="fit").shape == pixels.shape
    assert seen[-1] == (21, 32)
    short = predictor.StyleTransferPredictor(same, "copy", 32, pixel_bytes=10**6)
    monkeypatch.setattr(decoding, "free_memory", lambda: 2 * 10**6 * 5000)
    assert short.stylize(pixels, copy).shape == pixels.shape
    assert seen[-1] == (58, 87)
    assert "do not fit into memory" in caplog.text
    assert 4 * 8 < predictor.pixel_bytes(same) < 4 * 800


def test_a_picture_may_keep_its_colours(finished, tmp_path):
    model, about = model_files.load(finished / resume.MODEL)
    model_files.save(model, tmp_path / "grey.keras", {**about, "keep_colours": "luminance"})
    opened = load_predictor(tmp_path / "grey.keras")
    assert opened.luminance
    assert "colours are kept" in opened.protocol
    grey = style_images.to_grey(picture((20, 20)))
    found = opened.stylize(grey, lambda images: 255 - images.astype("float32"))
    assert (found[..., 0] == found[..., 2]).all()


def test_evaluation_measures_other_pictures(finished, tmp_path):
    own = evaluate.evaluate(finished)["figures"]
    report = json.loads((finished / resume.REPORT).read_text())["figures"]
    for name in ("loss", "content_loss", "style_loss", "variation"):
        assert own[name] == pytest.approx(report[name], rel=1e-4)
    other = evaluate.evaluate(finished, dataset=str(folder_of(tmp_path / "other", 5)))
    assert other["split"] == "all"
    assert other["figures"]["style_loss"] != pytest.approx(own["style_loss"], rel=1e-3)


# Mistakes


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"style": "setup.cfg"}, "setup.cfg: not an image by its first bytes"),
        ({"style": "nowhere.jpg"}, "'nowhere.jpg' is no file; a picture is an image file, or draw"),
        ({"content": "nowhere.jpg"}, "'nowhere.jpg' is no file"),
        ({"content": "docs"}, "'docs' is a folder"),
        ({"style": "hills,"}, "needed: names with commas between"),
        ({"style": "hills,waves", "style_weights": "1"}, "takes 2 positive numbers"),
        ({"style_layers": "block1_conv1"}, "no layer or stage of lenet5 named 'block1_conv1'"),
        ({"backbone": "mlp"}, "mlp has no feature pyramid"),
        ({"backbone": "lenet6"}, "did you mean lenet5"),
        ({"model": "gatis"}, "no model named 'gatis'; did you mean gatys"),
        ({"model": "lenet5"}, "lenet5 is a classifier; style_transfer takes gatys or a painter"),
        ({"model": "fast_style", "optimizer": "lbfgs"}, "a painter, whose batches differ"),
        ({"model": "fast_style", "keep_colours": "match"}, "a painter takes luminance"),
        ({"model": "fast_style", "patch_size": 64}, "--patch-size 64 is larger than --image-size"),
        ({"style_rim": 0.5}, "--style-rim must be from 0 to 0.49, not 0.5"),
        ({"strategy": "mirrored"}, "nothing to share out"),
        ({"optimizer": "lbfgs", "ema_decay": 0.9}, "lbfgs: no --ema-decay"),
        ({"optimizer": "adamm"}, "did you mean"),
        ({**MANY, "dataset": "nowhere"}, "no data set named 'nowhere'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_mistake_is_said_in_one_line(flags, wanted, tmp_path):
    with pytest.raises(UsageError, match=wanted) as raised:
        trainer.train(task(**{**ONE, **flags}), tmp_path / "run")
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(TENSORFLOW, reason="of other backends")
def test_lbfgs_needs_tensorflow(tmp_path):
    with pytest.raises(UsageError, match="take --optimizer adam"):
        trainer.train(task(**ONE), tmp_path / "run")
