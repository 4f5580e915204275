"""Judges a finished run on other data: zoo evaluate runs/NAME --dataset FOLDER."""

from __future__ import annotations

import argparse
import json

from scripts import _imports


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--dataset", default="", help="as in training (default: the run's own)")
    parser.add_argument("--split", default="", help="slice (default: all, or the run's test split)")
    parser.add_argument("--data-dir", default="", metavar="DIR", help="where TFDS keeps its data")
    parser.add_argument(
        "--tta", default="", help="test-time augmentation: one, flip or ten (default: as the run)"
    )
    parser.add_argument("--views", dest="tta", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--network", default="", metavar="NAME", help="of GANs: what compares")
    parser.add_argument("--network-weights", default="", metavar="FILE", help="file for it")
    _imports.add_import_flag(parser)
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints the figures and where they are kept."""
    from tasks.deploy import evaluate

    _imports.export_modules(args)
    found = evaluate.evaluate(
        args.run,
        dataset=args.dataset,
        split=args.split,
        data_dir=args.data_dir,
        tta=args.tta,
        network=args.network,
        network_weights=args.network_weights,
    )
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['dataset']} {found['split']}")
    for name, value in found["figures"].items():
        print(f"{name:<18} {value:.4f}")
    print(f"{'evaluation':<18} {found['evaluation']}")
