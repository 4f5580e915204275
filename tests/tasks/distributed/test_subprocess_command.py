"""Child processes import these packages, whatever lies in the folder that they are started in."""

from __future__ import annotations

import subprocess

import pytest

from scripts import launch
from tasks.distributed import subprocess_command
from tasks.tuning import subprocess_trials
from tests.support.paths import ROOT

PACKAGES = ("scripts", "tasks", "zoo")


@pytest.fixture
def hostile(tmp_path):
    """A folder whose modules have the names of ours, each of which reports that it was run."""
    for name in (*PACKAGES, "json"):
        (tmp_path / f"{name}.py").write_text("print('a module of the current folder')\n")
        if name != "json":
            (tmp_path / name).mkdir()
            for file in ("__init__.py", "__main__.py"):
                (tmp_path / name / file).write_text("print('a module of the current folder')\n")
    return tmp_path


def output(command, folder):
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_a_child_imports_nothing_of_the_current_folder(hostile):
    names = ", ".join(PACKAGES)
    code = f"import json, {names}; print(*[m.__file__ for m in ({names})])"
    found = output(subprocess_command.python_command(code), hostile).split()
    assert found == [str(ROOT / name / "__init__.py") for name in PACKAGES]


def test_launch_runs_the_command_whatever_lies_in_the_current_folder(hostile):
    words = ("launch", "-n", "1", "--", "--version")
    assert output(subprocess_command.python_command(launch.PROGRAM, *words), hostile).startswith(
        "keras-zoo "
    )


def test_the_process_for_trials_imports_nothing_of_the_current_folder(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(subprocess_trials, "PROGRAM", "import tasks; print(tasks.__file__)")
    with subprocess_trials._start_fork_server() as process:
        assert process.stdout.read().strip() == str(ROOT / "tasks" / "__init__.py")


def test_one_function_makes_the_command_lines_of_all_children():
    starting = ("sys.executable", "multiprocessing", "os.system", "os.spawn", "os.exec")
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    found = [path.name for path in files if any(word in path.read_text() for word in starting)]
    # `_streams` restarts its own command where that needs another encoding.
    assert sorted(found) == ["_streams.py", "subprocess_command.py"]
