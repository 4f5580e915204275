"""Captioning: losses and caption search against slow formulas, training runs, and inference."""

from __future__ import annotations

import csv
import functools
import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from scripts.__main__ import main
from tasks.captioning import beam_search, checkpoint_vocabulary, dataset, evaluation, train_model
from tasks.captioning.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from tasks.deploy.model_loader import load_predictor
from tasks.engine import resume, trainer
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

VOCABULARY_SIZE, LENGTH = 9, 6
SHAPE = (32, 32, 3)
SMALL = {"backbone": "lenet5", "widths": (8,), "embedding": 6, "units": 8}
CHECK = pytest.mark.check


def build_captioner(name="show_attend_tell", seed=0, scale=2.0, **options):
    """Builds a small captioner whose random captions differ between images, and end.

    Args:
        name: a captioner of the zoo.
        seed: of the weights.
        scale: standard deviation of the weights of the logits: the larger, the more peaked the
            distributions.
        **options: of the builder.
    """
    keras.utils.set_random_seed(seed)
    own = {"attention": 5} if name == "show_attend_tell" else {}
    options = {"num_classes": VOCABULARY_SIZE, "length": LENGTH, "input_shape": SHAPE, **options}
    model, random = zoo.build(name, **SMALL, **own, **options), np.random.default_rng(seed)
    for layer, size in (("embedding", 1.0), ("decoder", 0.7), ("logits", scale)):
        for weight in model.get_layer(layer).weights:  # the same on every backend
            weight.assign(random.normal(0, size, weight.shape))
    if options.get("widths", SMALL["widths"]):
        gamma = model.get_layer("neck1_bn").gamma  # so that features of images differ
        gamma.assign(0 * to_numpy(gamma) + 50)
    logits = model.get_layer("logits")
    logits.bias.assign(0 * to_numpy(logits.bias) + scale * np.eye(VOCABULARY_SIZE)[END])
    return model


@functools.cache
def shared_captioner(name="show_attend_tell", scale=2.0):
    """Returns a captioner that several tests use; none may change its weights."""
    return build_captioner(name, seed=1, scale=scale)


