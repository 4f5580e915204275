"""Style transfer: losses, feature extractor, colors, L-BFGS, runs and prediction."""

from __future__ import annotations

import csv
import dataclasses
import json
import re

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
    loss_targets,
    perceptual_losses,
    predictor,
    style_images,
    train_model,
)
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

GATYS = {
    "backbone": "lenet5",
    "backbone_weights": "random",
    "image_size": 32,
    "epochs": 2,
    "steps": 3,
    "precision": "float32",
}
NETWORK = {
    **GATYS,
    "model": "fast_style",
    "model_options": "{width: 4, depth: 1}",
    "patch_size": 32,
    "batch_size": 2,
    "train_split": "train[:8]",
    "validation_split": "validation[:2]",
    "test_split": "test[:2]",
}
RESUMABLE = {**GATYS, "epochs": 4, "steps": 8, "checkpoint_steps": 5}
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


def random_image(size, seed=0):
    return random((*size, 3), seed).astype("uint8")


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def tensor(x):
    return keras.ops.convert_to_tensor(np.asarray(x, "float32"))


def extractor(
    backbone="lenet5", content=(), style=(), pooling="max", paper=feature_extractor.GATYS_LAYERS
):
    return feature_extractor.FeatureExtractor(backbone, "random", pooling, content, style, paper)


def run_command(*words, status=0):
    assert main([str(word) for word in words]) == status


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a network's run, with a feature extractor of random weights."""
    folder = tmp_path_factory.mktemp("style")
    trainer.train(task(**NETWORK, seed=1), folder / "run")
    return folder / "run"


def test_random_weights_of_the_feature_extractor_depend_on_the_seed_alone():
    def features(seed, before):
        keras.utils.set_random_seed(before)
        own = dataclasses.replace(extractor(), seed=seed)
        weights = own.build()[0].get_weights()
        return weights, keras.layers.Dense(2, name="next")(tensor(np.ones((1, 3))))

    (one, after), (same, other_after), (other, _) = features(3, 0), features(3, 1), features(4, 0)
    assert all(map(np.array_equal, one, same))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True) if a.ndim > 1)
    assert not np.array_equal(numpy(after), numpy(other_after))


# Losses


def gram_by_loops(maps):
    height, width, channels = maps.shape
    found = np.zeros((channels, channels))
    for row in range(height):
        for column in range(width):
            for first in range(channels):
                for second in range(channels):
                    found[first, second] += maps[row, column, first] * maps[row, column, second]
    return found / (height * width)


def test_losses_match_loops():
    maps, target = random((2, 3, 4, 5)) / 100, random((2, 3, 4, 5), seed=1) / 100
    style = gram_by_loops(random((6, 2, 5), seed=2) / 100)
    grams = np.stack([gram_by_loops(each) for each in maps])
    np.testing.assert_allclose(numpy(perceptual_losses.gram_matrix(tensor(maps))), grams, rtol=1e-5)
    found = numpy(perceptual_losses.style_loss(tensor(maps), tensor(style)))
    expected = [((each - style) ** 2).sum() / (style**2).sum() for each in grams]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    found = numpy(perceptual_losses.content_loss(tensor(maps), tensor(target)))
    pairs = zip(maps, target, strict=True)
    expected = [((one - other) ** 2).sum() / (other**2).sum() for one, other in pairs]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_total_variation_matches_loops():
    images = random((2, 4, 5, 3))
    expected = []
    for each in images / 255:
        total = 0.0
        for row in range(4):
            for column in range(5):
                if row < 3:
                    total += ((each[row + 1, column] - each[row, column]) ** 2).sum()
                if column < 4:
                    total += ((each[row, column + 1] - each[row, column]) ** 2).sum()
        expected.append(total / (4 * 5 * 3))
    np.testing.assert_allclose(
        numpy(perceptual_losses.total_variation(tensor(images))), expected, rtol=1e-4
    )


