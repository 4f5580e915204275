"""Ranks pretrained models by linear probes on your data: zoo rank FOLDER --models 'res*.imagenet'.

The features of each model on your images are evaluated with a cross-validated linear classifier (a
linear probe), which is much faster than fine-tuning each model. The exit status is 1 if no model
could be evaluated.
"""

from __future__ import annotations

import dataclasses
import json

from scripts import _model_names
from scripts._output import format_count, format_table

COLUMNS = ("model", "accuracy", "+-", "seconds", "params", "FLOPs", "pixels")


def arguments(parser, words):
    """Adds the options of this command."""
    from tasks.advice import rank

    parser.add_argument("dataset", metavar="DATASET", help="data set, as in zoo finetune")
    parser.add_argument(
        "--models",
        default="",
        metavar="PATTERNS",
        help="comma-separated names or patterns (default: models with weights on this machine)",
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="also evaluate this model, with weights from a file; can be repeated",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder of TFDS data sets")
    parser.add_argument("--split", default="", help="split to use (default: the training split)")
    numbers = {
        "images": (rank.MAX_IMAGES, "maximum number of images"),
        "image-size": (0, "height and width of the images; 0: those of each model"),
        "channels": (0, "channels of the images; 0: those of each model"),
        "seed": (0, "random seed of the choice of images and of the folds"),
    }
    for name, (default, text) in numbers.items():
        text = f"{text} (default: {default})"
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints a row per model, the best first; returns the exit status."""
    from tasks.advice import rank

    files = dict(_model_names.parse_weights(text) for text in args.weights)
    rows = rank.rank(
        args.dataset,
        _model_names.model_names(args.models, files),
        weights=files,
        data_dir=args.data_dir,
        split=args.split,
        images=args.images,
        image_size=args.image_size,
        channels=args.channels,
        seed=args.seed,
    )
    evaluated = [row for row in rows if not row.why_not]
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    elif evaluated:
        print(format_table(COLUMNS, [_table_row(row) for row in evaluated], COLUMNS[1:]))
    return int(not evaluated)


def _table_row(row):
    return (
        row.model,
        f"{row.accuracy:.3f}",
        f"{row.error:.3f}",
        f"{row.seconds:.1f}",
        format_count(row.parameters),
        format_count(row.flops),
        str(row.image_size),
    )
