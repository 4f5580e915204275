"""GANs: training step, metrics, reports, warnings and sampling."""

from __future__ import annotations

import argparse
import functools
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
from scripts import evaluate as evaluate_command
from scripts.__main__ import main
from tasks.data import batches as data_batches
from tasks.data import sources
from tasks.data.dataset import Source
from tasks.data.decoding import Examples
from tasks.deploy import evaluate, model_loader
from tasks.engine import callbacks, finetune, trainer
from tasks.gan import Gan, dataset, evaluation, networks, sampling
from tasks.gan import batches as gan_batches
from tasks.gan.history import GanHistory
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

if keras.config.backend() != "tensorflow":
    pytest.skip("GANs are trained on TensorFlow only", allow_module_level=True)

import tensorflow as tf

from tasks.gan import train_step

TINY = {
    "dataset": "fashion_sample",
    "train_split": "train[:48]",
    "validation_split": "train[48:80]",
    "test_split": "test[:32]",
    "width": 4,
    "latent_size": 8,
    "batch_size": 8,
    "epochs": 2,
    "num_samples": 32,
    "validation_samples": 32,
    "grid_samples": 16,
    "ema_decay": 0.9,
    "precision": "float32",
}
# With all that has state in a checkpoint.
CONDITIONAL = {
    "condition": "projection",
    "critic_norm": "spectral",
    "critic_steps": 2,
    "loss": "hinge",
    "critic_learning_rate": 4e-4,
}


def task(**flags):
    return tasks.get("gan")(**{**TINY, **flags})


