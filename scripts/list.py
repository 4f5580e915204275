"""Lists the models of the zoo: zoo list 'resnet*'."""

from __future__ import annotations

import json

import zoo
from zoo.errors import UsageError


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("pattern", nargs="?", default="*", help="a name, a part of one, or res*")
    parser.add_argument("--kind", help="only this kind, such as classifier")
    parser.add_argument("--family", help="only this family, such as vgg")
    parser.add_argument("--weights", metavar="TAG", help="only with this tag, such as imagenet")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints one line per model."""
    names = zoo.names(args.pattern, kind=args.kind, family=args.family, weights=args.weights)
    if not names:
        raise UsageError(f"no model fits {args.pattern!r} and the flags; `zoo list` shows all")
    if args.json:
        print(json.dumps([facts(zoo.spec(name)) for name in names], indent=1))
        return
    print(f"{'name':<30} {'input':<14} {'parameters':>12} {'GFLOPs':>8} {'accuracy':>8}")
    for name in names:
        spec = zoo.spec(name)
        shape = " x ".join(str(size) for size in spec.input_shape)
        count = "?" if spec.parameters is None else f"{spec.parameters:,}"
        flops = "?" if spec.flops is None else f"{spec.flops / 1e9:.2f}"
        figures = spec.weights.figures if spec.weights else {}
        accuracy = f"{figures['accuracy']:.1%}" if "accuracy" in figures else ""
        print(f"{name:<30} {shape:<14} {count:>12} {flops:>8} {accuracy:>8}")


def facts(spec):
    """Returns what a spec knows as plain values."""
    plain = {key: value for key, value in vars(spec).items() if key not in ("builder", "options")}
    plain["weights"] = spec.weights and {**vars(spec.weights), "options": None}
    plain["num_classes"] = spec.num_classes
    return plain
