"""Invalid commands, damaged files and invalid calls fail with one line: see `fuzz_commands`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import fuzz_cases, fuzz_commands

SCRIPT = Path(fuzz_commands.__file__)
TRACEBACK = """zoo: epoch 1
Traceback (most recent call last):
  File "/x/scripts/__main__.py", line 27, in main
  File "/x/tasks/engine/trainer.py", line 61, in train
  File "/x/site-packages/keras/saving.py", line 5, in load
KeyError: 'loss'
"""


def run_fuzzer(count, seed):
    """Runs the script, asserts that it found no fault, and returns its output."""
    words = [sys.executable, SCRIPT, "--count", str(count), "--seed", str(seed)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_cases_are_deterministic_and_of_all_kinds():
    one, other = (fuzz_cases.cases(800, 0) for _ in range(2))
    assert [(c.kind, c.words, c.damage) for c in one] == [
        (c.kind, c.words, c.damage) for c in other
    ]
    assert len({(case.kind, case.words, case.note) for case in one}) == 800
    shares = {kind: sum(c.kind == kind for c in one) for kind in ("command", "file", "call")}
    assert min(shares.values()) > 50
    assert {c.damage[0] for c in one if c.damage} == set(fuzz_cases.READERS)
    assert {c.damage[1] for c in one if c.damage} == set(fuzz_cases.DAMAGES)
    assert fuzz_cases.cases(20, 1) != one[:20]


@pytest.mark.parametrize("name", fuzz_cases.DAMAGES)
def test_every_damage_changes_the_file(name, tmp_path):
    before = bytes(range(256)) * 4 + b"a1"
    (tmp_path / "file").write_bytes(before)
    fuzz_cases.damage(tmp_path, "file", name, 0.5)
    path = tmp_path / "file"
    assert not path.is_file() or path.read_bytes() != before


@pytest.mark.parametrize(
    ("status", "output", "fault"),
    [
        (0, "", ""),
        (1, "zoo: no such file\n", ""),
        (130, "zoo: stopped\n", ""),
        (1, "", "exit status 1 without a message"),
        (1, f"zoo: {'x' * 3_000}\n", "message too long"),
        (2, "zoo: no such file\n", "exit status 2"),
        (-9, "", "killed by SIGKILL"),
        (None, "", "timeout"),
        (1, TRACEBACK, "KeyError in train (tasks/engine/trainer.py:61)"),
    ],
)
def test_faults_are_recognised(status, output, fault):
    case = fuzz_cases.Case("command", ("predict",))
    assert fuzz_commands.Result(status, output, 1.0).fault(case) == fault


def test_faults_are_grouped_by_frequency():
    case = fuzz_cases.Case("command", ("predict", "a b"))
    rare, often = [(3, case, None)], [(1, case, None), (2, case, None)]
    lines = fuzz_commands.table({"rare": rare, "often": often}).splitlines()
    assert lines[0].split() == ["2", "often"]
    assert lines[1].strip() == "1: 'predict' 'a b'"
    assert lines[2].split() == ["1", "rare"]


@pytest.mark.check
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory")
def test_a_few_cases_have_no_fault():
    run_fuzzer(15, 8)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory")
def test_hundreds_of_cases_have_no_fault():
    run_fuzzer(800, 0)