def history(out):
    """Returns the rows of a run's history without the timings."""
    timed = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in checks.history(out)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run of class-conditional networks."""
    out = tmp_path_factory.mktemp("gan") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
        patch.setattr("tasks.gan.frechet.SUBSETS", 5)
        trainer.train(task(**CONDITIONAL), out)
    return out


# Training step


def test_losses_match_the_formulas_of_the_papers():
    random = np.random.default_rng(0)
    real, fake = (3 * random.normal(size=50).astype("float32") for _ in range(2))
    p, q = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    expected = {
        "non_saturating": (-np.log(p) - np.log(1 - q), -np.log(q)),
        "hinge": (np.maximum(0, 1 - real) + np.maximum(0, 1 + fake), -fake),
        "wasserstein": (fake - real, -fake),
    }
    assert set(expected) == set(train_step.LOSSES)
    for name, (critic, generator) in train_step.LOSSES.items():
        np.testing.assert_allclose(critic(real, fake), expected[name][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(generator(fake), expected[name][1], rtol=1e-4, atol=1e-5)


def test_gradient_penalty_is_taken_between_real_and_generated_images():
    """For a critic (v . x)^2 with x in [-1, 1], the norm of the gradient is 2 |v . x| |v|."""
    random = np.random.default_rng(0)
    v = random.normal(size=(2, 2, 1)).astype("float32")

    def critic(image, training):
        x = (tf.cast(image, tf.float32) - 127.5) / 127.5
        return tf.reduce_sum(v * x, axis=(1, 2, 3))[:, None] ** 2

    real = random.integers(0, 256, (5, 2, 2, 1)).astype("uint8")
    fake = random.uniform(0, 255, (5, 2, 2, 1)).astype("float32")
    mix = random.uniform(size=(5, 1, 1, 1)).astype("float32")
    interpolated = (mix * real + (1 - mix) * fake - 127.5) / 127.5
    norms = 2 * np.abs((v * interpolated).sum(axis=(1, 2, 3))) * np.linalg.norm(v)
    found = train_step.gradient_penalty(critic, tf.constant(real), tf.constant(fake), mix, {})
    assert float(found) == pytest.approx(((norms - 1) ** 2).mean(), rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "conditional"),
    [pytest.param(1, False, marks=pytest.mark.check), (2, True)],
    ids=["plain", "conditional, two steps"],
)
def test_training_step_matches_separate_gradient_steps(steps, conditional):
    """The reference generates images anew for each network, with a gradient tape for each."""
    flags = {"critic_steps": steps, "condition": "projection" if conditional else "none"}
    gan = task(**flags, critic_norm="none", ema_decay=0.0)
    data = gan.load()
    batch = next(iter(gan.training(data).epoch(0)))
    keras.utils.set_random_seed(0)
    model = gan.build(data)
    start = model.get_weights()
    (optimizer,) = gan.optimizers(model, 6)
    training_model = gan.training_model(model, data)
    gan.compile(training_model, data, optimizer)
    metrics = training_model.train_step(batch)

    other = gan.build(data)
    other.set_weights(start)
    found = networks.get_networks(other)
    adams = {name: keras.optimizers.Adam(2e-4, beta_1=0.5) for name in found}
    losses = []

    def generate(part):
        inputs = {k: part[k] for k in ("latent", "label")} if conditional else part["latent"]
        return found["generator"](inputs, training=True)

    def score(image, part):
        inputs = {"image": image, "label": part["label"]} if conditional else image
        return found["critic"](inputs, training=True)

    def critic_loss(part):
        real, fake = score(part["image"], part), score(generate(part), part)
        return tf.reduce_mean(tf.math.softplus(-real)) + tf.reduce_mean(tf.math.softplus(fake))

    def minimize(name, loss):
        variables = found[name].trainable_variables
        with tf.GradientTape() as tape:
            value = loss()
        adams[name].apply(tape.gradient(value, variables), variables)
        losses.append(float(value))

    size = TINY["batch_size"]
    for number in range(steps):
        part = {name: x[number * size : (number + 1) * size] for name, x in batch.items()}
        minimize("critic", functools.partial(critic_loss, part))
    minimize("generator", lambda: tf.reduce_mean(tf.math.softplus(-score(generate(part), part))))

    assert float(metrics["critic_loss"]) == pytest.approx(np.mean(losses[:steps]), rel=1e-4)
    assert float(metrics["generator_loss"]) == pytest.approx(losses[-1], rel=1e-4)
    ours, expected = (x.trainable_weights for x in (model, other))
    for variable, a, b in zip(model.trainable_weights, ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6, err_msg=variable.path)
    changes = [np.abs(np.array(a) - b).max() for a, b in zip(model.weights, start, strict=True)]
    assert np.mean(np.array(changes) > 0) > 0.9


def test_networks_have_separate_learning_rates_and_only_the_generator_is_averaged():
    gan = task(
        learning_rate=1e-3,
        critic_learning_rate=3e-3,
        schedule="cosine",
        critic_steps=3,
        beta_2=0.5,
    )
    model = gan.build(gan.load())
    (optimizer,) = gan.optimizers(model, 10)
    generator, critic = optimizer.parts
    assert (generator.use_ema, critic.use_ema) == (True, False)
    assert (generator.beta_1, generator.beta_2) == (0.5, 0.5)
    assert float(generator.learning_rate) == pytest.approx(1e-3)
    assert float(critic.learning_rate) == pytest.approx(3e-3)
    # A schedule covers the run: 2 epochs of 10 steps, each of 3 steps of the critic.
    assert [len(part._learning_rate.values) for part in optimizer.parts] == [20, 60]
    (short,) = gan.optimizers(model, 3)  # three passes over the images per epoch
    assert [len(part._learning_rate.values) for part in short.parts] == [18, 54]
    sizes = [len(part._trainable_variables) for part in optimizer.parts]
    assert sum(sizes) == len(model.trainable_variables)


def test_variants_are_those_of_the_papers_unless_flags_change_them():
    assert task(model="wgan_gp").variant() == networks.VARIANTS["wgan_gp"]
    flags = {"critic_steps": 2, "beta_1": 0.5, "critic_norm": "layer"}
    variant = task(model="wgan_gp", **flags).variant()
    assert (variant.gradient_penalty, variant.critic_steps) == (10.0, 2)
    assert variant.betas == (0.5, 0.9)
    assert (variant.loss, variant.normalization) == ("wasserstein", "layer")


def test_batches_depend_only_on_seed_epoch_and_step():
    pixels = np.arange(20, dtype="uint8").reshape(20, 1, 1, 1)
    examples = Examples("train", pixels, np.arange(20) % 3)

    def batches(epoch, start=0, seed=0):
        epochs = gan_batches.GanBatches(examples, 6, seed, 4, conditional=True)
        assert epochs.steps == 3
        return [{k: v.numpy() for k, v in batch.items()} for batch in epochs.epoch(epoch, start)]

    first = batches(2)
    assert len(first) == 3
    for one, other in zip(first[1:], batches(2, start=1), strict=True):
        for name in ("image", "label", "latent", "mix"):
            np.testing.assert_array_equal(one[name], other[name])
    seen = np.concatenate([batch["image"].ravel() for batch in first])
    assert len(set(seen.tolist())) == 18
    assert (np.concatenate([batch["label"] for batch in first]) == seen % 3).all()
    for others in (batches(3), batches(2, seed=1)):
        assert (others[0]["latent"] != first[0]["latent"]).all()
    latent = np.concatenate([batch["latent"].ravel() for e in range(3) for batch in batches(e)])
    assert (latent.mean(), latent.std()) == pytest.approx((0, 1), abs=0.2)


def test_an_epoch_of_several_passes_has_new_noise_in_each_and_is_resumed():
    pixels = np.arange(20, dtype="uint8").reshape(20, 1, 1, 1)
    examples = Examples("train", pixels, np.arange(20) % 3)
    passes = data_batches.repeat(gan_batches.GanBatches(examples, 6, 0, 4), 3)
    whole = [batch["latent"].numpy() for batch in passes.epoch(1)]
    assert len(whole) == passes.steps == 9
    assert len({latent.tobytes() for latent in whole}) == 9
    for start in (1, 3, 8):
        rest = [batch["latent"].numpy() for batch in passes.epoch(1, start)]
        np.testing.assert_array_equal(rest, whole[start:])


# Runs


@pytest.mark.xdist_group("gan")
@pytest.mark.slow
def test_a_run_killed_within_an_epoch_resumes_bit_for_bit(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    monkeypatch.setattr("tasks.gan.frechet.SUBSETS", 5)
    gan, step = task(**CONDITIONAL, checkpoint_steps=1), callbacks.TrainingCallback.step

    class Killed(BaseException):
        """Simulates SIGKILL."""

    def step_and_die(recorder, number, logs):
        step(recorder, number, logs)
        if recorder.state.epoch and recorder.state.step:
            raise Killed  # in the second epoch, after a step

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.TrainingCallback, "step", step_and_die)
        with pytest.raises(Killed):
            trainer.train(gan, tmp_path)
    trainer.train(gan, tmp_path)
    assert history(tmp_path) == history(run)
    checks.assert_same(checks.weights(tmp_path), checks.weights(run))
    both = [json.loads((out / "report.json").read_text())["figures"] for out in (tmp_path, run)]
    for name in both[0].keys() - {"seconds", "images_per_second"}:
        assert both[0][name] == both[1][name]
    gifs = [(out / "report.html").read_text().count("data:image/gif") for out in (tmp_path, run)]
    assert gifs == [1, 1]


@pytest.mark.xdist_group("gan")
@pytest.mark.check
def test_report_has_metrics_and_images(run):
    report = json.loads((run / "report.json").read_text())
    figures = report["figures"]
    for name in ("fd_resnet20_cifar10", "kid"):
        assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]
    assert {"precision", "recall", "diversity", "noise_fd", "untrained_fd", "train_fd"} <= set(
        figures
    )
    assert (figures["generated_images"], figures["real_images"]) == (32, 32)
    assert figures["train_fd"] < figures["noise_fd"]
    page = (run / "report.html").read_text()
    for heading in ("Samples", "Interpolations", "Training", "Evaluation protocol", "Curves"):
        assert f"<h2>{heading}</h2>" in page
    assert "in the features of resnet20.cifar10" in page
    assert page.count("data:image/png") == 3
    assert "val_fd_resnet20_cifar10" in history(run)[0]


@pytest.mark.xdist_group("gan")
@pytest.mark.check
def test_evaluate_reproduces_the_metrics_of_the_report(run, monkeypatch):
    monkeypatch.setattr("tasks.gan.frechet.SUBSETS", 5)
    found = evaluate.evaluate(run)["figures"]
    report = json.loads((run / "report.json").read_text())["figures"]
    for name in ("fd_resnet20_cifar10", "kid", "precision", "recall"):
        assert found[name] == pytest.approx(report[name], rel=1e-3, abs=1e-6)
    monkeypatch.setattr(
        Gan, "evaluate", lambda task, *args: ({"feature_network": task.feature_network}, "test")
    )
    found = evaluate.evaluate(run, feature_network="resnet50.imagenet")
    assert found["figures"] == {"feature_network": "resnet50.imagenet"}
    with pytest.raises(UsageError, match="gan has no --tta; leave that out"):
        evaluate.evaluate(run, tta="ten")


@pytest.mark.parametrize("prefix", ["--feature-", "--"], ids=["present", "version 0.1.0"])
def test_evaluate_takes_the_feature_network_by_its_former_name_too(prefix):
    parser = argparse.ArgumentParser()
    evaluate_command.arguments(parser, ())
    words = [f"{prefix}network", "inception_v3.imagenet", f"{prefix}network-weights", "file"]
    args = parser.parse_args(["RUN", *words])
    assert args.feature_network == "inception_v3.imagenet"
    assert args.feature_network_weights == "file"
    assert parser.parse_args(["RUN"]).feature_network == ""


@pytest.mark.xdist_group("gan")
@pytest.mark.check
def test_predict_refuses_a_generator(run):
    with pytest.raises(UsageError, match="gan model, which does not take images; use `zoo gen"):
        model_loader.load_predictor(run)


@pytest.mark.slow
def test_wgan_gp_trains_with_concatenated_labels(tmp_path):
    flags = {"model": "wgan_gp", "condition": "concatenation", "critic_steps": 2, "epochs": 1}
    figures = trainer.train(task(**flags), tmp_path)["figures"]
    assert all(np.isfinite(value) for value in figures.values())


@pytest.mark.slow
def test_distance_falls_far_below_that_of_an_untrained_generator(tmp_path):
    flags = {"train_split": "train[:1500]", "validation_split": "none", "test_split": "test[:400]"}
    gan = task(**flags, epochs=40, width=16, num_samples=400, batch_size=32, ema_decay=0.99)
    figures = trainer.train(gan, tmp_path)["figures"]
    assert figures["fd_resnet20_cifar10"] < 0.5 * figures["noise_fd"]
    assert figures["fd_resnet20_cifar10"] < 0.5 * figures["untrained_fd"]


def test_a_folder_of_unlabelled_images_is_a_data_set(tmp_path):
    random = np.random.default_rng(0)
    for number in range(40):
        image = random.integers(0, 256, (20, 24, 3)).astype("uint8")
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    source = gan_batches.load(tmp_path)
    assert len(source.splits["all"]) == 40
    assert [Path(path).name for path, _ in source.skipped] == ["notes.txt"]
    assert dataset.resolve_image_shape(source, 0, 0, networks.check_image_size) == (24, 24, 3)
    with pytest.raises(UsageError, match="needs one label per image and two classes or more"):
        task(dataset=str(tmp_path), condition="projection").load()


# Evaluation


def test_default_image_size_is_that_of_the_data_up_to_64():
    for name, expected in (("fashion_sample", (28, 28, 1)), ("shapes", (64, 64, 3))):
        assert (
            dataset.resolve_image_shape(sources.load(name), 0, 0, networks.check_image_size)
            == expected
        )
    source = sources.load("fashion_sample")
    assert dataset.resolve_image_shape(source, 32, 3, networks.check_image_size) == (32, 32, 3)
    with pytest.raises(UsageError, match="such as 28, 32"):
        dataset.resolve_image_shape(source, 30, 0, networks.check_image_size)


def test_classifier_metrics(tmp_path):
    """With a classifier of the mean brightness: dark, gray or bright."""
    image = keras.Input((4, 4, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(3)
    model = keras.Model(image, dense(x))
    dense.set_weights([np.array([[0.0, 30.0, 60.0]]), np.array([0.0, -10.0, -31.0])])
    model_files.save(
        model, tmp_path / "classifier.keras", {"task": "classification", "classes": list("abc")}
    )

    def source(classes, name="photos"):
        return Source(name, tuple(classes), {})

    levels = np.array([0, 100, 128, 255, 255], "uint8")
    pixels = np.broadcast_to(levels[:, None, None, None], (5, 8, 8, 1))
    classifier = evaluation.load_classifier(tmp_path / "classifier.keras", source("abc"))
    probabilities = classifier.probabilities(pixels, 2)
    z = (levels / 255)[:, None] * [0, 30, 60] + [0, -10, -31]
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-5)
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 1, 2, 2]

    real = np.eye(3)[[0, 1, 2]] * 0.8 + 0.05
    requested = np.array([0, 1, 0, 2, 0])
    found = evaluation.classifier_metrics(
        probabilities, real, np.array([0, 1, 1]), requested, seed=0
    )
    assert found["recognised_share"] == np.mean(expected.max(axis=1) > 0.9)
    assert found["real_recognised_share"] == 0
    assert found["class_balance"] == pytest.approx(1 - (2 / 15 + 1 / 15 + 1 / 15) / 2)
    assert found["label_accuracy"] == 0.6
    assert found["real_label_accuracy"] == pytest.approx(2 / 3)
    with pytest.raises(UsageError, match="has other classes"):
        evaluation.load_classifier(tmp_path / "classifier.keras", source("abd"))
    nameless = source("012", "tfds:numbers")  # metadata of TFDS may lack the names
    assert evaluation.load_classifier(tmp_path / "classifier.keras", nameless).classes[2] == "c"


@pytest.mark.check
def test_features_are_pooled_maps_of_the_resized_image():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (3, 28, 28, 1)).astype("uint8")
    found = evaluation.extract_features(
        evaluation.feature_extractor("resnet20.cifar10", "", (28, 28, 1)), pixels, 2
    )
    import zoo

    rgb = np.repeat(pixels.astype("float32"), 3, axis=-1)
    resized = keras.ops.image.resize(rgb, (32, 32), antialias=True)
    maps = zoo.backbone("resnet20.cifar10")(resized)["stage2"]
    np.testing.assert_allclose(found, np.mean(maps, axis=(1, 2)), rtol=1e-3, atol=1e-4)
    assert evaluation.distance_name("inception_v3.imagenet") == "fd_inception_v3"
    assert evaluation.distance_name("resnet20.cifar10") == "fd_resnet20_cifar10"


@pytest.mark.parametrize("batch_size", [16, 100_000])
def test_batch_norm_statistics_are_recalibrated_and_restored(batch_size):
    gan = task()
    data = gan.load()
    generator = networks.get_networks(gan.build(data))["generator"]
    norm = generator.get_layer("maps_bn")
    before = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    with finetune.preserve_values(norm.variables):
        sampling.recalibrate_batch_norm(generator, 64, 10, seed=0, batch_size=batch_size)
        inside = keras.Model(generator.input, generator.get_layer("maps").output)
        latent = sampling.sample_latents(64, 8, 0)
        maps = inside(latent).numpy()
        np.testing.assert_allclose(norm.moving_mean, maps.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_array_equal(norm.moving_mean, before[0])
    np.testing.assert_array_equal(norm.moving_variance, before[1])


def test_spherical_interpolation_keeps_the_norm():
    a, b = np.array([1.0, 0.0], "float32"), np.array([0.0, 1.0], "float32")
    points = sampling.slerp(a, b, 5)
    angles = np.linspace(0, np.pi / 2, 5)
    np.testing.assert_allclose(points, np.stack([np.cos(angles), np.sin(angles)], -1), atol=1e-6)
    np.testing.assert_allclose(sampling.slerp(a, 2 * a, 3), [[1, 0], [1.5, 0], [2, 0]])


# Warnings


def make_history(**columns):
    found = GanHistory()
    for values in zip(*columns.values(), strict=True):
        found.write(dict(zip(columns, values, strict=True)), np.zeros((4, 4, 1), "uint8"))
    return found


HEALTHY = {"critic_accuracy": [0.8] * 4, "diversity": [0.9] * 4, "fd": [4.0, 3.0, 2.0, 2.1]}


@pytest.mark.parametrize(
    ("columns", "loss", "message"),
    [
        ({}, "hinge", None),
        ({"critic_accuracy": [0.8, 1.0, 1.0, 0.999]}, "hinge", "the critic is too strong"),
        ({"critic_accuracy": [0.8, 1.0, 1.0, 0.999]}, "wasserstein", None),
        ({"critic_accuracy": [1.0, 1.0, 1.0, 0.9]}, "hinge", None),
        ({"critic_accuracy": [0.8, 0.5, 0.4, 0.505]}, "hinge", "the critic is too weak"),
        ({"diversity": [0.9, 0.8, 0.7, 0.3]}, "hinge", "mode collapse.*30%"),
        (
            {"fd": [9.0, 2.0, 7.0, 8.0]},
            "hinge",
            "diverged: .* 2 after epoch 2, .* 8 after the last",
        ),
    ],
)
def test_failed_training_gives_a_warning(columns, loss, message):
    warnings = make_history(**{**HEALTHY, **columns}).warnings("fd", loss)
    assert len(warnings) == (message is not None)
    if message:
        assert re.search(message, warnings[0])


def test_a_generator_of_a_single_image_gives_a_warning_of_mode_collapse():
    random = np.random.default_rng(0)
    real = random.normal(size=(64, 8))
    figures = evaluation.validation_metrics(
        "resnet20.cifar10", real, np.repeat(real[:1], 64, axis=0)
    )
    columns = {"critic_accuracy": [0.8], "diversity": [figures["diversity"]]}
    assert "mode collapse" in make_history(**columns).warnings("fd", "hinge")[0]


def test_history_survives_a_checkpoint_and_ignores_an_earlier_one():
    found = make_history(critic_accuracy=[0.1 * n for n in range(100)])
    assert len(found.frames) <= 40
    assert found.frames[-1][0] == 100
    restored = GanHistory()
    restored.restore(found.arrays())
    assert (restored.rows, restored.frames) == (found.rows, found.frames)
    earlier = make_history(critic_accuracy=[0.5])  # as of the best epoch, at the end
    restored.restore(earlier.arrays())
    assert restored.rows == found.rows
    assert all(image.shape == (4, 4, 1) for image in restored.images())


# Sampling


@pytest.mark.xdist_group("gan")
@pytest.mark.check
def test_generate_writes_the_same_images_for_the_same_seed(run, tmp_path, capsys):
    def generate(*words):
        assert main([str(word) for word in ("generate", run, *words)]) == 0

    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        generate("--count", 5, "--seed", seed, "--out", tmp_path / name)
    files = {
        name: [Path(tmp_path, name, f"{n:04}.png").read_bytes() for n in range(5)]
        for name in ("one", "again", "other")
    }
    assert files["one"] == files["again"]
    assert all(a != b for a, b in zip(files["one"], files["other"], strict=True))
    for name, size in (("0000", (28, 28)), ("grid", (3 * 28 + 4, 2 * 28 + 2))):
        with Image.open(tmp_path / "one" / f"{name}.png") as image:
            assert image.size == size
    capsys.readouterr()
    _, about = model_files.load(run / "model.keras")
    label = about["classes"][8]
    generate("--count", 2, "--out", tmp_path / "label", "--label", label, "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed["classes"] == [label] * 2
    assert len(printed["files"]) == 3


@pytest.mark.xdist_group("gan")
@pytest.mark.check
def test_sampling_refuses_unknown_labels_and_other_models(run, tmp_path):
    trained = sampling.load_generator(run)
    with pytest.raises(UsageError, match=r"no class named"):
        sampling.sample_images(trained, 1, 0, "elephant")
    unconditional = sampling.TrainedGenerator(trained.generator, ())
    with pytest.raises(UsageError, match="this generator is unconditional"):
        sampling.sample_images(unconditional, 1, 0, "bag")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model_files.save(model, tmp_path / "other.keras", {"task": "classification"})
    with pytest.raises(UsageError, match="is a model of classification; zoo generate needs"):
        sampling.load_generator(tmp_path / "other.keras")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model": "dcgann"}, "did you mean dcgan"),
        (
            {"gradient_penalty": 10.0},
            "unlike with --critic-norm batch; use none, layer or spectral",
        ),
        ({"model": "wgan_gp", "critic_norm": "batch"}, "unlike with --critic-norm batch"),
        ({"l2": 0.1}, "use --weight-decay"),
        ({"loss": "hing"}, "did you mean hinge"),
    ],
)
def test_contradicting_flags_are_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        task(**flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"feature_network": "resnet20"}, "random weights.*resnet20.cifar10"),
        ({"feature_network": "resnet21"}, "did you mean"),
        ({"test_split": "test[:3]"}, "has 3 images; a GAN needs 16 or more"),
        ({"image_size": 30}, "such as 28, 32"),
        ({"classifier": "nowhere.keras"}, "no model file at"),
    ],
)
def test_wrong_data_and_models_are_refused_on_loading(flags, message):
    with pytest.raises(UsageError, match=message):
        task(**flags).load()