def make_images(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype("float32")


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


def run(*words, status=0):
    assert main([str(word) for word in words]) == status


# Losses


def labels_and_logits(seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(1, VOCABULARY_SIZE, (3, 2, 4)).astype("int32")
    labels[0, 0, 2:] = labels[1, 1] = PAD
    return labels, random.normal(size=(3, 2, 4, VOCABULARY_SIZE)).astype("float32")


def slow_metrics(labels, logits):
    """Returns the mean cross-entropy and accuracy of words, in Python."""
    losses, hits = [], []
    for index in np.ndindex(labels.shape):
        if labels[index] != PAD:
            scores = logits[index].astype("float64")
            losses.append(np.log(np.exp(scores).sum()) - scores[labels[index]])
            hits.append(scores.argmax() == labels[index])
    return np.mean(losses), np.mean(hits)


def test_padding_is_masked_in_loss_and_accuracy():
    labels, logits = labels_and_logits()
    loss, hits = slow_metrics(labels, logits)
    found = to_numpy(train_model.cross_entropy(labels, logits))
    assert found.shape == (3,)
    assert found.mean() == pytest.approx(loss, rel=1e-5)
    metric = train_model.accuracy()
    metric.update_state(labels, logits)
    assert float(to_numpy(metric.result())) == pytest.approx(hits)
    metric.update_state(labels[:1], logits[:1])  # a batch with another number of words
    both = np.concatenate([labels, labels[:1]]), np.concatenate([logits, logits[:1]])
    assert float(to_numpy(metric.result())) == pytest.approx(slow_metrics(*both)[1])
    # Logits at padding make no difference; those that predict PAD would, if they were counted.
    other = logits.copy()
    other[labels == PAD] = 20 * np.eye(VOCABULARY_SIZE)[PAD]
    np.testing.assert_allclose(to_numpy(train_model.cross_entropy(labels, other)), found)
    unmasked = np.where(labels == PAD, 1, labels)
    wrong = np.mean([slow_metrics(unmasked, x)[1] for x in (logits, other)])
    assert wrong != pytest.approx(hits)


def test_padding_alone_has_no_loss():
    labels, logits = labels_and_logits()
    labels[:] = PAD
    assert (to_numpy(train_model.cross_entropy(labels, logits)) == 0).all()


@pytest.mark.parametrize("name", zoo.names(kind="captioner"))
def test_a_training_model_gives_the_logits_of_each_caption(name):
    model = shared_captioner(name)
    training_model = train_model.build_training_model(model, 3)
    words = np.random.default_rng(1).integers(0, VOCABULARY_SIZE, (2, 3, LENGTH)).astype("int32")
    found = to_numpy(training_model({"image": make_images(2), "words": words}))
    for caption in range(3):
        alone = to_numpy(model({"image": make_images(2), "words": words[:, caption]}))
        np.testing.assert_allclose(found[:, caption], alone, rtol=1e-4, atol=1e-5)
    assert {id(v) for v in training_model.variables} == {id(v) for v in model.variables}


def test_a_classifier_is_no_captioner():
    with pytest.raises(UsageError, match="is not a captioner: it has no input words"):
        train_model.build_training_model(zoo.build("lenet5"), 3)


@pytest.mark.check
def test_scheduled_sampling_replaces_words_by_samples_of_the_model():
    """A random number in [0, 1) samples a word by inverse CDF, -1 keeps the ground truth."""
    model = shared_captioner()  # inference mode: no dropout
    training_model = train_model.build_training_model(model, 1, scheduled_sampling=True)
    words = np.random.default_rng(1).integers(4, VOCABULARY_SIZE, (2, 1, LENGTH)).astype("int32")
    words[1, 0, 4:] = PAD
    keep = np.full(words.shape, -1, "float32")
    x = {"image": make_images(2), "words": words, train_model.RANDOM_INPUT: keep}
    plain = to_numpy(training_model(x))
    alone = train_model.build_training_model(model, 1)({"image": make_images(2), "words": words})
    np.testing.assert_allclose(plain, to_numpy(alone), rtol=1e-5)
    random = np.random.default_rng(2).random(words.shape).astype("float32")
    random[0, 0, 3] = -1
    probabilities = np.exp(plain - plain.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    expected = words.copy()
    for image in range(2):
        for n in range(1, LENGTH):
            if random[image, 0, n] >= 0 and words[image, 0, n] != PAD:
                cumulative = probabilities[image, 0, n - 1].cumsum()
                expected[image, 0, n] = (cumulative < random[image, 0, n]).sum()
    assert (expected != words).any()
    found = to_numpy(training_model({**x, train_model.RANDOM_INPUT: random}))
    np.testing.assert_allclose(
        found, to_numpy(training_model({**x, "words": expected})), rtol=1e-4, atol=1e-5
    )


# Caption search


def slow_log_probabilities(model, image, prefixes):
    """Returns the log probabilities of the word after each prefix, by the whole model."""
    words = np.full((len(prefixes), LENGTH), PAD, "int32")
    for row, prefix in zip(words, prefixes, strict=True):
        row[: len(prefix)] = prefix
    logits = to_numpy(model({"image": np.stack([image] * len(prefixes)), "words": words}))
    found = []
    for row, prefix in zip(logits.astype("float64"), prefixes, strict=True):
        scores = row[len(prefix) - 1].copy()
        scores[[PAD, START, UNKNOWN]] = -np.inf
        found.append(scores - np.log(np.exp(scores).sum()))
    return found


def slow_beam_search(model, image, width, penalty):
    """Returns `(words, log probability)` of a beam search in Python, the best first."""
    beam = [([START], 0.0)]
    for _ in range(LENGTH):
        open_ones = [each for each in beam if each[0][-1] != END]
        if not open_ones:
            break
        longer = [each for each in beam if each[0][-1] == END]
        tables = slow_log_probabilities(model, image, [words for words, _ in open_ones])
        for (words, score), table in zip(open_ones, tables, strict=True):
            longer += [([*words, word], score + log_p) for word, log_p in enumerate(table)]
        longer.sort(key=lambda each: -each[1] / (len(each[0]) - 1) ** penalty)
        beam = longer[:width]
    return beam


@pytest.mark.parametrize(
    ("name", "width", "penalty"),
    [
        ("nic", 5, 0.7),
        pytest.param("show_attend_tell", 3, 1.0, marks=CHECK),
        pytest.param("show_attend_tell", 1, 0.0, marks=CHECK),
        pytest.param("show_attend_tell", 5, 0.7, marks=CHECK),
        pytest.param("nic", 1, 0.0, marks=CHECK),
        pytest.param("nic", 3, 1.0, marks=CHECK),
    ],
)
def test_beam_search_matches_a_slow_search(name, width, penalty):
    model, lengths = shared_captioner(name), set()
    generator = beam_search.caption_generator(model, width=width, length=LENGTH, penalty=penalty)
    images = make_images(2)
    found = generator.predict(images, verbose=0)
    assert found["words"].shape == (2, width, LENGTH)
    for index, image in enumerate(images):
        expected = slow_beam_search(model, image, width, penalty)
        for (words, score), row, log_probability in zip(
            expected, found["words"][index], found["log_probability"][index], strict=True
        ):
            padded = [*words[1:], *[PAD] * (LENGTH + 1 - len(words))]
            assert row.tolist() == padded
            assert log_probability == pytest.approx(score, abs=1e-3)
            lengths.add(len(words))
    assert len(lengths) > 1 or width == 1 or penalty == 1  # some ended early


@pytest.mark.check
def test_captions_of_a_batch_equal_those_of_single_images():
    generator = beam_search.caption_generator(
        shared_captioner(), width=3, length=LENGTH, penalty=1.0
    )
    images = make_images(2)
    batch = generator.predict(images, verbose=0)
    for index in range(2):
        one = generator.predict(images[index : index + 1], verbose=0)
        np.testing.assert_array_equal(one["words"][0], batch["words"][index])


@pytest.mark.check
def test_a_caption_generator_is_cached_and_follows_the_weights():
    model = build_captioner()
    bias = model.get_layer("logits").bias
    bias.assign(to_numpy(bias) - 50 * np.eye(VOCABULARY_SIZE)[END])
    generator = beam_search.caption_generator(model, width=2, length=LENGTH)
    before = generator.predict(make_images(), verbose=0)["words"]
    assert beam_search.caption_generator(model, width=2, length=LENGTH) is generator
    bias.assign(to_numpy(bias) + 100 * np.eye(VOCABULARY_SIZE)[END])
    after = generator.predict(make_images(), verbose=0)["words"]
    assert (before[:, 0, 0] != END).any()
    assert (after[:, 0, 0] == END).all()


@pytest.mark.check
def test_sampled_captions_follow_the_distribution_of_the_model():
    model = shared_captioner(scale=0.5)
    count = 2000
    generator = beam_search.caption_generator(model, width=count, length=2, do_sample=True)
    random = np.random.default_rng(0).random((1, count, 2)).astype("float32")
    inputs = {"image": make_images(1), train_model.RANDOM_INPUT: random}
    found = generator.predict(inputs, verbose=0)
    [first] = slow_log_probabilities(model, make_images(1)[0], [[START]])
    words = found["words"][0, :, 0]
    for word in range(VOCABULARY_SIZE):
        assert (words == word).mean() == pytest.approx(np.exp(first[word]), abs=0.04)
    row = int(np.flatnonzero(words != END)[0])
    [second] = slow_log_probabilities(model, make_images(1)[0], [[START, words[row]]])
    total = first[words[row]] + second[found["words"][0, row, 1]]
    assert found["log_probability"][0, row] == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=CHECK)])
