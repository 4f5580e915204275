"""The doctor: finds each planted fault, and nothing in healthy models and data."""

import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from scripts import doctor as command
from scripts.__main__ import main
from tasks.advice import (
    dataset_checks,
    doctor,
    layer_statistics,
    model_predictions,
    preprocessing,
    preprocessing_schemes,
    trainable_check,
)
from tasks.data import near_duplicates, sources
from tasks.data.dataset import Source, Split
from tasks.engine import recipes, resume
from zoo import graphs, model_files
from zoo.errors import UsageError
from zoo.parts import blocks

NAMES = ("red", "green", "blue", "grey")


def colours(count, seed, names=NAMES):
    """A source of noisy images whose class is a color, so that the order of channels matters."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    tints = np.array([[70, 0, 0], [0, 70, 0], [0, 0, 70], [25, 25, 25]])[labels]
    levels = random.uniform(60, 110, (count, 1, 1, 1)) + tints[:, None, None]
    pixels = levels + random.normal(0, 35, (count, 16, 16, 3))
    items = list(pixels.clip(0, 255).astype("uint8"))
    split = Split("test", items, labels.astype("int64"))
    return Source("colours", names, {"test": split})


def network(inside="torch"):
    """A small network with batch normalization, not trained."""
    inputs = keras.Input((16, 16, 3))
    x = blocks.preprocess(inputs, inside)
    x = blocks.conv_bn(x, 8, 3, 2, name="one")
    x = blocks.conv_bn(x, 8, 3, name="two")
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="logits")(x))


# The tests that share the trained weights run in one process.
pytestmark = pytest.mark.xdist_group("doctor")


@pytest.fixture(scope="module")
def trained_weights():
    """Weights of `network()` trained on the colors."""
    keras.utils.set_random_seed(0)
    model, split = network(), colours(512, 1).splits["test"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    pixels = np.stack(split.items).astype("float32")
    model.fit(pixels, split.labels, batch_size=32, epochs=10, verbose=0)
    return [np.array(weight) for weight in model.get_weights()]


@pytest.fixture
def model(trained_weights):
    """A healthy model."""
    model = network()
    model.set_weights(trained_weights)
    return model


def with_input_layers(model, *front):
    """A model with further layers before its input."""
    inputs = keras.Input(model.input_shape[1:])
    x = inputs
    for layer in front:
        x = layer(x)
    return keras.Model(inputs, model(x))


@keras.saving.register_keras_serializable("test_doctor")
class Swap(keras.layers.Layer):
    """Reverses the channels, RGB to BGR."""

    def call(self, x):
        return x[..., ::-1]


def diagnose(model, source=None, about=None, check=None):
    """Returns the findings of the checks of a model, by name."""
    source = source or colours(256, 2)
    about = {"classes": NAMES} if about is None else about
    sample = model_predictions.predict_sample(model, about, source, source.splits["test"], 256)
    checks = [check] if check else doctor.PREDICTION_CHECKS.values()
    found = {}
    for each in checks:
        try:
            found.update({finding.name: finding for finding in each(sample)})
        except doctor.CheckSkipped:
            continue
    return found


# Healthy


def test_healthy_model_has_no_findings(model):
    assert diagnose(model) == {}


@pytest.mark.parametrize("about", [{}, {"classes": ("a", "b", "c", "d")}])
@pytest.mark.check
def test_healthy_model_has_no_findings_with_any_metadata(model, about):
    assert diagnose(model, about=about) == {}


@pytest.mark.check
def test_pretrained_model_has_no_findings_on_another_data_set():
    source = sources.load("fashion_sample")
    facts = {"classes": zoo.class_names("cifar10")}
    found = doctor.run_checks(zoo.build("resnet20.cifar10"), facts, source, images=64)
    assert found.findings == ()
    assert found.healthy
    assert "leaked duplicates" in found.checked
    assert dict(found.unchecked)["class order"].startswith("the model was trained on other classes")
    assert set(found.checked) | set(dict(found.unchecked)) == set(doctor.CHECKS)


@pytest.mark.check
def test_run_is_checked_with_its_own_data(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", "classification", "--model", "lenet5", "--epochs", "3", "--out", str(out)]
    words += ["--train-split", "train[:320]", "--validation-split", "none"]
    assert main([*words, "--test-split", "test[:100]", "--precision", "float32"]) == 0
    capsys.readouterr()
    assert main(["doctor", str(out), "--images", "100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"] == []
    assert found["healthy"]
    assert {"class order", "preprocessing", "channel order"} <= set(found["checked"])


@pytest.mark.parametrize(
    ("constructor", "module", "mode"),
    [
        ("MobileNet", "mobilenet", "tf"),
        pytest.param("VGG16", "vgg16", "caffe", marks=pytest.mark.check),
    ],
)
def test_keras_applications_with_and_without_preprocessing(constructor, module, mode):
    options = {"weights": None, "include_top": False, "input_shape": (32, 32, 3)}
    base = getattr(keras.applications, constructor)(**options)
    inputs = keras.Input((32, 32, 3))  # 7 classes, unlike any data set: labels are not compared
    prepared = getattr(keras.applications, module).preprocess_input(inputs)
    tops = [
        keras.layers.GlobalAveragePooling2D()(base(x, training=False)) for x in (prepared, inputs)
    ]
    healthy, bare = (keras.Model(inputs, keras.layers.Dense(7)(top)) for top in tops)
    source = sources.load("fashion_sample")
    check = preprocessing.check_preprocessing
    assert diagnose(healthy, source, {}, check) == {}
    found = diagnose(bare, source, {}, check)["preprocessing missing"]
    assert base.name in found.what
    assert preprocessing_schemes.SCHEMES[mode][0] in found.what


@pytest.mark.check
def test_efficientnet_with_built_in_preprocessing_has_no_findings():
    base = keras.applications.EfficientNetB0(weights=None, input_shape=(32, 32, 3), classes=7)
    found = diagnose(base, sources.load("fashion_sample"), {}, preprocessing.check_preprocessing)
    assert found == {}


# Faults of preprocessing


@pytest.mark.parametrize(
    ("scale", "about"),
    [
        (1 / 255, {"classes": NAMES}),
        (1 / 127.5, {"classes": ("a", "b", "c", "d")}),
        pytest.param(1 / 127.5, {"classes": NAMES}, marks=pytest.mark.check),
        pytest.param(1 / 255, {"classes": ("a", "b", "c", "d")}, marks=pytest.mark.check),
    ],
)
def test_preprocessing_done_twice(model, scale, about):
    twice = with_input_layers(model, keras.layers.Rescaling(scale))
    found = diagnose(twice, about=about)["preprocessing done twice"]
    assert found.severity == "wrong"
    assert "undoing" in found.what


@pytest.mark.parametrize("about", [{"classes": NAMES}, {"classes": ("a", "b", "c", "d")}])
def test_preprocessing_missing(trained_weights, about):
    bare = network("none")
    bare.set_weights(trained_weights)
    found = diagnose(bare, about=about)["preprocessing missing"]
    assert found.severity == "wrong"


def test_double_rescaling_is_found_without_batch_norm_and_labels():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(x)
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    found = diagnose(model)["preprocessing done twice"]
    assert "pixels from 0 to 255 arrive at stem as 0 to 0.003922" in found.what


def test_unusual_value_range():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(5, 3, name="stem")(keras.layers.Rescaling(255.0)(inputs))
    found = diagnose(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)))
    assert found["value range"].what.endswith("0 to 6.502e+04")


def test_preprocessing_of_another_network():
    base = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3))
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, base(keras.layers.Rescaling(1 / 255)(inputs)))
    found = diagnose(model, sources.load("fashion_sample"), {}, preprocessing.check_preprocessing)
    assert "expects x / 127.5 - 1" in found["preprocessing of another network"].what


def test_swapped_channels(model):
    found = diagnose(with_input_layers(model, Swap()))["channel order"]
    assert found.severity == "wrong"
    assert "with red and blue swapped" in found.what
    assert "cvtColor" in found.do


@pytest.mark.parametrize("kind", ["unit", "tf", "torch", "caffe"])
def test_corrections_are_inverses_of_each_other(kind):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    there = preprocessing_schemes.corrections(3)[
        2 * list(preprocessing_schemes.SCHEMES).index(kind)
    ]
    back = preprocessing_schemes.corrections(3)[
        2 * list(preprocessing_schemes.SCHEMES).index(kind) + 1
    ]
    np.testing.assert_allclose(back.change(there.change(pixels)), pixels, atol=1e-3)
    if kind in blocks.PREPROCESSING:
        own = np.asarray(blocks.preprocess(keras.ops.convert_to_tensor(pixels), kind))
        np.testing.assert_allclose(there.change(pixels), own, atol=1e-4)


# Class order


def test_permuted_classes_without_names(model):
    rolled = keras.Model(model.input, keras.layers.Lambda(lambda x: x[:, ::-1])(model.output))
    found = diagnose(rolled, about={})
    assert list(found) == ["class order"]
    assert found["class order"].severity == "wrong"
    assert "100%" in found["class order"].what


def test_class_names_in_a_wrong_order(model):
    found = diagnose(model, about={"classes": NAMES[::-1]})["class order"]
    assert found.severity == "wrong"
    assert "0 is 'grey' in the model and 'red' in the data" in found.what


def test_permuted_classes_of_the_data_set_are_a_look(model):
    shuffled = colours(256, 2)
    split = shuffled.splits["test"]
    other = Split("test", split.items, 3 - split.labels)
    source = Source("other", NAMES[::-1], {"test": other})
    found = diagnose(model, source)["class order"]
    assert found.severity == "look"


# Batch normalization


@pytest.mark.parametrize("about", [{"classes": NAMES}, {"classes": ("a", "b", "c", "d")}])
def test_statistics_far_from_the_data(model, about):
    last = layer_statistics.batch_norms(model)[-1]
    last.moving_mean.assign(last.moving_mean + 5 * np.sqrt(last.moving_variance))
    first = layer_statistics.batch_norms(model)[0]
    spread = first.moving_variance * 9.0
    first.moving_variance.assign(spread)
    before = [np.array(weight) for weight in model.get_weights()]
    found = diagnose(model, about=about)["batch-norm statistics"]
    assert found.severity == ("wrong" if about["classes"] == NAMES else "look")
    assert "--batch-norm" in found.do
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_untrained_statistics():
    assert "initial values" in diagnose(network())["batch-norm statistics"].what


def test_moments_match_the_inputs_of_layers(model):
    split = colours(70, 3).splits["test"]
    images = np.stack(split.items)
    seen, outputs = layer_statistics.batch_norm_moments(model, images, batch_size=32)
    for norm, found in seen.items():
        inner = keras.Model(model.input, norm.input)
        x = np.asarray(inner(images.astype("float32"), training=False), "float64")
        np.testing.assert_allclose(found.mean, x.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.variance, x.var((0, 1, 2)), rtol=1e-3, atol=1e-4)
    own = np.asarray(model(images.astype("float32"), training=False))
    np.testing.assert_allclose(outputs, own, atol=1e-4)
    assert all("call" not in vars(layer) for layer in graphs.leaf_layers(model))


def test_bhattacharyya_distance_matches_the_integral():
    """Against the integral of the root of the product of the densities."""
    norm = keras.layers.BatchNormalization(epsilon=0.0)
    norm.build((None, 1))
    norm.moving_mean.assign([1.0])
    norm.moving_variance.assign([4.0])
    x = np.linspace(-40, 40, 200_001)

    def density(mean, variance):
        return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    overlap = np.sqrt(density(1, 4) * density(-2, 0.5)).sum() * (x[1] - x[0])
    seen = layer_statistics.Moments(np.array([-2.0]), np.array([0.5]))
    assert layer_statistics.bhattacharyya_distance(norm, seen) == pytest.approx(
        -np.log(overlap), rel=1e-4
    )


# trainable


def compiled_and_fitted(model):
    model.compile("adam", "mse", jit_compile=False)
    model.fit(np.zeros((4, 16, 16, 3)), np.zeros((4, 4)), verbose=0)
    return model


@pytest.mark.check
def test_trainable_set_before_compile_is_no_finding(model, tmp_path):
    model.layers[2].trainable = False
    compiled_and_fitted(model)
    assert list(trainable_check.check_trainable(model)) == []
    model.save(tmp_path / "model.keras")
    loaded, _ = model_files.load(tmp_path / "model.keras")
    assert list(trainable_check.check_trainable(loaded, tmp_path / "model.keras")) == []


def test_trainable_changed_after_compile(model):
    model.compile("adam", "mse")
    model.get_layer("logits").trainable = False
    (found,) = trainable_check.check_trainable(model)
    assert found.severity == "wrong"
    assert "frozen: logits" in found.what


@pytest.mark.check
def test_trainable_changed_after_compile_without_the_record_of_keras(model):
    model.get_layer("one_conv").trainable = False
    compiled_and_fitted(model)
    model.get_layer("one_conv").trainable = True
    model._compiled_trainable_state = {layer: layer.trainable for layer in model._flatten_layers()}
    (found,) = trainable_check.check_trainable(model)
    assert "1 of them unknown" in found.what


@pytest.mark.check
def test_trainable_changed_after_compile_in_a_file(model, tmp_path, capsys):
    model.get_layer("one_conv").trainable = False
    compiled_and_fitted(model)
    model.get_layer("one_conv").trainable = True
    model.save(tmp_path / "model.keras")
    loaded, _ = model_files.load(tmp_path / "model.keras")
    (found,) = trainable_check.check_trainable(loaded, tmp_path / "model.keras")
    assert "it was built for other weights" in found.what


def test_file_without_optimiser_is_skipped(model, tmp_path):
    model_files.save(model, tmp_path / "model.keras", {})
    with pytest.raises(doctor.CheckSkipped, match="contains no optimizer"):
        list(
            trainable_check.check_trainable(
                model_files.load(tmp_path / "model.keras")[0], tmp_path / "model.keras"
            )
        )


# Data set checks


def photo(seed, size=(64, 48)):
    """A random smooth image, unlike any other."""
    random = np.random.default_rng(seed)
    rough = Image.fromarray(random.integers(0, 256, (6, 8, 3), "uint8"))
    return rough.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Splits of two classes, twenty and ten images each."""
    seed = 0
    for split, count in (("train", 20), ("test", 10)):
        for label in ("cat", "dog"):
            place = tmp_path / "data" / split / label
            place.mkdir(parents=True)
            for _ in range(count):
                photo(seed).save(place / f"{seed}.png")
                seed += 1
    return tmp_path / "data"