def test_losses_of_several_layers_are_averaged():
    maps, grams = (
        [tensor(random((1, 2, 2, n)) / 100) for n in (2, 3)],
        [np.eye(2), np.eye(3)],
    )
    tensors = {
        "images": tensor(np.zeros((1, 2, 2, 3))),
        "content": maps,
        "target_content": [2 * each for each in maps],
        "style": maps,
        "target_style": [tensor(each) for each in grams],
    }
    [found] = numpy(perceptual_losses.stack_losses(tensors))
    parts = [
        numpy(perceptual_losses.style_loss(each, tensor(gram)))
        for each, gram in zip(maps, grams, strict=True)
    ]
    np.testing.assert_allclose(found, [0.25, np.mean(parts), 0], rtol=1e-5)


@pytest.fixture
def float64():
    """Makes float64 the dtype of Keras."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)


@pytest.mark.parametrize("luminance", [pytest.param(False, marks=pytest.mark.check), True])
def test_gradient_of_the_loss_matches_finite_differences(luminance, float64):
    """With a feature extractor of smooth layers."""
    if not TENSORFLOW:
        pytest.skip("uses the gradient tape of TensorFlow")
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    content = random_image((28, 30))
    targets = loss_targets.LossTargets(
        extractor(),
        [random_image((30, 28), 1), random_image((29, 29), 2)],
        (0.3, 0.7),
        content,
        luminance=luminance,
    )
    model = gatys.build(content, "noise", 0)
    training_model = train_model.build_training_model(model, targets)
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


def test_losses_vanish_at_their_targets():
    content, style = random_image((30, 40)), random_image((30, 40), 1)
    targets = loss_targets.LossTargets(extractor(), [style], (1.0,), content)
    weights = (1.0, 1.0, 0.0)
    assert train_model.unstylized_losses(targets, style[None], weights)["style_loss"] < 1e-8
    found = train_model.unstylized_losses(targets, content[None], weights)
    assert found["content_loss"] < 1e-8
    assert found["loss"] == pytest.approx(found["style_loss"], rel=1e-5)
    blended = loss_targets.LossTargets(extractor(), [style, style], (0.2, 0.8), content)
    again = train_model.unstylized_losses(blended, style[None], weights)
    assert again["style_loss"] < 1e-8


# Feature extractor


def test_default_layers_are_those_of_the_papers_or_the_stages():
    with keras.StatelessScope(initialize_variables=False):
        net, content, style = extractor("vgg16").build()
        assert content == ("block4_conv2",)
        assert style == tuple(f"block{number}_conv1" for number in range(1, 6))
        assert set(net.output) == {*content, *style}
        assert "block5_conv2" not in {layer.name for layer in net.layers}
        assert not net.trainable_weights
        _, content, style = extractor("vgg16", paper=feature_extractor.JOHNSON_LAYERS).build()
        assert content == ("block3_conv3",)
        assert style[-1] == "block4_conv3"
        _, content, style = extractor("resnet20").build()
        assert (content, style) == (("stage1",), ("stage0", "stage1", "stage2"))
        _, content, style = extractor("vgg11", content=("stage3",), style=("block1_conv1",)).build()
        assert (content, style) == (("stage3",), ("block1_conv1",))


def test_average_pooling_replaces_max_pooling():
    keras.utils.set_random_seed(0)
    image = random((1, 33, 34, 3))
    layers = ("block1_conv1", "block1_pool", "block2_pool")
    max_model, *_ = extractor("vgg11", layers, layers).build()
    average_model, *_ = extractor("vgg11", layers, layers, pooling="average").build()
    average_model.set_weights(max_model.get_weights())
    one, other = max_model(image), average_model(image)
    np.testing.assert_array_equal(numpy(one["block1_conv1"]), numpy(other["block1_conv1"]))
    expected = keras.ops.average_pool(one["block1_conv1"], 2, 2)
    np.testing.assert_allclose(numpy(other["block1_pool"]), numpy(expected), rtol=1e-5)
    assert np.abs(numpy(one["block2_pool"]) - numpy(other["block2_pool"])).max() > 1e-3


# Images and colors


def test_matched_colours_have_the_mean_and_covariance_of_the_reference():
    style, content = random_image((40, 50)), (random_image((30, 35), 1) // 3 + 60).astype("uint8")
    content[..., 0] = (content[..., 1].astype(int) + content[..., 2]) // 2
    found = style_images.match_colours(style, content).reshape(-1, 3).astype(float)
    expected = content.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), atol=0.5)
    np.testing.assert_allclose(np.cov(found.T), np.cov(expected.T), atol=3)


def test_restored_colours_have_luminance_and_chrominance_of_the_two_images():
    image, content = random_image((8, 9)) // 4 + 90, random_image((8, 9), 1) // 4 + 90
    found = style_images.restore_colours(image, content).astype(float)
    luma = np.array(style_images.LUMA)
    np.testing.assert_allclose(found @ luma, image @ luma, atol=1)
    yiq = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    np.testing.assert_allclose(found @ yiq.T, content @ yiq.T, atol=1.5)
    grey = style_images.to_grey(image)
    assert (grey[..., 0] == grey[..., 2]).all()
    bright = style_images.match_luminance(grey, style_images.to_grey(content))
    assert bright.mean() == pytest.approx(style_images.to_grey(content).mean(), abs=0.5)


def test_style_weights_sum_to_one():
    assert style_images.parse_style_weights("", 2) == (0.5, 0.5)
    assert style_images.parse_style_weights("3,1", 2) == (0.75, 0.25)
    for text, count in (("1", 2), ("1,2,3", 2), ("a,b", 2), ("1,-1", 2), ("nan,1", 2)):
        with pytest.raises(UsageError, match="needs 2 positive numbers, one per --style"):
            style_images.parse_style_weights(text, count)


def test_synthetic_images_are_read_scaled_and_cropped():
    for name in ("hills", "mosaic", "waves"):
        image = style_images.read(name)
        assert image.shape == (256, 256, 3)
        assert image.std() > 20
    assert style_images.read("waves", 64).shape == (64, 64, 3)
    cropped = style_images.read("waves", 0, 0.1)
    np.testing.assert_array_equal(cropped, image[25:-25, 25:-25])


# Training images


def make_folder(folder, count, broken=False):
    for index in range(count):
        path = folder / ("deep" if index % 2 else "") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_image((20 + index, 30), index)).save(path)
    if broken:
        (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
        (folder / "notes.txt").write_text("notes")
    return folder


def test_any_folder_of_images_is_a_data_set(tmp_path):
    source = batches.load(str(make_folder(tmp_path / "flat", 6, broken=True)))
    assert len(source.splits["all"]) == 6 + 1  # broken.png is an image by its first bytes
    assert [path.rpartition("/")[2] for path, _ in source.skipped] == ["notes.txt"]
    for name in ("train", "test"):
        make_folder(tmp_path / "parts" / name, 2)
    source = batches.load(str(tmp_path / "parts"))
    assert {name: len(part) for name, part in source.splits.items()} == {"train": 2, "test": 2}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images in"):
        batches.load(str(tmp_path / "empty"))
    assert batches.load("shapes").classes == ("picture",)


def test_patches_are_crops_that_depend_only_on_seed_and_epoch():
    ramp = np.zeros((1, 41, 41, 3), "uint8")
    ramp[..., 0] = 5 * np.arange(41)[:, None]
    ramp[..., 1] = 5 * np.arange(41)
    examples = decoding.Examples("train", ramp, np.zeros(1, "int64"))

    def patches(number=0, start=0, seed=0):
        epochs = batches.PatchBatches(examples, size=4, steps=6, side=21, seed=seed, columns=3)
        return [np.asarray(images) for images, _ in epochs.epoch(number, start)]

    first = patches()
    assert len(first) == 6
    assert first[0].shape == (4, 21, 21, 3)
    np.testing.assert_array_equal(patches(start=2), first[2:])
    assert np.abs(patches(1)[0] - first[0]).max() > 1
    assert np.abs(patches(seed=1)[0] - first[0]).max() > 1
    slopes = np.diff(np.concatenate(first), axis=2)[..., 1]
    np.testing.assert_allclose(slopes.max(axis=(1, 2)), slopes.min(axis=(1, 2)), atol=0.01)
    steps = slopes[:, 0, 0]  # pixels of the image per pixel of the patch; negative if flipped
    assert (steps < 0).any()
    assert (steps > 0).any()
    assert (abs(steps) <= 10.01).all()
    assert (abs(steps) >= 4.9).all()


# L-BFGS


def minimize(function, start, evaluations):
    """Minimizes a function by L-BFGS; returns its values, the final weights and the optimizer."""
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

    for _ in range(evaluations):
        values.append(float(step()))
    return values, np.concatenate([numpy(each).reshape(-1) for each in weights]), optimizer


def ill_conditioned(x, y):
    """A convex function of 60 numbers in two tensors, with a condition number of about 1000."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    base, _ = np.linalg.qr(rng.normal(size=(60, 60)))
    matrix = tf.constant((base * np.logspace(-1, 2, 60)) @ base.T, "float32")
    z = tf.concat([tf.reshape(x, [-1]), y], 0) - 1.0
    return 0.5 * tf.tensordot(z, tf.linalg.matvec(matrix, z), 1) + tf.reduce_sum(z**4)


