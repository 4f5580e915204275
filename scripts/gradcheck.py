"""Compares gradients with central differences: zoo gradcheck lenet5.

The model is rebuilt in float64. For some values of each weight tensor and of the image, the central
difference of the output is compared with the gradient by automatic differentiation. The exit status
is 1 if a gradient differs. Models of zoo list are checked on small images. A layer of the zoo or of
Keras, given by its class name, is checked in a small example; `layers` checks all of them.
"""

from __future__ import annotations

import dataclasses
import json

HELP = "model name, run folder, .keras file, class name of a layer such as LSTM, or `layers`"
ALL = "layers"
SIDE = 32  # pixels of images by default: a gradient is as right on small ones, and checked sooner


def arguments(parser, words):
    """Adds this command's options."""
    parser.add_argument("model", metavar="MODEL", help=HELP)
    parser.add_argument(
        "--samples", type=int, default=6, metavar="N", help="values per tensor (default: 6)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")
    image_size = f"size of a zoo model (default: {SIDE}, or the smallest that it takes)"
    parser.add_argument("--image-size", type=int, default=0, metavar="N", help=image_size)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints a line per tensor, the worst last; returns 1 if a gradient is wrong."""
    from pathlib import Path

    from tasks.advice import gradcheck, layer_examples
    from zoo.errors import UsageError

    if args.samples < 1 or args.seed < 0 or args.image_size < 0:
        raise UsageError("--samples takes 1 or more, --seed and --image-size 0 or more")
    options = {"samples": args.samples, "seed": args.seed}
    if Path(args.model).exists() or not (args.model == ALL or _is_class(args.model)):
        return _report(args, gradcheck.gradcheck(_model(args), **options))
    names = layer_examples.names() if args.model == ALL else [args.model]
    checks = []
    for name in names:
        layer, inputs, own = layer_examples.example(name, args.seed)
        found = gradcheck.gradcheck(layer, inputs, **options, **own)
        if args.model == ALL:
            own_path = f"{layer.name}/"  # the class is shown in its place
            found = [
                dataclasses.replace(each, name=f"{name} {each.name.removeprefix(own_path)}")
                for each in found
            ]
        checks += found
    return _report(args, checks)


def _is_class(name):
    return name.isidentifier() and name[0].isupper()  # names of models are in lower case


def _report(args, checks):
    from tasks.advice import gradcheck

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
    """Returns the saved model, or a model of random weights for small images."""
    from pathlib import Path

    import zoo
    from tasks.advice import doctor
    from zoo.catalog import RANDOM
    from zoo.errors import UsageError

    path, size = Path(args.model), args.image_size
    if path.exists() or path.suffix == ".keras" or len(path.parts) > 1:
        if size:
            raise UsageError(f"--image-size cannot change {path}: its size is saved with it")
        return doctor.load_model(args.model).model
    spec = zoo.spec(args.model)
    *sides, channels = spec.input_shape
    if len(sides) < 2:
        if size:
            raise UsageError(f"--image-size does not apply to {args.model}, which takes no images")
        return zoo.build(args.model, weights=RANDOM)
    size = size or min(*sides, max(SIDE, spec.min_size))
    return zoo.build(args.model, weights=RANDOM, input_shape=(size, size, channels))