def check_dataset(folder, check):
    source = sources.load(folder)
    survey = dataset_checks.survey(source, list(source.splits.values()))
    return {finding.name: finding for finding in check(survey)}


CHECKS = list(doctor.DATASET_CHECKS.values())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_healthy_data_set_has_no_findings(folder, check):
    assert check_dataset(folder, check) == {}


def test_reencoded_and_resized_duplicates_are_found(folder):
    kept = sorted((folder / "train" / "cat").iterdir())
    Image.open(kept[0]).save(folder / "test" / "cat" / "a.jpg", quality=60)
    Image.open(kept[1]).resize((150, 130)).save(folder / "test" / "cat" / "b.webp")
    (folder / "test" / "cat" / "c.png").write_bytes(kept[2].read_bytes())
    found = check_dataset(folder, dataset_checks.leaked_duplicates)["leaked duplicates"]
    assert found.severity == "wrong"
    assert "3 of 23 images of test are copies of ones in train" in found.what
    assert "a.jpg" in found.what


def test_copies_with_different_labels(folder):
    one = sorted((folder / "train" / "cat").iterdir())[0]
    Image.open(one).save(folder / "train" / "dog" / "a.jpg", quality=80)
    found = check_dataset(folder, dataset_checks.conflicting_labels)["copies with different labels"]
    assert found.what.startswith("1 pair of copies")


