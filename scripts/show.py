"""Shows what is known of one model: zoo show resnet50.imagenet."""

from __future__ import annotations

import json

import zoo
from scripts.list import facts


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("name", help="a name from `zoo list`")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints the spec."""
    spec = zoo.spec(args.name)
    known = facts(spec)
    if args.json:
        print(json.dumps(known, indent=1))
        return
    weights = known.pop("weights") or {}
    weights.pop("options", None)
    for key, value in [*known.items(), *((f"weights {key}", weights[key]) for key in weights)]:
        if value not in ("", None, (), {}):
            print(f"{key:<22} {text(value)}")
    summary = spec.builder.__doc__.strip().splitlines()[0]
    print(f"\n{summary}")
    print(f"its options: help(zoo.spec({args.name!r}).builder)")


def text(value):
    """Writes a value as a person would."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(str(inner) for inner in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
