"""Tries wrong commands, damaged files and wrong calls, and prints a table of what went wrong.

    python tests/support/fuzz_commands.py --count 800 --seed 0
    python tests/support/fuzz_commands.py --count 800 --only 17,230        # again, with all that
    was said

Each case is forked from one process that has loaded all, so that it takes a second and not ten.
Right is exit status 0, 1 or 130, with one line that begins with `zoo:` where it is 1; wrong is a
traceback, another status, and what takes over a minute. The exit status is the number of groups.
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

SECONDS = 60.0  # that a case may take
MEMORY = 8 * 2**30  # bytes of a case's data
LONGEST = 2_000  # letters of a message
ALLOWED = (0, 1, 130)


def load():
    """Loads what cases need; no operation runs, because its threads would not survive a fork."""
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


def prepared(folder):
    """Makes the folder that each case gets a copy of, with a finished and an unfinished run."""
    cases.prepare(folder)
    result = attempt(_right(cases.FINISHED), folder, 4 * SECONDS)
    assert result.status == 0, result.said
    shutil.copytree(folder / "run", folder / "unfinished")
    for name in ("report.json", "report.html", "model.keras"):
        (folder / "unfinished" / name).unlink()
    code = "m = zoo.build('lenet5'); m.save_weights('w.weights.h5')"
    result = attempt(cases.Case("call", (code,)), folder, 4 * SECONDS)
    assert result.status == 0, result.said


def _right(line):
    return cases.Case("command", tuple(shlex.split(line)))


class Result:
    """What became of a case: its exit status, `None` if it took too long, what it said, seconds."""

    def __init__(self, status, said, seconds):
        self.status, self.said, self.seconds = status, said, seconds

    def fault(self, case):
        """Returns what was wrong, a name for the group of such faults, or ""."""
        if self.status is None:
            return "takes over a minute"
        if "Traceback (most recent call last)" in self.said:
            return _place(self.said)
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        if self.status not in ALLOWED:
            return f"exit status {self.status}"
        lines = re.findall(r"^(?:\[\d+\] )?zoo: .*", self.said, re.MULTILINE)
        if self.status == 1 and case.words[0] != "doctor" and not lines:
            return "exit status 1 without a word"
        return "a message that is too long" if any(len(x) > LONGEST for x in lines) else ""


def _place(said):
    """Returns the name of the exception of a traceback, and the last of our lines in it."""
    said = said[said.rindex("Traceback (most recent call last)") :]
    ours = re.findall(r'File "[^"]*/((?:zoo|tasks|scripts)/[^"]+)", line (\d+), in (\S+)', said)
    errors = [
        x for x in said.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt)?\b:?", x)
    ]
    name = errors[-1].partition(":")[0] if errors else "?"
    file, line, function = ours[-1] if ours else ("?", "?", "?")
    return f"{name} in {function} ({file}:{line})"


def attempt(case, folder, seconds=SECONDS):
    """Runs a case in a folder, in a process of its own; returns the `Result`."""
    # Where other processes wait for the processor, so does this one.
    seconds *= min(4.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        child = os.fork()
        if not child:
            _be_the_case(case, folder, said.fileno())
        deadline, status = started + seconds, None
        while status is None and time.monotonic() < deadline:
            done, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if done else None
            time.sleep(0.01)
        taken = time.monotonic() - started
        with _suppressed():
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
        said.seek(0)
        return Result(status, said.read().decode(errors="replace"), taken)


def _suppressed():
    return contextlib.suppress(ProcessLookupError, PermissionError)


def _be_the_case(case, folder, said):
    """Runs a case in this process, and ends it."""
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        named = {"errors": "backslashreplace"}  # as `_quiet` has it: names may be no text
        sys.stdout, sys.stderr = os.fdopen(1, "w", **named), os.fdopen(2, "w", buffering=1, **named)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        os.environ |= {"ZOO_HOME": str(folder / "home"), "ZOO_OFFLINE": "1", "ZOO_WAIT": "5"}
        status = _called(case.words[0]) if case.kind == "call" else _commanded(case.words)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with _suppressed():
                stream.flush()
        os._exit(status or 0)


def _commanded(words):
    from scripts import __main__ as command
    from scripts import _streams

    _streams.setup_logging()
    try:
        return command.main(words)
    except SystemExit as stop:
        return stop.code


def _called(code):
    """Runs Python code; a `UsageError` is what it should raise where it is wrong."""
    import tasks
    import zoo
    from tasks.deploy import predict
    from tasks.engine import resume
    from zoo import model_files

    names = {"zoo": zoo, "tasks": tasks, "files": model_files, "resume": resume, "predict": predict}
    try:
        exec(code, names)
    except zoo.UsageError as error:
        print(f"zoo: {error}", file=sys.stderr)
        return 1
    return 0


def tried(case, base, seconds=SECONDS):
    """Runs a case in a copy of a folder; returns the `Result`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "case"
        shutil.copytree(base, folder, symlinks=True)
        os.mkfifo(folder / "fifo")
        if case.damage:
            cases.damage(folder, *case.damage)
        return attempt(case, folder, seconds)


def run(chosen, show=lambda *_: None):
    """Runs cases; returns the faults: lists of `(number, case, result)` by name."""
    faults = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        base.mkdir()
        prepared(base)
        for number, case in chosen:
            result = tried(case, base)
            fault = result.fault(case)
            show(number, case, result, fault)
            if fault:
                faults[fault].append((number, case, result))
    return dict(faults)


def table(faults):
    """Returns faults as lines, the most frequent first, each with an example."""
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
            print(number, case, result.status, result.said, sep="\n")
        elif fault:
            print(f"{number:>4} {result.seconds:4.0f} s  {fault}", file=sys.stderr, flush=True)

    load()
    faults = run(chosen, show)
    print(f"{sum(map(len, faults.values()))} of {len(chosen)} cases, {len(faults)} groups")
    print(table(faults))
    return min(len(faults), 99)


if __name__ == "__main__":
    sys.exit(main())
