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
    parser.add_argument("--views", default="", help="one, flip or ten (default: the run's own)")
    parser.add_argument(
        "--feature-network", default="", metavar="NAME", help="of GANs: network for the features"
    )
    parser.add_argument(
        "--feature-network-weights", default="", metavar="FILE", help="of GANs: its weights file"
    )
    for former in ("network", "network-weights"):  # the names in version 0.1.0
        parser.add_argument(
            f"--{former}",
            dest=f"feature_{former}".replace("-", "_"),
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
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
        views=args.views,
        feature_network=args.feature_network,
        feature_network_weights=args.feature_network_weights,
    )
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['dataset']} {found['split']}")
    for name, value in found["figures"].items():
        print(f"{name:<18} {value:.4f}")
    print(f"{'evaluation':<18} {found['evaluation']}")
