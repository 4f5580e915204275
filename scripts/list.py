"""Lists the models of the zoo: zoo list 'resnet*' --max-params 25M --sort accuracy."""

from __future__ import annotations

import argparse
import json
import math

import zoo
from scripts._table import format_table
from zoo.errors import UsageError
from zoo.weights import licences

SUFFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
SORT_KEYS = {  # name: what is compared, the smallest first
    "name": lambda spec: spec.name,
    "params": lambda spec: _none_last(spec.parameters),
    "flops": lambda spec: _none_last(spec.flops),
    "accuracy": lambda spec: -_accuracy(spec),
}
COLUMNS = ("name", "family", "params", "FLOPs", "input", "accuracy", "licence")
NUMERIC_COLUMNS = ("params", "FLOPs", "accuracy")  # stand on the right of their column


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("pattern", nargs="?", default="*", help="a name, a part of one, or res*")
    parser.add_argument("--kind", help="only this kind, such as classifier")
    parser.add_argument("--family", help="only this family, such as vgg")
    parser.add_argument("--weights", metavar="TAG", help="only with this tag, such as imagenet")
    limit = {"type": parse_count, "metavar": "N", "default": math.inf}
    parser.add_argument("--max-params", help="at most so many trainable parameters: 25M", **limit)
    parser.add_argument("--max-flops", help="at most so many FLOPs for one input: 4G", **limit)
    parser.add_argument(
        "--min-accuracy",
        type=parse_fraction,
        metavar="X",
        default=0.0,
        help="of its weights: 0.75 or 75%%",
    )
    parser.add_argument(
        "--license",
        "--licence",
        metavar="TERMS",
        help="only with weights under commercial or noncommercial terms, or under apache, mit, ...",
    )
    parser.add_argument(
        "--sort", choices=SORT_KEYS, help="the best accuracy first, else the smallest"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints one line per model."""
    found = zoo.names(args.pattern, kind=args.kind, family=args.family, weights=args.weights)
    specs = [spec for spec in map(zoo.spec, found) if matches_flags(spec, args)]
    if not specs:
        raise UsageError(f"no model fits {args.pattern!r} and the flags; `zoo list` shows all")
    if args.sort:
        specs.sort(key=SORT_KEYS[args.sort])
    if args.json:
        print(json.dumps([spec_dict(spec) for spec in specs], indent=1))
        return
    print(format_table(COLUMNS, map(table_row, specs), NUMERIC_COLUMNS))


def matches_flags(spec, args):
    """Tells whether a model is as the flags ask; one of unknown size or terms is not."""
    return (
        (args.max_params == math.inf or _none_last(spec.parameters) <= args.max_params)
        and (args.max_flops == math.inf or _none_last(spec.flops) <= args.max_flops)
        and _accuracy(spec) >= args.min_accuracy
        and (args.license is None or licences.matches_filter(_licence(spec), args.license))
    )


def table_row(spec):
    """Returns what stands in the columns of a model's line."""
    accuracy = _accuracy(spec)
    return (
        spec.name,
        spec.family,
        format_count(spec.parameters),
        format_count(spec.flops),
        "x".join(map(str, spec.input_shape)),
        f"{accuracy:.1%}" if accuracy else "",
        _licence(spec).partition(" (")[0],
    )


def format_count(number):
    """Writes a number in three digits and a letter: `25.6M`, `?` for `None`."""
    if number is None:
        return "?"
    for letter, unit in reversed(SUFFIXES.items()):
        if float(f"{number:.3g}") >= unit:
            amount = number / unit
            places = 2 - math.floor(math.log10(float(f"{amount:.3g}")))
            return f"{amount:.{max(0, places)}f}{letter.upper() if letter != 'k' else letter}"
    return str(number)


def parse_count(text):
    """Reads a number such as `25M`, `3.5k` or `4e9`."""
    digits, unit = text, 1
    if text[-1:].lower() in SUFFIXES:
        digits, unit = text[:-1], SUFFIXES[text[-1].lower()]
    try:
        number = float(digits) * unit
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 25M, 3.5k or 4e9")
    return number


def parse_fraction(text):
    """Reads a share such as `0.75` or `75%`."""
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share such as 0.75 or 75%")
    return number


def spec_dict(spec):
    """Returns what a spec knows as plain values."""
    plain = {key: value for key, value in vars(spec).items() if key not in ("builder", "options")}
    plain["weights"] = spec.weights and {**vars(spec.weights), "options": None}
    plain["num_classes"] = spec.num_classes
    return plain


def _accuracy(spec):
    return spec.weights.figures.get("accuracy", 0.0) if spec.weights else 0.0


def _licence(spec):
    return spec.weights.licence if spec.weights else ""


def _none_last(number):
    return math.inf if number is None else number
