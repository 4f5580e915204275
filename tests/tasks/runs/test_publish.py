"""Publication of runs on a local server that answers as the Hugging Face Hub does."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from scripts.__main__ import main
from tasks.runs import publish
from tests.support import hub_server
from tests.support.paths import ROOT
from zoo.errors import UsageError

constants = pytest.importorskip("huggingface_hub.constants")

OLD_RUN = ROOT / "tests" / "files" / "old_runs" / "classification" / "finished"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"
NAME = "hf://user/cats"

pytestmark = [
    pytest.mark.xdist_group("hub"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # of huggingface_hub
]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Returns a running hub that a user with a token may write to."""
    with hub_server.running(TOKEN) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield running


@pytest.fixture
def run(tmp_path):
    """Returns a copy of a run whose recipe and report name a folder of this machine."""
    folder = shutil.copytree(OLD_RUN, tmp_path / "run")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "data_dir": "/secret/tfds"}))
    report = json.loads((folder / "report.json").read_text())
    report["flags"]["data_dir"] = "/secret/tfds"
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_a_run_is_uploaded_and_predicts_by_its_name(server, run, tmp_path, capsys):
    assert main(["push", str(run), NAME, "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["files"] == ["README.md", "model.keras", "recipe.yaml", "report.json"]
    assert server.files("user/cats")["model.keras"] == (run / "model.keras").read_bytes()
    assert server.repositories["user/cats"]["private"]
    Image.fromarray(np.zeros((28, 28, 3), "uint8")).save(tmp_path / "image.png")
    predicted = []
    words = [NAME, "fashion_sample", "--split", "test[:20]", "--json"]
    assert main(["embed", *words]) == 0
    assert json.loads(capsys.readouterr().out)["features"] == 8
    for model in (NAME, found["name"], str(run)):
        assert main(["predict", model, str(tmp_path / "image.png"), "--json"]) == 0
        predicted.append(json.loads(capsys.readouterr().out)["images"])
    assert predicted[0] == predicted[1] == predicted[2]


def test_nothing_of_the_machine_and_no_token_is_uploaded_or_printed(server, run, tmp_path, capsys):
    assert main(["push", str(run), NAME]) == 0
    printed = capsys.readouterr()
    files = server.files("user/cats")
    for name, content in files.items():
        assert b"secret" not in content, name
        assert TOKEN.encode() not in content, name
    assert TOKEN not in printed.out + printed.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    assert yaml.safe_load(files["recipe.yaml"])["data_dir"] == "tfds"
    assert json.loads(files["report.json"])["flags"]["data_dir"] == "tfds"
    assert b'zoo.build("hf://user/cats")' in files["README.md"]


def test_a_second_upload_is_a_second_revision(server, run):
    first = publish.push(run, NAME, public=True)
    assert not server.repositories["user/cats"]["private"]
    (run / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n")
    second = publish.push(run, NAME)
    assert first["revision"] != second["revision"]
    assert b"# Mine" in server.files("user/cats")["README.md"]
    assert len(server.repositories["user/cats"]["commits"]) == 2


@pytest.mark.parametrize("token", ["hf_wrong", ""])
def test_a_refused_token_is_an_error_of_one_line_without_it(
    server, run, token, monkeypatch, capsys
):
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(["push", str(run), NAME]) == 1
    error = capsys.readouterr().err
    assert "log in with `hf auth login`" in error
    assert error.count("\n") == 1
    assert not token or token not in error


def test_runs_that_cannot_be_pushed(server, run, tmp_path):
    unfinished = ROOT / "tests" / "files" / "old_runs" / "classification" / "interrupted"
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "model.keras").write_bytes(b"no archive")
    for folder, name, message in (
        (unfinished, NAME, "contains no finished run"),
        (tmp_path / "none", NAME, "contains no finished run"),
        (damaged, NAME, "cannot be read as a model file"),
        (run, "user/cats", "is not a name such as hf://USER/NAME"),
        (run, f"{NAME}@main", "leave out @main"),
    ):
        with pytest.raises(UsageError, match=message):
            publish.push(folder, name)
    assert server.requests == []


def test_without_a_network_nothing_is_left(server, run, monkeypatch):
    before = sorted(run.iterdir())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="cannot be reached"):
        publish.push(run, NAME)
    assert sorted(run.iterdir()) == before
