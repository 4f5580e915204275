"""Captioning: what counts as a word, what a beam finds, and a run from pictures to sentences."""

from __future__ import annotations

import csv
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
from tasks.deploy import evaluate
from tasks.deploy.model_loader import load_predictor
from tasks.distributed import strategies
from tasks.engine import resume, trainer
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

WORDS, LENGTH = 9, 6
SHAPE = (32, 32, 3)
SMALL = {"backbone": "lenet5", "widths": (8,), "embedding": 6, "units": 8}
EAGERLY = keras.config.backend() == "tensorflow"


def captioner(name="show_attend_tell", seed=0, sure=2.0, **options):
    """A small captioner, random, but sure enough that its sentences differ, and end."""
    keras.utils.set_random_seed(seed)
    own = {"attention": 5} if name == "show_attend_tell" else {}
    options = {"num_classes": WORDS, "length": LENGTH, "input_shape": SHAPE, **options}
    model, random = zoo.build(name, **SMALL, **own, **options), np.random.default_rng(seed)
    for layer, size in (("embedding", 1.0), ("decoder", 0.7), ("logits", sure)):
        for weight in model.get_layer(layer).weights:  # the same ones on every backend
            weight.assign(random.normal(0, size, weight.shape))
    if options.get("widths", SMALL["widths"]):
        gamma = model.get_layer("neck1_bn").gamma  # so that images differ
        gamma.assign(0 * array(gamma) + 50)
    logits = model.get_layer("logits")
    logits.bias.assign(0 * array(logits.bias) + sure * np.eye(WORDS)[END])
    return model


