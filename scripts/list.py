"""Lists the models of the zoo: zoo list 'resnet*' --max-params 25M --sort accuracy."""

from __future__ import annotations

import argparse
import json
import math

import zoo
from scripts._table import table
from zoo import licences
from zoo.errors import UsageError

SUFFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
SORTS = {  # name: what is compared, the smallest first
    "name": lambda spec: spec.name,
    "params": lambda spec: _or_last(spec.parameters),
    "flops": lambda spec: _or_last(spec.flops),
    "accuracy": lambda spec: -_accuracy(spec),
}
COLUMNS = ("name", "family", "params", "FLOPs", "input", "accuracy", "licence")
NUMBERS = ("params", "FLOPs", "accuracy")  # stand on the right of their column


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("pattern", nargs="?", default="*", help="a name, a part of one, or res*")
    parser.add_argument("--kind", help="only this kind, such as classifier")
    parser.add_argument("--family", help="only this family, such as vgg")
    parser.add_argument("--weights", metavar="TAG", help="only with this tag, such as imagenet")
    most = {"type": amount, "metavar": "N", "default": math.inf}
    parser.add_argument("--max-params", help="at most so many trainable parameters: 25M", **most)
    parser.add_argument("--max-flops", help="at most so many FLOPs for one input: 4G", **most)
    parser.add_argument(
        "--min-accuracy", type=share, metavar="X", default=0.0, help="of its weights: 0.75 or 75%%"
    )
    parser.add_argument(
        "--license",
        "--licence",
        metavar="TERMS",
        help="only with weights under commercial or noncommercial terms, or under apache, mit, ...",
    )
    parser.add_argument("--sort", choices=SORTS, help="the best accuracy first, else the smallest")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints one line per model."""
    found = zoo.names(args.pattern, kind=args.kind, family=args.family, weights=args.weights)
    specs = [spec for spec in map(zoo.spec, found) if fits(spec, args)]
    if not specs:
        raise UsageError(f"no model fits {args.pattern!r} and the flags; `zoo list` shows all")
    if args.sort:
        specs.sort(key=SORTS[args.sort])
    if args.json:
        print(json.dumps([facts(spec) for spec in specs], indent=1))
        return
    print(table(COLUMNS, map(cells, specs), NUMBERS))


def fits(spec, args):
    """Tells whether a model is as the flags ask; one of unknown size or terms is not."""
    return (
        (args.max_params == math.inf or _or_last(spec.parameters) <= args.max_params)
        and (args.max_flops == math.inf or _or_last(spec.flops) <= args.max_flops)
        and _accuracy(spec) >= args.min_accuracy
        and (args.license is None or licences.allowed(_licence(spec), args.license))
    )


def cells(spec):
    """Returns what stands in the columns of a model's line."""
    accuracy = _accuracy(spec)
    return (
        spec.name,
        spec.family,
        brief(spec.parameters),
        brief(spec.flops),
        "x".join(map(str, spec.input_shape)),
        f"{accuracy:.1%}" if accuracy else "",
        _licence(spec).partition(" (")[0],
    )


def brief(number):
    """Writes a number in three digits and a letter: `25.6M`, `?` for `None`."""
    if number is None:
        return "?"
    for letter, unit in reversed(SUFFIXES.items()):
        if float(f"{number:.3g}") >= unit:
            amount = number / unit
            places = 2 - math.floor(math.log10(float(f"{amount:.3g}")))
            return f"{amount:.{max(0, places)}f}{letter.upper() if letter != 'k' else letter}"
    return str(number)


def amount(text):
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


def share(text):
    """Reads a share such as `0.75` or `75%`."""
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share such as 0.75 or 75%")
    return number


def facts(spec):
    """Returns what a spec knows as plain values."""
    plain = {key: value for key, value in vars(spec).items() if key not in ("builder", "options")}
    plain["weights"] = spec.weights and {**vars(spec.weights), "options": None}
    plain["num_classes"] = spec.num_classes
    return plain


def _accuracy(spec):
    return spec.weights.figures.get("accuracy", 0.0) if spec.weights else 0.0


def _licence(spec):
    return spec.weights.licence if spec.weights else ""


def _or_last(number):
    return math.inf if number is None else number
