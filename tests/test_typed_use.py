"""Type annotations: all public functions have them, and mypy accepts `tests/typed_use.py`."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import tasks
import zoo
from tests.support.paths import ROOT

PUBLIC = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in (zoo, zoo.surgery, tasks)
    for name in module.__all__
    if not inspect.ismodule(getattr(module, name))
]


def functions(value):
    """Yields a function, or the public methods and properties that a class defines."""
    if not inspect.isclass(value):
        yield value
        return
    for name, member in vars(value).items():
        if not name.startswith("_"):
            member = member.fget if isinstance(member, property) else member
            if inspect.isfunction(member):
                yield member


@pytest.mark.parametrize("value", PUBLIC)
def test_every_public_function_is_annotated(value):
    for function in functions(value):
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function.__qualname__
        for parameter in signature.parameters.values():
            if parameter.name != "self":
                assert parameter.annotation is not parameter.empty, f"{function}: {parameter}"


@pytest.mark.check
def test_mypy_accepts_typed_use(tmp_path):
    pytest.importorskip("mypy", reason="needs the extra test")
    words = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
