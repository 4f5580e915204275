"""Fuzzes the command line with invalid commands, damaged files and invalid calls.

    python tests/support/fuzz_commands.py --count 800 --seed 0
    python tests/support/fuzz_commands.py --count 800 --only 17,230     # print all output of these

Each case is forked from one process that has imported everything, so that it takes a second, not
ten. A case passes with exit status 0, 1 or 130, and for 1 with one line that begins with `zoo:`. A
traceback, another status or a timeout is a fault. The exit status is the number of groups of
faults.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from tests.support import fuzz_cases as cases

TIMEOUT = 60.0  # seconds per case
MEMORY = 8 * 2**30  # bytes per case
MAX_MESSAGE_LENGTH = 2_000
ALLOWED = (0, 1, 130)
ADDRESS = b"http://127.0.0.1:"  # printed by a server once it has started
STATUS_ONLY = ("doctor", "gradcheck")  # commands that report what they found by status 1
DUPLICATE_ARGUMENT = re.compile(
    r"got multiple values for (keyword )?argument '"
)  # of Python itself


def load():
    """Imports what cases need; runs no operation, as its threads would not survive a fork."""
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import scripts.__main__ as command

    for name in command.command_names():
        command.command_module(name)
    from tasks.advice import doctor  # noqa: F401
    from tasks.deploy import (
        predict,  # noqa: F401
    )
    from tasks.tuning import tune  # noqa: F401


def prepare(folder):
    """Creates the folder that each case gets a copy of, with a finished and an unfinished run."""
    cases.prepare(folder)
    for line in (cases.FINISHED, cases.EXPORT, cases.SEARCH):
        result = attempt(_valid_case(line), folder, 4 * TIMEOUT)
        assert result.status == 0, result.output
    shutil.copytree(folder / "run", folder / "other")
    shutil.copytree(folder / "run", folder / "unfinished")
    for name in ("report.json", "report.html", "model.keras"):
        (folder / "unfinished" / name).unlink()
    code = "m = zoo.build('lenet5'); m.save_weights('w.weights.h5')"
    result = attempt(cases.Case("call", (code,)), folder, 4 * TIMEOUT)
    assert result.status == 0, result.output


def _valid_case(line):
    return cases.Case("command", tuple(shlex.split(line)))


class Result:
    """The result of a case: exit status, `None` after a timeout, its output, and seconds."""

    def __init__(self, status, output, seconds):
        self.status, self.output, self.seconds = status, output, seconds

    def fault(self, case):
        """Returns the name of the group of the fault, or ""."""
        if self.status is None:
            return "timeout"
        if "Traceback (most recent call last)" in self.output:
            return _place(self.output)
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        if self.status not in ALLOWED:
            return f"exit status {self.status}"
        lines = re.findall(r"^(?:\[\d+\] )?zoo: .*", self.output, re.MULTILINE)
        if self.status == 1 and case.words[0] not in STATUS_ONLY and not lines:
            return "exit status 1 without a message"
        return "message too long" if any(len(x) > MAX_MESSAGE_LENGTH for x in lines) else ""


def _place(output):
    """Returns the name of the exception of a traceback, and its last line in our code."""
    output = output[output.rindex("Traceback (most recent call last)") :]
    ours = re.findall(r'File "[^"]*/((?:zoo|tasks|scripts)/[^"]+)", line (\d+), in (\S+)', output)
    errors = [
        x for x in output.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt)?\b:?", x)
    ]
    name = errors[-1].partition(":")[0] if errors else "?"
    file, line, function = ours[-1] if ours else ("?", "?", "?")
    return f"{name} in {function} ({file}:{line})"


def attempt(case, folder, seconds=TIMEOUT):
    """Runs a case in a folder, in a process of its own; returns the `Result`."""
    # The timeout grows with the load of the machine.
    seconds *= min(4.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        child = os.fork()
        if not child:
            _run_case(case, folder, output.fileno())
        deadline, status, stopped = started + seconds, None, False
        while status is None and time.monotonic() < deadline:
            done, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if done else None
            if status is None and not stopped and ADDRESS in os.pread(output.fileno(), 2**16, 0):
                os.kill(child, signal.SIGINT)  # a server runs until it is interrupted
                stopped = True
            time.sleep(0.01)
        taken = time.monotonic() - started
        with _suppressed():
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
        output.seek(0)
        return Result(status, output.read().decode(errors="replace"), taken)


def _suppressed():
    return contextlib.suppress(ProcessLookupError, PermissionError)


def _run_case(case, folder, output):
    """Runs a case in this process, then exits."""
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        named = {"errors": "backslashreplace"}  # as in `_streams`: file names may not be text
        sys.stdout, sys.stderr = os.fdopen(1, "w", **named), os.fdopen(2, "w", buffering=1, **named)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        os.environ |= {"ZOO_HOME": str(folder / "home"), "ZOO_OFFLINE": "1", "ZOO_WAIT": "5"}
        status = _run_call(case.words[0]) if case.kind == "call" else _run_command(case.words)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with _suppressed():
                stream.flush()
        os._exit(status or 0)


def _run_command(words):
    from scripts import __main__ as command
    from scripts import _streams

    _streams.setup_logging()
    try:
        return command.main(words)
    except SystemExit as stop:
        return stop.code


def _run_call(code):
    """Runs Python code, which should raise `UsageError` if it is invalid.

    Python itself raises `TypeError` for an argument that is passed twice.
    """
    import tasks
    import zoo
    from tasks.deploy import predict
    from tasks.engine import recipes
    from zoo import model_files

    names = {
        "zoo": zoo,
        "tasks": tasks,
        "files": model_files,
        "recipes": recipes,
        "predict": predict,
    }
    try:
        exec(code, names)
    except zoo.UsageError as error:
        print(f"zoo: {error}", file=sys.stderr)
        return 1
    except TypeError as error:
        if not DUPLICATE_ARGUMENT.search(str(error)):
            raise
        print(f"zoo: {error}", file=sys.stderr)
        return 1
    return 0


def run_in_copy(case, base, seconds=TIMEOUT):
    """Runs a case in a copy of a folder; returns the `Result`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "case"
        shutil.copytree(base, folder, symlinks=True)
        os.mkfifo(folder / "fifo")
        if case.damage:
            cases.damage(folder, *case.damage)
        return attempt(case, folder, seconds)


