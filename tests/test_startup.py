"""What starts at once: modules are counted, not seconds, so that the limits hold anywhere."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import zoo
from scripts.__main__ import command_names
from tests.support.paths import ROOT

COUNT = """
import contextlib, io, json, sys
before = set(sys.modules)
{code}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
RUN = """
from scripts.__main__ import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({words})
"""

MOST = {  # command: the most modules of ours that its help may import
    "doctor": 12,
    "evaluate": 12,
    "finetune": 210,
    "launch": 45,
    "list": 14,
    "lr-find": 220,
    "generate": 12,
    "predict": 12,
    "rank": 110,
    "show": 45,
    "train": 210,
    "tune": 215,
    "weights": 30,
}


def imported(code):
    """Returns the modules that some code imports in a fresh process: ours, and all others."""
    words = [sys.executable, "-c", COUNT.format(code=code)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    ours = [name for name in found if name.split(".")[0] in ("zoo", "tasks", "scripts")]
    return ours, [name for name in found if name not in ours]


def strangers(others):
    return {name.split(".")[0] for name in others} - set(sys.stdlib_module_names)


def test_the_package_imports_next_to_nothing():
    ours, others = imported("import zoo")
    assert ours == ["zoo", "zoo.keras_registration"]
    assert len(others) <= 10


def test_errors_import_no_catalogue():
    assert imported("import zoo.errors")[0] == ["zoo", "zoo.errors", "zoo.keras_registration"]


def test_the_overview_imports_no_command():
    ours, others = imported(RUN.format(words=["--help"]))
    assert len(ours) <= 8, ours
    assert len(others) <= 40, others
    assert not strangers(others)


@pytest.mark.parametrize("command", command_names())
def test_help_imports_few_modules(command):
    ours, others = imported(RUN.format(words=[command, "--help"]))
    assert len(ours) <= MOST[command], ours
    assert not strangers(others)


def test_every_public_name_is_there_and_listed():
    assert set(zoo.__all__) <= set(dir(zoo))
    assert all(getattr(zoo, name) is not None for name in zoo.__all__)
    assert callable(zoo.model_files.load)  # modules too, without an import of their own
    with pytest.raises(AttributeError, match="no attribute 'vgg61'"):
        _ = zoo.vgg61
