"""Generates images with a trained GAN: zoo generate runs/NAME --count 64 --out generated.

Each image is written to DIR/0000.png, DIR/0001.png, ...; grid.png shows all of them. The same seed
generates the same images. A class-conditional generator samples --label CLASS, or all classes in
turn.
"""

from __future__ import annotations

import json
from pathlib import Path

from zoo.errors import UsageError


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument("model", metavar="MODEL", help="run folder or .keras file of a GAN")
    parser.add_argument(
        "--count", type=int, default=64, metavar="N", help="number of images (default: 64)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed of the images (default: 0)"
    )
    parser.add_argument(
        "--label", metavar="CLASS", help="class to sample from a class-conditional generator"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="output folder")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Generates images and prints the path of the folder."""
    from tasks.gan import sampling

    if args.count < 1 or args.seed < 0:
        raise UsageError("--count must be 1 or more, --seed 0 or more")
    generator = sampling.load_generator(args.model)
    pixels, labels = sampling.sample_images(generator, args.count, args.seed, args.label)
    files = sampling.write_images(pixels, Path(args.out))
    if args.json:
        names = None if labels is None else [generator.classes[label] for label in labels]
        print(json.dumps({"files": [str(file) for file in files], "classes": names}))
        return
    print(f"{len(pixels)} images of {' x '.join(map(str, pixels.shape[1:3]))} pixels in {args.out}")
    print(f"grid of all images: {files[-1]}")
