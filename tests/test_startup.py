"""Start-up cost, measured as the number of imported modules, which is the same anywhere."""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import re
import subprocess
import sys

import pytest

import tasks
import zoo
from scripts.__main__ import command_names
from tests.support.paths import ROOT

FORK = """
import contextlib, io, json, os, sys
for code in {codes}:
    sys.stdout.flush()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, code
        continue
    before = set(sys.modules)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        exec(code)
    print(json.dumps([code, sorted(set(sys.modules) - before)]), flush=True)
    os._exit(0)
"""
RUN = "from scripts.__main__ import main; main({words})"
# Commands that run, besides those whose help is printed.
COMMANDS = (
    ["list", "--sort", "flops"],
    ["list", "--license", "mit"],
    ["weights"],
    ["weights", "verify"],
)
IMPORTS = (
    "import zoo; zoo.names()",
    "import tasks; tasks.names()",
    "import scripts.train, scripts.list, scripts.finetune, scripts.predict",
)

# The fixture `modules_of` is computed once per process.
pytestmark = [
    pytest.mark.xdist_group("startup"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
]

MAX_MODULES = {  # command: modules of ours that its help may import
    "benchmark": 12,
    "clean": 45,
    "compare": 12,
    "doctor": 12,
    "embed": 12,
    "evaluate": 12,
    "explain": 12,
    "export": 12,
    "finetune": 218,
    "launch": 45,
    "list": 14,
    "lr-find": 231,
    "generate": 12,
    "gradcheck": 12,
    "predict": 12,
    "push": 12,
    "rank": 110,
    "runs": 12,
    "serve": 12,
    "show": 45,
    "study": 40,
    "train": 218,
    "tune": 221,
    "weights": 30,
}


@pytest.fixture(scope="module")
def modules_of():
    """Returns the modules that each piece of code imports: ours, and all others.

    All are forked from one process that has imported none of them.
    """
    commands = [["--help"], *([name, "--help"] for name in command_names()), *COMMANDS]
    codes = ["import zoo", "import zoo.errors", *IMPORTS]
    codes += [RUN.format(words=words) for words in commands]
    program = FORK.format(codes=codes)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        code, names = json.loads(line)
        ours = [name for name in names if name.split(".")[0] in ("zoo", "tasks", "scripts")]
        found[code] = ours, [name for name in names if name not in ours]
    return found


def third_party(others):
    return {name.split(".")[0] for name in others} - set(sys.stdlib_module_names)


def test_zoo_imports_few_modules(modules_of):
    ours, others = modules_of["import zoo"]
    assert ours == ["zoo", "zoo.keras_registration"]
    assert len(others) <= 10


def test_errors_do_not_import_the_catalog(modules_of):
    assert modules_of["import zoo.errors"][0] == ["zoo", "zoo.errors", "zoo.keras_registration"]


def test_overview_imports_no_command(modules_of):
    ours, others = modules_of[RUN.format(words=["--help"])]
    assert len(ours) <= 8, ours
    assert len(others) <= 40, others
    assert not third_party(others)


@pytest.mark.parametrize("command", command_names())
def test_help_imports_few_modules(command, modules_of):
    ours, others = modules_of[RUN.format(words=[command, "--help"])]
    assert len(ours) <= MAX_MODULES[command], ours
    assert not third_party(others)


@pytest.mark.parametrize("code", [*IMPORTS, *(RUN.format(words=words) for words in COMMANDS)])
def test_no_framework_is_imported(code, modules_of):
    _, others = modules_of[code]
    assert not third_party(others) & {"keras", "tensorflow", "numpy", "PIL", "tqdm"}


@pytest.mark.parametrize("module", [zoo, zoo.surgery, tasks], ids=lambda module: module.__name__)
def test_help_shows_the_public_functions_alone(module):
    shown = pydoc.plain(pydoc.render_doc(module))
    functions = shown.partition("\nFUNCTIONS\n")[2].partition("\nDATA\n")[0]
    listed = set(re.findall(r"^    (\w+)(?: = \w+)?\(", functions, re.M))
    named = {name for name in module.__all__ if inspect.isfunction(getattr(module, name))}
    assert listed == named


def test_public_names_exist_and_are_listed():
    assert dir(zoo) == sorted(zoo.__all__)
    assert all(getattr(zoo, name) is not None for name in zoo.__all__)
    assert dir(zoo.surgery) == sorted(zoo.surgery.__all__)
    assert callable(zoo.model_files.load)  # modules too, without an import of their own
    with pytest.raises(AttributeError, match="no attribute 'vgg61'"):
        _ = zoo.vgg61