def test_near_constant_images_but_not_fine_noise(folder):
    noise = np.random.default_rng(0).integers(100, 130, (256, 256, 3), "uint8")
    Image.fromarray(noise).save(folder / "train" / "cat" / "noise.png")
    assert check_dataset(folder, dataset_checks.near_constant) == {}
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "train" / "cat" / "black.png")
    found = check_dataset(folder, dataset_checks.near_constant)["near-constant images"]
    assert found.what.startswith("1 image of 62")
    assert "black.png" in found.what


def test_unreadable_images(folder):
    whole = (folder / "train" / "cat" / "0.png").read_bytes()
    (folder / "train" / "cat" / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "dog" / "page.jpg").write_text("<html>")
    found = check_dataset(folder, dataset_checks.unreadable)["unreadable images"]
    assert found.what.startswith("2 files of 62")
    assert "half.png (truncated)" in found.what


def test_class_imbalance_and_small_classes(folder):
    for path in sorted((folder / "train" / "dog").iterdir())[2:]:
        path.unlink()
    found = check_dataset(folder, dataset_checks.class_imbalance)
    assert "--class-weight balanced" in found["class imbalance"].do
    assert "cat has 20 training images, dog 2: 10 to 1" in found["class imbalance"].what
    assert "dog (2)" in found["small classes"].what


