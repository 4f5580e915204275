"""What became of each trial, in a file beside its folder: whoever ran it, wherever, can write it.

A search that several machines share has one folder, which all of them see.
"""

from __future__ import annotations

import csv
import json

from tasks.engine import resume
from tasks.report.csv_cells import escape_row
from tasks.tuning import trial
from zoo import atomic_files
from zoo.atomic_files import atomic_write

TRIALS_FOLDER, TRIALS_CSV = "trials", "trials.csv"
MAX_IDENTICAL_FAILURES = 3  # trials that fail first, and alike, after which a search is given up
COLUMNS = ("trial", "status", "score", "epoch", "epochs", "seconds", "reason")


def trial_name(trial_id):
    """Returns what a trial is called, by its number: `0003`."""
    return f"{int(trial_id):04}"


def trial_folder(out, trial_id):
    """Returns the folder of a trial's run."""
    return out / TRIALS_FOLDER / trial_name(trial_id)


def write_trial(out, trial_id, flags, scores, outcome):
    """Writes what became of a trial.

    Args:
        out: the folder of the search.
        trial_id: as the oracle has it.
        flags: what was tried, by name.
        scores: one for each epoch.
        outcome: a `trial.TrialResult`.
    """
    text = json.dumps(trial_record(out, trial_id, flags, scores, outcome), indent=1)
    atomic_files.write_text(out / TRIALS_FOLDER / f"{trial_name(trial_id)}.json", text)


def trial_record(out, trial_id, flags, scores, outcome):
    """Returns what became of a trial, a dict; the arguments are those of `write`."""
    history = resume.RunState(trial_folder(out, trial_id)).history
    return {
        "trial": trial_name(trial_id),
        "status": outcome.status,
        "score": max(scores) if scores else None,
        "epoch": scores.index(max(scores)) + 1 if scores else None,
        "epochs": len(scores),
        "seconds": round(sum(row.get("seconds", 0) for row in history), 3),
        "reason": outcome.reason,
        "flags": flags,
        "scores": scores,
    }


def read_trials(out):
    """Returns what is known of all trials that ended, a list of dicts in their order."""
    found = sorted((out / TRIALS_FOLDER).glob("[0-9]*.json"))
    return [json.loads(path.read_text()) for path in found]


def best_trial(rows):
    """Returns what is known of the best trial that is complete, the first of equals, or `None`."""
    done = [row for row in rows if row["status"] == trial.COMPLETED]
    return max(done, key=lambda row: row["score"], default=None)


def failed_trials(rows):
    """Returns what is known of the trials that failed."""
    return [row for row in rows if row["status"] not in (trial.COMPLETED, trial.STOPPED)]


def all_failed_alike(rows):
    """Tells whether trials fail alike from the first on, and not by what was searched for them.

    A loss that is no number, or memory that did not suffice, may come of the values tried.
    """
    alike = {(row["status"], row["reason"]) for row in rows}
    return (
        len(rows) >= MAX_IDENTICAL_FAILURES
        and len(alike) == 1
        and rows[0]["status"] == trial.FAILED
    )


def write_csv(out, rows):
    """Writes the trials as a CSV file, with a column for each flag that was searched."""
    flags = list(dict.fromkeys(flag for row in rows for flag in row["flags"]))
    with atomic_write(out / TRIALS_CSV) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS[:-1], *flags, COLUMNS[-1]], restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow(escape_row({fact: row[fact] for fact in COLUMNS} | row["flags"]))
