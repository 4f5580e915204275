"""The folder of a web page: what it loads, and what stands in for a package that is missing."""

import base64
import io
import json
import re
import tarfile
from types import SimpleNamespace

import pytest

from tasks.export import export
from tasks.web import onnxruntime_web, page, web_folder
from zoo.errors import UsageError

FILES = (
    "package.json",
    *(f"dist/{x}" for x in (onnxruntime_web.SCRIPT, *onnxruntime_web.EMBEDDED)),
)
METADATA = {
    "task": "segmentation",
    "model": "unet</script>",
    "classes": ["background", "cat"],
    "resize": "pad",
    "size": [32, 48],
}


def contents(name=onnxruntime_web.PACKAGE, version="1.2.3"):
    found = {path: path.encode() for path in FILES}
    return {**found, "package.json": json.dumps({"name": name, "version": version}).encode()}


def unpacked(folder, **options):
    for path, content in contents(**options).items():
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_bytes(content)
    return folder


def packed(path, files, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size, member.type = len(content), kind
            archive.addfile(member, io.BytesIO(content))
    return path


def written(folder):
    (folder / "model.onnx").write_bytes(b"network")
    runtime = onnxruntime_web.load(unpacked(folder / "copy"))
    inputs = {"image": ["uint8", None, None, None, 3]}
    web_folder.write(folder / "model.onnx", inputs, METADATA, runtime)
    return (folder / "index.html").read_text(encoding="utf-8")


def test_each_file_that_the_page_needs_is_a_script(tmp_path):
    sources = re.findall(r'<script src="([^"]+)"', written(tmp_path))
    assert len(sources) == 5
    expected = {"model.onnx": b"network"} | {
        name: f"dist/{name}".encode() for name in onnxruntime_web.EMBEDDED
    }
    for source in sources:
        text = (tmp_path / source).read_text()
        if match := re.fullmatch(r'zooFiles\["(.+)"\] = "(.+)";\n', text):
            assert base64.b64decode(match[2]) == expected.pop(match[1])
    assert not expected
    assert sources[1] == f"onnxruntime-web/{onnxruntime_web.SCRIPT}"


def test_the_model_is_described(tmp_path):
    written(tmp_path)
    text = (tmp_path / "about.js").read_text().partition("zooModel = ")[2]
    about = json.loads(text.rstrip(";\n"))
    assert about["metadata"] == METADATA
    assert about["inputs"] == {"image": ["uint8", None, None, None, 3]}
    assert about["preprocessing"] == "pad to 32 x 48, RGB"
    assert about["background"] == [0]
    assert about["colors"][0] == [0, 0, 0]
    assert about["colors"][1] != [0, 0, 0]


def test_the_page_may_send_no_request(tmp_path):
    text = written(tmp_path)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy  # hence that of default-src
    for each in (text, page.served()):
        assert "http://" not in each
        assert "https://" not in each


def test_a_copy_is_a_folder_or_an_archive(tmp_path):
    folder = unpacked(tmp_path / "folder")
    archive = packed(tmp_path / "package.tgz", contents())
    assert onnxruntime_web.load(folder) == onnxruntime_web.load(archive)
    assert onnxruntime_web.load(archive).version == "1.2.3"


def test_what_is_no_copy_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnxruntime_web, "MAX_BYTES", 1000)
    other = unpacked(tmp_path / "other", name="react")
    large = packed(tmp_path / "large.tgz", contents() | {FILES[1]: bytes(1001)})
    link = packed(tmp_path / "link.tgz", contents(), tarfile.SYMTYPE)
    text = tmp_path / "text.tgz"
    text.write_text("none")
    for path, message in (
        (other, "is the package 'react', not onnxruntime-web"),
        (large, "not a file of at most 1,000 bytes"),
        (link, "is not a file of at most"),
        (text, "not a copy of onnxruntime-web"),
        (tmp_path / "nothing", "No such file"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            onnxruntime_web.load(path)
        assert "\n" not in str(caught.value)


def test_without_npm_a_copy_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"needs npm.* --onnxruntime-web DIR"):
        onnxruntime_web.load()
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    npm.chmod(0o700)
    with pytest.raises(UsageError, match=r"npm cannot download onnxruntime-web .*: code ENOTFOUND"):
        onnxruntime_web.load()


def test_npm_downloads_the_stated_version(tmp_path, monkeypatch):
    archive = packed(tmp_path / "package.tgz", contents())
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\n[ "$2" = onnxruntime-web@{onnxruntime_web.VERSION} ] || exit 2\n')
    with npm.open("a") as file:
        file.write(f'for last; do :; done\n/bin/cp {archive} "$last/x.tgz"\n')
    npm.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert onnxruntime_web.load().version == "1.2.3"


@pytest.mark.parametrize(
    ("task", "channels", "message"),
    [
        ("dqn", 3, "not dqn; export it with --format onnx"),
        ("style_transfer", 3, "not style_transfer"),
        ("segmentation", 4, "gray and RGB images, not 4 channels"),
    ],
)
def test_other_models_are_refused(task, channels, message):
    exported = SimpleNamespace(
        metadata={"task": task}, takes_images=True, image_shape=(8, 8, channels)
    )
    with pytest.raises(UsageError, match=message):
        web_folder.check(exported)


def test_nothing_is_converted_with_a_wrong_copy(tmp_path):
    with pytest.raises(UsageError, match="not a copy of onnxruntime-web"):
        export.export(
            "resnet20.cifar10", ["web"], out=tmp_path / "out", onnxruntime_web=str(tmp_path)
        )
    assert not (tmp_path / "out").exists()
