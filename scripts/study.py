"""Runs the experiments of a deep-learning course: zoo study softmax.

Each study answers one question: it prints its claims with the measured values, and writes a page
with figures and its code. Without a name, the studies are listed; `all` runs all of them.
"""

from __future__ import annotations

import json
import sys

from scripts._output import wrap
from tasks.study import course, get

ALL = "all"


def arguments(parser, words):
    """Adds this command's options, and those of the study that is named."""
    parser.add_argument("name", nargs="?", metavar="STUDY", help=f"name of the study, or {ALL}")
    parser.add_argument(
        "--out", metavar="DIR", default="studies", help="folder for the pages (default: studies)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = {"seed": 0}
    if words and not words[0].startswith("-") and words[0] != ALL:
        options |= get(words[0]).options
    for name, default in options.items():
        flag = f"--{name.replace('_', '-')}"
        shown = f"(default: {default})"
        parser.add_argument(flag, type=type(default), default=default, help=shown)


def run(args):
    """Lists the studies, or runs one or all of them."""
    from tasks.study.running import run_study

    if not args.name:
        return _list(args.json)
    studies = course() if args.name == ALL else [get(args.name)]
    rows = []
    for number, study in enumerate(studies):
        if len(studies) > 1:
            print(f"{number + 1} of {len(studies)}: {study.name}", file=sys.stderr, flush=True)
        options = {name: getattr(args, name) for name in study.options if hasattr(args, name)}
        rows.append(run_study(study, args.out, **options))
        if not args.json:
            _print(rows[-1])
    if args.json:
        print(json.dumps(rows))
    elif len(rows) > 1:
        _print_table(rows)
    return None


def _print(row):
    print(f"{row['study']}, {row['seconds']:.1f} s")
    for claim in row["claims"]:
        mark = "holds:        " if claim["holds"] else "does not hold:"
        print(wrap(f"  {mark} {claim['text']} ({claim['measured']})", 17))
    print(f"  page: {row['page']}")


def _print_table(rows):
    print(f"\n{'study':<18}{'seconds':>9}{'CPU s':>9}{'claims held':>14}")
    for row in rows:
        held = f"{sum(claim['holds'] for claim in row['claims'])} of {len(row['claims'])}"
        print(f"{row['study']:<18}{row['seconds']:>9.1f}{row['cpu_seconds']:>9.1f}{held:>14}")


def _list(as_json):
    if as_json:
        print(json.dumps([{"name": x.name, "question": x.question} for x in course()]))
        return
    for study in course():
        print(wrap(f"{study.number:>3}  {study.name:<18} {study.question}", 24))
    print("\nzoo study NAME runs one in under two minutes; zoo study all runs all of them")
