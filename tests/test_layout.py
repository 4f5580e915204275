"""The rules of the house, so that every line is in the room where one looks for it."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {  # room: the rooms that it stands above
    "zoo": {"zoo"},
    "tasks.data": {"zoo"},
    "tasks.report": {"zoo"},
    "tasks.engine": {"zoo", "tasks.data", "tasks.report"},
    "tasks": {"zoo", "tasks.data", "tasks.report", "tasks.engine"},
    "tasks.advice": {"zoo", "tasks.data", "tasks.report", "tasks.engine", "tasks"},
    "tasks.deploy": {"zoo", "tasks.data", "tasks.report", "tasks.engine", "tasks"},
    "scripts": {"zoo", "tasks", "tasks.data", "tasks.report", "tasks.engine"}
    | {"tasks.advice", "tasks.deploy"},
}
STRANGERS = ("zoo.models", "tasks")  # packages whose files do not know each other
FILES = sorted(
    path.relative_to(ROOT)
    for package in ("zoo", "tasks", "scripts")
    for path in (ROOT / package).rglob("*.py")
)
FRAMEWORKS = {"keras", "tensorflow", "tensorflow_datasets", "keras_tuner", "jax", "torch"}
SLOW_TO_IMPORT = FRAMEWORKS | {"numpy", "PIL", "h5py", "matplotlib"}
# Besides zoo/layers: files of classes that derive from those of Keras, which cannot wait for it.
CLASSES = ("beam", "computed", "groups", "lbfgs", "loop", "schedules", "search/oracles")
DERIVED = {Path(f"tasks/engine/{name}.py") for name in CLASSES}
FORBIDDEN = {"utils", "util", "misc", "helpers", "helper", "common", "base"}
LONGEST_FILE = 300
LONGEST_FUNCTION = 40
LONGEST_BUILDER = 60


@functools.cache
def source(path):
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def tree(path):
    return ast.parse(source(path))


def dotted(path):
    """The name under which a file is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path) for path in FILES}


def innermost(name, known):
    """The longest beginning of a dotted name that is among the `known`, or `None`."""
    parts = name.split(".")
    beginnings = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((beginning for beginning in beginnings if beginning in known), None)


def room(name):
    """The room that a dotted name leads into, or `None` if it is not of the house."""
    return innermost(name, MAY_IMPORT)


def module(name):
    """The module of ours that a dotted name is in, or `None`."""
    return innermost(name, MODULES)


def imports(nodes):
    """What the import statements among `nodes` ask for: modules and names in modules, dotted."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


def code_lines(function):
    """Lines of a function, less its docstring: a long explanation is no fault."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function):
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


def is_builder(path, function):
    if path.parts[:2] != ("zoo", "models"):
        return False
    marks = [ast.unparse(mark) for mark in function.decorator_list]
    return any("register" in mark for mark in marks)


def test_the_house_is_found():
    assert len(FILES) > 10
    assert {room(dotted(path)) for path in FILES} >= {"zoo", "tasks", "scripts"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_one_way(path):
    mine = room(dotted(path))
    asked = {room(name) for name in imports(ast.walk(tree(path)))} - {None, mine}
    assert asked <= MAY_IMPORT[mine]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_siblings_do_not_meet(path):
    package = ".".join(path.parent.parts)
    if package in STRANGERS and path.name != "__init__.py":
        siblings = {dotted(other) for other in FILES if other.parent == path.parent} - {package}
        asked = {module(name) for name in imports(ast.walk(tree(path)))}
        assert not asked & (siblings - {dotted(path)})


@pytest.mark.parametrize("path", FILES, ids=str)
def test_frameworks_load_when_they_are_needed(path):
    if path.parent == Path("zoo/layers") or path in DERIVED:
        return
    asked = {name.partition(".")[0] for name in imports(tree(path).body)}
    assert not asked & SLOW_TO_IMPORT


@pytest.mark.parametrize("path", FILES, ids=str)
def test_tensorflow_is_spoken_in_tasks_only(path):
    if path.parts[0] == "tasks" or path == Path("zoo/lazy.py"):
        return
    asked = set(imports(ast.walk(tree(path))))
    assert not {name for name in asked if name.startswith("tensorflow")} | asked & {"zoo.lazy.tf"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_are_short(path):
    assert len(source(path).splitlines()) <= LONGEST_FILE
    for function in functions(path):
        limit = LONGEST_BUILDER if is_builder(path, function) else LONGEST_FUNCTION
        lines = code_lines(function)
        assert lines <= limit, f"{path}:{function.lineno} {function.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_what_is_public_is_documented(path):
    assert ast.get_docstring(tree(path)), f"{path} has no docstring"
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_names_say_what_is_inside(path):
    words = {word for part in path.with_suffix("").parts for word in part.split("_")}
    assert not words & FORBIDDEN


@pytest.mark.parametrize("path", FILES, ids=str)
def test_private_names_stay_at_home(path):
    for name in set(imports(ast.walk(tree(path)))) - MODULES:
        assert room(name) is None or not name.rpartition(".")[2].startswith("_"), name


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_path_of_one_machine(path):
    folders = ("/root/", "/home/", "/work/", "/Users/", "/mnt/")
    assert not [folder for folder in folders if f'"{folder}' in source(path)]


@pytest.mark.parametrize("name", ["zoo", "tasks", "scripts.__main__"])
def test_importing_loads_no_framework(name):
    heavy = sorted(SLOW_TO_IMPORT)
    code = f"import sys, {name}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_relies_on_assert(path):
    """`python -O` leaves assertions out, with what they call."""
    assert not [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]
