"""`zoo weights` and `zoo list --license`: output and exit status."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re

import pytest

import zoo
from scripts.__main__ import main
from zoo import catalog, env_vars
from zoo.weights import cache

CONTENTS = {
    "http://example.invalid/one.h5": b"one, whole",
    "http://example.invalid/one_notop.h5": b"one",
    "http://example.invalid/two.h5": b"two, without a digest",
}
ONE, SMALL, TWO = CONTENTS


def digest(source):
    return hashlib.sha256(CONTENTS[source]).hexdigest()


def md5(source):
    return hashlib.md5(CONTENTS[source]).hexdigest()


FACTS = {
    "lenet5.one": zoo.Weights(
        source=ONE, digest=digest(ONE), headless=(SMALL, md5(SMALL)), licence="MIT (of its authors)"
    ),
    "lenet5.two": zoo.Weights(source=TWO, licence="CC BY-NC 4.0"),
    "lenet5.hand": zoo.Weights(licence="GPL 3"),
}


@pytest.fixture(autouse=True)
def tags(tmp_path, monkeypatch):
    """A zoo with weights for two models only, and a machine without any."""
    for name in [*os.environ]:
        if name.startswith("ZOO_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    names = ("lenet5", "resnet20", "resnet20.cifar10")
    entries = {name: zoo.spec(name) for name in names}
    for name, facts in FACTS.items():
        entries[name] = dataclasses.replace(entries["lenet5"], name=name, weights=facts)
    monkeypatch.setattr(catalog.models, "_entries", entries)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for `ZOO_WEIGHTS`, with every file under the name in its URL."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for source, content in CONTENTS.items():
        (folder / source.rpartition("/")[2]).write_bytes(content)
    monkeypatch.setenv("ZOO_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def cached():
    """A cache with the files of `lenet5`."""
    env_vars.weights_dir().mkdir(parents=True)
    for facts in FACTS.values():
        for file in facts.published.values():
            (env_vars.weights_dir() / file.cache_name).write_bytes(CONTENTS[file.source])


def run(capsys, *words, status=0):
    """Runs `zoo weights`; returns its standard output and standard error."""
    assert main(["weights", *map(str, words)]) == status
    return capsys.readouterr()


def read(capsys, *words, status=0):
    return json.loads(run(capsys, *words, "--json", status=status).out)


def test_list_prints_every_file(capsys, cached):
    head, *lines = run(capsys).out.splitlines()
    assert head.split() == ["name", "part", "size", "where", "digest", "licence"]
    assert [line.split()[:2] for line in lines] == [
        ["resnet20.cifar10", "whole"],
        ["lenet5.one", "whole"],
        ["lenet5.one", "headless"],
        ["lenet5.two", "whole"],
        ["lenet5.hand", "whole"],
    ]
    assert max(map(len, lines)) <= 100
    assert run(capsys, "list").out.splitlines() == [head, *lines]


def test_list_prints_details_as_json(capsys, cached):
    shipped, one, small, two, hand = read(capsys, "list")
    assert (shipped["where"], one["where"], hand["where"]) == ("package", "cache", "by hand")
    assert one["bytes"] == len(CONTENTS[ONE])
    assert (one["digest"], one["digest_kind"], one["sha256"]) == (digest(ONE), "sha256", None)
    assert (small["digest_kind"], two["digest_kind"]) == ("md5", "none")
    assert [x["commercial"] for x in (shipped, one, two, hand)] == [True, True, False, None]
    run(capsys, "fetch", "lenet5")
    run(capsys, "fetch", "lenet5.one", "--headless")
    _, one, small, two, _ = read(capsys, "list")
    assert small["digest_kind"] == "md5, then sha256"
    assert two["digest_kind"] == "first use"
    assert (small["sha256"], two["sha256"]) == (digest(SMALL), digest(TWO))


def test_list_shows_missing_files(capsys):
    (one, small) = read(capsys, "list", "lenet5.one")
    assert (one["where"], one["path"], one["bytes"], small["where"]) == ("-", None, None, "-")


def test_list_takes_patterns(capsys):
    assert {one["name"] for one in read(capsys, "list", "resnet*")} == {"resnet20.cifar10"}
    assert {one["name"] for one in read(capsys, "list", "hand", "two")} == {
        "lenet5.hand",
        "lenet5.two",
    }
    assert len(read(capsys, "list", "lenet5.one", "--headless")) == 1


def test_fetch_prints_paths(capsys, folder):
    assert [(one["name"], one["path"]) for one in read(capsys, "fetch", "lenet5")] == [
        ("lenet5.one", str(folder / "one.h5")),
        ("lenet5.two", str(folder / "two.h5")),
    ]
    (small,) = read(capsys, "fetch", "lenet5.one", "--headless")
    assert small["path"] == str(folder / "one_notop.h5")
    assert "lenet5.one  whole  0.0 MB  " in run(capsys, "fetch", "one").out


def test_fetch_continues_after_a_failure(capsys, folder):
    (folder / "one.h5").unlink()
    shown = run(capsys, "fetch", "lenet5", status=1)
    assert "lenet5.two" in shown.out
    assert "the weights of lenet5.one are not in the folder" in shown.err


def test_verify_prints_a_result_per_file(capsys, cached):
    verdicts = {(x["name"], x["part"]): x["verdict"] for x in read(capsys, "verify")}
    assert verdicts == {
        ("resnet20.cifar10", "whole"): "ok",
        ("lenet5.one", "whole"): "ok",
        ("lenet5.one", "headless"): "ok",
        ("lenet5.two", "whole"): "first use",
    }
    assert "none of these weights are on this machine" in run(capsys, "verify", "hand").err


@pytest.mark.parametrize(("source", "name"), [(ONE, "lenet5.one"), (TWO, "lenet5.two")])
def test_verify_finds_corrupt_files(source, name, capsys, cached):
    """Also if neither size nor modification time have changed."""
    run(capsys, "verify")
    path = env_vars.weights_dir() / FACTS[name].published["whole"].cache_name
    times = os.stat(path)
    path.write_bytes(b"?" + CONTENTS[source][1:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    shown = run(capsys, "verify", name, status=1)
    assert shown.out.splitlines()[1].split()[:2] == ["wrong", name]
    assert "renamed to" in shown.err
    assert not path.exists()


def test_verify_finds_a_wrong_file_in_a_folder(capsys, folder):
    (folder / "one_notop.h5").write_bytes(b"?")
    found = read(capsys, "verify", "lenet5.one", status=1)
    assert [one["verdict"] for one in found] == ["ok", "wrong"]
    assert (folder / "one_notop.h5").exists()


def test_mirror_serves_another_machine(capsys, folder, tmp_path, monkeypatch):
    made = read(capsys, "mirror", tmp_path / "mirror")
    assert [(one["name"], one["part"]) for one in made] == [
        ("lenet5.one", "whole"),
        ("lenet5.one", "headless"),
        ("lenet5.two", "whole"),
    ]
    assert made == read(capsys, "mirror", tmp_path / "mirror")
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path / "mirror"))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "other"))
    (one,) = read(capsys, "fetch", "lenet5.one")
    assert one["path"] == str(tmp_path / "mirror" / cache.RemoteFile(ONE, digest(ONE)).cache_name)
    assert {x["where"] for x in read(capsys, "list", "lenet5.one")} == {"mirror"}
    read(capsys, "mirror", tmp_path / "small", "lenet5.one", "--headless")
    assert len(os.listdir(tmp_path / "small")) == 2  # the file and the index


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("lst",), "no action named 'lst'; did you mean list?"),
        (("fetch",), "no weights given"),
        (("fetch", "lenet5.on"), "lenet5.one are not on this machine"),
        (("fetch", "lenot"), "no weights named 'lenot'; did you mean .*lenet5.one"),
        (("fetch", "lenet5.hand"), "lenet5.hand have no source .* weights=FILE"),
        (("fetch", "lenet5"), "2 of 2 files failed; the first: the weights of lenet5.one are"),
        (("mirror",), "no folder given"),
        (("mirror", "DIR", "lenet5.hand"), "nothing to mirror"),
        (("list", "--colour"), "unrecognized arguments: --colour"),
    ],
)
def test_errors_are_one_line(words, wanted, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (line,) = run(capsys, *words, status=1).err.splitlines()
    assert re.search(wanted, line)
    assert os.listdir(tmp_path) in ([], ["home"])


def test_list_filters_by_licence(capsys):
    def names(terms, flag="--license"):
        assert main(["list", flag, terms, "--json"]) == 0
        return [spec["name"] for spec in json.loads(capsys.readouterr().out)]

    assert names("commercial") == ["resnet20.cifar10", "lenet5.one"]
    assert names("noncommercial", "--licence") == ["lenet5.two"]
    assert names("gpl") == ["lenet5.hand"]
    assert names("cc-by-nc") == ["lenet5.two"]
    assert main(["list", "--license", "agpl"]) == 1
