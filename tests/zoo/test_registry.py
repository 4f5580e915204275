"""The registry: complete after a failed import, and for concurrent threads."""

from __future__ import annotations

import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

import tasks
import zoo
from zoo.errors import UsageError
from zoo.registry import Registry

PACKAGE = "registered_things"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry whose package has two modules that register two entries each."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for name in ("first", "second"):
        write(folder, name)
    monkeypatch.syspath_prepend(tmp_path)
    made = Registry("thing", PACKAGE)
    monkeypatch.setattr(sys, "registry_of_things", made, raising=False)
    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def write(folder, name, before="", between=""):
    source = f"""
    import sys, time
    registry = sys.registry_of_things
    {before}
    registry.add("{name}_a", 1, __name__)
    {between}
    registry.add("{name}_b", 2, __name__)
    """
    (folder / f"{name}.py").write_text(textwrap.dedent(source))


ALL_NAMES = ["first_a", "first_b", "second_a", "second_b"]


def test_failed_import_is_retried(registry, tmp_path):
    write(tmp_path / PACKAGE, "second", between="1 / 0")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            registry.names()
        with pytest.raises(ZeroDivisionError):
            registry.get("first_a")
    sys.dont_write_bytecode, old = True, sys.dont_write_bytecode
    try:
        write(tmp_path / PACKAGE, "second", before="fixed = True")
        assert registry.names() == ALL_NAMES
    finally:
        sys.dont_write_bytecode = old
    assert registry.get("second_b") == 2


def test_threads_wait_for_all_entries(registry, tmp_path):
    write(tmp_path / PACKAGE, "second", before="time.sleep(0.3)")
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: registry.names(), range(8)):
            assert found == ALL_NAMES


def test_duplicate_name_is_refused(registry):
    registry.names()
    with pytest.raises(ValueError, match="two things are named 'first_a'"):
        registry.add("first_a", 3, "elsewhere")


@pytest.mark.parametrize("name", [None, 5, [], {}, float("nan"), b"vgg16", ("vgg16",)])
def test_invalid_names_are_refused(name):
    for get in (tasks.get, zoo.spec, zoo.build, zoo.backbone):
        with pytest.raises(UsageError, match=r"no (task|model) named"):
            get(name)
