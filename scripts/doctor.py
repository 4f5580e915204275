"""Checks a model and its data for common faults: zoo doctor runs/NAME.

MODEL is a run folder, a .keras file or a pretrained model. Each finding states what was found and
how to fix it. Its severity is `wrong` for a fault, and `look` for something that may be intended.

    zoo doctor model.keras photos         # any Keras model and data set
    zoo doctor resnet20.cifar10 fashion_sample
    zoo doctor runs/NAME --objects masks  # are saliency maps on the objects?
    zoo doctor runs/NAME --all            # list every file of a finding

The exit status is 1 if a finding is `wrong`, and 0 otherwise.
"""

from __future__ import annotations

import dataclasses
import json

from scripts._output import wrap
from zoo import terminal

EXIT_FINDINGS = 1  # exit status if a finding is `wrong`


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "model", metavar="MODEL", help="run folder, .keras file or pretrained model"
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        default="",
        metavar="DATASET",
        help="fashion_sample, shapes, a folder, a CSV file or tfds:NAME (default: that of the run)",
    )
    parser.add_argument("--data-dir", default="", metavar="DIR", help="folder of TFDS data sets")
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="weights for a pretrained model"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=512,
        metavar="N",
        help="maximum number of images to predict on (default: 512)",
    )
    parser.add_argument(
        "--objects",
        default="",
        metavar="DATASET",
        help="data set with masks or boxes of the same images (default: the data set itself if it "
        "is shapes or of TFDS)",
    )
    parser.add_argument(
        "--all", action="store_true", help="list all files of each finding, not only three"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with all files")


def run(args):
    """Prints the findings; returns the exit status."""
    from tasks.advice import doctor

    found = doctor.diagnose(
        args.model,
        args.dataset,
        data_dir=args.data_dir,
        weights=args.weights,
        images=args.images,
        objects=args.objects,
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
        lines.append(wrap(f"{finding.severity:<6} {finding.name}: {finding.what}", 7))
        lines.append(wrap(f"{'':<6} -> {finding.do}", 10))
        if all_names:
            lines += [terminal.escape_line(f"{'':<9} {name}") for name in finding.names]
    if found.checked:
        lines.append(wrap(f"nothing found in: {', '.join(found.checked)}", 7))
    lines += [wrap(f"not checked: {name} ({reason})", 7) for name, reason in found.unchecked]
    return "\n".join(lines)
