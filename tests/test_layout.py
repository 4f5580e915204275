"""The layout of the code: which package may import which, and what a file may hold.

docs/architecture.md explains the packages. Modules that are named in strings, to be loaded on
first use, count as imports.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.architecture import architecture
from tests.support.paths import ROOT

# From the top down: a package imports only from the rows below its own, and from itself. The
# picture of the packages leaves out `tasks` itself, which holds the registry.
ENGINE = architecture.ROWS.index(("tasks.engine",))
ROWS = (*architecture.ROWS[:ENGINE], ("tasks",), *architecture.ROWS[ENGINE:])
SEPARATE = ("zoo.models",)  # packages whose modules do not import each other
FILES = sorted(
    path.relative_to(ROOT)
    for package in ("zoo", "tasks", "scripts")
    for path in (ROOT / package).rglob("*.py")
)
FRAMEWORKS = {"keras", "tensorflow", "tensorflow_datasets", "keras_tuner", "jax", "torch"}
SLOW_TO_IMPORT = FRAMEWORKS | {"numpy", "PIL", "h5py", "matplotlib"}
# Besides zoo/layers: files of subclasses of Keras's classes, which import Keras at once.
SUBCLASSES = {
    Path(f"tasks/{name}.py")
    for name in (
        "api/layerwise",
        "api/tuner",
        "captioning/beam_search",
        "engine/custom_step",
        "inference/lambda_layer",
        "engine/param_groups",
        "engine/schedules",
        "style_transfer/lbfgs",
        "tuning/oracles",
    )
}
FORBIDDEN = {"utils", "util", "misc", "helpers", "helper", "common", "base"}
MAX_FILE_LINES = 300
MAX_ENGINE_LINES = 3_000
MAX_FUNCTION_LINES = 40
MAX_BUILDER_LINES = 60
MAX_STUDY_LINES = 60  # of the experiment in a study, which a page shows

pytestmark = pytest.mark.xdist_group("layout")  # every file is parsed once


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


MODULES = {dotted(path): path for path in FILES}
ROOMS = [room for row in ROWS for room in row]


def innermost(name, known):
    """The longest beginning of a dotted name that is among the `known`, or `None`."""
    parts = name.split(".")
    beginnings = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((beginning for beginning in beginnings if beginning in known), None)


def room(name):
    """The package of `ROWS` that a dotted name leads into, or `None` if it is not ours."""
    return innermost(name, ROOMS)


def row(name):
    return next(index for index, rooms in enumerate(ROWS) if name in rooms)


def imports(nodes):
    """What the import statements among `nodes` ask for: modules and names in modules, dotted."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named_in_strings(nodes):
    """The modules of ours that strings name, such as `"tasks.gan.sampling"`."""
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = architecture.STRING_MODULE.fullmatch(node.value)
            if match and match[1] in MODULES:
                yield match[1]


@functools.cache
def used_modules(path):
    """The modules of ours that a file imports or names, without itself."""
    nodes = list(ast.walk(tree(path)))
    names = [*imports(nodes), *named_in_strings(nodes)]
    return {innermost(name, MODULES) for name in names} - {None, dotted(path)}


