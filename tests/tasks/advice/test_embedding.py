"""Embeddings: features, neighbors, k-nearest-neighbor accuracy, projections and the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

import zoo
from scripts.__main__ import main
from tasks.advice import embedding, embedding_page, projection
from tests.support.paths import ROOT
from zoo import surgery
from zoo.errors import UsageError
from zoo.lazy import keras

OLD_RUN = ROOT / "tests" / "files" / "old_runs" / "classification" / "finished"
WORDS = ["resnet20.cifar10", "fashion_sample", "--split", "test[:60]"]

pytestmark = pytest.mark.xdist_group("embedding")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Returns the embedding of 60 images, computed with an empty cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("home")))
        yield embedding.embed(*WORDS[:2], split=WORDS[3])


def made(features, labels, classes=("a", "b", "c")):
    """Returns an embedding of given features."""
    shape = (np.asarray(features, np.float32), np.asarray(labels), classes)
    return embedding.Embedding(*shape, None, "", None, "stretch", 16)


@pytest.mark.check
def test_features_are_the_input_of_the_last_dense_layer(found):
    model = zoo.build("resnet20.cifar10")
    assert found.features.shape == (60, 64)
    assert found.stage == "penultimate"
    logits = model.predict(found.examples.pixels, verbose=0)
    kernel, bias = map(np.asarray, model.get_layer("logits").weights)
    np.testing.assert_allclose(found.features @ kernel + bias, logits, rtol=1e-3, atol=1e-3)


@pytest.mark.check
def test_features_of_a_stage_are_its_average(found):
    model = zoo.build("resnet20.cifar10")
    extractor, stage = embedding.feature_extractor(model, "stage1")
    assert stage == "stage1"
    maps = keras.Model(model.input, surgery.stages(model)["stage1"])
    pixels = found.examples.pixels[:2]
    expected = maps.predict(pixels, verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(extractor.predict(pixels, verbose=0), expected, rtol=1e-5)


def test_a_segmenter_has_the_features_of_its_last_stage():
    model = zoo.build("unet", input_shape=(32, 32, 3), num_classes=2, widths=(4, 8))
    extractor, stage = embedding.feature_extractor(model)
    assert stage in surgery.stages(model)
    assert len(extractor.output_shape) == 2


@pytest.mark.check
def test_neighbours_have_the_largest_cosine_of_centred_features(found):
    nearest, similarity = embedding.own_neighbours(found, 3)
    centred = found.features - found.features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    for index in (0, 31, 59):
        cosines = unit @ unit[index]
        cosines[index] = -2
        expected = np.argsort(-cosines)[:3]
        np.testing.assert_array_equal(nearest[index], expected)
        np.testing.assert_allclose(similarity[index], cosines[expected], atol=1e-5)


@pytest.mark.check
def test_an_image_is_its_own_neighbour(found, tmp_path):
    Image.fromarray(found.examples.pixels[7]).save(tmp_path / "image.png")
    features = embedding.read_features(found, tmp_path / "image.png")
    np.testing.assert_allclose(features[0], found.features[7], rtol=1e-3, atol=1e-4)
    nearest, similarity = embedding.neighbours(found, features, 100)
    assert nearest[0, 0] == 7
    assert similarity[0, 0] == pytest.approx(1, abs=1e-4)
    assert sorted(nearest[0]) == list(range(60))


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.check
def test_accuracy_is_that_of_a_slow_vote(found, count):
    centred = found.features - found.features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    correct = 0
    for index, label in enumerate(found.labels):
        cosines = unit @ unit[index]
        cosines[index] = -2
        order = np.argsort(-cosines)[:count]
        votes = {
            name: (np.sum(found.labels[order] == name), cosines[order][found.labels[order] == name])
            for name in set(found.labels[order].tolist())
        }
        best = max(votes, key=lambda name: (votes[name][0], np.sum(1 + votes[name][1])))
        correct += best == label
    figures = embedding.knn_accuracy(found, count)
    assert figures["knn_accuracy"] == pytest.approx(correct / 60)
    assert figures["knn_accuracy_low"] < figures["knn_accuracy"] < figures["knn_accuracy_high"]


@pytest.mark.check
def test_accuracy_agrees_with_scikit_learn(found):
    neighbors = pytest.importorskip("sklearn.neighbors")
    model_selection = pytest.importorskip("sklearn.model_selection")
    centred = found.features - found.features.mean(axis=0)
    classifier = neighbors.KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    leave_one_out = model_selection.LeaveOneOut()
    scores = model_selection.cross_val_score(classifier, centred, found.labels, cv=leave_one_out)
    assert embedding.knn_accuracy(found, 1)["knn_accuracy"] == pytest.approx(scores.mean())


def test_multi_label_data_have_no_accuracy():
    rows = made(np.eye(3), [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    assert embedding.knn_accuracy(rows, 1) == {}
    assert rows.label_names() == ["a|c", "", "b"]


def test_principal_components_are_those_of_the_singular_values():
    random = np.random.default_rng(0)
    for shape in ((40, 6), (6, 40)):
        features = random.normal(size=shape) * np.linspace(3, 1, shape[1])
        found = projection.project(features, "pca")
        _, values, vectors = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
        expected = (features - features.mean(axis=0)) @ vectors[:2].T
        np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-8)
        np.testing.assert_allclose(np.linalg.norm(found, axis=0), values[:2])


def test_projections_of_few_or_equal_images():
    assert projection.project(np.ones((1, 3))).tolist() == [[0, 0]]
    assert projection.project(np.ones((4, 1))).tolist() == [[0, 0]] * 4


@pytest.mark.check
@pytest.mark.parametrize("method", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_projections_separate_clusters(method):
    pytest.importorskip(projection.NEEDED[method][0])
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 10)) + 20 * (np.arange(60) % 2)[:, None]
    positions = projection.project(features, method)
    centres = [positions[part::2].mean(axis=0) for part in (0, 1)]
    own = np.linalg.norm(positions - np.stack(centres)[np.arange(60) % 2], axis=1)
    other = np.linalg.norm(positions - np.stack(centres[::-1])[np.arange(60) % 2], axis=1)
    assert (own < other).all()


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(projection.NEEDED, "umap", ("nonesuch", projection.NEEDED["umap"][1]))
    with pytest.raises(UsageError, match=r"umap needs umap-learn: pip install 'keras-zoo\[umap\]'"):
        projection.check_method("umap")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.check
def test_files_hold_features_classes_and_titles(found, tmp_path, suffix):
    path = tmp_path / f"features{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    embedding.write(path, found)
    if suffix == ".npz":
        read = np.load(path)
    else:
        import pyarrow.parquet

        read = pyarrow.parquet.read_table(path).to_pydict()
    np.testing.assert_array_equal(np.asarray(read["features"], np.float32), found.features)
    assert list(read["label"]) == found.label_names()
    assert list(read["image"]) == found.titles()


def test_the_command_prints_and_writes(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((28, 28, 3), "uint8")).save(image)
    words = [*WORDS, "--out", str(tmp_path / "f.npz"), "--page", str(tmp_path / "map.html")]
    assert main(["embed", *words, "--neighbours", str(image), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["images"], printed["features"], printed["stage"]) == (60, 64, "penultimate")
    assert len(printed["neighbours"][str(image)]) == 5
    text = (tmp_path / "map.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert len(data["points"]) == 60
    assert len(data["classes"]) == len(data["colours"]) == 10
    assert all(len(point[5]) == 6 for point in data["points"])
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "'--split=test[:60]'" in re.sub(r"</?span>", "", text).replace("&#x27;", "'")


def test_the_title_of_the_map_has_no_absolute_path(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_page, "_map", lambda *args: "")
    names = {"model": f"{tmp_path}/run", "dataset": f"{tmp_path}/flowers", "method": "pca"}
    few = made(np.eye(3), [0, 1, 2])
    embedding_page.write(tmp_path / "a.html", few, np.eye(3), {}, words=["zoo"], **names)
    assert "<title>flowers in run" in (tmp_path / "a.html").read_text()


INTERACT = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const seen = [];
  search.value = "trouser"; search.dispatchEvent(new Event("input"));
  seen.push(count.textContent);
  search.value = ""; search.dispatchEvent(new Event("input"));
  const box = canvas.getBoundingClientRect(), [x, y] = place(points[59]);
  const where = {pointerId: 1, clientX: box.left + x, clientY: box.top + y, bubbles: true};
  canvas.setPointerCapture = () => {};
  canvas.dispatchEvent(new PointerEvent("pointerdown", where));
  canvas.dispatchEvent(new PointerEvent("pointerup", where));
  seen.push(chosen, document.querySelectorAll("#selected figure").length);
  document.getElementById("in").click();
  seen.push(view.zoom > 1);
  canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "0"}));
  seen.push(view.zoom, chosen);
  document.title = JSON.stringify(seen);
}, 200));
</script></body>"""


