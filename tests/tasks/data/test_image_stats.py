"""Statistics of the images of a split: near duplicates, bit depth, animations."""

from __future__ import annotations

import dataclasses
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from tasks.advice import doctor
from tasks.captioning import dataset as captioning_dataset
from tasks.data import (
    data_splits,
    decoding,
    image_io,
    image_stats,
    near_duplicates,
    sources,
    splits,
    value_range,
)
from tasks.data.dataset import Split
from tasks.deploy import model_loader, predict
from tasks.detection import dataset as detection_dataset
from tasks.engine import recipes, resume
from tasks.inference.predictor import Predictor
from tasks.segmentation import dataset as segmentation_dataset
from zoo import model_files
from zoo.atomic_files import write_text
from zoo.errors import UsageError

QUALITIES = (60, 80, 95)


def photo(seed, size=(48, 40)):
    """Returns an image with large and small shapes, different for each seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), "uint8")
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def with_duplicates(root, count=20, classes=("cat", "dog")):
    """Writes images into class folders, each as PNG and as JPEG of three qualities."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture = photo(1000 * label + number)
            picture.save(root / name / f"{number}.png")
            for quality in QUALITIES:
                picture.save(root / name / f"{number}-{quality}.jpg", quality=quality)
    return sources.load(root)


def images_of(split):
    """Returns the images of a split, by class and number."""
    paths = [image_io.Path(item) for item in split.items]
    return {(path.parent.name, path.stem.partition("-")[0]) for path in paths}


def test_near_duplicates_stay_in_one_split(tmp_path):
    source = with_duplicates(tmp_path)
    parts = splits.train_val_test_split(source)
    shown = [images_of(part) for part in parts]
    assert sum(map(len, parts)) == 160
    assert sum(map(len, shown)) == len(set.union(*shown)) == 40
    for part in parts:
        assert set(part.labels) == {0, 1}
    again = splits.train_val_test_split(sources.load(tmp_path))
    assert [list(part.items) for part in again] == [list(part.items) for part in parts]
    assert len(data_splits.load(source, ("", "", ""), (32, 32, 3), "stretch").copies) == 0


