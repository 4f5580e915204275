"""Paints with what a GAN has learned: zoo generate runs/NAME --count 64 --out pictures.

Each image becomes a file, DIR/0000.png and on, and grid.png has all of them. The same seed paints
the same images. A generator that was told classes paints --label CLASS, or all classes in turn.
"""

from __future__ import annotations

import json
from pathlib import Path

from zoo.errors import UsageError


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("model", help="the folder of a finished run, or its .keras file")
    parser.add_argument("--count", type=int, default=64, metavar="N", help="images (64)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the images (0)")
    parser.add_argument("--label", metavar="CLASS", help="the class to paint, if it was taught any")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to paint into")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args):
    """Paints, and says where the pictures are."""
    from tasks.gan import sampling

    if args.count < 1 or args.seed < 0:
        raise UsageError("--count takes 1 or more, --seed 0 or more")
    generator = sampling.load_generator(args.model)
    pixels, labels = sampling.sample_images(generator, args.count, args.seed, args.label)
    files = sampling.write_images(pixels, Path(args.out))
    if args.json:
        names = None if labels is None else [generator.classes[label] for label in labels]
        print(json.dumps({"files": [str(file) for file in files], "classes": names}))
        return
    print(f"{len(pixels)} images of {' x '.join(map(str, pixels.shape[1:3]))} pixels in {args.out}")
    print(f"all of them: {files[-1]}")
