"""Runs an exported model in a process of its own: what it needs besides its runtime would fail.

The process imports neither TensorFlow nor Keras unless the format is one of theirs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.distributed import subprocess_command
from tasks.inference import exported_file
from tasks.inference.export_model import as_batches
from zoo.errors import UsageError
from zoo.lazy import np

CODE = "import sys; from tasks.export import exported_process; exported_process.main(sys.argv[1:])"
BATCH_SIZE = 8
TIMED_RUNS, MAX_TIMED_SECONDS = 30, 3.0
INPUTS, OUTPUTS, FACTS, ERROR = "inputs.npz", "outputs.npz", "facts.json", "error.txt"


@dataclass(frozen=True)
class ProcessResult:
    """What a process that ran an exported model found.

    Attributes:
        rows: the number of inputs.
        outputs: arrays by name.
        milliseconds: median time for one image, alone in its batch.
        frameworks: names of `tensorflow` and `keras` that the process imported.
    """

    rows: int
    outputs: dict
    milliseconds: float
    frameworks: tuple[str, ...]


def run_in_process(path, inputs):
    """Runs an exported model in a new process.

    Args:
        path: path of the exported model.
        inputs: arrays by name, of equal length.

    Returns:
        A `ProcessResult`.

    Raises:
        UsageError: the runtime cannot run the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run_code(CODE, path, folder, inputs)
        facts = json.loads((folder / FACTS).read_text())
        with np.load(folder / OUTPUTS) as found:
            rows = len(next(iter(inputs.values())))
            return ProcessResult(
                rows, dict(found), facts["milliseconds"], tuple(facts["frameworks"])
            )


def run_code(code, path, folder, inputs, *words):
    """Runs Python code on an exported model in a new process, which writes its results to a folder.

    Args:
        code: the code; its arguments are the path, the folder and the words.
        path: path of the exported model.
        folder: `Path` of the folder, where the code finds the inputs as `inputs.npz`, and may
            write the reason of a failure as `error.txt`.
        inputs: arrays by name.
        *words: further arguments.

    Raises:
        UsageError: the process has failed.
    """
    np.savez(folder / INPUTS, **inputs)
    command = subprocess_command.python_command(code, os.path.abspath(path), str(folder), *words)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        known = (folder / ERROR).exists()
        text = (folder / ERROR).read_text() if known else done.stderr
        lines = text.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UsageError(f"{Path(path).name} does not run in its runtime: {lines[-1]:.300}")


def check_opens(path):
    """Raises `UsageError` if the runtime of an exported model cannot open it."""
    exported_file.open_file(path)


def main(words):
    """Runs a model on `inputs.npz` of a folder and writes `outputs.npz` and `facts.json` there."""
    path, folder = words[0], Path(words[1])
    try:
        exported = exported_file.open_file(path)
        with np.load(folder / INPUTS) as stored:
            inputs = {name: stored[name].astype(dtype) for name, dtype in exported.dtypes.items()}
        parts = [exported.run(batch) for batch in as_batches(inputs, BATCH_SIZE)]
        facts = {
            "milliseconds": _time_one(exported.run, next(as_batches(inputs, 1))),
            "frameworks": [name for name in ("tensorflow", "keras") if name in sys.modules],
        }
    except Exception as error:
        (folder / ERROR).write_text(f"{type(error).__name__}: {str(error).strip()}")
        raise
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(folder / OUTPUTS, **outputs)
    (folder / FACTS).write_text(json.dumps(facts))


def _time_one(run, inputs):
    """Returns the median time of a call in milliseconds, of calls of a few seconds in all."""
    seconds = []
    run(inputs)
    while len(seconds) < TIMED_RUNS and sum(seconds) < MAX_TIMED_SECONDS:
        start = time.perf_counter()
        run(inputs)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)