def test_small_images(folder):
    source = sources.load(folder)
    survey = dataset_checks.survey(source, list(source.splits.values()))
    assert list(dataset_checks.small_images(survey, 96)) == []
    (found,) = dataset_checks.small_images(survey, 224)
    assert "48 pixels or less" in found.what


def test_constant_images_are_copies_only_if_equal(tmp_path):
    for label in range(2):
        place = tmp_path / f"class{label}"
        place.mkdir()
        for step in range(10):
            level = 8 + 5 * (10 * label + step)
            Image.fromarray(np.full((32, 32, 3), level, "uint8")).save(place / f"{level}.png")
    source = sources.load(tmp_path)
    survey = dataset_checks.survey(source, list(source.splits.values()))
    assert survey.copies.shape == (0, 2)
    (found,) = dataset_checks.near_constant(survey)
    assert found.what.startswith("20 images of 20")
    assert list(dataset_checks.conflicting_labels(survey)) == []


# Near-duplicates


def test_dhash_matches_a_slow_formula():
    grey = np.random.default_rng(0).integers(0, 256, (3, 32, 32), "uint8")
    across, down = near_duplicates.dhash(grey)
    for place, picture in enumerate(grey):
        fine = np.kron(picture.astype(float), np.ones((9, 9)))  # 288 = 9 * 32
        wide = fine.reshape(8, 36, 9, 32).mean((1, 3))
        tall = fine.reshape(9, 32, 8, 36).mean((1, 3))
        for code, bits in ((across, wide[:, 1:] - wide[:, :-1]), (down, tall[1:] - tall[:-1])):
            own = np.unpackbits(code[place : place + 1].view("uint8"))
            np.testing.assert_array_equal(own, bits.ravel() > near_duplicates.DHASH_MARGIN)


