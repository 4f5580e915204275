"""The export that `zoo predict` keeps in a run folder, and uses while it is valid."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import zoo
from scripts.__main__ import main
from tasks.deploy import cached_export
from tasks.inference import export_cache
from zoo import model_files

pytestmark = [
    pytest.mark.shared_fixtures("folder"),
    pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="needs openvino"),
]
ABOUT = {"classes": ["a", "b", "c", "d"], "resize": "crop", "image_bits": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of images, and a run whose model was used twice."""
    folder = tmp_path_factory.mktemp("cached")
    (folder / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = random.integers(0, 256, (40, 50 + number, 3), dtype="uint8")
        Image.fromarray(pixels).save(folder / f"photos/{number}.png")
    save_model(folder / "run", seed=1)
    for _ in range(2):
        assert main(["predict", str(folder / "run"), str(folder / "photos/0.png")]) == 0
    return folder


@pytest.fixture
def run(folder, tmp_path):
    """A copy of the run."""
    return shutil.copytree(folder / "run", tmp_path / "run")


def save_model(run, seed, **options):
    import keras

    keras.utils.set_random_seed(seed)
    run.mkdir(exist_ok=True)
    model = zoo.build("lenet5", input_shape=(32, 32, 3), num_classes=4, **options)
    model_files.save(model, run / "model.keras", ABOUT)


def probabilities(run, folder, capsys, *flags):
    capsys.readouterr()
    assert main(["predict", str(run), str(folder / "photos"), "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == str(run / "model.keras")
    rows = [{x["name"]: x["probability"] for x in row["classes"]} for row in found["images"]]
    return [[row[name] for name in ABOUT["classes"]] for row in rows]


def test_the_second_use_keeps_an_export(folder, tmp_path, capsys):
    save_model(tmp_path / "run", seed=1)
    model = tmp_path / "run/model.keras"
    probabilities(tmp_path / "run", folder, capsys)
    assert export_cache.state(model) == export_cache.USED
    assert not (tmp_path / "run/inference/model.xml").exists()
    probabilities(tmp_path / "run", folder, capsys)
    assert export_cache.state(model) == export_cache.READY
    names = {path.name for path in (tmp_path / "run/inference").iterdir()}
    assert names == {"export.json", "model.xml", "model.bin"}


def test_many_images_keep_an_export_at_the_first_use(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cached_export, "MIN_IMAGES", 3)
    monkeypatch.setattr(cached_export.runtimes, "choose_runtime", lambda *a: "openvino")
    save_model(tmp_path / "run", seed=1)
    assert cached_export.store(tmp_path / "run", sorted((folder / "photos").iterdir()))


def test_its_predictions_are_those_of_the_model(folder, run, capsys, monkeypatch):
    expected = probabilities(run, folder, capsys, "--runtime", "keras")

    def load(path):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(model_files, "load", load)
    np.testing.assert_allclose(probabilities(run, folder, capsys), expected, atol=1e-5)
    opened = export_cache.open_cached(run / "model.keras", 1)
    assert opened.metadata["image_bits"] == 12


def test_another_model_is_not_predicted_with_it(folder, run, capsys):
    before = probabilities(run, folder, capsys)
    save_model(run, seed=2)
    found = probabilities(run, folder, capsys)
    expected = probabilities(run, folder, capsys, "--runtime", "keras")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(np.subtract(found, before)).max() > 1e-3


@pytest.mark.parametrize("name", ["model.bin", "model.xml", "export.json"])
def test_a_changed_file_is_ignored(name, folder, run, capsys):
    path = run / "inference" / name
    path.write_bytes(path.read_bytes()[:-10])
    assert export_cache.open_cached(run / "model.keras", 1) is None
    probabilities(run, folder, capsys)
    path.unlink()
    assert export_cache.open_cached(run / "model.keras", 1) is None


def test_an_export_of_another_version_is_ignored(run, monkeypatch):
    monkeypatch.setattr(zoo, "__version__", "0.0.1")
    assert export_cache.open_cached(run / "model.keras", 1) is None


def test_a_model_in_bfloat16_is_not_exported(folder, tmp_path):
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        save_model(tmp_path / "run", seed=1)
    finally:
        keras.config.set_dtype_policy(before)
    photos = sorted((folder / "photos").iterdir())
    assert [cached_export.store(tmp_path / "run", photos) for _ in range(3)] == [False] * 3
    record = json.loads((tmp_path / "run/inference/export.json").read_text())
    assert record["state"] == "refused"
    assert record["reasons"] == ["it does not compute in float32"]


def test_a_folder_that_cannot_be_written_to_is_no_error(folder, tmp_path, capsys):
    save_model(tmp_path / "run", seed=1)
    (tmp_path / "run/inference").write_text("a file")
    for _ in range(2):
        probabilities(tmp_path / "run", folder, capsys)


def test_other_targets_keep_nothing(folder, tmp_path):
    save_model(tmp_path / "run", seed=1)
    for _ in range(2):
        assert not cached_export.store(tmp_path / "run/model.keras", [folder / "photos/0.png"])
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"model.keras"}
