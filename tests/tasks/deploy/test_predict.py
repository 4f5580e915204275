"""Prediction on files: order, unreadable images, output formats and partial files."""

import csv
import importlib.util
import json
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from scripts.__main__ import main
from tasks.classification.predictor import ClassificationPredictor
from tasks.data import image_io
from tasks.deploy import predict, prediction_writer
from tasks.deploy.model_loader import load_predictor
from tasks.inference import runtimes, threads
from zoo import model_files
from zoo.errors import UsageError

SHAPE = (8, 8, 3)


def brightness(levels=4):
    """A model whose logits are the closeness of the mean of an image to several levels."""
    import keras

    inputs = keras.Input(SHAPE)
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    logits = keras.layers.Dense(levels)(mean)
    model = keras.Model(inputs, logits)
    centres = np.linspace(0, 1, levels)
    # -(x - c)^2 = 2 c x - c^2 - x^2, of which the last term is the same for all classes.
    model.set_weights([np.tile(50 * 2 * centres / 3, (3, 1)), -50 * centres**2])
    return model


@pytest.fixture
def classifier():
    return ClassificationPredictor(
        brightness(), ("night", "dusk", "dawn", "noon"), "stretch", "brightness"
    )


@pytest.fixture
def photos(tmp_path):
    """Forty images in three folders, with the class in the file name."""
    folder = tmp_path / "photos"
    for index in range(40):
        level = index % 4
        path = folder / "abc"[index % 3] / f"{index:02d}-{level}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), (85 * level,) * 3).save(path)
    return folder


def expected(path, classifier):
    return classifier.classes[int(Path(path).stem[-1])]


def run(*words, status=0):
    assert main([str(word) for word in words]) == status


@pytest.fixture
def saved(classifier, tmp_path):
    path = tmp_path / "model.keras"
    about = {"classes": list(classifier.classes), "resize": "stretch"}
    model_files.save(classifier.model, path, about)
    return path


# Predictions


def test_every_image_is_predicted_once_and_in_order(classifier, photos, monkeypatch):
    monkeypatch.setattr(runtimes, "MAX_BATCH_SIZE", 7)  # the last batch is not full
    paths = predict.find_images([photos])
    found = list(predict.iter_predictions(classifier, [photos]))
    assert [prediction["path"] for prediction in found] == [str(path) for path in paths]
    assert len(paths) == 40
    for prediction in found:
        assert prediction["classes"][0]["name"] == expected(prediction["path"], classifier)
        assert sum(top["probability"] for top in prediction["classes"]) == pytest.approx(1)


def test_probabilities_are_the_softmax(classifier, photos):
    path = predict.find_images([photos])[0]
    (prediction,) = predict.predict(classifier, [path], top=4)
    pixels = image_io.read_image(path, SHAPE)[None]
    powers = np.exp(np.asarray(classifier.model(pixels), "float64")[0])
    wanted = dict(zip(classifier.classes, powers / powers.sum(), strict=True))
    assert [top["name"] for top in prediction["classes"]] == sorted(
        wanted, key=lambda k: -wanted[k]
    )
    for top in prediction["classes"]:
        assert top["probability"] == pytest.approx(wanted[top["name"]], rel=1e-5)


def test_multi_label_model_returns_all_classes_above_the_threshold(tmp_path):
    model = brightness(levels=3)
    # Sigmoids of these constants: 0.88, 0.5, 0.27.
    model.set_weights([np.zeros((3, 3)), np.array([2.0, 0.0, -1.0])])
    path, image = tmp_path / "labels.keras", tmp_path / "one.png"
    Image.new("RGB", (8, 8)).save(image)
    about = {"classes": ["cat", "dog", "owl"], "resize": "stretch", "multi_label": True}
    model_files.save(model, path, about)
    (prediction,) = predict.predict(str(path), [image], top=1)
    assert [top["name"] for top in prediction["classes"]] == ["cat", "dog"]
    sure = [top["probability"] for top in prediction["classes"]]
    assert sure == pytest.approx([1 / (1 + np.exp(-2)), 0.5])

    model.set_weights([np.zeros((3, 3)), np.array([-3.0, -2.0, -800.0])])
    model_files.save(model, path, about)
    (prediction,) = predict.predict(str(path), [image])
    assert [top["name"] for top in prediction["classes"]] == ["dog"]  # at least the most likely