@pytest.mark.parametrize("looked_up", [0, 1e9])  # through bands; by a plain scan
def test_all_near_hashes_are_found(looked_up, monkeypatch):
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**63, 300, "uint64")
    for place in range(100):  # near codes, of one bit to three
        flips = random.choice(64, 1 + place % 3, replace=False)
        codes[200 + place] = codes[place] ^ np.bitwise_or.reduce(
            np.left_shift(np.uint64(1), flips.astype("uint64"))
        )
    monkeypatch.setattr(near_duplicates, "BAND_LOOKUP_COST", looked_up)
    found = np.concatenate(list(near_duplicates._near_hash_pairs(codes)))
    slow = {
        (one, two)
        for one in range(300)
        for two in range(one + 1, 300)
        if bin(int(codes[one] ^ codes[two])).count("1") <= 3
    }
    assert slow <= {tuple(sorted(map(int, pair))) for pair in found}
    assert len(slow) >= 100


def test_reencoded_fashion_mnist_images_are_found_without_false_pairs():
    items = sources.load("fashion_sample").splits["test"].items
    anew = []
    for pixels in items[:200]:
        picture = Image.fromarray(pixels).resize((56, 56), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=75)
        anew.append(file.getvalue())
    labels = np.zeros(len(items) + 200, "int64")
    split = Split("all", [*items, *anew], labels)
    survey = dataset_checks.survey(Source("x", ("a",), {"all": split}), [split])
    found = {tuple(pair) for pair in survey.copies.tolist()}
    true = {(place, len(items) + place) for place in range(200)}
    assert len(found & true) >= 190
    assert len(found - true) <= 4


