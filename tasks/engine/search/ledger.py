"""What became of each trial, in a file beside its folder: whoever ran it, wherever, can write it.

A search that several machines share has one folder, which all of them see.
"""

from __future__ import annotations

import csv
import json

from tasks.engine import resume
from tasks.engine.search import trial
from tasks.report.cells import safe_row
from zoo.files import replacing

TRIALS, TABLE = "trials", "trials.csv"
ALIKE = 3  # trials that fail first, and alike, after which a search is given up
FACTS = ("trial", "status", "score", "epoch", "epochs", "seconds", "reason")


def name(trial_id):
    """Returns what a trial is called, by its number: `0003`."""
    return f"{int(trial_id):04}"


def folder(out, trial_id):
    """Returns the folder of a trial's run."""
    return out / TRIALS / name(trial_id)


def write(out, trial_id, flags, scores, outcome):
    """Writes what became of a trial.

    Args:
        out: the folder of the search.
        trial_id: as the oracle has it.
        flags: what was tried, by name.
        scores: one for each epoch.
        outcome: a `trial.Outcome`.
    """
    text = json.dumps(facts(out, trial_id, flags, scores, outcome), indent=1)
    resume.write_text(out / TRIALS / f"{name(trial_id)}.json", text)


def facts(out, trial_id, flags, scores, outcome):
    """Returns what became of a trial, a dict; the arguments are those of `write`."""
    history = resume.State(folder(out, trial_id)).history
    return {
        "trial": name(trial_id),
        "status": outcome.status,
        "score": max(scores) if scores else None,
        "epoch": scores.index(max(scores)) + 1 if scores else None,
        "epochs": len(scores),
        "seconds": round(sum(row.get("seconds", 0) for row in history), 3),
        "reason": outcome.reason,
        "flags": flags,
        "scores": scores,
    }


def read(out):
    """Returns what is known of all trials that ended, a list of dicts in their order."""
    found = sorted((out / TRIALS).glob("[0-9]*.json"))
    return [json.loads(path.read_text()) for path in found]


def best(rows):
    """Returns what is known of the best trial that is complete, the first of equals, or `None`."""
    done = [row for row in rows if row["status"] == trial.COMPLETED]
    return max(done, key=lambda row: row["score"], default=None)


def failures(rows):
    """Returns what is known of the trials that failed."""
    return [row for row in rows if row["status"] not in (trial.COMPLETED, trial.STOPPED)]


def hopeless(rows):
    """Tells whether trials fail alike from the first on, and not by what was searched for them.

    A loss that is no number, or memory that did not suffice, may come of the values tried.
    """
    alike = {(row["status"], row["reason"]) for row in rows}
    return len(rows) >= ALIKE and len(alike) == 1 and rows[0]["status"] == trial.FAILED


def table(out, rows):
    """Writes the trials as a CSV file, with a column for each flag that was searched."""
    flags = list(dict.fromkeys(flag for row in rows for flag in row["flags"]))
    with replacing(out / TABLE) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*FACTS[:-1], *flags, FACTS[-1]], restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow(safe_row({fact: row[fact] for fact in FACTS} | row["flags"]))