def test_model_for_any_size_takes_images_at_their_native_size(tmp_path):
    import keras

    inputs = keras.Input((None, None, 3))
    means = keras.layers.GlobalAveragePooling2D()(keras.ops.cast(inputs, "float32"))
    model = ClassificationPredictor(
        keras.Model(inputs, means), ("red", "green", "blue"), "stretch", "any"
    )
    for index, size in enumerate([(4, 5), (7, 3), (2, 2)]):
        colour = tuple(200 if channel == index else 0 for channel in range(3))
        Image.new("RGB", size, colour).save(tmp_path / f"{index}.png")
    found = predict.predict(model, [tmp_path], top=1)
    assert [prediction["classes"][0]["name"] for prediction in found] == ["red", "green", "blue"]


def test_model_without_metadata_is_single_label(saved):
    with zipfile.ZipFile(saved) as archive:
        assert "multi_label" not in json.loads(archive.read("zoo.json"))
    assert not load_predictor(saved).multi_label


# Images


def test_images_of_folders_and_patterns_are_sorted_by_name(photos, monkeypatch):
    (photos / "notes.txt").write_text("not an image")
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "x.png").write_bytes(b"")
    (photos / "a" / "._0.png").write_bytes(b"left by another system")
    whole = predict.find_images([photos])
    assert whole == sorted(photos.glob("?/[0-9]*.png"))
    assert predict.find_images([f"{photos}/**/*"]) == whole
    assert predict.find_images([f"{photos}/?"]) == whole
    assert predict.find_images([f"{photos}/*.png", photos / "a"][1:]) == sorted(
        (photos / "a").glob("[0-9]*")
    )
    monkeypatch.chdir(photos / "a")
    assert predict.find_images(["0*-0.png", "03-3.png"]) == [Path("00-0.png"), Path("03-3.png")]


@pytest.mark.parametrize("image", [None, 5, True, b"x.png", ["x.png"]])
def test_images_must_be_paths(image):
    with pytest.raises(UsageError, match="expected the path of an image"):
        predict.find_images([image])


def test_existing_path_is_not_a_pattern(photos):
    strange = photos / "a[1]*.png"
    Image.new("RGB", (4, 4)).save(strange)
    assert predict.find_images([strange]) == [strange]


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        ("nowhere.png", "image nowhere.png does not exist"),
        ("*.webp", r"no image matches \*.webp"),
        ("empty", "no images in empty"),
        ("notes*", r"no image matches notes\*"),
    ],
)
def test_missing_images_are_an_error_before_prediction(
    images, wanted, classifier, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(UsageError, match=wanted):
        predict.iter_predictions(classifier, [images])


# Unreadable images and memory


def test_deleted_files_are_reported_and_new_ones_ignored(classifier, photos, monkeypatch):
    monkeypatch.setattr(runtimes, "MAX_BATCH_SIZE", 2)
    paths = predict.find_images([photos])
    found = predict.predict_files(classifier, paths)
    first = next(found)
    paths[-1].unlink()
    Image.new("RGB", (4, 4)).save(photos / "zzz.png")
    rest = list(found)
    assert len([first, *rest]) == 40
    assert rest[-1] == {"path": str(paths[-1]), "error": "no such file"}
    assert all("classes" in prediction for prediction in rest[:-1])


def test_broken_images_keep_their_position(classifier, photos, monkeypatch):
    monkeypatch.setattr(runtimes, "MAX_BATCH_SIZE", 4)
    paths = predict.find_images([photos])
    broken = {str(path) for path in (paths[0], *paths[5:14], paths[-1])}
    for path in broken:
        Path(path).write_bytes(b"\x89PNG\r\n\x1a\n")
    found = predict.predict(classifier, [photos])
    assert [prediction["path"] for prediction in found] == [str(path) for path in paths]
    assert {prediction["path"] for prediction in found if "error" in prediction} == broken
    good = [prediction for prediction in found if "classes" in prediction]
    assert all(a["classes"][0]["name"] == expected(a["path"], classifier) for a in good)


def test_only_a_few_images_are_read_ahead(classifier, photos, monkeypatch):
    """Memory is bounded: only a few batches are read ahead."""
    monkeypatch.setattr(runtimes, "MAX_BATCH_SIZE", 2)
    monkeypatch.setattr(threads, "MAX_WORKERS", 2)
    lock, count = threading.Lock(), 0
    real = image_io.read_image

    def counted(*args):
        nonlocal count
        with lock:
            count += 1
        return real(*args)

    monkeypatch.setattr(image_io, "read_image", counted)
    found = predict.predict_files(classifier, predict.find_images([photos]))
    for done in range(1, 5):
        next(found)
        assert count <= done + 2 * (2 * predict.PREFETCH_BATCHES + 2)
    found.close()
    before = count
    assert threading.active_count() < 50
    assert before < 40
    assert count == before


# Formats and files


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_per_class(saved, photos, tmp_path, capsys, classifier):
    out = tmp_path / "predictions.csv"
    (photos / "b" / "broken.png").write_bytes(b"")
    run("predict", saved, photos, "--output", out, "--top", 2)
    rows = table(out)
    assert [*rows[0]] == ["path", "rank", "class", "probability", "error"]
    assert len(rows) == 81
    best = [row for row in rows if row["rank"] == "1"]
    assert all(row["class"] == expected(row["path"], classifier) for row in best)
    (bad,) = [row for row in rows if row["error"]]
    assert bad["error"] == "empty file"
    assert (bad["rank"], bad["class"], bad["probability"]) == ("", "", "")
    output = capsys.readouterr()
    assert output.out == ""
    assert "broken.png: empty file" in output.err
    assert "1 of 41 images could not be read" in output.err
    assert "predictions for 41 images in" in output.err
    assert not list(tmp_path.glob("*.partial"))


def test_all_formats_have_the_same_predictions(saved, photos, capsys):
    run("predict", saved, photos, "--format", "jsonl", "--top", 1)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    run("predict", saved, photos, "--json", "--top", 1)
    whole = json.loads(capsys.readouterr().out)
    assert whole["images"] == lines
    assert [*whole] == ["model", "protocol", "images"]
    run("predict", saved, photos, "--format", "csv", "--top", 1, "--output", "-")
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["class"] for row in rows] == [line["classes"][0]["name"] for line in lines]
    run("predict", saved, photos, "--top", 1)
    text = capsys.readouterr().out.splitlines()
    assert text[0].startswith(f"{saved} (stretch to 8 x 8")
    assert text[1::2] == [line["path"] for line in lines]


