"""Lists the models of the zoo: zoo list 'resnet*' --max-params 25M --sort accuracy."""

from __future__ import annotations

import argparse
import json
import math

import zoo
from scripts._output import SUFFIXES, format_count, format_table, spec_dict
from zoo.errors import UsageError
from zoo.lazy import LazyModule

licences = LazyModule("zoo.weights.licences")

SORT_KEYS = {  # name: key function, for ascending order
    "name": lambda spec: spec.name,
    "params": lambda spec: _none_last(spec.parameters),
    "flops": lambda spec: _none_last(spec.flops),
    "accuracy": lambda spec: -_accuracy(spec),
}
COLUMNS = ("name", "params", "FLOPs", "input", "accuracy", "licence")
NUMERIC_COLUMNS = ("params", "FLOPs", "accuracy")  # right-aligned


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help="part of a name, or a pattern such as 'res*'",
    )
    parser.add_argument("--kind", help="only models of this kind, such as classifier")
    parser.add_argument("--family", help="only models of this family, such as vgg")
    parser.add_argument(
        "--weights", metavar="TAG", help="only models with weights of this tag, such as imagenet"
    )
    limit = {"type": parse_count, "metavar": "N", "default": math.inf}
    parser.add_argument(
        "--max-params", help="maximum number of trainable parameters, such as 25M", **limit
    )
    parser.add_argument("--max-flops", help="maximum FLOPs per input, such as 4G", **limit)
    parser.add_argument(
        "--min-accuracy",
        type=parse_fraction,
        metavar="X",
        default=0.0,
        help="minimum accuracy of the weights, such as 0.75 or 75%%",
    )
    parser.add_argument(
        "--license",
        "--licence",
        metavar="TERMS",
        help="only weights under this licence: commercial, noncommercial, apache, mit, ...",
    )
    parser.add_argument(
        "--sort", choices=SORT_KEYS, help="sort order: accuracy descending, all others ascending"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints one line per model."""
    found = zoo.names(args.pattern, kind=args.kind, family=args.family, weights=args.weights)
    specs = [spec for spec in map(zoo.spec, found) if matches_flags(spec, args)]
    if not specs:
        raise UsageError(f"no model matches {args.pattern!r} and the options; `zoo list` shows all")
    if args.sort:
        specs.sort(key=SORT_KEYS[args.sort])
    if args.json:
        print(json.dumps([spec_dict(spec) for spec in specs], indent=1))
        return
    print(format_table(COLUMNS, map(table_row, specs), NUMERIC_COLUMNS))


def matches_flags(spec, args):
    """Returns whether a model matches the options; an unknown size or licence does not match."""
    return (
        (args.max_params == math.inf or _none_last(spec.parameters) <= args.max_params)
        and (args.max_flops == math.inf or _none_last(spec.flops) <= args.max_flops)
        and _accuracy(spec) >= args.min_accuracy
        and (args.license is None or licences.matches_filter(_licence(spec), args.license))
    )


def table_row(spec):
    """Returns the cells of a model's row."""
    accuracy = _accuracy(spec)
    return (
        spec.name,
        format_count(spec.parameters),
        format_count(spec.flops),
        "x".join(map(str, spec.input_shape)),
        f"{accuracy:.1%}" if accuracy else "",
        _licence(spec).partition(" (")[0],
    )


def parse_count(text):
    """Parses a number such as `25M`, `3.5k` or `4e9`."""
    digits, unit = text, 1
    if text[-1:].lower() in SUFFIXES:
        digits, unit = text[:-1], SUFFIXES[text[-1].lower()]
    try:
        number = float(digits) * unit
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 25M, 3.5k or 4e9")
    return number


def parse_fraction(text):
    """Parses a fraction such as `0.75` or `75%`."""
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction such as 0.75 or 75%")
    return number


def _accuracy(spec):
    return spec.weights.figures.get("accuracy", 0.0) if spec.weights else 0.0


def _licence(spec):
    return spec.weights.licence if spec.weights else ""


def _none_last(number):
    return math.inf if number is None else number