@pytest.mark.check
def test_captions_are_generated_under_every_dtype_policy(policy):
    keras.config.set_dtype_policy(policy)
    generator = beam_search.caption_generator(build_captioner(), width=2, length=LENGTH)
    keras.config.set_dtype_policy("float32")
    found = generator.predict(make_images(), verbose=0)
    assert found["log_probability"].dtype == "float32"
    assert (found["log_probability"] <= 0).all()


# Runs

TINY = {
    "model_options": "{widths: [8], embedding: 8, units: 12, attention: 8}",
    "backbone": "lenet5",
    "train_split": "train[:40]",
    "validation_split": "validation[:8]",
    "test_split": "test[:9]",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 2,
    "precision": "float32",
}
COLOURS = ("red", "green", "blue")


def task(**flags):
    return tasks.get("captioning")(**{**TINY, **flags})


def write_data_set(folder, count=36, caption="this is a {} picture"):
    """Writes images of three colors with two captions each, in one file."""
    (folder / "Images").mkdir(parents=True)
    random, rows = np.random.default_rng(0), ["image,caption"]
    for index in range(count):
        pixels = random.integers(0, 60, (16, 16, 3)).astype("uint8")
        pixels[..., index % 3] += 180
        Image.fromarray(pixels).save(folder / f"Images/{index}.png")
        name = COLOURS[index % 3]
        rows += [f"{index}.png,{caption.format(name)}", f"{index}.png,It shows plain {name}."]
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder


