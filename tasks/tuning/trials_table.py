"""Results of trials: one JSON file per trial, which any worker can write, and a CSV table.

A search on several machines has one folder that all of them share.
"""

from __future__ import annotations

import csv

from tasks.engine import resume
from tasks.report.csv_cells import escape_row
from tasks.tuning import state_files, trial
from zoo.atomic_files import atomic_write

TRIALS_FOLDER, TRIALS_CSV = "trials", "trials.csv"
ORACLE_FILE = "oracle.json"  # the state of the oracle, with all trials
MAX_IDENTICAL_FAILURES = 3  # first trials that fail for the same reason, after which a search ends
NUMBER = (int, float)
KINDS = {  # of the values of a record
    "trial": str,
    "status": str,
    "score": (*NUMBER, type(None)),
    "scores": list,
    "epoch": (int, type(None)),
    "epochs": int,
    "seconds": NUMBER,
    "reason": str,
    "flags": dict,
}
COLUMNS = ("trial", "status", "score", "epoch", "epochs", "seconds", "reason")


def trial_name(trial_id):
    """Returns the name of a trial, such as `0003`."""
    return f"{int(trial_id):04}"


def trial_folder(out, trial_id):
    """Returns the run folder of a trial."""
    return out / TRIALS_FOLDER / trial_name(trial_id)


def write_trial(out, trial_id, flags, scores, outcome):
    """Writes the record of a trial.

    Args:
        out: the folder of the search.
        trial_id: the id of the trial in the oracle.
        flags: the searched flags of the trial, by name.
        scores: one score per epoch.
        outcome: a `trial.TrialResult`.
    """
    record = trial_record(out, trial_id, flags, scores, outcome)
    state_files.write(out / TRIALS_FOLDER / f"{trial_name(trial_id)}.json", record)


def trial_record(out, trial_id, flags, scores, outcome):
    """Returns the record of a trial as a dict; takes the arguments of `write_trial`."""
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
    """Returns the records of all ended trials, in the order of their ids."""
    return [state_files.read(path, **KINDS) for path in trial_files(out)]


def trial_files(out):
    """Returns the paths of the records of all ended trials, in the order of their ids."""
    return sorted((out / TRIALS_FOLDER).glob("[0-9]*.json"))


def best_trial(rows):
    """Returns the record of the best completed trial, the first of equal ones, or `None`."""
    done = [row for row in rows if row["status"] == trial.COMPLETED]
    return max(done, key=lambda row: row["score"], default=None)


def failed_trials(rows):
    """Returns the records of the failed trials."""
    return [row for row in rows if row["status"] not in (trial.COMPLETED, trial.STOPPED)]


def all_failed_alike(rows):
    """Returns whether all trials so far have failed for one reason other than their flags.

    A diverged loss or a lack of memory may be due to the flags, so they do not count.
    """
    alike = {(row["status"], row["reason"]) for row in rows}
    return (
        len(rows) >= MAX_IDENTICAL_FAILURES
        and len(alike) == 1
        and rows[0]["status"] == trial.FAILED
    )


def write_csv(out, rows):
    """Writes the trials as a CSV file, with one column per searched flag."""
    flags = list(dict.fromkeys(flag for row in rows for flag in row["flags"]))
    with atomic_write(out / TRIALS_CSV) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS[:-1], *flags, COLUMNS[-1]], restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow(escape_row({fact: row[fact] for fact in COLUMNS} | row["flags"]))
