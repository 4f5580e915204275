"""`zoo rank`: models, images and features that are used, and models that cannot be evaluated."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import zoo
from scripts.__main__ import main
from tasks.advice import rank
from tasks.data import sources
from tasks.engine import finetune, plans
from tasks.inference import array_store, feature_cache
from zoo import surgery
from zoo.errors import UsageError

pytestmark = pytest.mark.xdist_group("rank")  # the tests share built models

SHIPPED, ABSENT = "resnet20.cifar10", "mobilenet_025.imagenet"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A machine without network and with empty caches."""
    for name in ("ZOO_WEIGHTS", "ZOO_FEATURES_GB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    array_store._opened_paths.clear()
    return tmp_path


MODELS = {}  # built by the tests below, which do not depend on their weights


@pytest.fixture
def cached_models(monkeypatch):
    """Builds each model once per process."""
    build = zoo.build

    def build_once(name, **options):
        key = repr((name, options))
        if key not in MODELS:
            MODELS[key] = build(name, **options)
        return MODELS[key]

    monkeypatch.setattr(zoo, "build", build_once)


@pytest.fixture
def quick(monkeypatch, cached_models):
    """Replaces features by the mean brightness of the quadrants of an image."""

    def compute(network, examples):
        height, width = (side // 2 for side in examples.pixels.shape[1:3])
        quadrants = [
            examples.pixels[:, y:, x:].mean((1, 2)) for y in (0, height) for x in (0, width)
        ]
        return np.concatenate(quadrants, axis=1)

    monkeypatch.setattr(feature_cache, "compute_features", compute)


def error_line(capsys, *words):
    assert main(["rank", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.check
def test_models_are_evaluated_and_missing_weights_reported(capsys, monkeypatch):
    rows = rank.rank("fashion_sample", [ABSENT, SHIPPED], images=120)
    assert [row.model for row in rows] == [SHIPPED, ABSENT]
    good, bad = rows
    assert 0.5 < good.accuracy < 0.95  # of ten classes
    assert 0 < good.error < 0.1
    assert good.seconds > 0
    assert good.image_size == 32
    assert (good.parameters, good.flops) == (zoo.spec(SHIPPED).parameters, zoo.spec(SHIPPED).flops)
    assert good.why_not == ""
    assert bad.accuracy is bad.error is bad.seconds is bad.image_size is None
    assert "ZOO_OFFLINE" in bad.why_not
    first, second = [x for x in capsys.readouterr().err.splitlines() if x.startswith(("1/", "2/"))]
    assert first == f"1/2 {ABSENT}: {bad.why_not}"
    assert second.startswith(f"2/2 {SHIPPED}: {good.accuracy:.3f} +- {good.error:.3f}, ")

    # The second time the features come from the cache.
    def never(*args):
        raise AssertionError("features are computed again")

    monkeypatch.setattr(feature_cache, "_start_runtime", never)
    (again,) = rank.rank("fashion_sample", [SHIPPED], images=120)
    assert again.accuracy == good.accuracy


def test_best_model_is_first(monkeypatch, cached_models):
    noise = iter([3.0, 0.0, 1.0])

    def compute(network, examples):
        random, scale = np.random.default_rng(0), next(noise)
        return np.eye(10)[examples.labels] + scale * random.normal(size=(len(examples), 10))

    monkeypatch.setattr(feature_cache, "compute_features", compute)
    names = ["resnet20", "lenet5", SHIPPED]
    files = {"resnet20": "random", "lenet5": "random"}
    rows = rank.rank("fashion_sample", names, weights=files, images=200)
    assert [row.model for row in rows] == ["lenet5", SHIPPED, "resnet20"]
    assert [row.accuracy for row in rows] == sorted((r.accuracy for r in rows), reverse=True)
    assert (rows[0].accuracy, rows[0].error) == (1.0, 0.0)


def test_split_size_and_seed_are_used(monkeypatch, cached_models):
    seen = []

    def compute(network, examples):
        seen.append(examples)
        return np.random.default_rng(0).normal(size=(len(examples), 3))

    monkeypatch.setattr(feature_cache, "compute_features", compute)
    test = sources.load("fashion_sample", None).splits["test"]
    options = {"split": "test", "images": 50, "image_size": 40}
    (row,) = rank.rank("fashion_sample", [SHIPPED], **options)
    assert row.image_size == 40
    assert seen[0].pixels.shape == (50, 40, 40, 3)
    assert np.bincount(seen[0].labels).tolist() == [5] * 10  # of equal classes equal shares
    rank.rank("fashion_sample", [SHIPPED], **options, seed=1)
    assert (seen[0].pixels != seen[1].pixels).any()
    rank.rank("fashion_sample", [SHIPPED], **{**options, "images": 10**6})
    assert len(seen[2].labels) == len(test)


@pytest.mark.parametrize("count", [1, 9, 77, 131, 132])
def test_subset_is_stratified(count):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [60, 40, 28, 4]))
    chosen = rank._stratified_subset(labels, count, seed=0)
    assert len(np.unique(chosen)) == len(chosen) == count
    share = np.bincount(labels) * count / len(labels)
    assert np.abs(np.bincount(labels[chosen], minlength=4) - share).max() <= 1


def test_command_prints_a_table_and_errors_as_lines(quick, capsys):
    words = ["rank", "fashion_sample", "--images", "60"]
    assert main([*words, "--models", f"{ABSENT},{SHIPPED}"]) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split() == ["model", "accuracy", "+-", "seconds", "params", "FLOPs", "pixels"]
    assert [line.split()[0] for line in lines] == [SHIPPED]
    assert lines[0].split()[4:] == ["270k", "81.1M", "32"]
    assert f"{ABSENT}: " in err


def test_json_has_every_model(quick, capsys):
    words = ["rank", "fashion_sample", "--images", "60", "--json"]
    assert main([*words, "--models", f"{ABSENT},resnet20.*"]) == 0
    good, bad = json.loads(capsys.readouterr().out)
    assert good.keys() == bad.keys() == rank.RankedModel.__dataclass_fields__.keys()
    assert (good["model"], good["why_not"]) == (SHIPPED, "")
    assert (bad["model"], bad["accuracy"]) == (ABSENT, None)
    assert bad["why_not"]


def test_default_models_are_those_with_local_weights(quick, capsys):
    assert main(["rank", "fashion_sample", "--images", "60", "--json"]) == 0
    assert [row["model"] for row in json.loads(capsys.readouterr().out)] == [SHIPPED]


def test_exit_status_is_1_if_no_model_is_evaluated(capsys):
    assert main(["rank", "fashion_sample", "--images", "60", "--models", ABSENT]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"1/1 {ABSENT}: ")
    assert len(err.splitlines()) == 1


def test_weights_from_a_file_add_a_model(quick, tmp_path, capsys):
    file = tmp_path / "mine.weights.h5"
    zoo.build("lenet5", num_classes=3).save_weights(file)
    words = ["rank", "fashion_sample", "--images", "60", "--json", "--weights", f"lenet5={file}"]
    assert main([*words, "--models", SHIPPED]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in rows} == {SHIPPED, "lenet5"}
    assert not any(row["why_not"] for row in rows)
    assert main([*words, "--models", "lenet5"]) == 0  # which alone has no weights
    assert [row["model"] for row in json.loads(capsys.readouterr().out)] == ["lenet5"]


def test_weights_of_another_network_are_reported(tmp_path, capsys):
    file = tmp_path / "other.weights.h5"
    zoo.build("mlp").save_weights(file)
    (row,) = rank.rank("fashion_sample", [SHIPPED], weights={SHIPPED: str(file)}, images=60)
    assert row.accuracy is None
    assert "other.weights.h5" in row.why_not


def test_errors_are_one_line(tmp_path, capsys):
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "many.csv").write_text("path,labels\na.jpg,cat|dog\nb.jpg,dog\n")
    few = ("fashion_sample", "--models", SHIPPED)
    unknown = error_line(capsys, "fashion_sample", "--models", "resnet20.cifar100")
    assert "no model named 'resnet20.cifar100'; did you mean resnet20.cifar10" in unknown
    assert "lenet5 has no pretrained weights" in error_line(capsys, *few[:2], "lenet5")
    assert "is multi-label" in error_line(capsys, str(tmp_path / "many.csv"), *few[1:])
    assert "not 9 images of 9 classes" in error_line(capsys, *few, "--images", "9")
    assert "0 or more" in error_line(capsys, *few, "--images", "-1")
    assert "0 or more" in error_line(capsys, *few, "--seed", "-1")
    assert "MODEL=FILE, not 'mine.h5'" in error_line(capsys, *few, "--weights", "mine.h5")
    assert "no model named 'resnt'" in error_line(capsys, *few, "--weights", "resnt=mine.h5")
    assert "no_such" in error_line(capsys, "no_such", *few[1:])


def test_unknown_models_are_rejected_before_data_are_loaded():
    with pytest.raises(UsageError, match="no model named 'resnet20"):
        rank.rank("no_such_data", ["resnet20.cifar"])


def quarters(maps):
    cut = [half for rows in np.split(maps, 2, axis=1) for half in np.split(rows, 2, axis=2)]
    return [quarter.mean((1, 2)) for quarter in cut]


def test_features_are_std_and_quadrant_means_of_every_stage():
    model = zoo.build("resnet20", num_classes=2, weights="random")
    pyramid = zoo.backbone("resnet20", weights="random")
    pyramid.set_weights(model.get_weights()[: len(pyramid.weights)])
    image = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    maps = [np.asarray(x) for x in pyramid(image).values()]
    wanted = [part for x in maps for part in (x.std((1, 2)), *quarters(x))]
    finetune.set_trainable(model, plans.Stage("head"))
    found = rank._stage_features(surgery.split(model)[0])(image)
    np.testing.assert_allclose(found, np.concatenate(wanted, axis=1), rtol=1e-4, atol=1e-5)


def test_feature_maps_of_one_row_have_two_halves():
    maps = np.arange(24.0, dtype="float32").reshape(2, 1, 3, 4)
    left, right = rank._quadrant_means(maps)
    np.testing.assert_allclose(left, maps[:, 0, 0])
    np.testing.assert_allclose(right, maps[:, 0, 1:].mean(1))


def test_network_without_stages_uses_the_input_of_its_head():
    model = zoo.build("mlp", num_classes=2, weights="random")
    finetune.set_trainable(model, plans.Stage("head"))
    bottom = surgery.split(model)[0]
    assert rank._stage_features(bottom) is bottom