# The command


def test_command_prints_findings_and_exits_with_1(folder, model, tmp_path, capsys):
    one = sorted((folder / "train" / "cat").iterdir())[0]
    Image.open(one).save(folder / "test" / "cat" / "a.jpg")
    for split, label in (("train", "cat"), ("test", "dog")):
        for seed in range(30):
            photo(1000 + seed, (40, 40)).rotate(90 * (label == "dog")).save(
                folder / split / label / f"more{seed}.png"
            )
    path = tmp_path / "model.keras"
    model_files.save(model, path, {"classes": ["cat", "dog", "emu", "fox"]})
    assert main(["doctor", str(path), str(folder)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("wrong  leaked duplicates: 1 of ")
    assert any(line.startswith("       -> delete the copies") for line in out)
    assert any(line.startswith("nothing found in: ") for line in out)


def test_all_unreadable_files_are_listed_with_all(folder):
    for number in range(32):
        (folder / "train" / "cat" / f"bad{number:02}.jpg").write_text("<html>")
    (found,) = check_dataset(folder, dataset_checks.unreadable).values()
    assert found.what.endswith("and 29 more")
    assert len(found.names) == 32
    assert all(f"bad{n:02}.jpg (not an image" in found.names[n] for n in range(32))
    examined = doctor.DiagnosticReport((found,), (), ())
    short, whole = (command._format_report(examined, every).splitlines() for every in (False, True))
    assert whole[: len(short)] == short
    assert whole[len(short) :] == [f"{'':<9} {name}" for name in found.names]
    assert list(command._to_dict(examined)["findings"][0]["names"]) == list(found.names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet20", "fashion_sample"], "has random weights"),
        (["resnet20.cifar10"], "pass a data set"),
        (["nowhere.keras", "fashion_sample"], "no model file"),
        (["resnet20.cifar10", "fashion_sampel"], "did you mean fashion_sample"),
        (["resnet20.cifar10", "fashion_sample", "--images", "3"], "--images must be 40 or more"),
    ],
)
def test_errors_are_one_line(words, message, capsys):
    assert main(["doctor", *words]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("zoo: ")
    assert message in error


def test_model_without_image_input_is_rejected():
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)])
    with pytest.raises(UsageError, match="not images"):
        diagnose(model)


def test_model_with_several_outputs_is_rejected():
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    heads = {name: keras.layers.Dense(2, name=name)(pooled) for name in ("boxes", "scores")}
    with pytest.raises(UsageError, match=r"several outputs \(boxes, scores\); zoo doctor"):
        diagnose(keras.Model(image, heads))


def test_run_without_images_is_rejected(tmp_path):
    task = tasks.get("dqn")()
    model_files.save(zoo.build("lenet5", num_classes=2), tmp_path / resume.MODEL, {})
    recipes.write_recipe(tmp_path, task)
    with pytest.raises(UsageError, match="is a run of dqn, which has no images to check"):
        doctor.diagnose(tmp_path)


def test_the_report_has_lines_of_at_most_80_columns():
    finding = doctor.Finding("small classes", "look", "9 classes have few images; " * 9, "merge")
    reason = "images are too few; " * 9
    report = doctor.DiagnosticReport((finding,), ("class order",) * 20, (("shortcut", reason),))
    lines = command._format_report(report, all_names=False).splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(line.strip() for line in lines)
    assert finding.what in text
    assert f"not checked: shortcut ({reason})" in text
