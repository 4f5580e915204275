"""The values of images of more than 8 bits and of floating-point numbers that become 0 and 255."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

import tasks
from tasks.advice import dataset_checks
from tasks.data import data_splits, image_io, image_stats, sources, value_range
from tasks.engine import recipes
from zoo.errors import UsageError

NATIVE_GREY = (None, None, 1)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tiff(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF")
    return file.getvalue()


def expected(values, low, high):
    shares = np.clip((values.astype("float64") - low) / (high - low), 0, 1)
    return np.rint(255 * shares)


RAMP = np.linspace(-1000, 3000, 64).reshape(8, 8)
FILES = {
    "float32.tif": tiff(RAMP.astype("float32")),
    "float32.npy": npy(RAMP.astype("float32")),
    "float64.npy": npy(RAMP),
    "int16.npy": npy(RAMP.astype("int16")),
    "int32.tif": tiff(RAMP.astype("int32")),
}


@pytest.mark.parametrize("name", FILES)
def test_values_are_scaled_from_a_range_and_clipped(name):
    stored = RAMP if "float" in name else RAMP.astype("int16")
    for low, high in ((-1000.0, 3000.0), (-160.0, 240.0)):
        found = image_io.read_image(FILES[name], NATIVE_GREY, bits=(low, high))[..., 0]
        assert np.abs(found - expected(stored, low, high)).max() <= ("float32" in name)
        assert {found.min(), found.max()} == {0, 255}
    with pytest.raises(image_io.UnreadableImage, match="values are -1000 to 3000; expected 0 to"):
        image_io.read_image(FILES[name], NATIVE_GREY)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_tiff_of_floating_point_bands_and_of_other_floats(dtype):
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).random((20, 24, 3)).astype(dtype)
    for bands, layout in ((values, "contig"), (values[..., 0], None)):
        file = io.BytesIO()
        tifffile.imwrite(file, bands, photometric="minisblack", planarconfig=layout)
        found = image_io.read_image(file.getvalue(), (None, None, bands.ndim * 2 - 3))
        np.testing.assert_array_equal(found.reshape(bands.shape), expected(bands, 0, 1))


def test_floating_point_numbers_are_in_0_to_1_without_a_range():
    values = np.linspace(0, 1, 64, dtype="float32").reshape(8, 8)
    for data in (tiff(values), npy(values), values):
        found = image_io.read_image(data, NATIVE_GREY)[..., 0]
        np.testing.assert_array_equal(found, expected(values, 0, 1))
    values[3, 4] = np.nan
    with pytest.raises(image_io.UnreadableImage, match="not finite numbers"):
        image_io.read_image(values)
    with pytest.raises(image_io.UnreadableImage, match="expected 0 to 1; train with --scale"):
        image_io.read_image(np.full((8, 8), 3.5, "float32"))
    with pytest.raises(image_io.UnreadableImage, match="truncated"):
        image_io.read_image(FILES["float32.npy"][:-9])


def test_stored_labels_are_not_scaled():
    labels = np.array([[0, 1], [300, 2]], "uint16")
    for dtype in ("uint16", "int64", "float32"):
        np.testing.assert_array_equal(image_io.read_stored(npy(labels.astype(dtype))), labels)
    with pytest.raises(image_io.UnreadableImage, match="not integers"):
        image_io.read_stored(npy(labels + np.float32(0.5)))


@pytest.mark.parametrize(
    ("low", "high", "floats", "bits"),
    [
        (0, 4095, False, 12),
        (0, 65535, False, 16),
        (-1024, 3071, False, (-1024.0, 3071.0)),
        (0, 70000, False, (0.0, 70000.0)),
        (0.2, 0.9, True, (0.0, 1.0)),
        (0, 254.5, True, (0.0, 255.0)),
        (0, 2.5, True, (0.0, 2.5)),
        (-0.123456789, 7, True, (-0.123457, 7.0)),
        (5, 5, True, (5.0, 10.0)),
        (math.nan, math.nan, False, 16),
        (-1e308, 1.7e308, True, 16),
    ],
)
def test_detected_range(low, high, floats, bits):
    assert value_range.detect_bits(low, high, floats) == bits
    if isinstance(bits, tuple):
        assert value_range.parse_scale(value_range.scale_text(bits)) == bits


def test_scale_flag():
    assert value_range.parse_scale("auto") == 0
    assert value_range.parse_scale("dtype") == 16
    assert value_range.parse_scale("-1000..400") == (-1000.0, 400.0)
    for wrong in ("", "12", "1..1", "2..1", "0..inf", "0..1..2", "nan..1", "a..b"):
        with pytest.raises(UsageError, match="--scale takes"):
            value_range.parse_scale(wrong)
    make = tasks.get("classification")
    with pytest.raises(UsageError, match="set the same range"):
        make(image_bits=12, scale="0..1")
    assert make(image_bits=12).bits == 12
    assert make(scale="0..4").bits == (0.0, 4.0)


@pytest.fixture
def float_images(tmp_path):
    """A folder of two classes of float TIFF and `.npy` images from -2 to 6."""
    rng, folder = np.random.default_rng(0), tmp_path / "images"
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for number in range(12):
            values = rng.uniform(-2, 6, (24, 24)).astype("float32")
            values[0, :2] = -2, 6
            data = (tiff if number % 2 else npy)(values)
            path = folder / label / f"{number}.{'tif' if number % 2 else 'npy'}"
            path.write_bytes(data)
    return folder


def load(folder, bits=0):
    return data_splits.load(sources.load(folder), ("", "", ""), (24, 24, 1), "stretch", bits)


def test_range_of_a_data_set_of_floats_is_detected_once(float_images):
    data = load(float_images)
    assert data.findings.bits == (-2.0, 6.0)
    assert {(int(part.pixels.min()), int(part.pixels.max())) for part in data.parts} == {(0, 255)}
    assert data.findings.notes == (
        "images of more than 8 bits (24): -2 to 6 is scaled to 0 to 255, values beyond are "
        "clipped; set --scale to change it",
    )
    stated = load(float_images, (0.0, 4.0)).train.pixels
    assert 0.2 < (stated == 0).mean() < 0.3


def test_percentiles_are_those_of_the_training_images(float_images):
    hot = np.load(float_images / "a" / "0.npy")
    hot[5, 5] = 1e6
    np.save(float_images / "a" / "0.npy", hot)
    split = sources.load(float_images).splits["all"]
    values = [np.asarray(Image.open(x)) if x.endswith("tif") else np.load(x) for x in split.items]
    low, high = value_range.percentile_range(split)
    exact = np.percentile(np.concatenate([x.ravel() for x in values]), value_range.PERCENTILES)
    np.testing.assert_allclose((low, high), exact, rtol=0.02)
    (part,), findings = image_stats.inspect_splits([split], value_range.PERCENTILE)
    assert part.bits == findings.bits == (low, high)


def test_doctor_names_a_narrow_range(float_images):
    source = sources.load(float_images)
    for bits, count in (((-1000.0, 4000.0), 1), ((-2.0, 6.0), 0)):
        part = image_stats.with_bits(source.splits["all"], bits)
        survey = dataset_checks.survey(source, [part])
        assert len([*dataset_checks.narrow_range(survey)]) == count


@pytest.mark.check
def test_run_on_floats_is_read_alike_in_every_command(float_images, tmp_path):
    run = tasks.train("classification", str(float_images), model="lenet5", epochs=1,
                      out=tmp_path / "run", image_size=32, channels=1)  # fmt: skip
    recipe = recipes.read_recipe(run.out / recipes.RECIPE)
    assert recipe["resolved"]["scale"] == "-2..6"
    assert recipes.task_from_recipe(recipe).bits == (-2.0, 6.0)
    again = run.evaluate()
    assert again["accuracy"] == run.figures["accuracy"]
    path = float_images / "a" / "1.tif"
    [row] = run.predict([path], top=2)
    pixels = image_io.read_image(str(path), (32, 32, 1), bits=(-2.0, 6.0))
    logits = np.asarray(run.model(pixels[None]))[0]
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    found = {each["name"]: each["probability"] for each in row["classes"]}
    np.testing.assert_allclose([found["a"], found["b"]], shares, atol=1e-4)
