"""Kills real training processes at random moments.

    python -m tests.support.kill_at_random --kills 30

For each task one run is trained without interruption. Another is started repeatedly and ended by
SIGINT and SIGKILL in turn after a random time, and then left to finish. The latest checkpoints
of both runs, which hold all weights, moments and random states, must be equal bit for bit. Prints a
line per task with the numbers of kills before the first checkpoint, within an epoch and between
epochs; exits with 1 if a run differs.

The processes are forks of this one, which has imported TensorFlow without using it: the import
takes longer than the training.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow  # noqa: F401  before any fork

from scripts.__main__ import main as zoo
from tasks.engine import resume, training_run
from tests.support import checks
from tests.support.tiny_tasks import TINY

TIMED = ("seconds", "images_per_second")
# Small networks with many steps per epoch.
LONGER = {
    "classification": {"train_split": "train[384:2000]", "model": "lenet5", "batch_size": 8},
    "segmentation": {"train_split": "train[:96]", "batch_size": 4},
    "detection": {"train_split": "train[:96]", "batch_size": 4},
    "captioning": {"train_split": "train[:200]", "batch_size": 4},
    "gan": {"train_split": "train[96:1024]", "batch_size": 8},
    "style_transfer": {"steps": 60},
    "dqn": {"epoch_steps": 2000},
    "sequence": {"stride": 10, "batch_size": 4},
}
EPOCHS = 3
PATIENCE = 300  # seconds for a process to end by itself


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all")
    parser.add_argument("--kills", type=int, default=30, help="of each task (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    unlike = 0
    for name in args.tasks or TINY:
        with tempfile.TemporaryDirectory() as folder:
            said, same = killed(name, Path(folder), args.kills, random.Random(args.seed))
        print(f"{name:<15} {'identical' if same else 'DIFFERENT':<10} {said}", flush=True)
        unlike += not same
    sys.exit(bool(unlike))


def killed(name, folder, kills, draw):
    """Returns where a task was killed, as text, and whether it ended as one that was not."""
    whole, cut = folder / "whole", folder / "cut"
    assert ended(start(name, whole)) == 0
    places = Counter()
    for number in range(kills):
        by = (signal.SIGKILL, signal.SIGINT)[number % 2]
        where = kill(name, cut, by, draw)
        if where is None:  # it was over: the next ones are kills of another run
            same(whole, cut) or sys.exit(f"{name}: different after {sum(places.values())} kills")
            shutil.rmtree(cut)
            where = kill(name, cut, by, draw)
        places[f"{by.name} {where}"] += 1
    assert ended(start(name, cut)) == 0
    said = ", ".join(f"{count} {place}" for place, count in sorted(places.items()))
    return f"after {sum(places.values())} kills ({said})", same(whole, cut)


def kill(name, out, by, draw):
    """Starts a run, kills it, and returns where it was then; `None` if it ended before."""
    process, before = start(name, out), place(out)
    begun = time.monotonic()
    while place(out) == before and process.is_alive() and time.monotonic() - begun < PATIENCE:
        time.sleep(0.005)
        if before == (0, 0) and draw.random() < 0.0005:  # also while it starts
            break
    time.sleep(draw.uniform(0, 0.5))
    if not process.is_alive():
        assert process.exitcode == 0, f"{name} ended with status {process.exitcode}"
        return None
    os.kill(process.pid, by)
    status = ended(process)
    assert status in (-by, 130, 0), f"{name} ended with status {status}"
    epoch, step = place(out)
    return "inside an epoch" if step else "between epochs" if epoch else "at the start"


def start(name, out):
    """Starts the command that trains a task."""
    flags = {
        **TINY[name],
        **LONGER.get(name, {}),
        "epochs": EPOCHS,
        "checkpoint_steps": 3,
        "out": out,
    }
    words = [word for key, value in flags.items() for word in (f"--{key.replace('_', '-')}", value)]
    process = multiprocessing.get_context("fork").Process(
        target=train, args=(["train", name, *map(str, words)], out.with_suffix(".log"))
    )
    process.start()
    return process


def train(words, log):
    """Runs a command, as a process of its own; what it says is kept."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os._exit(zoo(words))


def ended(process):
    """Returns the exit status of a process, negative for a signal, that is about to end."""
    process.join(PATIENCE)
    return process.exitcode


def place(out):
    state = resume.RunState(out)
    return state.epoch, state.step


def same(whole, cut):
    """Tells whether two runs have the same checkpoint, and the same history but for rounding.

    Sums of scalars in a metric, on which no weight depends, may differ in the last digit even
    between two runs without interruption: TensorFlow merges chains of additions into an `AddN`,
    whose order of terms differs between processes, also with one thread. The rows of a GAN,
    `memory/rows`, repeat the history.
    """
    arrays = [state.read(state.weights) for state in map(resume.RunState, (whole, cut))]
    names = [sorted(each.keys() - {f"{training_run.EXTRA_STATE_PREFIX}rows"}) for each in arrays]
    if names[0] != names[1] or any(not np.array_equal(*(x[n] for x in arrays)) for n in names[0]):
        return False
    rows = [
        [[float(row[key]) for key in row if key not in TIMED] for row in checks.history(out)]
        for out in (whole, cut)
    ]
    return len(rows[0]) == len(rows[1]) and np.allclose(*rows, rtol=1e-6, equal_nan=True)


if __name__ == "__main__":
    main()
