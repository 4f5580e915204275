"""TIFF pages, DICOM frames and NIfTI slices: chosen, or refused, but never silently the first."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.__main__ import main as zoo
from tasks.data import image_io, image_stats, nifti, pages, sources, splits, tiff
from tasks.deploy import predict
from tasks.segmentation import dataset as segmentation_dataset
from tests.tasks.data.test_more_formats import made_dicom
from zoo.errors import UsageError

COUNT = 3


def stack(seed, dtype="uint8", count=COUNT):
    """Returns random pages `(count, 20, 24)`."""
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 1
    return (np.random.default_rng(seed).random((count, 20, 24)) * top).astype(dtype)


def write_tiff(path, values):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path, values, photometric="minisblack", compression="zlib")


def write_dicom(path, values):
    made = made_dicom(values.reshape(-1, values.shape[-1]), bits=8, NumberOfFrames=str(len(values)),
                      Rows=values.shape[1])  # fmt: skip
    path.write_bytes(made)


def write_nifti(path, values, slope=1.0):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4))
    image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)


WRITERS = {"a.tif": write_tiff, "a.dcm": write_dicom, "a.nii": write_nifti, "a.nii.gz": write_nifti}


@pytest.mark.parametrize("name", WRITERS)
def test_pages_are_read_value_by_value_or_refused(name, tmp_path):
    path, values = tmp_path / name, stack(0)
    WRITERS[name](path, values)
    assert not image_io.rejection_reason(path)
    for number, page in enumerate(values, 1):
        item = f"{path}#page={number}"
        np.testing.assert_array_equal(image_io.read_image(item, (None, None, 1))[..., 0], page)
        assert image_io.image_size(item) == (20, 24)
    with pytest.raises(
        image_io.UnreadableImage,
        match=f"of {COUNT} .*name one as FILE#page=1, or choose by --pages all.*DATASET#pages=all",
    ):
        image_io.read_image(str(path))
    for wrong in (0, COUNT + 1):
        with pytest.raises(image_io.UnreadableImage, match=f"it has no page {wrong}, but {COUNT}"):
            image_io.read_image(f"{path}#page={wrong}")
    with pytest.raises(image_io.UnreadableImage, match="no such file"):
        image_io.read_image(f"{tmp_path / 'b'}{name[1:]}#page=1")
    path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 3])
    with pytest.raises(image_io.UnreadableImage):
        image_io.read_image(f"{path}#page={COUNT}")


def test_the_directory_of_a_stack_is_parsed_once(tmp_path, monkeypatch):
    path, parse, calls = tmp_path / "a.tif", tiff._pages, []
    write_tiff(path, stack(0))
    monkeypatch.setattr(tiff, "_pages", lambda file: calls.append(file) or parse(file))
    for number in range(1, COUNT + 1):
        pages.read_bytes(f"{path}#page={number}")
    assert len(calls) == 1
    write_tiff(path, stack(0, count=COUNT + 1))
    pages.read_bytes(f"{path}#page={COUNT + 1}")
    assert len(calls) == 2


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_pages_of_more_than_8_bits(dtype, tmp_path):
    path, values = tmp_path / "a.tif", stack(1, dtype)
    write_tiff(path, values)
    found = image_io.read_image(f"{path}#page=2", (None, None, 1))[..., 0]
    top = 1 if dtype == "float32" else 65535
    np.testing.assert_array_equal(found, np.rint(255 * (values[1].astype("float64") / top)))


def test_slices_of_a_volume_are_rescaled(tmp_path):
    path, values = tmp_path / "a.nii.gz", stack(2, "int16")
    write_nifti(path, values, slope=0.5)
    found = image_io.read_image(f"{path}#page=3", (None, None, 1), bits=(0.0, 16383.5))[..., 0]
    np.testing.assert_array_equal(found, np.rint(255 * (values[2] / 32767)))
    write_nifti(tmp_path / "one.nii", stack(3, count=1))
    single = image_io.read_image(str(tmp_path / "one.nii"), (None, None, 1))[..., 0]
    np.testing.assert_array_equal(single, stack(3, count=1)[0])


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    write_nifti(tmp_path / "a.nii", stack(0))

    class Missing:
        def __getattr__(self, name):
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(nifti, "nibabel", Missing())
    with pytest.raises(image_io.UnreadableImage, match=r"nibabel.*keras-zoo\[medical\]"):
        image_io.read_image(f"{tmp_path / 'a.nii'}#page=1")


@pytest.fixture
def stacks(tmp_path):
    """A folder of two classes of stacks, one of them of a single page."""
    for number in range(16):
        folder = tmp_path / "stacks" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_tiff(folder / f"{number}.tif", stack(number, count=1 if number == 15 else COUNT))
    return tmp_path / "stacks"


def test_pages_of_a_data_set(stacks):
    source = sources.load(f"{stacks}#pages=all")
    part = source.splits["all"]
    assert len(part) == 15 * COUNT + 1
    for item, label in zip(part.items, part.labels, strict=True):
        number = int(pages.file_of(item).stem)
        assert label == number % 2
        expected = stack(number, count=1 if number == 15 else COUNT)[(pages.page_of(item) or 1) - 1]
        np.testing.assert_array_equal(image_io.read_image(item, (None, None, 1))[..., 0], expected)
    first, third = (sources.load(f"{stacks}#pages={text}") for text in ("first", "3"))
    assert {pages.page_of(item) for item in first.splits["all"].items} == {1, None}
    assert len(third.splits["all"]) == 15
    assert third.skipped == ((str(stacks / "b" / "15.tif"), "it has no page 3"),)
    with pytest.raises(UsageError, match=r"no file of all in .* has a page 9; they have at most 3"):
        sources.load(f"{stacks}#pages=9")
    with pytest.raises(UsageError, match="--pages takes all, first or the number"):
        sources.load(f"{stacks}#pages=last")


@pytest.mark.parametrize("load", [sources.load, segmentation_dataset.load])
@pytest.mark.parametrize("option", ["page=2", "min-per-clas=3", "path=file"])
def test_options_that_a_data_set_cannot_have_are_refused(load, option, stacks):
    (stacks / "images").mkdir()
    (stacks / "masks").mkdir()
    with pytest.raises(
        UsageError, match=f"#.*'{option}' is not an option of this data set; a folder"
    ):
        load(f"{stacks}#pages=all,{option}")
    with pytest.raises(UsageError, match="'pages' is not an option"):
        sources.load("fashion_sample#pages=all")


def test_pages_of_a_file_are_not_divided_between_splits(stacks):
    source = sources.load(f"{stacks}#pages=all")
    for test in ("", "fold[1/3]"):
        parts = splits.train_val_test_split(source, test=test)
        files = [{pages.file_of(item) for item in part.items} for part in parts]
        assert sum(map(len, files)) == len(set.union(*files)) == 16
    stats = image_stats.with_stats(source.splits["all"]).image_stats
    assert len(set(stats.digests)) == len(source.splits["all"])


def test_tables_name_pages(tmp_path):
    write_tiff(tmp_path / "s.tif", stack(0))
    (tmp_path / "t.csv").write_text("path,label\ns.tif#page=1,a\ns.tif#page=3,b\n")
    items = sources.load(tmp_path / "t.csv").splits["all"].items
    for item, page in zip(items, stack(0)[[0, 2]], strict=True):
        np.testing.assert_array_equal(image_io.read_image(item, (None, None, 1))[..., 0], page)
    assert predict.find_images([f"{tmp_path}/s.tif#page=2"])
    with pytest.raises(UsageError, match="does not exist"):
        predict.find_images([f"{tmp_path}/t.tif#page=2"])


def test_masks_of_pages(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(4):
        write_tiff(tmp_path / "images" / f"{number}.tif", stack(number))
        write_tiff(tmp_path / "masks" / f"{number}.tif", (stack(number) > 99).astype("uint8"))
    source = segmentation_dataset.load(f"{tmp_path}#pages=all")
    part = source.splits["all"]
    assert len(part) == 4 * COUNT
    assert source.classes == ("background", "object")
    for item, mask in zip(part.items, part.labels, strict=True):
        image = image_io.read_image(item, (None, None, 1))[..., 0]
        np.testing.assert_array_equal(mask.read(), image > 99)
    write_tiff(tmp_path / "masks" / "0.tif", np.ones((2, 20, 24), "uint8"))
    with pytest.raises(UsageError, match=r"has 3 pages all, .*2"):
        segmentation_dataset.load(f"{tmp_path}#pages=all")


@pytest.mark.check
def test_pages_on_the_command_line(stacks, tmp_path, capsys):
    words = ["finetune", "lenet5", str(stacks), "--epochs", "1", "--out", str(tmp_path / "run")]
    assert zoo(words) == 1
    assert "name one as FILE#page=1, or choose by --pages all" in capsys.readouterr().err
    assert zoo([*words, "--pages", "all"]) == 0
    assert zoo(["evaluate", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert zoo(["predict", str(tmp_path / "run"), f"{stacks}/a/0.tif#page=2"]) == 0
    assert "0.tif#page=2" in capsys.readouterr().out


def test_a_volume_that_claims_more_than_it_stores_is_refused(tmp_path):
    write_nifti(tmp_path / "a.nii", stack(0))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[42:48] = (30_000).to_bytes(2, "little") * 3
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(image_io.UnreadableImage, match="a NIfTI slice that claims 900,000,000"):
        image_io.read_image(f"{tmp_path / 'a.nii'}#page=2")
