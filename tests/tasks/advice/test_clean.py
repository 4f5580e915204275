"""`zoo clean`: label errors, near copies, bad images, the page, and corrections."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from scripts.__main__ import main
from tasks.advice import clean, clean_page, corrections, image_quality, label_errors
from tasks.data import sources
from tasks.data.dataset import Split
from zoo.errors import UsageError

cleanlab = pytest.importorskip("cleanlab")
CLASSES = ("bar", "disc", "grid")
EACH = 20
WRONG = {"disc/0-grid.png": "grid", "bar/1-disc.png": "disc"}  # image: its true class

pytestmark = pytest.mark.xdist_group("clean")


def draw(shape, seed):
    """Returns an image of a shape of random place and color on noise."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 40, (32, 32, 3), "uint8")
    image = Image.fromarray(noise)
    x, y = random.integers(2, 10, 2)
    box, colour = (x, y, x + 18, y + 18), tuple(random.integers(150, 256, 3).tolist())
    pen = ImageDraw.Draw(image)
    if shape == "bar":
        pen.rectangle((x, y + 8, x + 20, y + 11), fill=colour)
    elif shape == "disc":
        pen.ellipse(box, fill=colour)
    else:
        for step in range(0, 24, 6):
            pen.line((x - 2 + step, 0, x - 2 + step, 31), fill=colour)
            pen.line((0, y - 2 + step, 31, y - 2 + step), fill=colour)
    return image


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Returns a folder with two wrong labels, a copy in another class and an unreadable file."""
    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(CLASSES):
        (root / name).mkdir()
        for index in range(EACH):
            draw(name, 100 * number + index).save(root / name / f"{index}-{name}.png")
    for image, shape in WRONG.items():
        draw(shape, 900 + len(image)).save(root / image)
    shutil.copy(root / "grid" / "5-grid.png", root / "bar" / "copy-grid.png")
    (root / "grid" / "broken.png").write_bytes((root / "grid" / "5-grid.png").read_bytes()[:90])
    return root


@pytest.fixture(scope="module")
def report(photos, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("home")))
        yield clean.clean(photos)


@pytest.mark.check
def test_wrong_labels_are_the_first_suspects(report, photos):
    found = [error.path for error in report.label_errors]
    wrong = {str(photos / image) for image in (*WRONG, "bar/copy-grid.png")}
    assert wrong <= set(found)
    assert len(found) <= len(wrong) + 2
    for error in report.label_errors:
        assert error.given == error.path.split("/")[-2]
        assert error.suggested != error.given
        assert 0 <= error.score <= 1


@pytest.mark.check
def test_copies_of_different_classes_are_found(report, photos):
    [group] = report.near_copies
    assert set(group) == {str(photos / "grid/5-grid.png"), str(photos / "bar/copy-grid.png")}


@pytest.mark.check
def test_damaged_file_is_unreadable(report, photos):
    assert [path for path, _ in report.unreadable] == [str(photos / "grid/broken.png")]


@pytest.mark.check
def test_json_lists_label_errors(report):
    found = json.loads(json.dumps(report.to_dict()))
    assert set(found["label_errors"][0]) == {"path", "given", "suggested", "score"}
    assert {copy["label"] for copy in found["near_copies"][0]} == {"bar", "grid"}


def test_probabilities_are_out_of_fold():
    # Labels are random, so that a probe that saw its own image would be far better than chance.
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(200, 150)), random.integers(0, 2, 200)
    kept = np.ones(200, bool)
    found = label_errors.out_of_fold_probabilities(features, labels, np.arange(200) % 5, kept)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert 0.35 < np.mean(found.argmax(axis=1) == labels) < 0.65


def test_suspects_of_separated_classes_are_the_swapped_labels():
    random = np.random.default_rng(1)
    truth = np.repeat(np.arange(3), 60)
    features = 4 * random.normal(size=(3, 8))[truth] + random.normal(size=(180, 8))
    labels = truth.copy()
    labels[::20] = (labels[::20] + 1) % 3
    order = random.permutation(180)
    found, _ = label_errors.suspects([features[order]], labels[order], np.arange(180) % 5)
    expected = (labels != truth)[order]
    assert found[expected].all()
    assert found[~expected].sum() <= 2


def issues_of(images):
    items = [np.asarray(image) for image in images]
    return image_quality.quality_issues(
        image_quality.measure(Split("all", items, np.zeros(len(items), "int64")))
    )


def test_bad_images_are_found():
    random = np.random.default_rng(0)
    sharp = [
        Image.fromarray(random.integers(0, 256, (12, 12, 3), "uint8")).resize(
            (96, 96), Image.Resampling.NEAREST
        )
        for _ in range(12)
    ]
    others = [
        sharp[0].filter(ImageFilter.GaussianBlur(5)),
        sharp[1].point(lambda value: value // 10),
        Image.new("RGB", (96, 96), (200, 30, 30)),
        sharp[2].resize((600, 40)),
    ]
    assert issues_of([*sharp, *others]) == {
        "blurred": [12],
        "dark": [13],
        "uniform": [14],
        "odd_size": [15],
    }


def test_neighbour_distance_is_that_of_the_formula():
    features = np.random.default_rng(0).normal(size=(40, 6))
    moved = features - features.mean(axis=0)
    unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    expected = np.sort(distance, axis=1)[:, 1 : 1 + image_quality.NEIGHBOURS].mean(axis=1)
    np.testing.assert_allclose(image_quality.neighbour_distances(features), expected, atol=1e-5)


def test_outlier_is_far_from_all():
    random = np.random.default_rng(0)
    near = np.r_[np.eye(6)[random.integers(0, 3, 80)] + 0.05 * random.normal(size=(80, 6))]
    far = np.eye(6)[4:5]
    assert image_quality.outliers(np.r_[near, far]) == [80]


@pytest.mark.check
def test_page_loads_nothing_and_names_every_suspect(report, tmp_path):
    clean_page.write(tmp_path / "out", report, models="resnet20.cifar10")
    html = (tmp_path / "out" / clean_page.PAGE).read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    for error in report.label_errors:
        assert f'data-path="{error.path}" data-suggested="{error.suggested}"' in html


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
@pytest.mark.check
def test_ticked_images_are_in_the_saved_table(report, tmp_path):
    clean_page.write(tmp_path, report, models="resnet20.cifar10")
    page = tmp_path / clean_page.PAGE
    html = page.read_text(encoding="utf-8")
    # The page's own functions, called as by clicks; the policy admits the script without change
    # only, so that it is removed.
    html = re.sub(r"<meta http-equiv.*?>", "", html, flags=re.S)
    clicks = (
        'document.querySelector(".all").click();'
        'document.body.innerHTML = "<pre>" + table() + "</pre>";'
    )
    page.write_text(html.replace("</body>", f"<script>{clicks}</script></body>"), "utf-8")
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", str(page)]
    dumped = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    rows = list(csv.DictReader(re.search(r"<pre>(.*?)</pre>", dumped, re.S)[1].splitlines()))
    assert [(row["path"], row["action"], row["label"]) for row in rows] == [
        (error.path, "relabel", error.suggested) for error in report.label_errors
    ]


def test_the_reason_why_no_image_can_be_read_is_given(tmp_path):
    pages = [draw("bar", seed) for seed in range(2)]
    for name in ("bar", "disc"):
        (tmp_path / name).mkdir()
        pages[0].save(tmp_path / name / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UsageError, match=r"no image of all can be read; the first: .* of 2 pages"):
        clean.clean(tmp_path)


def test_corrections_make_a_table_and_change_no_file(photos, tmp_path):
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    table = tmp_path / "corrections.csv"
    rows = [(photos / image, "relabel", label) for image, label in WRONG.items()]
    rows += [(photos / "bar" / "copy-grid.png", "remove", "")]
    table.write_text("path,action,label\n" + "".join(f"{','.join(map(str, r))}\n" for r in rows))
    made, counts = corrections.apply(photos, table, tmp_path / "out")
    assert counts == {"relabelled": 2, "removed": 1, "images": 3 * EACH + 3}
    cleaned = sources.load(made)
    split = cleaned.splits["all"]
    labels = dict(zip(split.items, split.labels, strict=True))
    for image, label in WRONG.items():
        assert cleaned.classes[labels[str(photos / image)]] == label
    assert str(photos / "bar" / "copy-grid.png") not in labels
    assert {path: path.read_bytes() for path in photos.rglob("*.png")} == before
    with pytest.raises(UsageError, match="exists"):
        corrections.apply(photos, table, tmp_path / "out")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nowhere.png,remove,", "no image 'nowhere.png'"),
        ("{image},delete,", "action"),
        ("{image},relabel,dics", "did you mean disc"),
    ],
)
def test_corrections_that_do_not_fit_are_refused(row, message, photos, tmp_path):
    table = tmp_path / "corrections.csv"
    image = photos / "bar" / "1-bar.png"
    text = "path,action,label\n" + row.format(image=image) + "\n"
    table.write_text(text.replace(",", ";"))  # as spreadsheets may save it
    with pytest.raises(UsageError, match=message):
        corrections.apply(photos, table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["disc;round", "disc|round", " disc"])
def test_class_names_that_a_table_cannot_hold_are_refused(name, tmp_path):
    """The cleaned table would have other labels, or several per image."""
    for each in (name, "bar"):
        (tmp_path / "photos" / each).mkdir(parents=True)
        draw("bar", 0).save(tmp_path / "photos" / each / "a.png")
    table = tmp_path / "corrections.csv"
    table.write_text("path,action,label\n")
    with pytest.raises(UsageError, match=r"cannot be written to cleaned\.csv: .*rename the class"):
        corrections.apply(tmp_path / "photos", table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.check
def test_images_in_memory_are_written(tmp_path, capsys):
    table = tmp_path / "corrections.csv"
    table.write_text("path,action,label\ntrain 0,relabel,Bag\ntest 3,remove,\n")
    words = ["clean", "fashion_sample", "--apply", str(table), "--out", str(tmp_path), "--json"]
    assert not main(words)
    found = json.loads(capsys.readouterr().out)
    assert (found["relabelled"], found["removed"], found["images"]) == (1, 1, 4999)
    source, old = sources.load(found["table"]), sources.load("fashion_sample")
    image = np.asarray(Image.open(source.splits["train"].items[0]))
    np.testing.assert_array_equal(image, old.splits["train"].items[0].reshape(28, 28))
    assert source.classes[source.splits["train"].labels[0]] == "Bag"


def test_missing_library_names_the_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(label_errors, "cleanlab_filter", type("", (), {"__getattr__": missing})())
    assert main(["clean", str(tmp_path)]) == 1
    assert "keras-zoo[clean]" in capsys.readouterr().err


def missing(module, name):
    raise ModuleNotFoundError("No module named 'cleanlab'")
