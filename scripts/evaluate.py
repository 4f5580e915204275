"""Evaluates a finished run on other data: zoo evaluate runs/NAME --dataset FOLDER."""

from __future__ import annotations

import argparse
import json

from scripts import _imports


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument(
        "--dataset", default="", help="data set, as in training (default: that of the run)"
    )
    parser.add_argument(
        "--split",
        default="",
        help="slice to evaluate on (default: the test split of the run; all of another data set)",
    )
    parser.add_argument("--data-dir", default="", metavar="DIR", help="folder of TFDS data sets")
    parser.add_argument(
        "--tta",
        default="",
        help="test-time augmentation: one, flip or ten (default: that of the run)",
    )
    parser.add_argument("--views", dest="tta", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--feature-network",
        default="",
        metavar="NAME",
        help="for GANs: the network whose features the Fréchet distance uses",
    )
    parser.add_argument(
        "--feature-network-weights",
        default="",
        metavar="FILE",
        help="weights of --feature-network",
    )
    for former in ("network", "network-weights"):
        parser.add_argument(
            f"--{former}",
            dest=f"feature_{former}".replace("-", "_"),
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
    _imports.add_import_flag(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints the figures and the path of the file that holds them."""
    from tasks.deploy import evaluate

    _imports.export_modules(args)
    found = evaluate.evaluate(
        args.run,
        dataset=args.dataset,
        split=args.split,
        data_dir=args.data_dir,
        tta=args.tta,
        feature_network=args.feature_network,
        feature_network_weights=args.feature_network_weights,
    )
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['dataset']} {found['split']}")
    for name, value in found["figures"].items():
        print(f"{name:<22} {value:.4f}")
    print(f"{'evaluation':<22} {found['evaluation']}")
