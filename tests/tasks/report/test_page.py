"""The plots and the HTML page of a report, parsed like a browser does."""

from __future__ import annotations

import base64
import html.parser
import io
import math
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest

from tasks.report import confusion_plot, page, plots
from zoo.errors import UsageError

EVIL = "<script>alert('x')</script> & \"quotes\" \x07 \udc80"
NAN = math.nan


def parse(figure):
    """Returns a figure as an XML tree, without the SVG namespace."""
    return ElementTree.fromstring(figure.replace(' xmlns="http://www.w3.org/2000/svg"', ""))


def marks(tree, kind):
    return [element for element in tree.iter() if kind in element.get("class", "").split()]


def plotted(tree):
    """Returns the SVGs of a figure that are plots, not legends."""
    return [svg for svg in tree.iter("svg") if svg.get("role") == "img"]


def test_points_of_curves_are_at_their_ticks():
    values = {"1": "40", "2": "20", "3": "0"}
    history = [{"epoch": int(x), "kid": float(y), "val_kid": 30} for x, y in values.items()]
    (panel,) = plotted(parse(plots.training_curves(history, ["kid"], "Distance")))
    ticks = {text.text: text for text in panel.iter("text")}
    _, *circles = marks(panel, "training")  # the line is the first
    for circle, (epoch, value) in zip(circles, values.items(), strict=True):
        assert circle.find("title").text == f"training, epoch {epoch}: {value}"
        assert float(circle.get("cx")) == pytest.approx(float(ticks[epoch].get("x")), abs=0.1)
        assert float(circle.get("cy")) == pytest.approx(float(ticks[value].get("y")) - 4, abs=0.1)
    assert "epoch" in ticks


