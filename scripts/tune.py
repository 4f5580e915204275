"""Tunes hyperparameters of a task: zoo tune classification --model lenet5 --trials 20.

Each trial is a run of the task with the flags of `zoo train`; `zoo tune TASK --help` lists them.
By default, all flags that declare a search range are searched. --search selects flags and ranges,
such as 'learning_rate=1e-4..1e-1,batch_size=16|32,augment'. After an interruption, the same command
resumes the search.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path

import tasks
from scripts import _flags, _imports
from scripts._output import format_table
from tasks.data import builder_options
from tasks.runs import default_folder
from tasks.tuning import engines
from tasks.tuning import space as spaces

COLUMNS = ("trial", "status", "score", "epochs", "flags")
MAX_SHOWN_TRIALS = 5  # number of trials to print, the best ones
DEST_PREFIX = "tune_"  # of the parsed options below, as tasks may have flags of the same names
SEARCH_FLAGS = {
    "engine": {
        "default": "shrinking",
        "metavar": "NAME",
        "help": f"search engine: {', '.join(engines.ENGINES)} (default: shrinking)",
    },
    "trials": {
        "type": int,
        "default": 20,
        "metavar": "N",
        "help": "maximum number of trials (default: 20)",
    },
    "search": {
        "default": "",
        "metavar": "RANGES",
        "help": "comma-separated flags to search, each optionally with a range, FLAG=LOW..HIGH or "
        "FLAG=A|B (default: all flags that declare a range and are not set)",
    },
    "engine_options": {
        "default": "",
        "metavar": "YAML",
        "help": "options of the engine as YAML, such as '{share: 0.25}'",
    },
    "median_stopping_epochs": {
        "type": int,
        "default": 2,
        "metavar": "N",
        "help": "epochs before a trial below the median can be stopped; 0: never (default: 2)",
    },
    "isolate": {
        "choices": ("on", "off"),
        "default": "on",
        "help": "run each trial in a separate process (default: on)",
    },
    "workers": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "parallel trials on this machine; 0: the chief runs no trials itself (default: 1)",
    },
    "chief": {
        "default": "",
        "metavar": "HOST:PORT",
        "help": "address of the chief of a distributed search",
    },
    "worker": {
        "default": "",
        "metavar": "NAME",
        "help": "name of this worker in a distributed search",
    },
}


def arguments(parser, words):
    """Adds the options of the search, and the flags of the task on the command line."""
    parser.add_argument("task", metavar="TASK", help=f"one of {', '.join(tasks.names())}")
    for name, settings in SEARCH_FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=DEST_PREFIX + name, **settings)
    parser.add_argument(  # its former name
        "--lag",
        dest=f"{DEST_PREFIX}median_stopping_epochs",
        type=int,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument("--recipe", metavar="FILE", help="recipe.yaml to take flags from")
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the search (default: runs/tune-NAME)"
    )
    _imports.add_import_flag(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    if words and not words[0].startswith("-"):
        _flags.add_task_flags(parser, tasks.get(words[0]), hidden=tuple(SEARCH_FLAGS), run=False)


def run(args):
    """Runs the search, then prints the best trials and the command that repeats the best one."""
    from tasks.tuning import tune

    _imports.export_modules(args)
    task = _flags.task_from_args(args.task, args)
    fixed = [field.name for field in dataclasses.fields(task) if field.name in vars(args)]
    search_args = {name: getattr(args, DEST_PREFIX + name) for name in SEARCH_FLAGS}
    search_args["isolate"] = search_args["isolate"] == "on"
    search_args["options"] = builder_options.parse_options(
        search_args.pop("engine_options"), "--engine-options"
    )
    space = tune.search_space(task, search_args["engine"], search_args["search"], fixed)
    found = tune.tune(
        task, _output_folder(args, task, search_args, space), fixed=fixed, **search_args
    )
    if args.json:
        print(json.dumps(found))
    else:
        _print_result(found)


def _print_result(found):
    trials = [row for row in found["trials"] if row["score"] is not None]
    trials = sorted(trials, key=lambda row: row["score"], reverse=True)
    print(
        format_table(
            COLUMNS, [_table_row(row) for row in trials[:MAX_SHOWN_TRIALS]], ("score", "epochs")
        )
    )
    without = len(found["trials"]) - len(trials)
    if without:
        print(f"{without} of {len(found['trials'])} trials have no score; see trials.csv")
    if found["best"]:
        print(f"best    trial {found['best']['trial']}, score {found['best']['score']:.4f}")
        print(f"page    {Path(found['out']) / 'search.html'}")
        print(f"repeat  {found['command']}")


def _table_row(row):
    flags = "  ".join(f"{name} {value}" for name, value in row["flags"].items())
    return row["trial"], row["status"], f"{row['score']:.4f}", str(row["epochs"]), flags


def _output_folder(args, task, search_args, space):
    """Returns the folder of a search: `--out`, or one named after a digest of its settings."""
    if args.out:
        return Path(args.out)
    ranges = {name: spaces.format_range(span) for name, span in space.ranges.items()}
    identity = [dataclasses.asdict(task), search_args["engine"], search_args["options"], ranges]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return default_folder.RUNS_FOLDER / f"tune-{task.name}-{digest}"