def images(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype("float32")


def array(x):
    return keras.ops.convert_to_numpy(x)


def run(*words, status=0):
    assert main([str(word) for word in words]) == status


# What a word counts


def labels_and_logits(seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(1, WORDS, (3, 2, 4)).astype("int32")
    labels[0, 0, 2:] = labels[1, 1] = PAD
    return labels, random.normal(size=(3, 2, 4, WORDS)).astype("float32")


def slow(labels, logits):
    """Cross-entropy and hits of each word, by hand."""
    losses, hits = [], []
    for place in np.ndindex(labels.shape):
        if labels[place] != PAD:
            scores = logits[place].astype("float64")
            losses.append(np.log(np.exp(scores).sum()) - scores[labels[place]])
            hits.append(scores.argmax() == labels[place])
    return np.mean(losses), np.mean(hits)


def test_padding_counts_neither_in_the_loss_nor_in_the_accuracy():
    labels, logits = labels_and_logits()
    loss, hits = slow(labels, logits)
    found = array(train_model.cross_entropy(labels, logits))
    assert found.shape == (3,)
    assert found.mean() == pytest.approx(loss, rel=1e-5)
    metric = train_model.accuracy()
    metric.update_state(labels, logits)
    assert float(array(metric.result())) == pytest.approx(hits)
    metric.update_state(labels[:1], logits[:1])  # of batches of other numbers of words, too
    both = np.concatenate([labels, labels[:1]]), np.concatenate([logits, logits[:1]])
    assert float(array(metric.result())) == pytest.approx(slow(*both)[1])
    # What is said where nothing is asked changes nothing; that it is surely PAD would, if counted.
    other = logits.copy()
    other[labels == PAD] = 20 * np.eye(WORDS)[PAD]
    np.testing.assert_allclose(array(train_model.cross_entropy(labels, other)), found)
    wrong = np.mean([slow(np.where(labels == PAD, 1, labels), x)[1] for x in (logits, other)])
    assert wrong != pytest.approx(hits)


def test_a_sentence_that_is_not_there_has_no_loss():
    labels, logits = labels_and_logits()
    labels[:] = PAD
    assert (array(train_model.cross_entropy(labels, logits)) == 0).all()


@pytest.mark.parametrize("name", zoo.names(kind="captioner"))
def test_several_sentences_at_once_are_one_at_a_time(name):
    model = captioner(name)
    training_model = train_model.build_train_model(model, 3)
    words = np.random.default_rng(1).integers(0, WORDS, (2, 3, LENGTH)).astype("int32")
    found = array(training_model({"image": images(2), "words": words}))
    for sentence in range(3):
        alone = array(model({"image": images(2), "words": words[:, sentence]}))
        np.testing.assert_allclose(found[:, sentence], alone, rtol=1e-4, atol=1e-5)
    assert {id(v) for v in training_model.variables} == {id(v) for v in model.variables}


def test_a_classifier_is_no_captioner():
    with pytest.raises(UsageError, match="is no captioner: it has no words"):
        train_model.build_train_model(zoo.build("lenet5"), 3)


def test_sampled_words_are_those_that_the_model_says():
    """A draw of 0 takes the first word that has a chance, a draw of -1 keeps the true one."""
    model = captioner(dropout=0.0)
    training_model = train_model.build_train_model(model, 1, scheduled_sampling=True)
    words = np.random.default_rng(1).integers(4, WORDS, (2, 1, LENGTH)).astype("int32")
    words[1, 0, 4:] = PAD
    x = {"image": images(2), "words": words, "draws": np.full(words.shape, -1, "float32")}
    plain = array(training_model(x))
    alone = train_model.build_train_model(model, 1)({"image": images(2), "words": words})
    np.testing.assert_allclose(plain, array(alone), rtol=1e-5)
    draws = np.random.default_rng(2).random(words.shape).astype("float32")
    draws[0, 0, 3] = -1
    chances = np.exp(plain - plain.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    wanted = words.copy()
    for image in range(2):
        for place in range(1, LENGTH):
            if draws[image, 0, place] >= 0 and words[image, 0, place] != PAD:
                summed = chances[image, 0, place - 1].cumsum()
                wanted[image, 0, place] = (summed < draws[image, 0, place]).sum()
    assert (wanted != words).any()
    found = array(training_model({**x, "draws": draws}))
    np.testing.assert_allclose(
        found, array(training_model({**x, "words": wanted})), rtol=1e-4, atol=1e-5
    )


# What a beam finds


def log_chances(model, image, words):
    """What a captioner says of the next word, by the whole model, anew for each word."""
    given = np.full((1, LENGTH), PAD, "int32")
    given[0, : len(words)] = words
    x = {"image": image[None], "words": given}
    logits = model.predict_on_batch(x)[0, len(words) - 1].astype("float64")
    logits[[PAD, START, UNKNOWN]] = -np.inf
    return logits - np.log(np.exp(logits).sum())


def slow_beam(model, image, width, penalty):
    """Beam search in Python: `(words, log probability)`, the best first."""
    found = [([START], 0.0)]
    for _ in range(LENGTH):
        if all(words[-1] == END for words, _ in found):
            break
        longer = []
        for words, score in found:
            if words[-1] == END:
                longer.append((words, score))
                continue
            for word, chance in enumerate(log_chances(model, image, words)):
                longer.append(([*words, word], score + chance))
        longer.sort(key=lambda each: -each[1] / (len(each[0]) - 1) ** penalty)
        found = longer[:width]
    return found


@pytest.mark.parametrize("name", zoo.names(kind="captioner"))
@pytest.mark.parametrize(("width", "penalty"), [(1, 0.0), (3, 1.0), (5, 0.7)])
def test_a_beam_finds_what_a_slow_search_finds(name, width, penalty):
    model, lengths = captioner(name, seed=1), set()
    caption_generator = beam_search.caption_generator(
        model, width=width, length=LENGTH, penalty=penalty
    )
    found = caption_generator.predict(images(), verbose=0)
    assert found["words"].shape == (3, width, LENGTH)
    for index, image in enumerate(images()):
        wanted = slow_beam(model, image, width, penalty)
        for (words, score), row, chance in zip(
            wanted, found["words"][index], found["log_probability"][index], strict=True
        ):
            padded = [*words[1:], *[PAD] * (LENGTH + 1 - len(words))]
            assert row.tolist() == padded
            assert chance == pytest.approx(score, abs=1e-3)
            lengths.add(len(words))
    assert len(lengths) > 1 or width == 1 or penalty == 1  # some ended early


def test_a_batch_is_said_as_its_images_are_one_by_one():
    caption_generator = beam_search.caption_generator(
        captioner(), width=3, length=LENGTH, penalty=0.7
    )
    whole = caption_generator.predict(images(5), verbose=0, batch_size=5)
    for index in range(5):
        one = caption_generator.predict(images(5)[index : index + 1], verbose=0)
        np.testing.assert_array_equal(one["words"][0], whole["words"][index])


def test_a_model_that_learns_says_something_else_by_the_same_graph():
    model = captioner()
    bias = model.get_layer("logits").bias
    bias.assign(array(bias) - 50 * np.eye(WORDS)[END])
    caption_generator = beam_search.caption_generator(model, width=2, length=LENGTH)
    before = caption_generator.predict(images(), verbose=0)["words"]
    assert beam_search.caption_generator(model, width=2, length=LENGTH) is caption_generator
    bias.assign(array(bias) + 100 * np.eye(WORDS)[END])
    after = caption_generator.predict(images(), verbose=0)["words"]
    assert (before[:, 0, 0] != END).any()
    assert (after[:, 0, 0] == END).all()


def test_drawn_sentences_are_drawn_by_their_chances():
    model = captioner(sure=0.5)
    count = 2000
    caption_generator = beam_search.caption_generator(model, width=count, length=2, do_sample=True)
    draws = np.random.default_rng(0).random((1, count, 2)).astype("float32")
    found = caption_generator.predict({"image": images(1), "draws": draws}, verbose=0)
    first = log_chances(model, images(1)[0], [START])
    said = found["words"][0, :, 0]
    chances = np.exp(first)
    for word in range(WORDS):
        assert (said == word).mean() == pytest.approx(chances[word], abs=0.04)
    row = int(np.flatnonzero(said != END)[0])
    second = log_chances(model, images(1)[0], [START, said[row]])[found["words"][0, row, 1]]
    total = first[said[row]] + second
    assert found["log_probability"][0, row] == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_it_speaks_in_any_precision(policy):
    keras.config.set_dtype_policy(policy)
    caption_generator = beam_search.caption_generator(captioner(), width=2, length=LENGTH)
    keras.config.set_dtype_policy("float32")
    found = caption_generator.predict(images(), verbose=0)
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
NAMES = ("red", "green", "blue")


def task(**flags):
    return tasks.get("captioning")(**{**TINY, **flags})


def pictures(folder, count=60, said="this is a {} picture"):
    """Plain pictures of three colours, and what they show, in one file."""
    (folder / "Images").mkdir(parents=True)
    random, rows = np.random.default_rng(0), ["image,caption"]
    for index in range(count):
        pixels = random.integers(0, 60, (16, 16, 3)).astype("uint8")
        pixels[..., index % 3] += 180
        Image.fromarray(pixels).save(folder / f"Images/{index}.png")
        name = NAMES[index % 3]
        rows += [f"{index}.png,{said.format(name)}", f"{index}.png,It shows plain {name}."]
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder


OWN = {"train_split": "", "validation_split": "", "test_split": ""}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has learned to name the colour of plain pictures, and its data."""
    out = tmp_path_factory.mktemp("captioning")
    data = pictures(out / "data")
    asked = task(dataset=str(data), epochs=25, learning_rate=1e-2, image_size=32, **OWN)
    record = trainer.train(asked, out / "run")
    yield out / "run", data, record
    keras.utils.clear_session()


def test_it_learns(finished):
    out, _, record = finished
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
    for heading in ("What is said most", "Best captions", "Where it looked", "Curves", "Plan"):
        assert f"<h2>{heading}</h2>" in page
    assert "CIDEr-D" in page


def test_predict_says_a_sentence_and_how_sure_it_is(finished, tmp_path, capsys, monkeypatch):
    out, data, _ = finished
    monkeypatch.chdir(tmp_path)
    photos = [data / f"Images/{n}.png" for n in range(3)]
    (tmp_path / "broken.png").write_bytes(b"")
    run("predict", out, *photos, tmp_path / "broken.png", "--json")
    *answers, broken = json.loads(capsys.readouterr().out)["images"]
    assert broken["error"] == "empty file"
    for name, answer in zip(NAMES, answers, strict=True):
        assert name in answer["sentence"].split()
        assert 0 < answer["probability"] <= 1
        assert set(answer) == {"path", "sentence", "probability"}
    run("predict", out, photos[0])
    text = capsys.readouterr().out
    assert answers[0]["sentence"] in text
    assert "%  " in text
    run("predict", out, *photos, "--output", tmp_path / "said.csv")
    with open(tmp_path / "said.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["sentence"] for row in rows] == [answer["sentence"] for answer in answers]
    assert not list(tmp_path.glob("*pictures*"))
    assert not (tmp_path / "predictions").exists()


def test_attention_is_drawn_where_it_is_asked_for(finished, tmp_path, capsys):
    out, data, _ = finished
    run("predict", out, data / "Images/0.png", "--explain", "--drawings-dir", tmp_path, "--json")
    (answer,) = json.loads(capsys.readouterr().out)["images"]
    assert answer["picture"] == str(tmp_path / "0-attention.png")
    with Image.open(answer["picture"]) as picture:
        assert picture.width == 256 * min(6, 1 + len(answer["sentence"].split()))


def test_who_cannot_explain_says_so(tmp_path, capsys):
    model = zoo.build("lenet5", num_classes=2)
    model_files.save(model, tmp_path / "c.keras", {"task": "classification", "classes": ["a", "b"]})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    run("predict", tmp_path / "c.keras", tmp_path / "a.png", "--explain", status=1)
    assert "has no explanations to draw; leave out --explain" in capsys.readouterr().err


def test_evaluate_judges_by_the_words_of_the_run(finished, tmp_path):
    out, _, record = finished
    found = evaluate.evaluate(out)
    for name in ("bleu2", "cider", "loss", "accuracy"):
        assert found["figures"][name] == pytest.approx(record["figures"][name], rel=1e-4)
    other = pictures(tmp_path / "other", 12, said="a strange {} picture")
    figures = evaluate.evaluate(out, dataset=str(other))["figures"]
    assert figures["bleu1"] <= 1
    assert figures["loss"] > found["figures"]["loss"]


def test_a_vocabulary_of_another_run_is_refused_or_taken(finished, tmp_path):
    out, _, _ = finished
    data = pictures(tmp_path / "data", 30, said="one {} image, of many words")
    flags = {"dataset": str(data), "image_size": 32, "epochs": 1, **OWN}
    weights = {"weights": str(out / "model.keras")}
    with pytest.raises(UsageError, match=r"from another run, .* give --vocabulary"):
        trainer.train(task(**flags, **weights), tmp_path / "refused")
    taken = task(**flags, vocabulary=str(out), longest=3)
    words = taken.load().words
    assert words == checkpoint_vocabulary.from_metadata(
        model_files.load(out / "model.keras")[1], out
    )
    with pytest.raises(UsageError, match="x knows no words"):
        checkpoint_vocabulary.from_metadata({}, "x")
    loaded = taken.load()
    assert "% of the words of" in checkpoint_vocabulary.notes(loaded)[0]
    same = task(**{**flags, "longest": 3}, vocabulary=str(out), **weights)
    model = same.build(loaded)
    assert model.output_shape[-1] == len(words)


@pytest.mark.parametrize("text", ["{", "[1]", "null", '{"vocabulary": 5}', "[" * 99_999, "\xff"])
def test_a_damaged_file_of_a_vocabulary_is_refused(text, tmp_path):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zoo.json", text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"x\.keras cannot be read as a model file: "):
        checkpoint_vocabulary.from_checkpoint(path)
    with pytest.raises(UsageError, match=r"x\.keras cannot be read as a model file: "):
        checkpoint_vocabulary.check(path, None)
    assert model_files.read_class_names(path) == ()


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"num_classes": 4}, "leave --num-classes out"),
        ({"scheduled_sampling": 2.0}, "--scheduled-sampling must be from 0 to 1, not 2.0"),
        ({"model": "lenet5", "model_options": "", "backbone": ""}, "captioning needs a captioner"),
        ({"dataset": "shaeps"}, "needed: shapes; a file of lines"),
        ({"vocabulary": "nowhere.keras"}, "nowhere.keras cannot be read as a model file"),
        ({"augment": "lihgt"}, "did you mean light"),
        ({"least_count": 10_000}, "lower --least-count"),
    ],
    ids=str,
)
def test_a_mistake_is_said_before_training(flags, wanted, tmp_path):
    with pytest.raises(UsageError, match=wanted):
        trainer.train(task(**flags), tmp_path)


@pytest.mark.slow
def test_killed_amid_an_epoch_a_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    asked = task(checkpoint_steps=1, scheduled_sampling=0.5, captions=2)
    trainer.train(asked, tmp_path / "whole")
    checks.kill(asked, tmp_path / "cut", 8)
    assert resume.RunState(tmp_path / "cut").step == 3
    trainer.train(asked, tmp_path / "cut")
    checks.assert_same_checkpoint(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_what_rests_is_computed_once(tmp_path, monkeypatch, capsys):
    from tasks.inference import feature_cache

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(feature_cache, "is_worthwhile", lambda *args, **options: True)
    flags = {"backbone": "lenet5", "plan": "probe", "epochs": 1}
    fast = trainer.train(task(**flags), tmp_path / "fast")["figures"]
    assert "of the network is frozen" in capsys.readouterr().err
    slow = trainer.train(task(features="off", **flags), tmp_path / "slow")["figures"]
    assert fast["loss"] == pytest.approx(slow["loss"], rel=2e-3)


def test_one_step_on_two_replicas_is_a_step_on_one(two_devices):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("one replica alone")
    flags = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant", "clip_norm": 0.0}
    # Batch normalisation looks at the rest of a replica's batch: here is none. Nor is dropout.
    flags["model_options"] = "{widths: [], embedding: 8, units: 12, attention: 8, dropout: 0.0}"
    found = [checks.after_a_step(task(**flags), strategy) for strategy in ("one", "mirrored")]
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


def test_two_replicas_judge_as_one_does_on_an_uneven_last_batch(two_devices):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("one replica alone")
    asked = task()
    data = asked.load()
    keras.utils.set_random_seed(0)
    one = asked.build(data)
    with strategies.create_strategy("mirrored").scope():
        two = asked.build(data)
    two.set_weights(one.get_weights())
    found = []
    for model in (one, two):
        figures = evaluation.teacher_forcing_metrics(model, data.test, batch_size=4)
        options = {"length": data.length, "batch_size": 4, "width": 2}
        said, chances = evaluation.generate_captions(model, data.test, data.words, **options)
        found.append((figures, said, chances))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1] == found[1][1]
    np.testing.assert_allclose(found[0][2], found[1][2], rtol=1e-4)


def test_what_is_counted_of_a_split_is_what_a_slow_count_says():
    model = captioner(sure=0.5)
    labels = np.zeros((5, 2, LENGTH + 1), "int32")
    random = np.random.default_rng(0)
    for place in np.ndindex(5, 2):
        size = random.integers(1, LENGTH)
        labels[place][: size + 2] = [START, *random.integers(4, WORDS, size), END]
    labels[3, 1] = PAD
    part = dataset.CaptionedExamples("all", images(5), labels)
    found = evaluation.teacher_forcing_metrics(model, part, batch_size=2)
    logits = np.stack(
        [array(model({"image": images(5), "words": labels[:, n, :-1]})) for n in (0, 1)], axis=1
    )
    wanted = slow(labels[..., 1:], logits)
    assert (found["loss"], found["accuracy"]) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_unseen_combinations_are_judged_apart(tmp_path):
    figures = trainer.train(task(test_split="", epochs=1), tmp_path)["figures"]
    assert {"bleu4", "unseen_bleu4", "unseen_cider", "unseen_sentence_accuracy"} <= set(figures)


def test_where_it_looked_is_told_for_each_word():
    model = captioner()
    words = Vocabulary(("<pad>", "<start>", "<end>", "<unknown>", "a", "b", "c", "d", "e"))
    looks = evaluation.attention_maps(model, images(2), ["a b c", "d"], words)
    assert [each.shape[0] for each in looks] == [3, 1]
    for maps in looks:
        np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, rtol=1e-5)
    alone = evaluation.attention_maps(model, images(2)[1:], ["d"], words)
    np.testing.assert_allclose(alone[0], looks[1], rtol=1e-4)
    assert evaluation.attention_maps(captioner("nic"), images(2), ["a", "b"], words) is None


def test_a_file_of_something_else_is_no_captioner(tmp_path):
    model_files.save(zoo.build("lenet5"), tmp_path / "x.keras", {"task": "captioning"})
    with pytest.raises(UsageError, match="is no captioner: it takes"):
        load_predictor(tmp_path / "x.keras")
    model_files.save(captioner(), tmp_path / "y.keras", {"task": "captioning"})
    with pytest.raises(UsageError, match="knows no words: it was taught captioning"):
        load_predictor(tmp_path / "y.keras")


def test_few_images_reach_the_whole_share_of_their_own_words_in_the_last_epoch_alone():
    asked = task(
        scheduled_sampling=0.5, epochs=3, batch_size=4, plan="scratch", train_split="train[:4]"
    )
    stream = asked.training(asked.load())
    assert [stage.passes for stage in asked.stages_with_passes(stream.steps)] == [8]
    assert stream.sampling == (*[0.0] * 8, *[0.25] * 8, *[0.5] * 8)