@pytest.mark.check
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_the_map_is_searched_selected_and_zoomed_in_a_browser(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    page = tmp_path / "map.html"
    assert main(["embed", *WORDS, "--page", str(page)]) == 0
    text = re.sub(
        r'<meta http-equiv="Content-Security-Policy".*?>', "", page.read_text(), flags=re.S
    )
    page.write_text(text.replace("</body>", INTERACT))
    words = ["chromium", "--headless", "--no-sandbox", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*words, f"file://{page}"], capture_output=True, text=True)
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert re.fullmatch(r"\d of 60", seen[0])
    assert seen[1] is not None
    assert seen[2:] == [7, True, 1, None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet20.cifar10"], "pass a data set"),
        (["resnet20", "fashion_sample"], "random weights"),
        (["resnet20.cifar10", "nonesuch"], "no data set named"),
        ([*WORDS, "--stage", "stage9"], "no stage named 'stage9'"),
        ([*WORDS, "--split", "train[:0]"], "train"),
        ([*WORDS, "--out", "features.txt"], "are written to .npz or .parquet"),
        ([*WORDS, "--k", "0"], "--k must be 1 or more"),
        ([*WORDS, "--projection", "isomap"], "invalid choice: 'isomap'"),
        ([*WORDS, "--image-size", "64"], "takes images of 32 x 32"),
        ([*WORDS, "--neighbours", "none.png"], "none.png"),
    ],
    ids=str,
)
def test_wrong_arguments_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    assert main(["embed", *words]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("zoo: ")
    assert message in error


def test_a_run_embeds_its_own_data_set():
    found = embedding.embed(OLD_RUN, split="test[:20]")
    assert found.features.shape == (20, 8)
    with pytest.raises(UsageError, match="no stages"):
        embedding.embed(OLD_RUN, split="test[:20]", stage="stage2")


def test_models_without_features_of_images_are_refused(tmp_path, capsys):
    from zoo import model_files

    keras.utils.set_random_seed(0)
    image, number = keras.Input((8, 8, 3)), keras.Input((2,))
    x = keras.layers.Concatenate()([keras.layers.Flatten()(image), number])
    two = keras.Model([image, number], keras.layers.Dense(3)(keras.layers.Dense(4)(x)))
    size = {"input_shape": (64, 64, 3), "num_classes": 3}
    rcnn = zoo.build("rcnn", backbone="lenet5", weights="random", **size)
    messages = {"two": "must have one input, the image, not 2", "rcnn": "rcnn has no stages to"}
    for name, model in {"two": two, "rcnn": rcnn}.items():
        path = tmp_path / f"{name}.keras"
        model_files.save(model, path, {})
        assert main(["embed", str(path), "fashion_sample", "--split=test[:9]"]) == 1
        assert messages[name] in capsys.readouterr().err


def test_a_data_set_without_class_labels_is_named(tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(OLD_RUN.parents[1] / "dqn" / "finished", run)
    assert main(["embed", str(run)]) == 1
    error = capsys.readouterr().err
    assert "cannot be read as images with class labels; pass one that can" in error
    assert main(["embed", str(run), "fashion_sample", "--split=test[:9]"]) == 1
    assert "takes an input of shape (None, 4), not images" in capsys.readouterr().err


def test_images_are_looked_up_before_the_features_are_computed(monkeypatch, capsys):
    monkeypatch.setattr(embedding, "embed", None)
    assert main(["embed", *WORDS, "--neighbours", "nonesuch.jpg"]) == 1
    assert "image nonesuch.jpg does not exist" in capsys.readouterr().err
