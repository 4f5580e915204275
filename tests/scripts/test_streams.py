"""What a command writes to a terminal, and what it does where it cannot write."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from scripts import _streams, launch
from tasks.distributed import subprocess_command
from zoo import terminal

FULL = Path("/dev/full")
PREPARED = "import os; from scripts import _quiet; words = _quiet.prepare({words}); "


def zoo(*words, shell="{}", **environ):
    """Runs a command in a shell, which may redirect its streams."""
    command = subprocess_command.python_command(launch.PROGRAM, *words)
    line = shell.format('"$@"')
    return subprocess.run(
        ["bash", "-c", line, "bash", *command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
    )


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
@pytest.mark.parametrize("words", [["list"], ["list", "lenet5"], ["train", "--help"]])
def test_a_full_disk_behind_standard_output_is_one_line(words):
    done = zoo(*words, shell="{} > /dev/full")
    reason = "No space left on device"
    assert done.stderr == f"zoo: standard output cannot be written: {reason}\n"
    assert done.returncode == 1


def test_standard_streams_may_be_closed():
    done = zoo("list", "lenet5", shell="{} >&-")
    assert done.stderr == "zoo: standard output cannot be written: Bad file descriptor\n"
    assert done.returncode == 1
    done = zoo("list", "lenet5", shell="{} 2>&- <&-")
    assert (done.returncode, done.stdout.splitlines()[1].split()[0]) == (0, "lenet5")
    done = zoo("nothing", shell="{} <&- >&- 2>&-")
    assert done.returncode == 1


def test_a_reader_that_has_seen_enough_is_no_failure():
    done = zoo("list", "--json", shell="{} | head -c 1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="sets a locale")
def test_words_that_are_not_ascii_in_a_locale_that_is(tmp_path):
    words = ("evaluate", f"{tmp_path}/é/ü")
    done = zoo(*words, PYTHONUTF8="0", LC_ALL="C", PYTHONIOENCODING="")
    assert done.stderr.startswith(f"zoo: {tmp_path}/é/ü holds no finished run")
    assert done.returncode == 1


@pytest.mark.parametrize("words", [["--help"], ["list", "--help"], ["list", "lenet5"]])
def test_commands_run_without_docstrings(words):
    found, optimised = zoo(*words), zoo(*words, PYTHONOPTIMIZE="2")
    assert optimised.stdout == found.stdout
    assert optimised.returncode == found.returncode == 0


@pytest.mark.parametrize(("words", "shown"), [([], False), ([_streams.LOG_FLAG], True)])
def test_native_lines_appear_where_they_are_asked_for_alone(words, shown):
    code = PREPARED.format(words=[*words, "list"]) + "os.write(2, b'greeting'); print(words)"
    done = subprocess.run(
        subprocess_command.python_command(code),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    assert ("greeting" in done.stderr) == shown
    assert done.stdout == "['list']\n"


def test_control_characters_are_shown_and_not_obeyed():
    raw = io.BytesIO()
    stream = terminal.wrap_stream(io.TextIOWrapper(raw, encoding="utf-8"))
    print("\x1b[2J\x9b31m\x07\x7f\x00\u202ered\tcat é\r", file=stream, flush=True)
    shown = raw.getvalue().decode()
    assert shown == r"\x1b[2J\x9b31m\x07\x7f\x00\u202ered" + "\tcat é\r\n"
    assert terminal.escape_line("a\nb\rc\td\x1b") == r"a\nb\rc\td\x1b"


def test_a_stream_takes_text_that_its_encoding_has_not():
    raw = io.BytesIO()
    stream = terminal.wrap_stream(io.TextIOWrapper(raw, encoding="ascii"))
    print("é \udcff", file=stream, flush=True)
    assert raw.getvalue() == rb"\xe9 \udcff" + b"\n"


def test_the_console_writes_control_characters_as_escapes():
    done = zoo("train", "x\x1b[31m")
    assert r"no task named 'x\x1b[31m'" in done.stderr
