"""Finds what is wrong with a model or its data: zoo doctor runs/NAME.

The model is a run's folder, a .keras file, or a pretrained model of the zoo. Each finding is two
lines: what was found, and what to do. `wrong` is a fault; `look` may be meant so.

    zoo doctor runs/NAME                          # with the data that it was trained on
    zoo doctor model.keras photos                 # anybody's model, a folder of class folders
    zoo doctor resnet20.cifar10 fashion_sample
    zoo doctor runs/NAME --all                    # with the name of every file that is counted

The exit status is 0 if nothing is wrong, though there may be things to look at, and else 1.
"""

from __future__ import annotations

import dataclasses
import json

from zoo import terminal

EXIT_FINDINGS = 1  # exit status when something is wrong


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("model", help="a run's folder, a .keras file or a zoo name with a tag")
    parser.add_argument(
        "dataset",
        nargs="?",
        default="",
        help="fashion_sample, shapes, a folder, a CSV file or tfds:NAME (default: the run's own)",
    )
    parser.add_argument("--data-dir", default="", metavar="DIR", help="where TFDS keeps its data")
    parser.add_argument("--weights", default="", metavar="FILE", help="weights file of a zoo name")
    parser.add_argument(
        "--images", type=int, default=512, metavar="N", help="that the model is tried on (512)"
    )
    parser.add_argument("--all", action="store_true", help="name all files, not the first three")
    parser.add_argument("--json", action="store_true", help="print as JSON, with all files")


def run(args):
    """Prints what was found; returns the exit status."""
    from tasks.advice import doctor

    found = doctor.diagnose(
        args.model,
        args.dataset,
        data_dir=args.data_dir,
        weights=args.weights,
        images=args.images,
    )
    print(json.dumps(_to_dict(found)) if args.json else _format_report(found, args.all))
    return 0 if found.healthy else EXIT_FINDINGS


def _to_dict(found):
    return {
        "healthy": found.healthy,
        "findings": [dataclasses.asdict(finding) for finding in found.findings],
        "checked": list(found.checked),
        "unchecked": dict(found.unchecked),
    }


def _format_report(found, all_names):
    lines = []
    for finding in found.findings:
        lines.append(f"{finding.severity:<6} {finding.name}: {finding.what}")
        lines.append(f"{'':<6} -> {finding.do}")
        if all_names:
            lines += [f"{'':<9} {name}" for name in finding.names]
    if found.checked:
        lines.append(f"nothing found in: {', '.join(found.checked)}")
    lines += [f"not checked: {name} ({reason})" for name, reason in found.unchecked]
    return "\n".join(map(terminal.escape_line, lines))
