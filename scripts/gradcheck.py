"""Compares a model's gradients with central differences: zoo gradcheck lenet5.

The model is rebuilt in float64. Of each weight tensor and of the image some values are moved up and
down, and the change of the output is compared with the gradient by automatic differentiation. The
exit status is 1 if one differs.
"""

from __future__ import annotations

import dataclasses
import json


def arguments(parser, words):
    """Adds this command's options."""
    parser.add_argument("model", help="a name of zoo list, a finished run or a .keras file")
    parser.add_argument("--samples", type=int, default=6, metavar="N", help="per tensor (6)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random values (0)")
    parser.add_argument("--image-size", type=int, default=0, metavar="N", help="of a zoo model")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints a line per tensor, the worst last; returns 1 if a gradient is wrong."""
    from tasks.advice import gradcheck
    from zoo.errors import UsageError

    if args.samples < 1 or args.seed < 0 or args.image_size < 0:
        raise UsageError("--samples takes 1 or more, --seed and --image-size 0 or more")
    checks = gradcheck.gradcheck(_model(args), samples=args.samples, seed=args.seed)
    wrong = gradcheck.wrong(checks)
    if args.json:
        print(json.dumps([dataclasses.asdict(check) | {"right": check.right} for check in checks]))
        return int(bool(wrong))
    for check in sorted(checks, key=lambda check: check.error):
        mark = "" if check.right else "  WRONG"
        print(f"{check.name:<48.48} {check.size:>10,} {check.error:>9.1e}{mark}")
    print(f"{len(checks) - len(wrong)} of {len(checks)} tensors agree to {gradcheck.TOLERANCE:g}")
    for check in wrong:
        place = f"{check.name}{list(check.index)}"
        print(f"{place}: gradient {check.gradient:.6g}, difference {check.difference:.6g}")
    return int(bool(wrong))


def _model(args):
    from pathlib import Path

    import zoo
    from tasks.advice import doctor
    from zoo.catalog import RANDOM

    size = args.image_size
    if not size or Path(args.model).exists():
        return doctor.load_model(args.model, RANDOM).model
    channels = zoo.spec(args.model).input_shape[2]
    return zoo.build(args.model, weights=RANDOM, input_shape=(size, size, channels))
