"""The server as its clients see it: a process, sockets, images good and bad."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from scripts.__main__ import main as zoo
from tasks.serve import server
from tests.support.paths import ROOT
from zoo import build
from zoo.errors import UsageError

pytest.importorskip("fastapi")
pytestmark = pytest.mark.shared_fixtures("url")
MODEL = "resnet20.cifar10"
TOKEN = "a-secret-word"
LIMITS = ["--max-megabytes=1", "--max-megapixels=1", "--queue=8"]


def encoded(seed=0, size=(40, 30), kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), "uint8")
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Starts a server, and returns its address; in the end it must stop with status 0."""
    words = [sys.executable, "-m", "scripts", "serve", MODEL, "--port=0", "--runtime=keras"]
    folder = tmp_path_factory.mktemp("serve")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*words, *LIMITS], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), (folder / "log").read_text()
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    log = (folder / "log").read_text()
    assert "Traceback" not in log, log


def call(url, body=None, **headers):
    """Returns the status, the headers and the text of a response."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def predicted(url, body, query="", **headers):
    status, _, text = call(f"{url}/predict{query}", body, **headers)
    return status, json.loads(text)


def form(*parts):
    """Returns a multipart form and its content type."""
    boundary = b"----boundary"
    lines = []
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
        lines += [b"--" + boundary, f"content-disposition: {disposition}".encode(), b"", content]
    body = b"\r\n".join([*lines, b"--" + boundary + b"--", b""])
    return body, f"multipart/form-data; boundary={boundary.decode()}"


def test_predictions_are_those_of_the_command(url, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(encoded())
    assert zoo(["predict", MODEL, str(tmp_path / "a.png"), "--json", "--top=3"]) == 0
    (expected,) = json.loads(capsys.readouterr().out)["images"]
    status, found = predicted(url, encoded(), "?top=3", content_type="image/png")
    assert status == 200
    assert found["model"] == MODEL
    for mine, other in zip(found["predictions"][0]["classes"], expected["classes"], strict=True):
        assert mine["name"] == other["name"]
        assert mine["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_every_kind_of_body_gives_the_same_prediction(url):
    image = encoded(1)
    text = base64.b64encode(image).decode()
    raw = predicted(url, image, content_type="application/octet-stream")[1]["predictions"]
    bodies = [
        form(("file", "x.png", image)),
        form(("files", "x.png", image)),
        (json.dumps({"image": text}).encode(), "application/json"),
        (json.dumps({"images": [f"data:image/png;base64,{text}"]}).encode(), "application/json"),
    ]
    for body, kind in bodies:
        status, found = predicted(url, body, content_type=kind)
        assert status == 200
        assert found["predictions"][0]["classes"] == raw[0]["classes"]


def test_several_images_keep_their_order_and_bad_ones_their_place(url):
    body, kind = form(
        ("files", "a.png", encoded(1)), ("files", "b.png", b"none"), ("files", "c.jpg", encoded(2))
    )
    status, found = predicted(url, body, content_type=kind)
    names = [(x["name"], "classes" in x) for x in found["predictions"]]
    assert (status, names) == (200, [("a.png", True), ("b.png", False), ("c.jpg", True)])
    assert found["predictions"][1]["error"] == "not an image, or damaged"


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "message"),
    [
        (b"none", "image/png", "", 422, "not an image, or damaged"),
        (encoded()[:500], "image/png", "", 422, "truncated"),
        (b"", "image/png", "", 422, "not an image"),
        (encoded(size=(1100, 1000), kind="JPEG"), "image/jpeg", "", 422, "limit is 1,000,000"),
        (b"a=b", "application/x-www-form-urlencoded", "", 400, "send image/"),
        (b"{", "application/json", "", 400, "not JSON"),
        (b"[" * 100_000, "application/json", "", 400, "not JSON"),
        (b"[]", "application/json", "", 400, "expected a JSON object"),
        (b"{}", "application/json", "", 400, "no image"),
        (b'{"image": 5}', "application/json", "", 400, "base64 string, not int"),
        (b'{"images": 5}', "application/json", "", 400, "must be a list"),
        (b'{"image": "http://127.0.0.1/x"}', "application/json", "", 400, "URLs are not fetched"),
        (b'{"image": "!!"}', "application/json", "", 400, "not base64"),
        (*form(("file", "", b"http://x")), "", 400, "URLs are not fetched"),
        (*form(("other", "a.png", encoded())), "", 400, "no image"),
        (*form(*[("files", "a.png", b"x")] * 65), "", 400, "64"),
        (b"no boundary", "multipart/form-data", "", 400, "boundary"),
        (encoded(), "image/png", "?model=vgg16", 404, "there are: resnet20.cifar10"),
        (encoded(), "image/png", "?top=0", 422, "top must be from 1"),
        (bytes(2**20 + 1), "image/png", "", 413, "1,048,577 bytes; the limits are 1,048,576"),
    ],
)
def test_mistakes_have_a_status_and_a_reason(url, body, kind, query, status, message):
    found, content = predicted(url, body, query, content_type=kind)
    text = json.dumps(content)
    assert (found, message in text) == (status, True), (found, text)
    assert call(f"{url}/health")[0] == 200


def test_a_body_without_a_length_is_counted_as_it_arrives(url):
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n"
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
        answer = b""
        for _ in range(20):  # the 17th exceeds the limit
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        while part := connection.recv(4096):
            answer += part
    assert b" 413 " in answer.splitlines()[0]


def test_clients_that_break_off_do_no_harm(url):
    parts = urlsplit(url)
    body = encoded(3)
    for sent in (b"POST /predict HT", b"POST /predict HTTP/1.1\r\nhost: x\r\n", None):
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            connection.sendall(sent or head + body[: len(body) // 2])
    assert predicted(url, body, content_type="image/png")[0] == 200


def test_many_clients_at_once_are_answered_or_told_to_try_again(url):
    results = []

    def ask(seed):
        image = encoded(seed)
        results.append(predicted(url, image, content_type="image/png"))

    clients = [threading.Thread(target=ask, args=(seed,)) for seed in range(24)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert {status for status, _ in results} <= {200, 429}
    assert any(status == 200 for status, _ in results)
    body, kind = form(*[("files", f"{n}.png", encoded(n)) for n in range(60)])
    status, headers, _ = call(f"{url}/predict", body, content_type=kind)
    assert (status, headers["retry-after"]) == (429, "1")  # more than the queue holds


def test_a_heat_map_is_drawn_on_request(url):
    status, found = predicted(url, encoded(4), "?explain=true", content_type="image/png")
    assert status == 200
    kind, _, text = found["predictions"][0]["explanation"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as drawn:
        assert drawn.size == (224, 224)
    plain = predicted(url, encoded(4), content_type="image/png")[1]["predictions"][0]
    assert "explanation" not in plain
    assert plain["classes"] == found["predictions"][0]["classes"]


def test_a_classifier_generates_nothing(url):
    status, _, text = call(f"{url}/generate", b"")
    assert (status, "send a request to /predict" in text) == (422, True)
    assert call(f"{url}/generate?model=x", b"")[0] == 404


def test_health_models_metrics_and_descriptions(url):
    assert json.loads(call(f"{url}/health")[2]) == {"status": "ok", "models": [MODEL]}
    (model,) = json.loads(call(f"{url}/models")[2])
    assert model["classes"][3] == "cat"
    assert predicted(url, encoded(), content_type="image/png")[0] == 200
    metrics = call(f"{url}/metrics")[2]
    assert 'zoo_requests_total{path="/predict",status="200"}' in metrics
    assert "zoo_batch_size_bucket" in metrics
    api = json.loads(call(f"{url}/openapi.json")[2])
    assert {*api["paths"]} == {"/health", "/models", "/metrics", "/predict", "/generate"}
    assert "multipart/form-data" in api["paths"]["/predict"]["post"]["requestBody"]["content"]
    for page in ("/", "/docs"):
        text = call(url + page)[2]
        assert "https://" not in text  # nothing is loaded from another host
        assert "http://" not in text


def test_the_token_is_required(tmp_path):
    import asyncio

    from tasks.serve.limits import Limits

    async def answer(path, authorization=None):
        sent = []

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message):
            sent.append(message)

        headers = [(b"authorization", authorization)] if authorization else []
        scope = {"type": "http", "path": path, "headers": headers}
        await Limits(app, max_bytes=9, timeout=9, token=TOKEN)(scope, None, send)
        return sent[0]["status"]

    def status(*words):
        return asyncio.run(answer(*words))

    assert [status(path) for path in ("/", "/health", "/docs", "/openapi.json")] == [200] * 4
    assert [status(path) for path in ("/predict", "/models", "/metrics")] == [401] * 3
    assert status("/predict", f"Bearer {TOKEN}".encode()) == 200
    for wrong in (b"Bearer a-secret-wor", b"Bearer", b"Basic " + TOKEN.encode(), b"\xff"):
        assert status("/predict", wrong) == 401


def test_a_slow_body_is_refused(monkeypatch):
    import asyncio

    from tasks.serve import limits

    async def answer():
        sent = []

        async def app(scope, receive, send):
            await receive()

        async def receive():
            await asyncio.sleep(60)

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "path": "/predict", "headers": []}
        monkeypatch.setattr(limits, "DRAIN_SECONDS", 0.01)
        await limits.Limits(app, max_bytes=9, timeout=0.01)(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(answer()) == 408


def test_tokens_and_ports_and_names(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert server.read_token(file) == TOKEN
    assert server.read_token("") is None
    for content in ("", "two words", "é"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match="must hold one word of ASCII"):
            server.read_token(file)
    with pytest.raises(UsageError, match="cannot be read"):
        server.read_token(tmp_path / "none")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="named pipe"):
        server.read_token(tmp_path / "fifo")
    with (
        server.bind("127.0.0.1", 0) as taken,
        pytest.raises(UsageError, match="already in use; choose another --port"),
    ):
        server.bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UsageError, match=r"cannot listen at 203\.0\.113\.1"):
        server.bind("203.0.113.1", 0)
    assert server.model_names(["runs/a", "other/a", "b.keras", "runs/c/model.keras"]) == {
        "a": "runs/a",
        "a-2": "other/a",
        "b": "b.keras",
        "c": "runs/c/model.keras",
    }
    assert server.model_names(["runs/a-2", "runs/a", "other/a", "other/a-2"]) == {
        "a-2": "runs/a-2",
        "a": "runs/a",
        "a-3": "other/a",
        "a-2-2": "other/a-2",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonesuch"], "nonesuch"),
        (["dcgan_generator", "--port=0"], "random weights"),
        ([MODEL, "--port=70000"], "--port must be a number from 0 to 65535"),
        ([MODEL, "--queue=0"], "--queue must be"),
        ([MODEL, "--max-wait-ms=nan"], "--max-wait-ms must be"),
        ([MODEL, "--token-file=none"], "--token-file none cannot be read"),
        ([MODEL, "--port=0", "--runtime=tensorrt"], "tensorrt"),
    ],
)
def test_mistakes_of_the_command_are_one_line(words, message, capsys):
    assert zoo(["serve", *words]) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(server, "PACKAGES", ("fastapi", "nonesuch"))
    with pytest.raises(UsageError, match=r"nonesuch: pip install 'keras-zoo\[serve\]'"):
        server.check_packages()


@pytest.mark.check
def test_ctrl_c_ends_with_130(tmp_path):
    words = [sys.executable, "-m", "scripts", "serve", MODEL, "--port=0", "--runtime=keras"]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("http://")
        process.send_signal(signal.SIGINT)
        try:
            error = process.communicate(timeout=60)[1]
        finally:
            process.kill()  # else leaving `with` would wait for it
    assert process.returncode == 130
    assert "Traceback" not in error


@pytest.mark.check
def test_an_exported_file_is_served_without_tensorflow(tmp_path):
    pytest.importorskip("tf2onnx")
    assert zoo(["export", MODEL, "--format=onnx", f"--out={tmp_path}"]) == 0
    code = (
        "import sys\nfrom tasks.serve import served_model as s\n"
        f"m = s.ServedModel({str(tmp_path / 'onnx/model.onnx')!r}, 'a', runtime='auto', "
        "precision='float32', max_wait=0, queue_size=8, observe=print)\n"
        f"image = m.decode(open({str(tmp_path / 'a.png')!r}, 'rb').read(), 10**6)\n"
        "(found,) = m.batcher.submit([image], s.RequestOptions(explain=True))\n"
        "found = found.result()\n"
        "assert found['explanation'].startswith('data:image/png')\n"
        "assert m.describe()['runtime'] == 'ONNX Runtime'\n"
        "print([x for x in ('tensorflow', 'keras') if x in sys.modules])"
    )
    (tmp_path / "a.png").write_bytes(encoded(5))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("task", ["segmentation", "detection", "captioning", "style_transfer"])
def test_exported_files_of_other_tasks_are_served(task, tmp_path):
    pytest.importorskip("openvino")
    from tasks.captioning.vocabulary import SPECIAL_TOKENS
    from tasks.inference import exported_file, predictor
    from tasks.serve import served_model

    shape = (None, 8, 8, 3)
    metadata = {
        "task": task,
        "classes": ["a", "b"],
        "resize": "stretch",
        "size": [8, 8],
        "score_threshold": 0.5,
        "vocabulary": [*SPECIAL_TOKENS, "a"],
        "length": 3,
        "beam_width": 1,
        "length_penalty": 0.0,
        "preserve_colors": "none",
        "own_size": False,
    }

    def run(inputs):
        count, height, width, _ = inputs["image"].shape
        boxes = {"boxes": np.zeros((count, 2, 4)), "scores": np.zeros((count, 2))}
        captions = {"tokens": np.zeros((count, 3), int), "log_probability": np.zeros(count)}
        return {
            **boxes,
            **captions,
            "classes": np.full((count, 2), -1),
            "logits": np.zeros((count, height, width, 2), "float32"),
            "mask": np.zeros((count, height, width), "uint8"),
            "stylized": inputs["image"],
        }

    path, dtypes = tmp_path / "model.xml", {"image": np.dtype("uint8")}
    opened = exported_file.ExportedFile(path, metadata, {"image": shape}, dtypes, run)
    options = {"runtime": "auto", "precision": "float32", "max_wait": 0, "queue_size": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served_model.model_loader, "find_model", lambda target: path)
        patch.setattr(exported_file, "open_file", lambda path, **options: opened)
        model = served_model.ServedModel(str(path), "a", observe=lambda size: None, **options)
    assert model.describe()["runtime"] == "OpenVINO"
    image = predictor.InputImage(path, np.zeros((8, 8, 3), "uint8"), "a")
    (found,) = model.batcher.submit([image], served_model.RequestOptions())
    assert isinstance(found.result(), dict)
    model.batcher.close()


def test_models_of_sequences_are_refused(tmp_path):
    from tasks.serve import served_model

    class Sequences:
        noun = "sequence"

    options = {"runtime": "auto", "precision": "float32", "max_wait": 0, "queue_size": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served_model.model_loader, "load_predictor", lambda *a, **k: Sequences())
        with pytest.raises(UsageError, match="run takes a sequence, not images; use zoo predict"):
            served_model.ServedModel("run", "a", observe=lambda size: None, **options)


def served_name(target, runtime):
    from tasks.serve import served_model

    options = {"max_wait": 0, "queue_size": 1, "observe": print, "precision": "float32"}
    model = served_model.ServedModel(str(target), "a", runtime=runtime, **options)
    model.batcher.close()
    return model.describe()["runtime"]


@pytest.mark.check
def test_an_export_that_is_kept_in_a_run_is_served(tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "run").mkdir()
    build("lenet5", input_shape=(32, 32, 3), num_classes=4).save(tmp_path / "run/model.keras")
    (tmp_path / "a.png").write_bytes(encoded())
    for _ in range(2):  # the second use keeps an export
        assert zoo(["predict", str(tmp_path / "run"), str(tmp_path / "a.png")]) == 0
    assert served_name(tmp_path / "run", "auto") == "OpenVINO, kept export"
    assert served_name(tmp_path / "run", "keras") == "keras"


@pytest.mark.check
def test_the_page_predicts_in_a_browser(url, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs chromium")
    (tmp_path / "a.png").write_bytes(encoded(5))
    expected = predicted(url, encoded(5), content_type="image/png")[1]["predictions"][0]["classes"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(url)
        page.wait_for_selector("#main:not([hidden])")
        page.set_input_files("#files", tmp_path / "a.png")
        page.wait_for_selector("article .bar")
        assert page.inner_text("#badge") == "computed by this server: keras"
        page.click("article button:has-text('heat map')")
        page.wait_for_selector("article button[aria-pressed=true]:has-text('heat map')")
        heat = page.get_attribute("article img", "src")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("article button[aria-pressed=true]:has-text('image')")
        assert page.get_attribute("article img", "src") != heat
        names = page.locator("article .bar b").all_inner_texts()
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        browser.close()
    assert names == [found["name"] for found in expected]
    assert errors == []
    assert not wide
    assert all(request.startswith((url, "blob:", "data:")) for request in requests)