def test_curves_show_names_legend_and_last_values():
    history = [{"loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.25, "seconds": 3.0}]
    figure = parse(plots.training_curves(history, ["loss", "accuracy", "seconds", "miou"], EVIL))
    assert ["".join(panel.find("p").itertext()) for panel in marks(figure, "panel")] == [
        "loss training 1.0000",
        "accuracy training 50.00% validation 25.00%",
        "time at the end 3.00 s",
    ]
    assert figure.find("figcaption").text.startswith("<script>")


def test_curves_with_missing_and_non_finite_values():
    losses = [3.0, NAN, 2.0, "", 1.0, "0.5", math.inf, 0.25]  # with text, as from a CSV file
    history = [{"loss": loss} for loss in losses]
    (panel,) = plotted(parse(plots.training_curves(history, ["loss"], "Loss")))
    assert len(marks(panel, "training")) == 3 + 5 + 2  # lines, their markers, crosses
    assert len([path for path in marks(panel, "line") if path.find("title") is not None]) == 2
    for history in ([], [{"epoch": 1}], [{"loss": None}]):
        assert plots.training_curves(history, ["loss"], "Loss") == ""
    (panel,) = plotted(parse(plots.training_curves([{"loss": NAN}] * 3, ["loss"], "Loss")))
    assert "no finite value" in "".join(panel.itertext())


@pytest.mark.parametrize("losses", [[1.0], [0.0] * 40, [1e30, 1.0], [5e-324, -1e199], [NAN, 7.0]])
def test_curves_stay_within_their_plot(losses):
    figure = plots.training_curves(
        [{"loss": loss} for loss in losses], ["loss", "accuracy"], "Loss"
    )
    (panel,) = plotted(parse(figure))
    numbers = " ".join(
        value
        for element in panel.iter()
        for name, value in element.items()
        if name in ("x", "y", "cx", "cy", "d", "width", "height")
    )
    assert "nan" not in numbers
    assert "inf" not in numbers
    assert all(-10 <= float(number) <= 430 for number in re.findall(r"-?\d+\.?\d*", numbers))


@pytest.mark.parametrize("count", [1, 2, 10, 40])
def test_confusion_shows_shares_counts_and_names(count):
    rng = np.random.default_rng(count)
    matrix = rng.integers(0, 30, (count, count)) * rng.integers(0, 2, (count, count))
    matrix[0, 0] = 1
    names = [f"class {index}" for index in range(count)]
    figure = parse(confusion_plot.confusion_matrix(matrix, names))
    filled = [(i, j) for i in range(count) for j in range(count) if matrix[i, j]]
    squares = [square for square in marks(figure, "heat") if square.find("title") is not None]
    for square, (i, j) in zip(squares, filled, strict=True):
        share = matrix[i, j] / matrix[i].sum()
        assert float(square.get("fill-opacity")) ** 2 == pytest.approx(share, abs=0.003)
        hint = f"class {i} predicted as class {j}: {matrix[i, j]} of {matrix[i].sum()}"
        assert square.find("title").text == hint
    x = [float(square.get("x")) for square in squares]
    y = [float(square.get("y")) for square in squares]
    size = float(squares[0].get("width"))
    assert [round((value - x[0]) / size) for value in x] == [j for _, j in filled]
    assert [round((value - y[0]) / size) for value in y] == [i for i, _ in filled]
    written = [text.text for text in marks(figure, "count")]
    assert written == ([str(matrix[cell]) for cell in filled] if count <= 10 else [])
    assert [name.text for name in marks(figure, "name")] == sorted(names * 2, key=names.index)


def test_confusion_of_many_classes_shows_the_most_confused():
    matrix = 50 * np.eye(200, dtype=int)
    matrix[100, 7] = 9
    matrix[3, 150], matrix[150, 3] = 4, 4
    figure = parse(confusion_plot.confusion_matrix(matrix, range(200)))
    assert [name.text for name in marks(figure, "name")[::2]] == ["7", "100", "3", "150"]
    assert "Shown are 4 of 200 classes" in figure.find("figcaption").text
    assert " ".join(text.text for text in marks(figure, "count")) == "50 9 50 50 4 4 50"
    assert "100 predicted as 7: 9 of 59" in [title.text for title in figure.iter("title")]
    matrix = np.random.default_rng(0).integers(0, 5, (200, 200))
    figure = parse(confusion_plot.confusion_matrix(matrix, range(200)))
    assert len(marks(figure, "name")) == 60
    first = int(marks(figure, "name")[0].text)
    hint = next(title.text for title in figure.iter("title") if title.text.startswith(f"{first} "))
    assert hint.endswith(
        f" of {matrix[first].sum()}"
    )  # of the whole row, not only of the shown classes
    assert len(marks(parse(confusion_plot.confusion_matrix(np.eye(200), range(200))), "name")) == 60
    with pytest.raises(ValueError, match="3 names"):
        confusion_plot.confusion_matrix(np.eye(2), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("shape", "kind", "shown"),
    [
        ((28, 28, 1), "pixels", (28, 28)),
        ((32, 20, 3), "pixels", (20, 32)),
        ((64, 10, 3), "smooth", (10, 64)),
        ((300, 600, 3), "smooth", (256, 128)),
    ],
)
def test_gallery_embeds_the_images(shape, kind, shown):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    figure = parse(plots.image_gallery([(image, EVIL), (image, "two\nlines")]))
    tag, _ = figure.iter("img")
    assert tag.get("class") == kind
    assert tag.get("alt").startswith("<script>")
    assert next(figure.iter("figcaption")).text == tag.get("alt")
    header, data = tag.get("src").split(",")
    assert header == "data:image/png;base64"
    with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == shown
        if shown == (shape[1], shape[0]):
            np.testing.assert_array_equal(np.asarray(picture).reshape(shape), image)


@pytest.mark.parametrize(("channels", "shown"), [(2, [0]), (4, [0, 1, 2]), (13, [0, 1, 2])])
def test_gallery_shows_the_first_channels_of_other_images(channels, shown):
    image = np.random.default_rng(0).integers(0, 256, (6, 5, channels)).astype(np.uint8)
    (tag,) = parse(plots.image_gallery([(image, "several bands")])).iter("img")
    with PIL.Image.open(io.BytesIO(base64.b64decode(tag.get("src").split(",")[1]))) as picture:
        found = np.asarray(picture).reshape(6, 5, -1)
    np.testing.assert_array_equal(found, image[..., shown])


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), "u1"), np.zeros(9, "u1")])
def test_gallery_rejects_other_arrays(image):
    with pytest.raises(ValueError, match="expected"):
        plots.image_gallery([(image, "no image")])