def run(chosen, show=lambda *_: None):
    """Runs cases; returns lists of `(number, case, result)` by name of the fault."""
    faults = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        base.mkdir()
        prepare(base)
        for number, case in chosen:
            result = run_in_copy(case, base)
            fault = result.fault(case)
            show(number, case, result, fault)
            if fault:
                faults[fault].append((number, case, result))
    return dict(faults)


def table(faults):
    """Returns faults as lines of text, the most frequent first, each with an example."""
    lines = []
    for fault, found in sorted(faults.items(), key=lambda item: -len(item[1])):
        number, case, _ = found[0]
        lines.append(f"{len(found):>4}  {fault}")
        lines.append(f"      {number}: {' '.join(map(repr, case.words))[:300]}  {case.note}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="numbers of cases, with commas between them")
    args = parser.parse_args()
    chosen = [*enumerate(cases.cases(args.count, args.seed))]
    if args.only:
        chosen = [chosen[int(number)] for number in args.only.split(",")]

    def show(number, case, result, fault):
        if args.only:
            print(number, case, result.status, result.output, sep="\n")
        elif fault:
            print(f"{number:>4} {result.seconds:4.0f} s  {fault}", file=sys.stderr, flush=True)

    load()
    faults = run(chosen, show)
    print(f"{sum(map(len, faults.values()))} of {len(chosen)} cases, {len(faults)} groups")
    print(table(faults))
    return min(len(faults), 99)


if __name__ == "__main__":
    sys.exit(main())