DEFAULT_SPLITS = {"train_split": "", "validation_split": "", "test_split": ""}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns a run trained to name the color of plain images, its data set, and its task."""
    out = tmp_path_factory.mktemp("captioning")
    data = write_data_set(out / "data")
    captioning = task(dataset=str(data), epochs=10, learning_rate=2e-2, **DEFAULT_SPLITS)
    record = trainer.train(captioning, out / "run")
    yield out / "run", data, record, captioning
    keras.utils.clear_session()


GROUP = pytest.mark.xdist_group("captioning_finished_run")


@GROUP
@pytest.mark.check
def test_a_captioner_is_trained_and_reported(finished):
    out, _, record, _ = finished
    figures = record["figures"]
    assert figures["bleu4"] > 0.9
    assert figures["accuracy"] > 0.6
    assert set(figures) == {
        *("bleu1", "bleu2", "bleu3", "bleu4", "bleu4_low", "bleu4_high", "rouge_l"),
        *("cider", "cider_low", "cider_high", "greedy_bleu4", "greedy_cider", "loss", "accuracy"),
        *("seconds", "images_per_second"),
    }
    columns = {"loss", "accuracy", "val_loss", "val_bleu4", "val_cider"}
    assert columns <= set(checks.history(out)[0])
    page = (out / "report.html").read_text()
    for heading in ("Most frequent captions", "Best captions", "Attention maps", "Curves", "Plan"):
        assert f"<h2>{heading}</h2>" in page
    assert "CIDEr-D" in page


@GROUP
@pytest.mark.check
def test_predict_prints_and_writes_captions_with_probabilities(
    finished, tmp_path, capsys, monkeypatch
):
    out, data, _, _ = finished
    monkeypatch.chdir(tmp_path)
    photos = [data / f"Images/{n}.png" for n in range(3)]
    (tmp_path / "broken.png").write_bytes(b"")
    run("predict", out, *photos, tmp_path / "broken.png", "--json")
    *predictions, broken = json.loads(capsys.readouterr().out)["images"]
    assert broken["error"] == "empty file"
    for name, prediction in zip(COLOURS, predictions, strict=True):
        assert name in prediction["sentence"].split()
        assert 0 < prediction["probability"] <= 1
        assert set(prediction) == {"path", "sentence", "probability"}
    run("predict", out, *photos, "--output", tmp_path / "captions.csv")
    with open(tmp_path / "captions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["sentence"] for row in rows] == [
        prediction["sentence"] for prediction in predictions
    ]
    assert not list(tmp_path.glob("*pictures*"))
    assert not (tmp_path / "predictions").exists()


@GROUP
@pytest.mark.check
def test_predict_explain_draws_attention_maps(finished, tmp_path, capsys):
    out, data, _, _ = finished
    run("predict", out, data / "Images/0.png", "--explain", "--drawings-dir", tmp_path)
    text = capsys.readouterr().out
    path = tmp_path / "0-attention.png"
    assert f"picture: {path}" in text
    [caption] = [line.partition("%  ")[2] for line in text.splitlines() if "%  " in line]
    assert "red" in caption.split()
    with Image.open(path) as picture:
        assert picture.width == 256 * min(6, 1 + len(caption.split()))


def test_explain_is_refused_for_a_predictor_without_explanations(tmp_path, capsys):
    model = zoo.build("unet", num_classes=2, input_shape=(16, 16, 3), widths=(4, 8))
    model_files.save(model, tmp_path / "c.keras", {"task": "segmentation", "classes": ["a", "b"]})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    run("predict", tmp_path / "c.keras", tmp_path / "a.png", "--explain", status=1)
    assert "does not support --explain" in capsys.readouterr().err


@GROUP
@pytest.mark.check
def test_evaluate_uses_the_vocabulary_of_the_run(finished, tmp_path):
    out, _, record, captioning = finished
    model, about = model_files.load(out / "model.keras")
    figures, *_ = captioning.evaluate(model, about, "")
    for name in ("bleu2", "cider", "loss", "accuracy"):
        assert figures[name] == pytest.approx(record["figures"][name], rel=1e-4)
    data = write_data_set(tmp_path / "other", 12, caption="a strange {} picture")
    other, *_ = task(dataset=str(data), **DEFAULT_SPLITS).evaluate(model, about, "")
    assert other["bleu1"] <= 1
    assert other["loss"] > figures["loss"]


@GROUP
@pytest.mark.check
def test_weights_with_another_vocabulary_need_the_flag_vocabulary(finished, tmp_path):
    out, _, _, _ = finished
    data = write_data_set(tmp_path / "data", 30, caption="one {} image, of many words")
    flags = {"dataset": str(data), "epochs": 1, **DEFAULT_SPLITS}
    weights = {"weights": str(out / "model.keras")}
    with pytest.raises(UsageError, match=r"from another run, .* pass --vocabulary"):
        trainer.train(task(**flags, **weights), tmp_path / "refused")
    captioning = task(**flags, **weights, vocabulary=str(out), max_length=3)
    loaded = captioning.load()
    assert loaded.words == checkpoint_vocabulary.from_metadata(
        model_files.load(out / "model.keras")[1], out
    )
    with pytest.raises(UsageError, match="x has no vocabulary"):
        checkpoint_vocabulary.from_metadata({}, "x")
    assert "% of the words of" in checkpoint_vocabulary.notes(loaded)[0]
    assert captioning.build(loaded).output_shape[-1] == len(loaded.words)


@pytest.mark.parametrize("text", ["{", "[1]", "null", '{"vocabulary": 5}', "[" * 99_999, "\xff"])
def test_a_model_file_with_damaged_metadata_is_refused(text, tmp_path):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zoo.json", text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"x\.keras cannot be read as a model file: "):
        checkpoint_vocabulary.from_checkpoint(path)
    with pytest.raises(UsageError, match=r"x\.keras cannot be read as a model file: "):
        checkpoint_vocabulary.check(path, None)
    assert model_files.read_class_names(path) == ()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_classes": 4}, "remove --num-classes"),
        ({"scheduled_sampling": 2.0}, "--scheduled-sampling must be from 0 to 1, not 2.0"),
        ({"model": "lenet5", "model_options": "", "backbone": ""}, "captioning needs a captioner"),
        ({"dataset": "shaeps"}, "needed: shapes; a file of lines"),
        ({"vocabulary": "nowhere.keras"}, "nowhere.keras cannot be read as a model file"),
        ({"augment": "lihgt"}, "did you mean light"),
        ({"min_count": 10_000}, "lower --min-count"),
    ],
    ids=str,
)
def test_wrong_flags_are_refused_before_training(flags, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        trainer.train(task(**flags), tmp_path)


@pytest.mark.slow
def test_a_run_killed_inside_an_epoch_resumes_to_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    captioning = task(checkpoint_steps=1, scheduled_sampling=0.5, captions_per_image=2)
    trainer.train(captioning, tmp_path / "whole")
    checks.kill(captioning, tmp_path / "cut", 8)
    assert resume.RunState(tmp_path / "cut").step == 3
    trainer.train(captioning, tmp_path / "cut")
    checks.assert_same_checkpoint(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_features_of_a_frozen_encoder_are_computed_once(tmp_path, monkeypatch, capsys):
    from tasks.inference import feature_cache

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(feature_cache, "is_worthwhile", lambda *args, **options: True)
    flags = {"backbone": "lenet5", "plan": "probe", "epochs": 1}
    cached = trainer.train(task(**flags), tmp_path / "cached")["figures"]
    assert "of the network is frozen" in capsys.readouterr().err
    plain = trainer.train(task(features="off", **flags), tmp_path / "plain")["figures"]
    assert cached["loss"] == pytest.approx(plain["loss"], rel=2e-3)


@pytest.mark.check
def test_a_step_on_two_replicas_equals_a_step_on_one(two_devices):
    """Captions differ in length, so the mean over words is not the mean of the replicas' means."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the backend has one replica only")
    flags = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant", "clip_norm": 0.0}
    # Without batch normalization and dropout, which differ between parts of a batch.
    flags |= {"model": "nic", "model_options": "{widths: [], embedding: 8, units: 8, dropout: 0.0}"}
    flags |= {"train_split": "train[:8]", "validation_split": "none", "captions_per_image": 2}
    found = [checks.after_a_step(task(**flags), strategy) for strategy in ("one", "mirrored")]
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


