"""The game of generator and critic: its steps, its figures, what it leaves and what it says."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
from scripts.__main__ import main
from tasks.data import sources
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
    pytest.skip("a GAN learns on TensorFlow", allow_module_level=True)

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
    "samples": 32,
    "validation_samples": 32,
    "shown": 16,
    "ema_decay": 0.9,
    "precision": "float32",
}
# With everything that a checkpoint must not forget.
TOLD = {
    "condition": "projection",
    "critic_norm": "spectral",
    "critic_steps": 2,
    "loss": "hinge",
    "critic_rate": 4e-4,
}


def task(**flags):
    return tasks.get("gan")(**{**TINY, **flags})


def history(out):
    """Returns the rows of a run's history but for what was timed."""
    timed = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in checks.history(out)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run whose players are told the class."""
    out = tmp_path_factory.mktemp("gan") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
        patch.setattr("tasks.gan.frechet.SUBSETS", 5)
        trainer.train(task(**TOLD), out)
    return out


# The game


def test_losses_are_the_papers():
    random = np.random.default_rng(0)
    real, false = (3 * random.normal(size=50).astype("float32") for _ in range(2))
    p, q = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-false))
    expected = {
        "non_saturating": (-np.log(p) - np.log(1 - q), -np.log(q)),
        "hinge": (np.maximum(0, 1 - real) + np.maximum(0, 1 + false), -false),
        "wasserstein": (false - real, -false),
    }
    assert set(expected) == set(train_step.LOSSES)
    for name, (critic, generator) in train_step.LOSSES.items():
        np.testing.assert_allclose(critic(real, false), expected[name][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(generator(false), expected[name][1], rtol=1e-4, atol=1e-5)


def test_the_penalty_is_of_the_slope_between_the_images():
    """Of a critic (v . x)^2, x in [-1, 1], the slope is 2 |v . x| |v|."""
    random = np.random.default_rng(0)
    v = random.normal(size=(2, 2, 1)).astype("float32")

    def critic(image, training):
        x = (tf.cast(image, tf.float32) - 127.5) / 127.5
        return tf.reduce_sum(v * x, axis=(1, 2, 3))[:, None] ** 2

    real = random.integers(0, 256, (5, 2, 2, 1)).astype("uint8")
    false = random.uniform(0, 255, (5, 2, 2, 1)).astype("float32")
    mix = random.uniform(size=(5, 1, 1, 1)).astype("float32")
    between = (mix * real + (1 - mix) * false - 127.5) / 127.5
    slopes = 2 * np.abs((v * between).sum(axis=(1, 2, 3))) * np.linalg.norm(v)
    found = train_step.gradient_penalty(critic, tf.constant(real), tf.constant(false), mix, {})
    assert float(found) == pytest.approx(((slopes - 1) ** 2).mean(), rel=1e-3)


@pytest.mark.parametrize(("steps", "told"), [(1, False), (2, True)], ids=["plain", "told twice"])
def test_a_step_is_what_one_would_write_by_hand(steps, told):
    """With all images painted anew for each player, and gradients taken apart."""
    flags = {"critic_steps": steps, "condition": "projection" if told else "none"}
    asked = task(**flags, critic_norm="none", ema_decay=0.0)
    data = asked.load()
    batch = next(iter(asked.training(data).epoch(0)))
    keras.utils.set_random_seed(0)
    model = asked.build(data)
    start = model.get_weights()
    (optimizer,) = asked.optimizers(model, 6)
    training_model = asked.training_model(model, data)
    asked.compile(training_model, data, optimizer)
    said = training_model.train_step(batch)

    other = asked.build(data)
    other.set_weights(start)
    found = networks.get_networks(other)
    adams = {name: keras.optimizers.Adam(2e-4, beta_1=0.5) for name in found}
    losses = []

    def paint(part):
        given = [part["latent"]] if not told else {k: part[k] for k in ("latent", "label")}
        return found["generator"](given[0] if not told else given, training=True)

    def judge(image, part):
        return found["critic"](
            {"image": image, "label": part["label"]} if told else image, training=True
        )

    def told_apart(part):
        real, false = judge(part["image"], part), judge(paint(part), part)
        return tf.reduce_mean(tf.math.softplus(-real)) + tf.reduce_mean(tf.math.softplus(false))

    def learn(name, loss):
        variables = found[name].trainable_variables
        with tf.GradientTape() as tape:
            value = loss()
        adams[name].apply(tape.gradient(value, variables), variables)
        losses.append(float(value))

    size = TINY["batch_size"]
    for number in range(steps):
        part = {name: x[number * size : (number + 1) * size] for name, x in batch.items()}
        learn("critic", functools.partial(told_apart, part))
    learn("generator", lambda: tf.reduce_mean(tf.math.softplus(-judge(paint(part), part))))

    assert float(said["critic_loss"]) == pytest.approx(np.mean(losses[:steps]), rel=1e-4)
    assert float(said["generator_loss"]) == pytest.approx(losses[-1], rel=1e-4)
    mine, theirs = (x.trainable_weights for x in (model, other))
    for before, a, b in zip(model.trainable_weights, mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6, err_msg=before.path)
    moved = [np.abs(np.array(a) - b).max() for a, b in zip(model.weights, start, strict=True)]
    assert np.mean(np.array(moved) > 0) > 0.9


def test_players_have_their_own_rates_and_averages():
    asked = task(
        learning_rate=1e-3, critic_rate=3e-3, schedule="cosine", critic_steps=3, beta_2=0.5
    )
    model = asked.build(asked.load())
    (both,) = asked.optimizers(model, 10)
    painter, judge = both.parts
    assert (painter.use_ema, judge.use_ema) == (True, False)
    assert (painter.beta_1, painter.beta_2) == (0.5, 0.5)
    assert float(painter.learning_rate) == pytest.approx(1e-3)
    assert float(judge.learning_rate) == pytest.approx(3e-3)
    # The schedule is as long as the run: 2 epochs of 10 steps, of 3 of the critic each.
    assert [len(part._learning_rate.values) for part in both.parts] == [20, 60]
    sizes = [len(part._trainable_variables) for part in both.parts]
    assert sum(sizes) == len(model.trainable_variables)


def test_kinds_are_the_papers():
    assert task(model="wgan_gp").kind() == networks.VARIANTS["wgan_gp"]
    kind = task(model="wgan_gp", critic_steps=2, beta_1=0.5, critic_norm="layer").kind()
    assert (kind.gradient_penalty, kind.critic_steps, kind.betas) == (10.0, 2, (0.5, 0.9))
    assert (kind.loss, kind.normalization) == ("wasserstein", "layer")


def test_the_stream_depends_on_seed_epoch_and_step_alone():
    pixels = np.arange(20, dtype="uint8").reshape(20, 1, 1, 1)
    examples = Examples("train", pixels, np.arange(20) % 3)

    def batches(epoch, start=0, seed=0):
        stream = gan_batches.GanBatches(examples, 6, seed, 4, labelled=True)
        assert stream.steps == 3
        return [{k: v.numpy() for k, v in batch.items()} for batch in stream.epoch(epoch, start)]

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
    drawn = np.concatenate([batch["latent"].ravel() for e in range(3) for batch in batches(e)])
    assert (drawn.mean(), drawn.std()) == pytest.approx((0, 1), abs=0.2)


# Runs


@pytest.mark.slow
def test_killed_amid_an_epoch_a_run_ends_as_if_it_had_not_been(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    monkeypatch.setattr("tasks.gan.frechet.SUBSETS", 5)
    asked, step = task(**TOLD, checkpoint_steps=1), callbacks.TrainingCallback.step

    class Killed(BaseException):
        """Stands for SIGKILL."""

    def step_and_die(recorder, number, logs):
        step(recorder, number, logs)
        if recorder.state.epoch and recorder.state.step:
            raise Killed  # in the second epoch, after a step

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.TrainingCallback, "step", step_and_die)
        with pytest.raises(Killed):
            trainer.train(asked, tmp_path)
    trainer.train(asked, tmp_path)
    assert history(tmp_path) == history(run)
    checks.assert_same(checks.weights(tmp_path), checks.weights(run))
    both = [json.loads((out / "report.json").read_text())["figures"] for out in (tmp_path, run)]
    for name in both[0].keys() - {"seconds", "images_per_second"}:
        assert both[0][name] == both[1][name]
    films = [(out / "report.html").read_text().count("data:image/gif") for out in (tmp_path, run)]
    assert films == [1, 1]


def test_a_run_leaves_figures_and_pictures(run):
    report = json.loads((run / "report.json").read_text())
    figures = report["figures"]
    for name in ("fd_resnet20_cifar10", "kid"):
        assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]
    assert {"precision", "recall", "diversity", "noise_fd", "untrained_fd", "train_fd"} <= set(
        figures
    )
    assert (figures["painted_images"], figures["real_images"]) == (32, 32)
    assert figures["train_fd"] < figures["noise_fd"]
    page = (run / "report.html").read_text()
    for heading in ("Samples", "Between samples", "Training", "What was compared", "Curves"):
        assert f"<h2>{heading}</h2>" in page
    assert "in the features of resnet20.cifar10" in page
    assert page.count("data:image/png") == 3
    assert "val_fd_resnet20_cifar10" in history(run)[0]


def test_evaluation_gives_the_figures_of_the_report(run, monkeypatch):
    monkeypatch.setattr("tasks.gan.frechet.SUBSETS", 5)
    found = evaluate.evaluate(run)["figures"]
    report = json.loads((run / "report.json").read_text())["figures"]
    for name in ("fd_resnet20_cifar10", "kid", "precision", "recall"):
        assert found[name] == pytest.approx(report[name], rel=1e-3, abs=1e-6)
    monkeypatch.setattr(Gan, "evaluate", lambda task, *given: ({"network": task.network}, "test"))
    asked = evaluate.evaluate(run, network="resnet50.imagenet")
    assert asked["figures"] == {"network": "resnet50.imagenet"}
    with pytest.raises(UsageError, match="gan has no --tta; leave that out"):
        evaluate.evaluate(run, tta="ten")


def test_who_asks_it_about_an_image_is_told_what_it_does(run):
    with pytest.raises(UsageError, match="gan model, which does not take images; use `zoo gen"):
        model_loader.load_predictor(run)


@pytest.mark.slow
def test_wgan_gp_learns_concatenated_classes(tmp_path):
    flags = {"model": "wgan_gp", "condition": "concatenation", "critic_steps": 2, "epochs": 1}
    figures = trainer.train(task(**flags), tmp_path)["figures"]
    assert all(np.isfinite(value) for value in figures.values())


@pytest.mark.slow
def test_it_learns(tmp_path):
    flags = {"train_split": "train[:1500]", "validation_split": "none", "test_split": "test[:400]"}
    asked = task(**flags, epochs=40, width=16, samples=400, batch_size=32, ema_decay=0.99)
    figures = trainer.train(asked, tmp_path)["figures"]
    assert figures["fd_resnet20_cifar10"] < 0.5 * figures["noise_fd"]
    assert figures["fd_resnet20_cifar10"] < 0.5 * figures["untrained_fd"]


def test_a_folder_of_images_without_classes_will_do(tmp_path):
    random = np.random.default_rng(0)
    for number in range(40):
        image = random.integers(0, 256, (20, 24, 3)).astype("uint8")
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    source = gan_batches.load(tmp_path)
    assert len(source.splits["all"]) == 40
    assert [Path(path).name for path, _ in source.skipped] == ["notes.txt"]
    assert dataset.resolve_image_shape(source, 0, 0, networks.check_image_size) == (24, 24, 3)
    with pytest.raises(UsageError, match="needs images of one class each"):
        task(dataset=str(tmp_path), condition="projection").load()


# Judging


def test_images_have_the_size_of_the_data_and_64_at_most():
    for name, expected in (("fashion_sample", (28, 28, 1)), ("shapes", (64, 64, 3))):
        assert (
            dataset.resolve_image_shape(sources.load(name), 0, 0, networks.check_image_size)
            == expected
        )
    source = sources.load("fashion_sample")
    assert dataset.resolve_image_shape(source, 32, 3, networks.check_image_size) == (32, 32, 3)
    with pytest.raises(UsageError, match="such as 28, 32"):
        dataset.resolve_image_shape(source, 30, 0, networks.check_image_size)


def test_the_classifier_names_what_is_painted(tmp_path):
    """One that takes the mean brightness for the class: dark, grey, bright."""
    image = keras.Input((4, 4, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(3)
    model = keras.Model(image, dense(x))
    dense.set_weights([np.array([[0.0, 30.0, 60.0]]), np.array([0.0, -10.0, -31.0])])
    model_files.save(
        model, tmp_path / "judge.keras", {"task": "classification", "classes": list("abc")}
    )

    levels = np.array([0, 100, 128, 255, 255], "uint8")
    pixels = np.broadcast_to(levels[:, None, None, None], (5, 8, 8, 1))
    judge = evaluation.load_classifier(tmp_path / "judge.keras", ("a", "b", "c"))
    said = judge.probabilities(pixels, 2)
    z = (levels / 255)[:, None] * [0, 30, 60] + [0, -10, -31]
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(said, expected, rtol=1e-3, atol=1e-5)
    assert said.argmax(axis=1).tolist() == [0, 1, 1, 2, 2]

    real = np.eye(3)[[0, 1, 2]] * 0.8 + 0.05
    asked = np.array([0, 1, 0, 2, 0])
    found = evaluation.classifier_metrics(said, real, np.array([0, 1, 1]), asked, seed=0)
    assert found["recognised_share"] == np.mean(expected.max(axis=1) > 0.9)
    assert found["real_recognised_share"] == 0
    assert found["class_balance"] == pytest.approx(1 - (2 / 15 + 1 / 15 + 1 / 15) / 2)
    assert found["label_accuracy"] == 0.6
    assert found["real_label_accuracy"] == pytest.approx(2 / 3)
    with pytest.raises(UsageError, match="knows other classes"):
        evaluation.load_classifier(tmp_path / "judge.keras", ("a", "b", "d"))


def test_features_are_those_of_the_resized_image():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (3, 28, 28, 1)).astype("uint8")
    found = evaluation.extract_features(
        evaluation.feature_extractor("resnet20.cifar10", "", (28, 28, 1)), pixels, 2
    )
    import zoo

    colours = np.repeat(pixels.astype("float32"), 3, axis=-1)
    resized = keras.ops.image.resize(colours, (32, 32), antialias=True)
    maps = zoo.backbone("resnet20.cifar10")(resized)["stage2"]
    np.testing.assert_allclose(found, np.mean(maps, axis=(1, 2)), rtol=1e-3, atol=1e-4)
    assert evaluation.distance_name("inception_v3.imagenet") == "fd_inception_v3"
    assert evaluation.distance_name("resnet20.cifar10") == "fd_resnet20_cifar10"


def test_statistics_are_settled_for_a_while():
    asked = task()
    data = asked.load()
    generator = networks.get_networks(asked.build(data))["generator"]
    norm = generator.get_layer("maps_bn")
    before = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    with finetune.preserve_values(norm.variables):
        sampling.recalibrate_batch_norm(generator, 64, 10, seed=0, batch_size=16)
        inside = keras.Model(generator.input, generator.get_layer("maps").output)
        latent = sampling.sample_latents(64, 8, 0)
        maps = inside(latent).numpy()
        np.testing.assert_allclose(norm.moving_mean, maps.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_array_equal(norm.moving_mean, before[0])
    np.testing.assert_array_equal(norm.moving_variance, before[1])


def test_the_way_between_latents_keeps_their_length():
    a, b = np.array([1.0, 0.0], "float32"), np.array([0.0, 1.0], "float32")
    way = sampling.slerp(a, b, 5)
    angles = np.linspace(0, np.pi / 2, 5)
    np.testing.assert_allclose(way, np.stack([np.cos(angles), np.sin(angles)], -1), atol=1e-6)
    np.testing.assert_allclose(sampling.slerp(a, 2 * a, 3), [[1, 0], [1.5, 0], [2, 0]])


# What is watched


def diary(**columns):
    found = GanHistory()
    for values in zip(*columns.values(), strict=True):
        found.write(dict(zip(columns, values, strict=True)), np.zeros((4, 4, 1), "uint8"))
    return found


FINE = {"told_apart": [0.8] * 4, "diversity": [0.9] * 4, "fd": [4.0, 3.0, 2.0, 2.1]}


@pytest.mark.parametrize(
    ("change", "loss", "wanted"),
    [
        ({}, "hinge", None),
        ({"told_apart": [0.8, 1.0, 1.0, 0.999]}, "hinge", "the critic won"),
        ({"told_apart": [0.8, 1.0, 1.0, 0.999]}, "wasserstein", None),
        ({"told_apart": [1.0, 1.0, 1.0, 0.9]}, "hinge", None),
        ({"told_apart": [0.8, 0.5, 0.4, 0.505]}, "hinge", "the critic gave up"),
        ({"diversity": [0.9, 0.8, 0.7, 0.3]}, "hinge", "mode collapse.*30%"),
        ({"fd": [9.0, 2.0, 7.0, 8.0]}, "hinge", "diverged: .* 2 after epoch 2, .* 8 in the end"),
    ],
)
def test_what_goes_wrong_is_said(change, loss, wanted):
    said = diary(**{**FINE, **change}).warnings("fd", loss)
    assert len(said) == (wanted is not None)
    if wanted:
        assert re.search(wanted, said[0])


def test_a_generator_that_paints_one_image_is_warned_of():
    random = np.random.default_rng(0)
    real = random.normal(size=(64, 8))
    figures = evaluation.validation_metrics(
        "resnet20.cifar10", real, np.repeat(real[:1], 64, axis=0)
    )
    said = diary(told_apart=[0.8], diversity=[figures["diversity"]]).warnings("fd", "hinge")
    assert "mode collapse" in said[0]


def test_a_diary_survives_a_checkpoint_and_does_not_go_back():
    found = diary(told_apart=[0.1 * n for n in range(100)])
    assert len(found.frames) <= 40
    assert found.frames[-1][0] == 100
    again = GanHistory()
    again.restore(found.arrays())
    assert (again.rows, again.frames) == (found.rows, found.frames)
    again.restore(diary(told_apart=[0.5]).arrays())  # the best epoch's, in the end
    assert again.rows == found.rows
    assert all(image.shape == (4, 4, 1) for image in again.images())


# Painting


def test_paint_writes_the_same_images_for_the_same_seed(run, tmp_path, capsys):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        words = ["paint", run, "--count", 5, "--seed", seed, "--out", tmp_path / name]
        assert main([*map(str, words)]) == 0
    read = {
        name: [Path(tmp_path, name, f"{n:04}.png").read_bytes() for n in range(5)]
        for name in ("one", "again", "other")
    }
    assert read["one"] == read["again"]
    assert all(a != b for a, b in zip(read["one"], read["other"], strict=True))
    for name, size in (("0000", (28, 28)), ("grid", (3 * 28 + 4, 2 * 28 + 2))):
        with Image.open(tmp_path / "one" / f"{name}.png") as image:
            assert image.size == size
    capsys.readouterr()
    _, about = model_files.load(run / "model.keras")
    told = ["--label", about["classes"][8], "--json"]
    words = [*map(str, ["paint", run, "--count", 2, "--out", tmp_path / "told"]), *told]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["classes"] == [about["classes"][8]] * 2
    assert len(said["files"]) == 3


def test_what_cannot_be_painted_is_said(run, tmp_path):
    painter = sampling.load_generator(run)
    with pytest.raises(UsageError, match=r"no class named"):
        sampling.sample_images(painter, 1, 0, "elephant")
    untold = sampling.TrainedGenerator(painter.generator, ())
    with pytest.raises(UsageError, match="was not told any class"):
        sampling.sample_images(untold, 1, 0, "bag")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model_files.save(model, tmp_path / "other.keras", {"task": "classification"})
    with pytest.raises(UsageError, match="was taught classification; zoo generate needs"):
        sampling.load_generator(tmp_path / "other.keras")


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"model": "dcgann"}, "did you mean dcgan"),
        ({"gradient_penalty": 10.0}, "--critic-norm batch prevents; take none, layer or spectral"),
        ({"model": "wgan_gp", "critic_norm": "batch"}, "--critic-norm batch prevents"),
        ({"l2": 0.1}, "take --weight-decay"),
        ({"loss": "hing"}, "did you mean hinge"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, wanted):
    with pytest.raises(UsageError, match=wanted):
        task(**flags)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"network": "resnet20"}, "random weights.*resnet20.cifar10"),
        ({"network": "resnet21"}, "did you mean"),
        ({"test_split": "test[:3]"}, "has 3 images; a GAN needs 16 or more"),
        ({"image_size": 30}, "such as 28, 32"),
        ({"classifier": "nowhere.keras"}, "no model file at"),
    ],
)
def test_what_cannot_be_loaded_is_said(flags, wanted):
    with pytest.raises(UsageError, match=wanted):
        task(**flags).load()