def functions(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


def code_lines(function):
    """Lines of a function, without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function):
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


def is_builder(path, function):
    if path.parts[:2] != ("zoo", "models"):
        return False
    marks = [ast.unparse(mark) for mark in function.decorator_list]
    return any("register" in mark for mark in marks)


def test_files_are_found():
    assert len(FILES) > 300
    assert {room(dotted(path)) for path in FILES} == set(ROOMS)


def test_imports_point_downwards():
    wrong = []
    for path in FILES:
        mine = room(dotted(path))
        for name in used_modules(path):
            other = room(name)
            # The `tasks` package itself finds the tasks, wherever they are.
            if other != mine and mine != "tasks" and row(other) <= row(mine):
                wrong.append(f"{path} imports {name}")
    assert not wrong


def test_models_and_commands_do_not_import_their_siblings():
    wrong = []
    for path in FILES:
        package = ".".join(path.parent.parts)
        if package in SEPARATE and path.name != "__init__.py":
            wrong += [f"{path}: {x}" for x in used_modules(path) if x.startswith(f"{package}.")]
        elif package == "scripts" and not path.name.startswith("_"):
            siblings = {x for x in used_modules(path) if x.startswith("scripts.")}
            wrong += [f"{path}: {x}" for x in siblings if not x.startswith("scripts._")]
    assert not wrong


def test_no_module_imports_itself_through_others():
    seen, path = set(), []

    def visit(name):
        assert name not in path, f"a cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in seen:
            path.append(name)
            for other in sorted(used_modules(MODULES[name])):
                if not name.startswith(other):  # a package that contains it
                    visit(other)
            path.pop()
            seen.add(name)

    for name in MODULES:
        visit(name)


def test_only_one_package_names_distribution_strategies():
    named = [path for path in FILES if "tf.distribute." in source(path)]
    uses = [path for path in named if "tf.distribute." in _code(path)]
    assert uses
    assert {path.parts[:2] for path in uses} == {("tasks", "distributed")}


@functools.cache
def _code(path):
    """The source of a file without comments and docstrings."""
    return ast.unparse(_WithoutDocstrings().visit(ast.parse(source(path))))


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node):
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if is_text else node


def test_frameworks_are_imported_on_first_use():
    for path in FILES:
        if path.parent != Path("zoo/layers") and path not in SUBCLASSES:
            asked = {name.partition(".")[0] for name in imports(tree(path).body)}
            assert not asked & SLOW_TO_IMPORT, path
    assert {path for path in SUBCLASSES if path not in FILES} == set()


def test_tensorflow_is_imported_by_tasks_only():
    for path in FILES:
        if path.parts[0] != "tasks" and path != Path("zoo/lazy.py"):
            asked = set(imports(ast.walk(tree(path))))
            tensorflow = {name for name in asked if name.startswith("tensorflow")}
            assert not tensorflow | asked & {"zoo.lazy.tf"}, path


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_are_short(path):
    assert len(source(path).splitlines()) <= MAX_FILE_LINES
    for function in functions(path):
        limit = MAX_BUILDER_LINES if is_builder(path, function) else MAX_FUNCTION_LINES
        if path.parts[:2] == ("tasks", "study") and function.name == "run":
            limit = MAX_STUDY_LINES
        lines = code_lines(function)
        assert lines <= limit, f"{path}:{function.lineno} {function.name} has {lines} lines"


def test_the_engine_is_small():
    engine = [path for path in FILES if path.parts[:2] == ("tasks", "engine")]
    assert sum(len(source(path).splitlines()) for path in engine) < MAX_ENGINE_LINES


def test_what_is_public_has_a_docstring():
    for path in FILES:
        assert ast.get_docstring(tree(path)), f"{path} has no docstring"
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"


def documented_arguments(function):
    """Returns the names under `Args:` in a docstring."""
    section = re.search(r"\n *Args:\n(.*?)(\n\n|\Z)", ast.get_docstring(function) or "", re.S)
    if not section:
        return []
    lines = [line for line in section[1].splitlines() if re.match(r" {4}\S", line)]
    names = [line.partition(":")[0] for line in lines if ":" in line]
    return [name.strip(" *") for part in names for name in part.split(",")]


def arguments(node):
    """Returns the names of the parameters of a function, or of a class's fields or `__init__`."""
    if isinstance(node, ast.ClassDef):
        fields = {x.target.id for x in node.body if isinstance(x, ast.AnnAssign)}
        inits = [x for x in node.body if getattr(x, "name", "") in ("__init__", "__call__")]
        return fields.union(*(arguments(x) for x in inits))
    every = node.args
    found = [*every.posonlyargs, *every.args, *every.kwonlyargs]
    return {x.arg for x in [*found, every.vararg, every.kwarg] if x}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_documented_arguments_are_arguments(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.ClassDef) and arguments(node)
        ):
            wrong = set(documented_arguments(node)) - arguments(node)
            assert not wrong, f"{path}:{node.lineno} {node.name} documents {', '.join(wrong)}"


def test_names_say_what_is_inside():
    for path in FILES:
        words = {word for part in path.with_suffix("").parts for word in part.split("_")}
        assert not words & FORBIDDEN, path


def test_private_names_stay_in_their_module():
    for path in FILES:
        for name in set(imports(ast.walk(tree(path)))) - set(MODULES):
            assert room(name) is None or not name.rpartition(".")[2].startswith("_"), (path, name)


def test_no_path_of_one_machine():
    folders = ("/root/", "/home/", "/work/", "/Users/", "/mnt/")
    for path in FILES:
        assert not [folder for folder in folders if f'"{folder}' in source(path)], path


def test_no_file_relies_on_assert():
    """`python -O` leaves assertions out, with what they call."""
    for path in FILES:
        assert not [x.lineno for x in ast.walk(tree(path)) if isinstance(x, ast.Assert)], path


def test_tests_mirror_the_packages():
    """A folder of tests has the name of a package."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    for folder in folders - {ROOT / "tests"}:
        assert (ROOT / folder.relative_to(ROOT / "tests")).is_dir(), folder


@pytest.mark.parametrize("name", ["zoo", "tasks", "scripts.__main__"])
def test_importing_loads_no_framework(name):
    heavy = sorted(SLOW_TO_IMPORT)
    code = f"import sys, {name}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