def test_flat_images_are_split_by_their_content(tmp_path):
    for label in range(2):
        (tmp_path / str(label)).mkdir()
        for step in range(40):
            pixels = np.full((32, 32, 3), 8 + 3 * (2 * step + label) // 2 * 2, "uint8")
            pixels[0, 0] = step
            Image.fromarray(pixels).save(tmp_path / str(label) / f"{step}.png")
    parts = splits.train_val_test_split(sources.load(tmp_path))
    keys = [set(map(splits.content_digest, part.items)) for part in parts]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 80
    assert all(len(part) >= 2 for part in parts)


def test_duplicates_of_a_single_image_are_split_by_content(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for quality in range(50, 80):
            photo(7).save(tmp_path / label / f"{quality}.jpg", quality=quality)
    source = sources.load(tmp_path)
    data = data_splits.load(source, ("", "", ""), (16, 16, 3), "stretch")
    assert all(len(part) for part in data.parts)
    assert len(data.copies) == len(data.test)  # and all are reported


def with_test_split(root):
    """Writes splits of ten images per class; train has two of the test images as JPEG and WebP."""
    for split, start in (("train", 0), ("test", 10)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(start, start + 10):
                photo(100 * label + number).save(root / split / name / f"{number}.png")
    photo(10).save(root / "train" / "cat" / "a.jpg", quality=60)
    photo(111).resize((150, 130)).save(root / "train" / "dog" / "b.webp", quality=95)
    return sources.load(root)


def test_duplicates_in_a_test_split_are_reported(tmp_path):
    source = with_test_split(tmp_path)
    (tmp_path / "test" / "cat" / "12.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken" + bytes(30))
    data = data_splits.load(source, ("", "none", ""), (32, 32, 3), "stretch")
    names = sorted(data.test.title(index) for index in data.copies)
    assert names == ["cat/10.png", "dog/11.png"]
    (line, named), (skipped, _) = data.warnings()
    assert line == "test images that are near duplicates of training images: 2 of 19"
    assert sorted(named) == names
    assert skipped.startswith("skipped 1 file: 1 ")
    assert data.notes() == [line, skipped]


def test_all_duplicates_of_one_file_in_a_test_split_are_counted():
    flat, other = np.full((32, 32, 3), 7, "uint8"), np.asarray(photo(1, (32, 32)))
    train, test = (
        image_stats.with_stats(Split("all", items, np.zeros(len(items), "int64")))
        for items in ([flat, other, flat], [flat, flat, np.asarray(photo(2, (32, 32))), flat])
    )
    assert image_stats.test_copies(train, test).tolist() == [0, 1, 3]


def test_video_frames_are_one_group_without_comparing_all_pairs(monkeypatch):
    rng, scene = np.random.default_rng(0), np.asarray(photo(3, (32, 32)).convert("L"))
    grey = (scene + rng.normal(0, 1, (200, 32, 32))).clip(0, 255).astype("uint8")
    digests = [bytes([place]) for place in range(200)]
    none = np.zeros(200)
    colours, ranges = np.zeros((200, 3)), np.full((200, 2), np.nan)
    frames = image_stats.ImageStats(digests, grey, colours, ranges, none, none)
    monkeypatch.setattr(near_duplicates, "PAIR_CHUNK", 1000)
    assert len(near_duplicates.duplicate_pairs(grey, frames.colours, digests)) > 15_000
    found, some_pairs = [], near_duplicates.iter_duplicate_pairs

    def counted(*args):
        for pairs in some_pairs(*args):
            found.extend(pairs)
            yield pairs

    monkeypatch.setattr(near_duplicates, "iter_duplicate_pairs", counted)
    assert set(image_stats.duplicate_groups(frames)) == {digests[0]}
    assert len(found) < 2_500


def test_arrays_and_files_have_the_same_duplicate_groups(tmp_path):
    pictures = [photo(seed, (32, 32)) for seed in range(12)]
    pixels = [np.asarray(picture) for picture in pictures] * 2
    for number in range(12, 24):
        pixels[number] = np.clip(pixels[number].astype(int) + 3, 0, 255).astype("uint8")
    for form in (pixels, [_png(item) for item in pixels]):
        keys = image_stats.duplicate_groups(
            image_stats.with_stats(Split("all", form, np.zeros(24, "int64"))).image_stats
        )
        assert [keys.index(key) for key in keys] == [*range(12), *range(12)]


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def deep_images(root, top, count=12):
    """Writes 16-bit gray images of two classes with values up to `top`, and one `.npy` file."""
    for label in "ab":
        (root / label).mkdir(parents=True)
        for number in range(count):
            rough = np.random.default_rng([number, ord(label)]).random((8, 8)).astype("float32")
            picture = Image.fromarray(rough).resize((24, 24), Image.Resampling.NEAREST)
            values = (np.asarray(picture) * top).astype("uint16")
            values[0, 0] = top
            Image.fromarray(values).save(root / label / f"{number}.png")
    np.save(root / "a" / "x.npy", values)
    return sources.load(root)


@pytest.mark.parametrize(
    ("top", "bits"), [(300, 10), (1023, 10), (1024, 12), (4095, 12), (16383, 14), (16384, 16)]
)
def test_bit_depth_is_detected_and_scaled_to_8_bits(tmp_path, top, bits):
    source = deep_images(tmp_path, top)
    data = data_splits.load(source, ("", "", ""), (24, 24, 1), "stretch")
    assert data.findings.bits == bits
    brightest = round(255 * top / (2**bits - 1))
    assert {int(part.pixels.max()) for part in data.parts} == {brightest}
    assert len(np.unique(data.train.pixels)) > 60
    assert len(data.findings.notes) == (bits < 16)
    if bits == 12:
        assert data.findings.notes[0].startswith(
            "16-bit images that use 12 bits (25): 0 to 4,095 is"
        )
    stated = data_splits.load(source, ("", "", ""), (24, 24, 1), "stretch", 16)
    assert stated.findings.bits == 16
    assert stated.train.pixels.max() == round(top / 257)


LOADERS = {
    "segmentation": (segmentation_dataset.load, segmentation_dataset.prepare),
    "detection": (detection_dataset.load, detection_dataset.prepare),
    "captioning": (captioning_dataset.load, captioning_dataset.prepare),
}


@pytest.mark.parametrize("task", LOADERS)
def test_bit_depth_is_detected_in_images_with_other_annotations(task, tmp_path):
    deep_images(tmp_path, 4095)
    images = [{"id": n, "file_name": f"{n}.png", "height": 24, "width": 24} for n in range(12)]
    box = {"bbox": [2, 2, 9, 9], "segmentation": [[2, 2, 11, 2, 11, 11]], "caption": "a cat"}
    rows = [{"id": n, "image_id": n, "category_id": 1, **box} for n in range(12)]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    path = tmp_path / "a" / "captions.json"
    path.write_text(json.dumps(content))
    load, prepare = LOADERS[task]
    data = prepare(load(str(path)), ("", "", ""), (24, 24, 1), "stretch")
    assert data.findings.bits == 12
    assert {int(part.pixels.max()) for part in data.parts} == {255}
    (note,) = [note for note in data.notes() if "16-bit images that use 12 bits (12)" in note]
    assert note in [line for line, _ in data.warnings()]


def test_images_of_8_bits_have_no_note(tmp_path):
    data = data_splits.load(with_duplicates(tmp_path, 6), ("", "", ""), (8, 8, 3), "stretch")
    assert (data.findings.bits, data.findings.notes) == (16, ())
    with pytest.raises(UsageError, match="--image-bits takes 0, or 8 to 16, not 17"):
        data_splits.load(data.source, ("", "", ""), (8, 8, 3), "stretch", 17)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [((0.0, 100.0), 1), (value_range.PERCENTILE, 1), (12, 1), (16, 0), (0, 0)],
)
def test_a_scale_without_effect_is_noted(bits, expected):
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), "uint8")
    parts = [Split(name, images, np.arange(6) % 2) for name in ("train", "test")]
    _, findings = image_stats.inspect_splits(parts, bits)
    assert [*findings.notes] == [value_range.NO_EFFECT] * expected


