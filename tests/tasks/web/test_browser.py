"""The web page in Chromium, opened from the disk, without a network."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import zoo
from tasks.data import image_io
from tasks.deploy import predict
from tasks.export import export
from tasks.web import onnxruntime_web, web_folder
from tests.tasks.export.test_every_task import NETWORKS
from zoo import model_files
from zoo.errors import UsageError

pytestmark = [pytest.mark.check, pytest.mark.shared_fixtures("runtime", "open_page")]
CLASSES = ["zero", "one", "two", "three"]
CLASSIFIER = ("lenet5", {"input_shape": (28, 32, 3), "num_classes": 4}, {"classes": CLASSES})


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The path of a copy of ONNX Runtime Web."""
    if copy := os.environ.get("ZOO_ONNXRUNTIME_WEB"):
        return copy
    try:
        package = onnxruntime_web.load()
    except UsageError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("package")
    (folder / "dist").mkdir()
    text = f'{{"name": "{onnxruntime_web.PACKAGE}", "version": "{package.version}"}}'
    (folder / "package.json").write_text(text)
    for name, content in package.files.items():
        (folder / "dist" / name).write_bytes(content)
    return str(folder)


@pytest.fixture(scope="module")
def open_page():
    """A function that opens a page in Chromium, and records its requests and errors."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(offline=True, viewport={"width": 390, "height": 800})

        def open_(folder):
            page = context.new_page()
            seen = SimpleNamespace(page=page, requests=[], errors=[])
            page.on("request", lambda request: seen.requests.append(request.url))
            page.on("pageerror", lambda error: seen.errors.append(str(error)))
            page.on("console", lambda message: seen.errors.append(message.text))
            page.goto((folder / "index.html").as_uri())
            page.wait_for_selector("#main:not([hidden])", timeout=60_000)
            return seen

        yield open_
        browser.close()


@pytest.fixture(scope="module")
def folder_of(runtime, tmp_path_factory):
    """A function that returns the folder of the web page of a small network.

    The network is exported once; a page that resizes in another way has the same file.
    """
    exports = {}

    def make(name, options, metadata, resize="stretch", **more):
        pytest.importorskip("tf2onnx")
        if name not in exports:
            path = tmp_path_factory.mktemp("saved") / "net.keras"
            about = {"resize": "stretch", **metadata, **more}
            model_files.save(random_network(name, options), path, about)
            out = path.parent / "exports"
            export.export(path, ["web"], out=out, onnxruntime_web=runtime)
            exports[name] = out / "web"
        own = exports[name]
        return own if resize == "stretch" else with_resize(own, resize, runtime)

    return make


def random_network(name, options):
    """Returns a network; generators have weights on which each class and seed depends.

    Their initial weights are equal for all classes, and so small that all pixels are gray.
    """
    import keras

    keras.utils.set_random_seed(3)
    model = zoo.build(name, **options)
    if "generator" in name:
        random = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(random.normal(scale=0.3, size=weight.shape))
    return model


def with_resize(folder, resize, runtime):
    """Returns a copy of a web page that resizes images in some way."""
    import onnx

    copy = folder.with_name(f"{folder.name}-{resize}")
    if not copy.exists():
        copy.mkdir()
        network = onnx.load(folder / "model.onnx")
        (entry,) = (x for x in network.metadata_props if x.key == "resize")
        entry.value = json.dumps(resize)
        onnx.save(network, copy / "model.onnx")
        report = json.loads((folder / export.REPORT).read_text())
        metadata = {**report["metadata"], "resize": resize}
        package = onnxruntime_web.load(runtime)
        web_folder.write(copy / "model.onnx", report["inputs"], metadata, package)
    return copy


def picture(path, size=(61, 47), seed=0, channels=3):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], channels), "uint8")
    Image.fromarray(pixels).resize((2 * size[0], size[1])).save(path)
    return path


def chosen(seen, path):
    """Chooses an image file on a page; returns the prediction, and the text of the answer."""
    seen.page.evaluate(
        "window.seen = null; backend.predict = ((old) => async (...words) => "
        "window.seen = await old(...words))(backend.predict)"
    )
    seen.page.set_input_files("#files", path)
    seen.page.wait_for_selector("article:first-child .muted:has-text('ms')", timeout=60_000)
    return seen.page.evaluate("window.seen"), seen.page.inner_text("article:first-child")


def wait_for(page, expression, argument=None):
    """Returns the value of an expression once it is true; the page itself may evaluate no text."""
    for _ in range(600):
        if value := page.evaluate(expression, argument):
            return value
        page.wait_for_timeout(100)
    raise AssertionError(f"{expression} stays false")


def check_quiet(seen, folder):
    """Checks that a page sent no request beyond its folder, fits the screen, and has no error."""
    own = (folder.as_uri(), "blob:", "data:")
    assert seen.errors == []
    assert all(request.startswith(own) for request in seen.requests)
    assert not seen.page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_the_browser_classifies_as_keras(resize, folder_of, open_page, tmp_path):
    folder = folder_of(*CLASSIFIER, resize=resize)
    image = picture(tmp_path / "a.png")
    (expected,) = predict.predict(folder / "model.onnx", [str(image)])
    seen = open_page(folder)
    assert "computed in this browser: ONNX Runtime Web 1." in seen.page.inner_text("#badge")
    found, text = chosen(seen, image)
    assert [row["name"] for row in found["classes"]] == [x["name"] for x in expected["classes"]]
    for mine, other in zip(found["classes"], expected["classes"], strict=True):
        assert mine["probability"] == pytest.approx(other["probability"], abs=1e-3)
        assert f"{mine['name']}\n\n{100 * mine['probability']:.1f} %" in text.replace("\n", "\n\n")
    before = seen.page.get_attribute("article img", "src")
    seen.page.click("article button:has-text('heat map')")
    seen.page.wait_for_selector("article button[aria-pressed=true]:has-text('heat map')")
    assert seen.page.get_attribute("article img", "src") != before
    check_quiet(seen, folder)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_pixels_are_those_of_pillow(resize, mode, channels, open_page, browser_script, tmp_path):
    image = tmp_path / "a.png"
    Image.open(picture(image, channels=4)).convert(mode).save(image)
    expected = image_io.read_image(image, (28, 32, channels), resize)
    found = browser_script(resize, channels, image)
    difference = np.abs(found.astype(int) - expected.reshape(-1))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02


@pytest.fixture
def browser_script(open_page, folder_of, request):
    """A function that returns the pixels that the script of the page gives to a model."""
    page = request.getfixturevalue("classifier_page").page

    def fit(resize, channels, path):
        page.evaluate(
            "([resize, channels]) => { about.resize = resize; zooModel.inputs.image[4] = channels; "
            "backend.predict = async (model, file) => { window.fitted = "
            "[...fit(await decode(file)).data]; return {}; } }",
            [resize, channels],
        )
        page.evaluate("window.fitted = null")
        page.set_input_files("#files", path)
        return np.array(wait_for(page, "window.fitted"))

    return fit


@pytest.fixture(scope="module")
def classifier_page(folder_of, open_page):
    """The page of a classifier."""
    return open_page(folder_of(*CLASSIFIER))


def test_a_file_that_is_no_image_has_a_reason(folder_of, open_page, tmp_path):
    folder = folder_of(*CLASSIFIER)
    (tmp_path / "a.png").write_text("none")
    seen = open_page(folder)
    found, text = chosen(seen, tmp_path / "a.png")
    assert found == {"error": "not an image, or damaged"}
    assert found["error"] in text


def network_folder(task, folder_of, **more):
    name, options, metadata = NETWORKS[task]
    return folder_of(name, options, {**metadata, "task": task}, **more)


def test_masks_are_those_of_the_exported_file(folder_of, open_page, tmp_path):
    folder = network_folder("segmentation", folder_of)
    image = picture(tmp_path / "a.png", (16, 32))  # the size of the network: nothing is resized
    (expected,) = predict.predict(folder / "model.onnx", [str(image)])
    seen = open_page(folder)
    found, _ = chosen(seen, image)
    shares = {row["name"]: row["share"] for row in found["classes"]}
    assert shares == pytest.approx({x["name"]: x["share"] for x in expected["classes"]}, abs=0.01)
    assert seen.page.get_attribute("article img", "src") == found["overlay"]
    check_quiet(seen, folder)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_boxes_are_those_of_the_exported_file(resize, folder_of, open_page, tmp_path):
    folder = network_folder("detection", folder_of, resize=resize, least=0.2)
    image = picture(tmp_path / "a.png")
    (expected,) = predict.predict(folder / "model.onnx", [str(image)])
    seen = open_page(folder)
    found, _ = chosen(seen, image)
    assert expected["objects"]
    assert len(found["objects"]) == pytest.approx(len(expected["objects"]), abs=2)
    for mine, other in zip(found["objects"][:3], expected["objects"][:3], strict=True):
        assert mine["name"] == other["name"]
        assert mine["score"] == pytest.approx(other["score"], abs=0.01)
        assert mine["box"] == pytest.approx(other["box"], abs=1)
    check_quiet(seen, folder)


def test_a_caption_is_that_of_the_exported_file(folder_of, open_page, tmp_path):
    folder = network_folder("captioning", folder_of)
    image = picture(tmp_path / "a.png")
    (expected,) = predict.predict(folder / "model.onnx", [str(image)])
    seen = open_page(folder)
    found, text = chosen(seen, image)
    assert found["sentence"] == expected["sentence"]
    assert found["probability"] == pytest.approx(expected["probability"], rel=0.01)
    assert (expected["sentence"] or "(nothing)") in text
    check_quiet(seen, folder)


def test_samples_follow_the_slider(folder_of, open_page):
    folder = network_folder("gan", folder_of)
    seen = open_page(folder)
    page = seen.page
    wait_for(page, "samples.length > 1")
    first, sample, last = (page.get_attribute(f"#{x}", "src") for x in ("first", "sample", "last"))
    assert first == sample != last
    page.focus("#position")
    for _ in range(15):
        page.keyboard.press("ArrowRight")
    assert page.get_attribute("#sample", "src") == last
    page.select_option("#label", "ring")
    wait_for(page, "(old) => $('first').src !== old", first)
    page.select_option("#label", "disc")
    wait_for(page, "(old) => $('first').src === old", first)  # of the seed and the class alone
    check_quiet(seen, folder)
