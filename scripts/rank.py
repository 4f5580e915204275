"""Ranks pretrained models for your data: zoo rank FOLDER --models 'resnet*.imagenet,vit_tiny.*'.

Each model's features of your images are computed once and judged by a linear classifier,
cross-validated, which costs far less than to fine-tune them all. The exit status is 1 if no model
could be judged.
"""

from __future__ import annotations

import dataclasses
import json

import zoo
from scripts._table import format_table
from scripts.list import format_count
from zoo.errors import UsageError

COLUMNS = ("model", "accuracy", "+-", "seconds", "params", "FLOPs", "pixels")


def arguments(parser, words):
    """Adds this command's flags."""
    from tasks.advice import rank

    parser.add_argument("dataset", metavar="DATASET", help="as in zoo finetune")
    parser.add_argument(
        "--models",
        default="",
        metavar="PATTERNS",
        help="names or patterns with commas between (default: those whose weights are at hand)",
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="judge this model too, with weights from a file; may be given several times",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data sets")
    parser.add_argument("--split", default="", help="slice (default: the training split)")
    most = f"to look at (default: {rank.MAX_IMAGES})"
    parser.add_argument("--images", type=int, default=rank.MAX_IMAGES, metavar="N", help=most)
    parser.add_argument("--image-size", type=int, default=0, metavar="N", help="0: each its own")
    parser.add_argument(
        "--channels", type=int, default=0, metavar="N", help="of the images; 0: each its own"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of choice and folds")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints a line for each model, the best first; returns the exit status."""
    from tasks.advice import rank

    files = dict(_parse_weights(text) for text in args.weights)
    rows = rank.rank(
        args.dataset,
        _model_names(args.models, files),
        weights=files,
        data_dir=args.data_dir,
        split=args.split,
        images=args.images,
        image_size=args.image_size,
        channels=args.channels,
        seed=args.seed,
    )
    judged = [row for row in rows if not row.why_not]
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    elif judged:
        print(format_table(COLUMNS, [_table_row(row) for row in judged], COLUMNS[1:]))
    return int(not judged)


def _model_names(text, files):
    """Returns the names to judge: those with a file, and those that patterns stand for.

    Without patterns these are the models whose weights are at hand.
    """
    patterns = [word.strip() for word in text.split(",") if word.strip()]
    known = zoo.names(kind="classifier", weights=True)
    if not patterns:
        patterns = [name for name in known if zoo.spec(name).weights.is_local]
    found = list(files)
    for pattern in patterns:
        exact = [name for name in (*files, *known) if name == pattern]
        names = exact or zoo.names(pattern, kind="classifier", weights=True)
        if not names:
            zoo.spec(pattern)  # says what is nearest
            raise UsageError(f"{pattern} has no pretrained weights; see `zoo list --weights TAG`")
        found += names
    return list(dict.fromkeys(found))


def _parse_weights(text):
    name, sign, path = text.partition("=")
    if not sign:
        raise UsageError(f"--weights takes MODEL=FILE, not {text!r}")
    return zoo.spec(name).name, path


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