def test_format_follows_from_the_suffix(tmp_path):
    assert prediction_writer.choose_format(None, "x.JSONL") == "jsonl"
    assert prediction_writer.choose_format("csv", "x.jsonl") == "csv"
    assert (
        prediction_writer.choose_format(None, "x.dat")
        == prediction_writer.choose_format(None, None)
        == "text"
    )
    with pytest.raises(UsageError, match="did you mean json"):
        prediction_writer.choose_format("jsn", None)


def test_undecodable_file_names_are_written(saved, tmp_path):
    strange = os.fsdecode(b'caf\xe9, "new"\n.png')
    Image.new("RGB", (4, 4)).save(tmp_path / strange, "PNG")
    out = tmp_path / "out.csv"
    run("predict", saved, tmp_path / strange, "--output", out, "--top", 1)
    with open(out, newline="", errors="surrogateescape") as file:
        assert next(csv.DictReader(file))["path"] == str(tmp_path / strange)


def test_predictions_are_written_to_the_partial_file_at_once(classifier, photos, tmp_path):
    out = tmp_path / "predictions.jsonl"
    out.write_text("old\n")
    seen = []

    def watched():
        for prediction in predict.iter_predictions(classifier, [photos]):
            partial = tmp_path / "predictions.jsonl.partial"
            seen.append(len(partial.read_text().splitlines()))
            assert out.read_text() == "old\n"
            yield prediction

    with prediction_writer.open_output(out) as file:
        prediction_writer.write_predictions(watched(), file, "jsonl", classifier)
    assert seen == list(range(40))
    assert len(out.read_text().splitlines()) == 40


def test_interruption_leaves_the_partial_file(classifier, photos, tmp_path, caplog):
    out = tmp_path / "predictions.jsonl"
    out.write_text("old\n")

    def stopped():
        yield from list(predict.iter_predictions(classifier, [photos]))[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), prediction_writer.open_output(out) as file:
        prediction_writer.write_predictions(stopped(), file, "jsonl", classifier)
    assert out.read_text() == "old\n"
    assert len((tmp_path / "predictions.jsonl.partial").read_text().splitlines()) == 3
    assert "predictions so far are in" in caplog.text