class Reader(html.parser.HTMLParser):
    """Parses the tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.unclosed = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.unclosed.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.unclosed.pop() == tag

    def handle_data(self, data):
        self.words += data


def write_page(path, **changes):
    image = np.zeros((8, 8, 1), np.uint8)
    history = [{"epoch": 1, "loss": 1.0, "val_loss": 2.0}]
    arguments = {
        "title": EVIL,
        "lead": EVIL,
        "command": f"zoo train '{EVIL}'\n  --epochs 3",
        "figures": {"accuracy": 0.9125, "seconds": 75.0, EVIL: 1.0},
        "sections": [
            (EVIL, plots.training_curves(history, ["loss"], EVIL)),
            ("Confusion", confusion_plot.confusion_matrix(np.eye(2), [EVIL, "b"])),
            ("Classes", page.table([[EVIL, 1.5], {EVIL: "x"}], [EVIL, "f1"])),
            ("Mistakes", plots.image_gallery([(image, EVIL)])),
        ],
        "environment": {EVIL: EVIL, "keras": "3.15.1"},
        "warnings": [EVIL, "two"],
    }
    page.write(path, **arguments | changes)
    return path.read_text(encoding="utf-8")


def test_page_escapes_and_loads_nothing(tmp_path):
    text = write_page(tmp_path / "report.html")
    reader = Reader(text)
    assert not reader.unclosed
    assert not {"script", "link", "iframe", "object", "embed", "base", "use"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    sources = [value for name, value in reader.attributes if name in ("src", "href", "srcset")]
    assert [source[:22] for source in sources] == ["data:image/png;base64,"]
    without_namespace = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\(|@import", without_namespace)
    assert reader.words.count("<script>alert('x')</script>") > 15
    assert not re.search("[\x00-\x08\x0b-\x1f]", text)


def test_page_shows_figures_command_and_environment(tmp_path):
    reader = Reader(write_page(tmp_path / "report.html", command="zoo train 'a  b' \\\n  --seed 1"))
    for expected in ("91.25%", "1 min 15 s", "zoo train 'a  b' \\\n  --seed 1", "3.15.1"):
        assert expected in reader.words
    assert reader.words.count("Warning") == 2
    assert "warning" not in dict(Reader(write_page(tmp_path / "b", warnings=())).attributes)


def test_sections_without_content_are_omitted(tmp_path):
    sections = [("Empty", plots.training_curves([], ["loss"], "Loss")), ("Full", "<p>here</p>")]
    text = write_page(tmp_path / "report.html", sections=sections)
    assert re.findall("<h2>(.*?)</h2>", text) == ["Full", "Repeat this run", "Environment"]


def test_a_warning_about_many_files_is_one_collapsible_box(tmp_path):
    names = [f"{number}.txt: {EVIL}" for number in range(1001)]
    warnings = [("skipped 1,001 files: 1,001 not an image", names), ("two", [])]
    text = write_page(tmp_path / "report.html", warnings=warnings)
    reader = Reader(text)
    assert not reader.unclosed
    assert reader.words.count("Warning") == 2
    assert reader.tags.count("details") == reader.tags.count("summary") == 1
    assert len(re.findall("<li>", text)) == 1001
    assert "999.txt" in reader.words
    assert "and 1 more" in reader.words
    assert "script" not in reader.tags


def test_table_formats_and_aligns():
    rows = [{"class": "cat", "recall": 0.25, "support": 1200}, ["dog", None, 7]]
    tree = ElementTree.fromstring(page.table(rows, ["class", "recall", "support"]))
    cells = [cell.text for cell in tree.iter("td")]
    assert cells == ["cat", "25.00%", "1,200", "dog", "\N{EN DASH}", "7"]
    assert [cell.get("class") for cell in tree.iter("th")] == [None, "number", "number"]
    assert [cell.get("style") for cell in tree.iter("td")][1] == "--share:25.0%"
    kinds = [cell.get("class") for cell in tree.iter("td")]
    assert kinds == [None, "number share", "number", None, "number", "number"]
    assert len(list(ElementTree.fromstring(page.table([], ["a", "b"])).iter("th"))) == 2


def test_a_failing_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    old = write_page(path)

    def fail(*_):
        raise OSError("disk full")

    with pytest.raises(ZeroDivisionError):
        write_page(path, sections=(1 / 0 for _ in range(1)))
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UsageError, match=r"disk full.*untouched"):
        write_page(path, title="new")
    assert path.read_text(encoding="utf-8") == old
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    assert "<h1>new</h1>" in write_page(path, title="new")
    assert list(tmp_path.iterdir()) == [path]


def luminance(colour):
    """Returns the relative luminance of a color, by WCAG 2.1."""
    parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", [0, 1])
def test_colours_have_contrast_in_light_and_dark_mode(mode):
    def colour(name):
        code = re.findall(rf"--{name}: #(\w+)", page._STYLE)[mode]
        code = code if len(code) == 6 else "".join(2 * letter for letter in code)
        return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)])

    for name in ("ink", "muted", "first", "second"):
        assert contrast(colour(name), colour("page")) > 4.5
    assert contrast(colour("alert"), colour("alert-tint")) > 4.5
    for opacity in np.linspace(0, 1, 101):
        cell = opacity * colour("heat") + (1 - opacity) * colour("page")
        count = colour("page" if opacity > confusion_plot._LIGHT_TEXT_OPACITY else "count")
        assert contrast(cell, count) > 4


def test_importing_the_report_loads_no_numpy():
    code = (
        "import sys; "
        "from tasks.report import confusion_plot, model_plot, page, plots, tensorboard; "
        "assert not {'numpy', 'PIL', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