def test_lazy_images_keep_the_bit_depth(tmp_path):
    source = deep_images(tmp_path, 4095)
    (part,), _ = image_stats.inspect_splits([source.splits["all"]])
    assert part.bits == part.take([1, 0]).bits == part.labelled(part.labels).bits == 12
    again = decoding.decode(part, (24, 24, 1), "stretch", memory=0, disk=0)
    held = decoding.decode(part, (24, 24, 1), "stretch")
    assert isinstance(again.pixels, decoding.LazyImages)
    np.testing.assert_array_equal(again.pixels[np.arange(5)], held.pixels[:5])


def test_animations_are_reported_in_one_note(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(8):
            photo(ord(label) * 10 + number).save(tmp_path / label / f"{number}.png")
    frames = [photo(seed) for seed in (90, 91, 92)]
    for number, kind in enumerate(("gif", "webp", "png")):
        frames[number].save(
            tmp_path / "a" / f"moving.{kind}", save_all=True, append_images=frames[number - 1 :]
        )
    _, seen = image_stats.inspect_splits(splits.train_val_test_split(sources.load(tmp_path)))
    (line,) = seen.notes
    assert line.startswith("animations, of which only the first frame is read (3): ")
    assert line.count("moving.") == 3


def test_doctor_uses_the_bit_depth_of_the_model_file(tmp_path, monkeypatch):
    source = with_duplicates(tmp_path / "images", 2)
    facts = {"classes": list(source.classes), "image_bits": 12}
    path = tmp_path / "x.keras"
    model_files.save(zoo.build("lenet5", num_classes=2, input_shape=(32, 32, 3)), path, facts)
    monkeypatch.setattr(image_stats, "with_stats", lambda split: pytest.fail("computed twice"))
    monkeypatch.setattr(splits, "train_val_test_split", lambda source, *_: [source.splits["all"]])
    monkeypatch.setattr(doctor, "run_checks", lambda *_, parts, **__: parts)
    (part,) = doctor.diagnose(str(path), str(tmp_path / "images"))
    assert part.bits == 12


def test_bit_depth_in_a_model_file_is_validated():
    assert image_stats.stated_bits({}, "a.keras") == 16
    assert image_stats.stated_bits({"image_bits": 12}, "a.keras") == 12
    for wrong in (17, 3, "12", None, True, [12], [1, 1], [0, True], [0, 1e999]):
        with pytest.raises(UsageError, match=r"a\.keras has image_bits"):
            image_stats.stated_bits({"image_bits": wrong}, "a.keras")


def test_predict_uses_the_bit_depth_of_the_model_file(tmp_path, monkeypatch):
    deep_images(tmp_path, 4095, 1)
    seen = []

    def predict_images(images, run, options):
        seen.extend(image.pixels for image in images)
        return [{"classes": []} for _ in images]

    class Recorder(Predictor):
        model, name, image_shape, resize = None, "recorder", (24, 24, 1), "stretch"
        text_lines = csv_rows = None

        def prepare(self, images, start):
            return None

        def predict(self, images, run, options):
            return predict_images(images, run, options)

    predictor = Recorder()
    about = {"task": "classification", "image_bits": 12}
    monkeypatch.setattr(model_loader.model_files, "load", lambda path: (None, about))
    found = SimpleNamespace(from_file=lambda *arguments: predictor)
    monkeypatch.setattr(tasks.get("classification"), "predictor", found)
    path = tmp_path / "a" / "0.png"
    opened = model_loader.load_predictor(path)
    assert opened.bits == 12
    list(predict.predict_files(opened, [path]))
    assert seen[0].max() == 255


def test_a_recipe_stores_the_detected_bit_depth(tmp_path):
    import tasks

    task = tasks.get("classification")(epochs=1)
    out = tmp_path / "run"
    resume.claim_folder(out, task)
    recipes.write_recipe(out, task, resolved={"precision": "float32", "image_bits": 12})
    read = recipes.read_recipe(out / recipes.RECIPE)
    again = recipes.task_from_recipe(read)
    assert again.image_bits == 12
    other = recipes.task_from_recipe(recipes.without_resolved(read, recipes.DATA_DEPENDENT_FLAGS))
    assert (other.image_bits, other.precision) == (0, "float32")
    write_text(out / resume.REPORT, "{}")
    resume.claim_folder(out, task)  # the same command goes on
    resume.claim_folder(out, again)  # and so does the recipe
    with pytest.raises(UsageError, match="image_bits: 0 there, 14 requested"):
        resume.claim_folder(out, dataclasses.replace(task, image_bits=14))


def test_large_data_sets_are_not_searched_for_near_duplicates(tmp_path, monkeypatch):
    monkeypatch.setattr(image_stats, "MAX_COMPARED_IMAGES", 20)
    source = deep_images(tmp_path, 4095)
    (part,), seen = image_stats.inspect_splits([source.splits["all"]])
    assert len(part) > image_stats.MAX_COMPARED_IMAGES
    assert not part.image_stats.grey.any()
    assert (part.bits, seen.bits) == (12, 12)
    assert len(set(image_stats.duplicate_groups(part.image_stats))) == len(
        set(part.image_stats.digests)
    )
