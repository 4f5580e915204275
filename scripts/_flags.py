"""Converts the fields of a task to command-line flags, and parsed flags to a task."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

import tasks
from scripts import _flag_groups, _imports
from tasks.distributed import clusters, strategies
from tasks.engine import recipes
from tasks.runs import default_folder
from zoo.errors import UsageError

PLAN_FLAGS = ("plan", "epochs", "learning_rate", "optimizer", "batch_norm", "model", "weights")
PAGED_TASKS = ("classification", "segmentation")  # that take files of several images
METAVARS = {int: "N", float: "X", str: "TEXT"}  # by type, unless the field is named below
NAMED_METAVARS = {
    **dict.fromkeys(("model", "backbone", "feature_network", "optimizer", "precision"), "NAME"),
    **dict.fromkeys(("weights", "backbone_weights", "feature_network_weights"), "FILE"),
    **dict.fromkeys(("train_split", "validation_split", "test_split"), "SLICE"),
    **dict.fromkeys(("model_options", "environment_options"), "YAML"),
    "class_map": "FILE",
    "classifier": "RUN",
    "content": "IMAGE",
    "data_dir": "DIR",
    "dataset": "DATASET",
    "error_costs": "FP:FN",
    "group_by": "REGEX",
    "style": "IMAGE,...",
}


def add_task_flags(parser, task, *, hidden=(), run=True):
    """Adds one flag per field of a task class and, if `run`, the options of every run.

    A flag that is not passed sets no attribute, so that the value of a recipe is used.
    """
    fields = [field for field in dataclasses.fields(task) if field.name not in hidden]
    for heading, some in _flag_groups.group_fields(fields, task.name).items():
        group = parser.add_argument_group(heading)
        for field in some:
            _add_flag(group, field, hidden)
    if run:
        add_run_flags(parser)


def _add_flag(group, field, hidden):
    kind = type(field.default)
    default = f" (default: {field.default})" if field.default != "" else ""
    former = field.metadata["former"]
    if former and former not in hidden:
        group.add_argument(
            f"--{former.replace('_', '-')}",
            type=kind,
            dest=field.name,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
    group.add_argument(
        f"--{field.name.replace('_', '-')}",
        type=kind,
        default=argparse.SUPPRESS,
        metavar="|".join(field.metadata["choices"] or ())
        or NAMED_METAVARS.get(field.name, METAVARS[kind]),
        help=(field.metadata["help"] + default).replace("%", "%%"),
    )


def add_positionals(parser):
    """Adds the model and the data set as positional arguments, besides their flags."""
    parser.add_argument("position_model", nargs="?", metavar="MODEL", help="same as --model")
    parser.add_argument("position_dataset", nargs="?", metavar="DATASET", help="same as --dataset")


def positional_values(args):
    """Returns the positional model and data set as a dict by field name.

    Raises:
        UsageError: one of them is also passed as a flag.
    """
    given = {}
    for name in ("model", "dataset"):
        value = getattr(args, f"position_{name}")
        if value is not None and hasattr(args, name):
            raise UsageError(f"{name} is passed twice: {value} and --{name} {vars(args)[name]}")
        if value is not None:
            given[name] = value
    return given


def add_run_flags(parser):
    """Adds the options of every run."""
    parser.add_argument(
        "--recipe", metavar="FILE", help="recipe.yaml to repeat; flags override its values"
    )
    parser.add_argument("--out", metavar="DIR", help="run folder (default: runs/NAME)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--workers",
        metavar="HOST:PORT,...",
        help="addresses of all workers of a cluster; see docs/clusters.md",
    )
    parser.add_argument(
        "--worker", metavar="N", help="index of this process among --workers, from 0"
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        help=f"timeout for connecting the workers (default: {clusters.DEFAULT_WAIT_SECONDS:g})",
    )
    _imports.add_import_flag(parser)


def add_training_flags(parser, task=None):
    """Adds the options of training that are not part of a recipe.

    Args:
        parser: The parser.
        task: The class of the task, if it is known.
    """
    if task and task.name in PAGED_TASKS:
        parser.add_argument(
            "--pages",
            default="",
            metavar="all|first|N",
            help="pages of TIFF, DICOM and NIfTI files to use; the same as DATASET#pages=all",
        )
    if task and task.name == "classification":
        parser.add_argument(
            "--min-per-class",
            default="",
            metavar="N",
            help="exclude classes with fewer images; the same as DATASET#min-per-class=N",
        )
    if "columns" not in (field.name for field in dataclasses.fields(task or tasks.Task)):
        parser.add_argument(
            "--columns",
            dest="table_columns",
            default="",
            metavar="path=FILE,label=CLASS",
            help="names of the columns of a table; the same as TABLE#path=FILE,label=CLASS",
        )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="cross-validation: K runs, each tested on another K-th of the images",
    )
    parser.add_argument(
        "--track",
        default="",
        metavar="mlflow|wandb|trackio",
        help="also log to this experiment tracker",
    )


def train(args, task):
    """Trains a task, or the runs of a cross-validation, and prints the result."""
    from tasks.data import dataset_options
    from tasks.runs import cross_validation

    export_environment(args)
    options = [getattr(args, "table_columns", "")]
    for name in dataset_options.NAMES:
        value = getattr(args, name.replace("-", "_"), "")
        options.append(value and f"{name}={value}")
    if options := [text for text in options if text]:
        task = dataclasses.replace(task, dataset=f"{task.dataset}#{','.join(options)}")
    out = output_folder(args, task)
    if args.folds is None:
        record = cross_validation.train(task, out, track=args.track, alone=True)
        print_result(record, out, args.json)
        return
    out = Path(args.out or f"{out}-{args.folds}-folds")
    options = {"track": args.track, "alone": True}
    found = cross_validation.cross_validate(task, args.folds, out, **options)
    print(json.dumps(found) if args.json else cross_validation.text(found))


def export_environment(args):
    """Sets the environment variables of the options that are not part of a recipe."""
    names = {clusters.WORKERS: "workers", clusters.WORKER: "worker", clusters.WAIT: "wait"}
    given = {name: getattr(args, flag) for name, flag in names.items()}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    _imports.export_modules(args)


def task_from_args(name, args, given=()):
    """Returns the task of the recipe, if any, with the values of the flags.

    Args:
        name: name of the task, or `None` for that of the recipe.
        args: parsed flags.
        given: further values by field name, from positional arguments.
    """
    recipe = recipes.read_recipe(args.recipe) if args.recipe else {"task": name}
    if name is None:
        name = recipe["task"]
    if recipe["task"] != name:
        raise UsageError(f"{args.recipe} is a recipe for {recipe['task']}, not for {name}")
    names = {field.name for field in dataclasses.fields(tasks.get(name))}
    flags = {key: value for key, value in vars(args).items() if key in names} | dict(given)
    # A flag that is `auto` overrides the recipe too; other data may resolve `auto` differently.
    open_again = {*flags, *(recipes.DATA_DEPENDENT_FLAGS if "dataset" in flags else ())}
    task = recipes.task_from_recipe({**recipes.without_resolved(recipe, open_again), **flags})
    plan = recipe.get("stages") if "plan" in names else None
    if plan and flags.keys().isdisjoint(PLAN_FLAGS) and plan != recipes.recipe(task)["stages"]:
        return dataclasses.replace(
            task, plan=plan
        )  # the plan of the recipe, although presets may have changed
    return task


def output_folder(args, task):
    """Returns the run folder: `--out`, or one named after the flags and their digest."""
    if args.out:
        return Path(args.out)
    return default_folder.default_folder(task)


def print_result(record, out, as_json):
    """Prints the result of a run; with several workers only the chief prints."""
    if not strategies.is_chief():
        return
    if as_json:
        print(json.dumps({**record, "out": str(out)}))
        return
    from tasks.report import confidence_intervals

    if line := confidence_intervals.wide_interval(record["figures"]):
        print(line)
    for name, value in record["figures"].items():
        print(f"{name:<22} {value:.4f}")
    print(f"report                 {out / 'report.html'}")
