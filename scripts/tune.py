"""Searches the flags of a task for the best: zoo tune classification --model lenet5 --trials 20.

Each trial is a run of the task, whose flags are those of `zoo train`. Searched are the ranges
that flags declare, or what --search says: 'learning_rate=1e-4..1e-1,batch_size=16|32,augment'.
Killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import tasks
from scripts import _flags, _imports
from scripts._table import format_table
from tasks.data import builder_options
from tasks.tuning import engines
from tasks.tuning import space as spaces

COLUMNS = ("trial", "status", "score", "epochs", "flags")
MAX_SHOWN_TRIALS = 5  # trials that are printed, the best ones
DEST_PREFIX = (
    "tune_"  # what the attributes of the flags below begin with: tasks may have some of that name
)
SEARCH_FLAGS = {
    "engine": {
        "default": "narrowing",
        "help": f"{', '.join(engines.ENGINES)} (default: narrowing)",
    },
    "trials": {"type": int, "default": 20, "metavar": "N", "help": "at most (default: 20)"},
    "search": {
        "default": "",
        "metavar": "RANGES",
        "help": "flags with commas between, each perhaps with its range, LOW..HIGH or A|B "
        "(default: all that declare a range and are not given)",
    },
    "engine_options": {"default": "", "metavar": "YAML", "help": "such as '{share: 0.25}'"},
    "lag": {
        "type": int,
        "default": 2,
        "metavar": "N",
        "help": "epochs after which a trial below the median is stopped; 0: none is (default: 2)",
    },
    "isolate": {
        "choices": ("on", "off"),
        "default": "on",
        "help": "whether each trial has a process of its own (default: on)",
    },
    "workers": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "trials at once on this machine (default: 1); 0 for a chief that others work for",
    },
    "chief": {"default": "", "metavar": "HOST:PORT", "help": "who says what to try"},
    "worker": {"default": "", "metavar": "NAME", "help": "be this worker of the chief"},
}


def arguments(parser, words):
    """Adds the flags of the search, and those of the task that the words name."""
    parser.add_argument("task", metavar="TASK", help=f"one of {', '.join(tasks.names())}")
    for name, settings in SEARCH_FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=DEST_PREFIX + name, **settings)
    parser.add_argument("--recipe", metavar="FILE", help="a recipe.yaml to start from")
    parser.add_argument("--out", metavar="DIR", help="the folder (default: runs/tune-NAME)")
    _imports.add_import_flag(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    if words and not words[0].startswith("-"):
        _flags.add_task_flags(parser, tasks.get(words[0]), hidden=tuple(SEARCH_FLAGS), run=False)


def run(args):
    """Searches, then prints the best trials and the command that repeats the best one."""
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
        print(f"{without} of {len(found['trials'])} trials have no score: see trials.csv")
    if found["best"]:
        print(f"best    trial {found['best']['trial']}, score {found['best']['score']:.4f}")
        print(f"page    {Path(found['out']) / 'search.html'}")
        print(f"repeat  {found['command']}")


def _table_row(row):
    flags = "  ".join(f"{name} {value}" for name, value in row["flags"].items())
    return row["trial"], row["status"], f"{row['score']:.4f}", str(row["epochs"]), flags


def _output_folder(args, task, search_args, space):
    """Returns the folder of a search: `--out`, or one named after what is searched."""
    if args.out:
        return Path(args.out)
    ranges = {name: spaces.format_range(span) for name, span in space.ranges.items()}
    identity = [dataclasses.asdict(task), search_args["engine"], search_args["options"], ranges]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return _flags.RUNS_FOLDER / f"tune-{task.name}-{digest}"
