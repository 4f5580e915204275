"""The documentation site: pages made from the code, and links between folders.

`make check` builds the whole site, with warnings as errors.
"""

import dataclasses
import importlib
import sys
from pathlib import Path

import pytest

import tasks
import zoo

ROOT = Path(zoo.__file__).parent.parent
SITE = ROOT / "docs" / "site"


@pytest.fixture
def site(monkeypatch):
    """Returns what imports a module of `docs/site`."""
    monkeypatch.syspath_prepend(str(SITE))
    yield importlib.import_module
    for name in ("build", "gallery", "links", "reference"):
        sys.modules.pop(name, None)


def test_every_public_name_has_an_entry(site):
    reference = site("reference")
    modules = reference.public_modules()
    assert {"zoo", "zoo.surgery", "zoo.layers", "tasks"} <= set(modules)
    for package in (zoo, tasks, zoo.surgery):
        page = reference.module_page(package.__name__)
        for name in package.__all__:
            module = getattr(getattr(package, name), "__name__", "")
            shown = module in modules and f"<{module}>" in page
            assert shown or f"{package.__name__}.{name}\n" in page


def test_every_flag_of_every_task_is_listed(site):
    page = site("reference").tasks_page()
    assert all(f"\n{name}\n---" in page for name in tasks.names())
    for task in map(tasks.get, tasks.names()):
        for field in dataclasses.fields(task):
            assert f"``--{field.name.replace('_', '-')}``" in page


def test_every_model_is_in_the_gallery(site):
    gallery = site("gallery")
    page = gallery.gallery_page([zoo.spec(name) for name in zoo.names()])
    for name in zoo.names():
        assert f"<code>{name}</code>" in page
    assert "25.6M" in page
    assert "BSD 3-Clause" in page


def test_links_between_folders_hold_in_one(site):
    relink = site("build").relink
    assert relink("[a](docs/why.md) ![b](docs/b.png)") == "[a](why.md) ![b](b.png)"
    assert relink("[a](../README.md#figures)") == "[a](index.md#figures)"
    assert relink("[a](../zoo/models/nic.py), [b](LICENSE)") == "a, [b](license.md)"
    assert relink("[a](search.md#x)") == "[a](search-guide.md#x)"
    assert relink("[a](https://example.org/docs/x)") == "[a](https://example.org/docs/x)"


def test_every_page_stands_in_the_navigation_once(site, tmp_path):
    build = site("build")
    build.assemble(tmp_path / "source")
    lines = (tmp_path / "source" / "index.md").read_text().splitlines()
    for path in (ROOT / "docs").glob("*.md"):
        assert lines.count(build.page_of(path.stem).removesuffix(".md")) == 1, path.name
    assert lines.count("api/zoo.surgery") == lines.count("gallery") == 1


def test_links_that_lead_nowhere_and_foreign_assets_are_found(site, tmp_path):
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html">a</a>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there"></a><a href="b.html#gone"></a><a href="c.html"></a>'
        '<a href="https://example.org"></a><script src="https://example.org/x.js"></script>'
    )
    assert site("links").find_errors(tmp_path) == [
        "a.html: b.html#gone: the page has no such anchor",
        "a.html: c.html leads nowhere",
        "a.html: loads https://example.org/x.js",
    ]