def test_error_before_the_first_prediction_leaves_no_file(photos, tmp_path, capsys):
    run("predict", "nowhere.keras", photos, "--output", tmp_path / "out.csv", status=1)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk_is_one_line(saved, photos, capsys):
    run("predict", saved, photos, "--output", "/dev/full", status=1)
    assert "cannot write /dev/full: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--output nowhere/out.csv", "no folder nowhere for out.csv; create it first"),
        ("--output photos", "photos is a folder; pass the path of a file"),
        ("--output photos/a/00-0.png/out.csv", "no folder photos/a/00-0.png for out.csv"),
        ("--runtime openvin", "no runtime named 'openvin'; did you mean openvino"),
        ("--precision bfloat61", "no precision named 'bfloat61'; did you mean bfloat16"),
        ("--runtime keras --precision bfloat16", "keras does not compute in bfloat16"),
    ],
)
def test_errors_are_one_line_before_the_model_is_loaded(
    words, wanted, saved, photos, monkeypatch, capsys
):
    monkeypatch.setattr(model_files, "load", None)  # would fail if it were called
    monkeypatch.chdir(photos.parent)
    run("predict", saved, "photos", *words.split(), status=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert wanted in line


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_read_only_folder_is_one_line(saved, photos, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    run("predict", saved, photos, "--output", tmp_path / "locked" / "out.csv", status=1)
    assert "out.csv: Permission denied" in capsys.readouterr().err


def test_no_readable_image_is_an_error(saved, tmp_path, capsys):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    out = tmp_path / "out.csv"
    run("predict", saved, tmp_path / "a.png", tmp_path / "b.png", "--output", out, status=1)
    assert "none of the 2 images could be read; the first: " in capsys.readouterr().err
    assert [row["error"] for row in table(out)] == ["not an image by its first bytes"] * 2


def test_unreadable_images_are_counted_and_some_named(saved, photos, capsys):
    for index in range(prediction_writer.MAX_NAMED_ERRORS + 5):
        (photos / f"bad{index}.png").write_bytes(b"")
    run("predict", saved, photos, "--format", "jsonl")
    output = capsys.readouterr().err.splitlines()
    assert len([line for line in output if "skipped" in line]) == prediction_writer.MAX_NAMED_ERRORS
    assert "zoo: and 5 more" in output
    assert (
        f"zoo: {prediction_writer.MAX_NAMED_ERRORS + 5} of "
        f"{prediction_writer.MAX_NAMED_ERRORS + 45} images could not be read" in output
    )


def test_many_images_use_the_fastest_runtime(classifier, photos, monkeypatch, caplog):
    if not importlib.util.find_spec("openvino"):
        pytest.skip("needs openvino")
    monkeypatch.setattr(runtimes, "_has_gpu", lambda: False)
    paths = predict.find_images([photos]) * 10
    caplog.set_level("INFO", "zoo")
    fast = list(predict.predict_files(classifier, paths))
    assert "predicting with openvino" in caplog.text
    plain = list(predict.predict_files(classifier, paths, runtime="keras"))
    for one, other in zip(fast, plain, strict=True):
        assert one["path"] == other["path"]
        assert one["classes"][0]["name"] == other["classes"][0]["name"]
        sure = [
            [top["probability"] for top in prediction["classes"]] for prediction in (one, other)
        ]
        np.testing.assert_allclose(*sure, atol=1e-4)


def test_model_name_without_weights_is_rejected():
    assert zoo.spec("resnet20").weights is None
    with pytest.raises(UsageError, match=r"has random weights.*resnet20\.cifar10"):
        load_predictor("resnet20")


def test_drawings_have_unique_names():
    names = predict.output_stems(["a/x.jpg", "a/y.jpg", "a/x.jpg"], True)
    assert names == ["x", "y", "x"]  # the same image twice has one drawing
    names = predict.output_stems(["x.jpg", "x.png", "x.jpg.png", "b/x.jpg"], True)
    assert names == ["x.jpg", "x.png", "x.jpg.png", "b/x"]


def test_output_to_a_symbolic_link_replaces_its_target(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "predictions.csv").write_text("old")
    link = tmp_path / "link.csv"
    link.symlink_to("there/predictions.csv")
    with prediction_writer.open_output(link) as file:
        file.write("new")
    assert os.readlink(link) == "there/predictions.csv"
    assert link.read_text() == "new"
    assert os.listdir(tmp_path / "there") == ["predictions.csv"]
