"""Output of commands to terminals, pipes, full disks and closed streams."""

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
SETUP = "import os; from scripts import _streams; words = _streams.setup_streams({words}); "


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


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["list"], ["train", "--help"]])
def test_full_disk_is_one_line(words):
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


def test_closed_pipe_is_no_failure():
    done = zoo("list", "--json", shell="{} | head -c 1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="sets a locale")
def test_arguments_that_are_not_ascii_in_the_c_locale(tmp_path):
    words = ("evaluate", f"{tmp_path}/é/ü")
    done = zoo(*words, PYTHONUTF8="0", LC_ALL="C", PYTHONIOENCODING="")
    assert done.stderr.startswith(f"zoo: {tmp_path}/é/ü contains no finished run")
    assert done.returncode == 1


@pytest.mark.parametrize("words", [["--help"], ["list", "--help"]])
def test_commands_run_without_docstrings(words):
    found, optimised = zoo(*words), zoo(*words, PYTHONOPTIMIZE="2")
    assert optimised.stdout == found.stdout
    assert optimised.returncode == found.returncode == 0


@pytest.mark.check
def test_help_of_every_command_needs_no_docstrings():
    code = """
from contextlib import suppress
from scripts.__main__ import command_names, main
for words in ([], *([name] for name in command_names()), ["train", "gan"], ["tune", "dqn"]):
    with suppress(SystemExit):
        main([*words, "--help"])
"""
    found, optimised = (
        subprocess.run(
            subprocess_command.python_command(code),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONOPTIMIZE": level},
        ).stdout
        for level in ("", "2")
    )
    assert found == optimised
    assert found.count("usage: zoo ") > 20


@pytest.mark.parametrize(("words", "shown"), [([], False), ([_streams.LOG_FLAG], True)])
def test_native_log_is_printed_only_with_the_log_flag(words, shown):
    code = SETUP.format(words=[*words, "list"]) + "os.write(2, b'greeting'); print(words)"
    done = subprocess.run(
        subprocess_command.python_command(code),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    assert ("greeting" in done.stderr) == shown
    assert done.stdout == "['list']\n"


def test_control_characters_are_escaped():
    raw = io.BytesIO()
    stream = terminal.wrap_stream(io.TextIOWrapper(raw, encoding="utf-8"))
    print("\x1b[2J\x9b31m\x07\x7f\x00\u202ered\tcat é\r", file=stream, flush=True)
    shown = raw.getvalue().decode()
    assert shown == r"\x1b[2J\x9b31m\x07\x7f\x00\u202ered" + "\tcat é\r\n"
    assert terminal.escape_line("a\nb\rc\td\x1b") == r"a\nb\rc\td\x1b"


class FakeTerminal(io.TextIOWrapper):
    """A text stream that claims to be a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one two three four five six", "one two three\n  four five six"),
        ("take `zoo list resnet` or x", "take\n  `zoo list resnet`\n  or x"),
        ("short\none two three four", "short\none two three\n  four"),
        ("\rprogress of a bar 100%", "\rprogress of a bar 100%"),
        ("  a line of a traceback", "  a line of a traceback"),
        ("/a/path/that/is/longer/than/a/line", "/a/path/that/is/longer/than/a/line"),
    ],
)
def test_messages_are_wrapped_on_a_terminal_only(monkeypatch, text, shown):
    monkeypatch.setenv("COLUMNS", "16")
    for stream, messages, wanted in (
        (FakeTerminal, True, shown),
        (FakeTerminal, False, text),
        (io.TextIOWrapper, True, text),
    ):
        raw = io.BytesIO()
        stream = terminal.wrap_stream(stream(raw, encoding="utf-8", newline=""), messages=messages)
        print(text, file=stream, flush=True)
        assert raw.getvalue().decode() == wanted + "\n"


def test_text_outside_the_encoding_is_escaped():
    raw = io.BytesIO()
    stream = terminal.wrap_stream(io.TextIOWrapper(raw, encoding="ascii"))
    print("é \udcff", file=stream, flush=True)
    assert raw.getvalue() == rb"\xe9 \udcff" + b"\n"


def test_console_escapes_control_characters():
    done = zoo("train", "x\x1b[31m")
    assert r"no task named 'x\x1b[31m'" in done.stderr