@NEEDS_LBFGS
@pytest.mark.check
def test_lbfgs_converges_like_that_of_scipy():
    import tensorflow as tf

    optimize = pytest.importorskip("scipy.optimize")
    start = [np.full((4, 5), 3.0, "float32"), np.linspace(-2, 2, 40).astype("float32")]

    @tf.function
    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = ill_conditioned(x[:20], x[20:])
        return value, tape.gradient(value, x)

    def function(flat):
        value, gradient = value_and_gradient(tf.constant(flat, "float32"))
        return float(value), numpy(gradient).astype("float64")

    flat = np.concatenate([part.reshape(-1) for part in start])
    ours, found, _ = minimize(ill_conditioned, start, 60)
    for evaluations in (15, 60):
        expected = optimize.minimize(
            function, flat, jac=True, method="L-BFGS-B", options={"maxfun": evaluations - 1}
        )
        assert min(ours[:evaluations]) < 1.5 * expected.fun
    np.testing.assert_allclose(found, 1.0, atol=0.1)
    assert ours[-1] < 1e-4 * ours[0]


@NEEDS_LBFGS
@pytest.mark.check
def test_lbfgs_shortens_steps_that_are_too_long():
    """On Rosenbrock's function, where full steps often increase the value."""
    start = [np.array([-1.2, 1.0], "float32")]
    values, found, _ = minimize(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, start, 80
    )
    assert max(np.diff(values)) > 0  # some steps were too long
    np.testing.assert_allclose(found, [1, 1], atol=1e-2)