@pytest.mark.check
def test_metrics_are_the_same_on_two_replicas_with_an_uneven_last_batch(two_devices):
    captioning = task()
    data = captioning.load()
    found = []
    for model in checks.on_one_and_on_two_replicas(captioning, data):
        figures = evaluation.teacher_forcing_metrics(model, data.test, batch_size=4)
        options = {"length": data.length, "batch_size": 4, "width": 2}
        found.append(
            (figures, *evaluation.generate_captions(model, data.test, data.words, **options))
        )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1] == found[1][1]
    np.testing.assert_allclose(found[0][2], found[1][2], rtol=1e-4)


def test_teacher_forcing_metrics_match_a_slow_formula():
    model = shared_captioner(scale=0.5)
    labels = np.zeros((5, 2, LENGTH + 1), "int32")
    random = np.random.default_rng(0)
    for index in np.ndindex(5, 2):
        size = random.integers(1, LENGTH)
        labels[index][: size + 2] = [START, *random.integers(4, VOCABULARY_SIZE, size), END]
    labels[3, 1] = PAD
    examples = dataset.CaptionedExamples("all", make_images(5), labels)
    found = evaluation.teacher_forcing_metrics(model, examples, batch_size=2)
    x = [{"image": make_images(5), "words": labels[:, n, :-1]} for n in (0, 1)]
    logits = np.stack([to_numpy(model(each)) for each in x], axis=1)
    expected = slow_metrics(labels[..., 1:], logits)
    assert (found["loss"], found["accuracy"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_unseen_combinations_have_metrics_of_their_own(tmp_path):
    figures = trainer.train(task(test_split="", epochs=1), tmp_path)["figures"]
    assert {"bleu4", "unseen_bleu4", "unseen_cider", "unseen_sentence_accuracy"} <= set(figures)


def test_each_word_has_an_attention_map_that_sums_to_one():
    model = shared_captioner()
    words = Vocabulary(("<pad>", "<start>", "<end>", "<unknown>", "a", "b", "c", "d", "e"))
    maps = evaluation.attention_maps(model, make_images(2), ["a b c", "d"], words)
    assert [each.shape[0] for each in maps] == [3, 1]
    for each in maps:
        np.testing.assert_allclose(each.sum(axis=(1, 2)), 1, rtol=1e-5)
    alone = evaluation.attention_maps(model, make_images(2)[1:], ["d"], words)
    np.testing.assert_allclose(alone[0], maps[1], rtol=1e-4)
    nic = shared_captioner("nic")
    assert evaluation.attention_maps(nic, make_images(2), ["a", "b"], words) is None


def test_a_file_that_is_no_captioner_is_refused(tmp_path):
    model_files.save(zoo.build("lenet5"), tmp_path / "x.keras", {"task": "captioning"})
    with pytest.raises(UsageError, match="is not a captioner: its input is"):
        load_predictor(tmp_path / "x.keras")
    model_files.save(shared_captioner(), tmp_path / "y.keras", {"task": "captioning"})
    with pytest.raises(UsageError, match="has no vocabulary: it is a model of the task captioning"):
        load_predictor(tmp_path / "y.keras")


def test_scheduled_sampling_reaches_its_final_rate_in_the_last_epoch_also_with_few_images():
    captioning = task(
        scheduled_sampling=0.5, epochs=3, batch_size=4, plan="scratch", train_split="train[:4]"
    )
    stream = captioning.training(captioning.load())
    assert [stage.passes for stage in captioning.stages_with_passes(stream.steps)] == [8]
    assert stream.sampling == (*[0.0] * 8, *[0.25] * 8, *[0.5] * 8)
