"""Finds wrong labels and bad images: zoo clean FOLDER --out cleaning.

Prints images whose label is probably wrong, near duplicates, outliers, and images that are blurred,
dark, uniform or of an odd size. --out writes a page on which you select corrections, and a table of
all suspects, label_errors.csv. --apply CSV writes a corrected table of the data set, cleaned.csv,
to --out. No file of the data set is changed.

    zoo clean photos --models 'resnet50.imagenet' --out cleaning
    zoo clean photos --apply corrections.csv --out cleaned
    zoo finetune resnet20.cifar10 cleaned/cleaned.csv
"""

from __future__ import annotations

import json
import sys

from scripts import _model_names
from scripts._output import format_table
from zoo import terminal
from zoo.errors import UsageError

SHOWN = 10  # lines of each table, unless --all


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument("dataset", metavar="DATASET", help="data set, as in zoo finetune")
    parser.add_argument(
        "--models",
        default="resnet20.cifar10",
        metavar="PATTERNS",
        help="comma-separated names or patterns of models whose predictions are averaged "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="use weights from a file for a model; can be repeated",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder of TFDS data sets")
    parser.add_argument(
        "--folds", type=int, default=5, metavar="N", help="cross-validation folds (default: 5)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the page and the tables")
    parser.add_argument("--apply", metavar="CSV", help="file of corrections that the page saved")
    parser.add_argument(
        "--all", action="store_true", help=f"print all findings, not only {SHOWN} of each kind"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with all images")


def run(args):
    """Prints the findings, or applies corrections."""
    if args.apply:
        _apply(args)
        return
    from tasks.advice import clean, clean_page

    weights = dict(_model_names.parse_weights(text) for text in args.weights)
    found = clean.clean(
        args.dataset,
        _model_names.model_names(args.models, weights),
        weights=weights,
        data_dir=args.data_dir,
        folds=args.folds,
    )
    if args.out:
        clean_page.write(args.out, found, models=args.models)
    print(json.dumps(found.to_dict(), indent=1) if args.json else _text(found, args.all))
    if args.out:
        print(f"zoo: open {args.out}/{clean_page.PAGE}", file=sys.stderr)


def _apply(args):
    from tasks.advice import corrections

    if not args.out:
        raise UsageError("--apply needs --out DIR, for the corrected table")
    table, counts = corrections.apply(args.dataset, args.apply, args.out, args.data_dir)
    if args.json:
        print(json.dumps({"table": str(table), **counts}))
        return
    words = ", ".join(f"{number:,} {what}" for what, number in counts.items())
    print(f"{table}: {words}")


def _text(found, everything):
    """Returns the findings as lines of at most 80 columns, where names allow it."""
    stop = None if everything else SHOWN
    lines = [f"{found.images:,} images, {len(found.label_errors):,} suspected label errors"]
    rows = [
        (f"{error.score:.3f}", error.given, error.suggested, error.path)
        for error in found.label_errors[:stop]
    ]
    if rows:
        lines.append(format_table(("score", "given", "suggested", "image"), rows, ("score",)))
    groups = {"near_copies": [" = ".join(group) for group in found.near_copies], **found.issues}
    groups["unreadable"] = [f"{path} ({reason})" for path, reason in found.unreadable]
    for issue, names in groups.items():
        lines.append(f"{issue.replace('_', ' ')}: {len(names):,}")
        lines += [f"  {name}" for name in names[:stop]]
    return "\n".join(terminal.escape_line(line) for text in lines for line in text.split("\n"))