# Training


@pytest.fixture(scope="module")
def optimized(tmp_path_factory):
    """Returns the folder and the record of a run that optimizes an image, for each optimizer."""
    runs = {}

    def train(optimizer):
        if optimizer not in runs:
            out = tmp_path_factory.mktemp("gatys") / optimizer
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
                record = trainer.train(task(**{**RESUMABLE, "optimizer": optimizer}), out)
            runs[optimizer] = out, record
        return runs[optimizer]

    return train


@pytest.mark.xdist_group("gatys")
@pytest.mark.parametrize("method", METHODS)
def test_an_image_is_optimized(method, optimized):
    """The losses fall, and the image is in the run's folder."""
    out, record = optimized(method)
    figures = record["figures"]
    losses = checks.column(out, "val_loss")
    assert losses[-1] < losses[0]
    assert figures["loss"] == pytest.approx(min(losses), rel=1e-5)
    assert figures["style_loss"] < 0.5 * figures["style_loss_before"]
    with Image.open(out / "picture.png") as image:
        assert image.size == (32, 32)
        model, _ = model_files.load(out / "model.keras")
        np.testing.assert_array_equal(np.asarray(image), gatys.optimized_image(model))
    page = (out / "report.html").read_text()
    for heading in ("Images", "Losses", "Curves"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/jpeg") == 3
    assert "style loss by epoch" in page
    with pytest.raises(UsageError, match=r"holds one image, .*picture\.png; for other images"):
        load_predictor(out)
    with pytest.raises(UsageError, match="gatys has one image only"):
        evaluate.evaluate(out)


@pytest.mark.parametrize("name", [".", "model.keras"])
def test_the_picture_of_a_run_is_named(name, tmp_path):
    with pytest.raises(UsageError, match=re.escape(f"image, {tmp_path / 'picture.png'};")):
        predictor.from_file(tmp_path / name, None, {"model": "gatys"})


@pytest.mark.slow
def test_a_network_is_trained(tmp_path):
    flags = {**NETWORK, "epochs": 3, "steps": 12, "learning_rate": 1e-2, "style_weight": 1.0}
    figures = trainer.train(task(**flags), tmp_path / "run")["figures"]
    losses = checks.column(tmp_path / "run", "loss")
    assert losses[-1] < 0.8 * losses[0]
    assert figures["style_loss"] < figures["style_loss_before"]


def assert_resumes(task, whole, cut, *steps):
    """Kills a run after some steps, resumes it, and compares it with one that was not killed."""
    checks.kill(task, cut, *steps)
    trainer.train(task, cut)
    checks.assert_same(*(checks.weights(out) for out in (whole, cut)))
    for name in ("loss", "style_loss", "val_loss"):
        assert checks.column(whole, name) == checks.column(cut, name)


@pytest.mark.xdist_group("gatys")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.check
def test_a_killed_optimization_resumes_bit_for_bit(method, optimized, tmp_path, monkeypatch):
    whole, _ = optimized(method)
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    assert_resumes(task(**{**RESUMABLE, "optimizer": method}), whole, tmp_path / "cut", 14)


@pytest.mark.check
@pytest.mark.parametrize("method", METHODS)
def test_an_optimization_killed_twice_from_noise_resumes_bit_for_bit(method, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    flags = {**GATYS, "optimizer": method, "init": "noise", "total_variation_weight": 3.0}
    gatys_task = task(**flags, checkpoint_steps=1)
    trainer.train(gatys_task, tmp_path / "whole")
    assert_resumes(gatys_task, tmp_path / "whole", tmp_path / "cut", 2, 3)


@pytest.mark.slow
def test_a_killed_training_of_a_network_resumes_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    network = task(**NETWORK, checkpoint_steps=1, total_variation_weight=3.0)
    trainer.train(network, tmp_path / "whole")
    assert_resumes(network, tmp_path / "whole", tmp_path / "cut", 2, 3)


@pytest.mark.check
def test_two_replicas_train_like_one_device(two_devices, tmp_path):
    if not TENSORFLOW:
        pytest.skip("needs tf.distribute")
    for strategy in ("one", "mirrored"):
        flags = {**NETWORK, "strategy": strategy, "optimizer": "sgd", "learning_rate": 1e-3}
        trainer.train(task(**flags), tmp_path / strategy)
    one, two = (checks.column(tmp_path / name, "loss") for name in ("one", "mirrored"))
    assert two == pytest.approx(one, rel=1e-4)
    one, two = (checks.column(tmp_path / name, "val_loss") for name in ("one", "mirrored"))
    assert two == pytest.approx(one, rel=1e-3)


def test_preserve_colors_changes_the_style_images_beforehand(tmp_path):
    content = random_image((32, 32)) // 3
    Image.fromarray(random_image((32, 32), 1)).save(tmp_path / "style.png")
    flags = {**GATYS, "style": str(tmp_path / "style.png"), "style_crop": 0.0}
    styles = {
        mode: loss_targets.from_task(task(**flags, preserve_colors=mode), content).styles[0]
        for mode in style_images.COLOUR_MODES
    }
    means = {mode: style.mean(axis=(0, 1)) for mode, style in styles.items()}
    np.testing.assert_allclose(means["match"], content.mean(axis=(0, 1)), atol=1)
    assert (means["none"] > 1.5 * means["match"]).all()
    assert np.ptp(styles["luminance"], axis=-1).max() == 0
    assert means["luminance"][0] == pytest.approx((content @ style_images.LUMA).mean(), abs=1)


@pytest.mark.check
@pytest.mark.parametrize("mode", ["match", pytest.param("luminance", marks=pytest.mark.slow)])
def test_colours_of_the_content_are_preserved(mode, tmp_path):
    content, style = (tmp_path / name for name in ("content.png", "style.png"))
    red = np.zeros((32, 32, 3), "uint8")
    red[..., 0] = 100 + 3 * np.arange(32)
    red[::4, :, 1] = 40
    Image.fromarray(red).save(content)
    blue = random_image((32, 32))
    blue[..., 0] //= 4
    Image.fromarray(blue).save(style)
    found = {}
    for colours in ("none", mode):
        flags = {**GATYS, "content": str(content), "style": str(style), "preserve_colors": colours}
        flags |= {"init": "noise", "optimizer": "adam", "steps": 10}
        trainer.train(task(**flags), tmp_path / colours)
        with Image.open(tmp_path / colours / "picture.png") as image:
            found[colours] = np.asarray(image).astype(float).mean(axis=(0, 1))
    means = red.astype(float).mean(axis=(0, 1))
    distances = {key: np.abs(value - means).max() for key, value in found.items()}
    assert distances[mode] < distances["none"]


# Prediction


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name, size in {"a/one.png": (40, 70), "b/one.png": (33, 20), "c.jpg": (3, 5)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_image(size)).save(folder / name)
    (folder / "broken.png").write_bytes(b"")
    return folder


@pytest.mark.xdist_group("style_network")
@pytest.mark.check
def test_predict_writes_stylized_images(finished, photos, tmp_path, capsys):
    out = tmp_path / "predictions.csv"
    run_command("predict", finished, photos, "--output", out)
    assert "1 of 4 images could not be read" in capsys.readouterr().err
    with open(out, newline="") as file:
        rows = {row["path"].rpartition("photos/")[2]: row for row in csv.DictReader(file)}
    assert list(next(iter(rows.values()))) == ["path", "stylized", "width", "height", "error"]
    assert rows["broken.png"]["error"] == "empty file"
    model, _ = model_files.load(finished / resume.MODEL)
    for name in ("a/one", "b/one", "c"):
        [key] = [key for key in rows if key.startswith(name)]
        with Image.open(rows[key]["stylized"]) as stylized, Image.open(rows[key]["path"]) as photo:
            assert (
                stylized.size == photo.size == (int(rows[key]["width"]), int(rows[key]["height"]))
            )
            image = np.asarray(photo.convert("RGB"), "float32")
            expected = numpy(model(image[None], training=False))[0]
            assert np.abs(np.asarray(stylized) - expected).max() < 1
    assert (tmp_path / "predictions-pictures" / "a" / "one-stylized.png").exists()


@pytest.mark.xdist_group("style_network")
@pytest.mark.check
def test_predict_prints_sizes_and_files(finished, photos, tmp_path, capsys):
    words = ["predict", finished, photos / "c.jpg", "--drawings-dir", tmp_path / "stylized"]
    run_command(*words, "--json")
    [prediction] = json.loads(capsys.readouterr().out)["images"]
    assert prediction["size"] == [3, 5]
    assert prediction["stylized"].endswith("c-stylized.png")
    run_command(*words)
    assert "stylized, 5 x 3: " in capsys.readouterr().out
    run_command("predict", finished, photos / "c.jpg", "--drawings-dir", "none", "--json")
    assert set(json.loads(capsys.readouterr().out)["images"][0]) == {"path", "size"}
    run_command(*words, "--runtime", "onnx", status=1)
    assert "runs in Keras only" in capsys.readouterr().err


def test_tiles_are_seamless_and_results_have_the_size_of_the_image(monkeypatch, caplog):
    same = zoo.build("fast_style", input_shape=(None, None, 3), width=2, depth=1)
    seen = []

    def copy(images):
        seen.append(images.shape[1:3])
        return images.astype("float32")

    net = predictor.StyleTransferPredictor(same, "copy", 32)
    pixels = random_image((100, 150))
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


@pytest.mark.xdist_group("style_network")
@pytest.mark.check
def test_predictor_preserves_colours_as_in_training(finished, tmp_path):
    model, about = model_files.load(finished / resume.MODEL)
    model_files.save(model, tmp_path / "grey.keras", {**about, "keep_colours": "luminance"})
    opened = load_predictor(tmp_path / "grey.keras")
    assert opened.luminance
    assert "colors of the image are preserved" in opened.protocol
    grey = style_images.to_grey(random_image((20, 20)))
    found = opened.stylize(grey, lambda images: 255 - images.astype("float32"))
    assert (found[..., 0] == found[..., 2]).all()


@pytest.mark.xdist_group("style_network")
@pytest.mark.check
def test_evaluate_reproduces_the_losses_and_takes_other_images(finished, tmp_path):
    own = evaluate.evaluate(finished)["figures"]
    report = json.loads((finished / resume.REPORT).read_text())["figures"]
    for name in ("loss", "content_loss", "style_loss", "variation"):
        assert own[name] == pytest.approx(report[name], rel=1e-4)
    other = evaluate.evaluate(finished, dataset=str(make_folder(tmp_path / "other", 5)))
    assert other["split"] == "all"
    assert other["figures"]["style_loss"] != pytest.approx(own["style_loss"], rel=1e-3)


# Errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"style": "setup.cfg"}, "setup.cfg: not an image by its first bytes"),
        ({"style": "nowhere.jpg"}, "'nowhere.jpg' is not a file; expected an image file or one of"),
        ({"content": "nowhere.jpg"}, "'nowhere.jpg' is not a file"),
        ({"content": "docs"}, "'docs' is a folder"),
        ({"style": "hills,"}, "expected names separated by commas"),
        ({"style": "hills,waves", "style_weights": "1"}, "needs 2 positive numbers"),
        ({"style_layers": "block1_conv1"}, "no layer or stage of lenet5 named 'block1_conv1'"),
        ({"backbone": "mlp"}, "mlp has no feature pyramid"),
        ({"backbone": "lenet6"}, "did you mean lenet5"),
        ({"model": "gatis"}, "no model named 'gatis'; did you mean gatys"),
        ({"model": "lenet5"}, "lenet5 is a classifier; style_transfer takes gatys or a network"),
        ({"model": "fast_style", "optimizer": "lbfgs"}, "lbfgs is for gatys only"),
        (
            {"model": "fast_style", "preserve_colors": "match"},
            "match is for gatys only; use luminance",
        ),
        ({"model": "fast_style", "patch_size": 64}, "--patch-size 64 is larger than --image-size"),
        ({"style_crop": 0.5}, "--style-crop must be from 0 to 0.49, not 0.5"),
        ({"strategy": "mirrored"}, "gatys optimizes one image"),
        ({"optimizer": "lbfgs", "ema_decay": 0.9}, "lbfgs does not support --ema-decay"),
        ({"optimizer": "adamm"}, "did you mean"),
        ({**NETWORK, "dataset": "nowhere"}, "no data set named 'nowhere'"),
        ({**NETWORK, "batch_size": 10**9}, "1000000000 images of .* smaller --image-size or --b"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_flags_give_an_error_in_one_line(flags, message, tmp_path):
    with pytest.raises(UsageError, match=message) as raised:
        trainer.train(task(**{**GATYS, **flags}), tmp_path / "run")
    assert "\n" not in str(raised.value)


def test_the_title_has_no_absolute_path():
    found = style_images.title("/home/me/me.jpg", "/home/me/mine.png,hills")
    assert found == "me.jpg in the style of mine.png,hills"


@pytest.mark.skipif(TENSORFLOW, reason="for other backends")
def test_lbfgs_needs_tensorflow(tmp_path):
    with pytest.raises(UsageError, match="use --optimizer adam"):
        trainer.train(task(**GATYS), tmp_path / "run")
