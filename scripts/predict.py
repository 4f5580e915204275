"""Names what is in pictures: zoo predict runs/NAME photo.jpg.

The model is a run's folder, a .keras file, or a pretrained model of the zoo such as
resnet50.imagenet. Pictures are files, folders of them, or patterns:

    zoo predict runs/NAME photos --output answers.csv
    zoo predict runs/NAME 'photos/**/*.jpg' --format jsonl | head
"""

from __future__ import annotations

import sys
import time

from zoo.errors import UsageError


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("model", help="a run's folder, a .keras file or a zoo name with a tag")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="an image, a folder of them, or a pattern"
    )
    parser.add_argument("--weights", metavar="FILE", help="weights file of a zoo name")
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="classes to show (5); for several labels: all",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where to, until it is complete as FILE.partial; - for here",
    )
    parser.add_argument(
        "--format", metavar="NAME", help="text, csv, jsonl or json (as FILE ends, else text)"
    )
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument(
        "--runtime",
        default="auto",
        metavar="NAME",
        help="what computes: auto, keras, openvino, litert or onnx (auto: the fastest that pays)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="float32, or bfloat16: faster with openvino, answers differ a little (float32)",
    )


def run(args):
    """Prints or writes the most likely classes of each image."""
    from tasks.deploy import answers, classifier, predict
    from tasks.engine import runtimes

    if args.top < 1:
        raise UsageError(f"--top must be 1 or more, not {args.top}")
    if args.json and args.format not in (None, "json"):
        raise UsageError(f"--json and --format {args.format} are two formats; give one")
    kind = answers.format_for("json" if args.json else args.format, args.output)
    here = args.output in (None, "", answers.STDOUT)
    # What cannot be is said before a model is loaded for seconds.
    classifier.find(args.model)
    paths = predict.find(args.images)
    runtimes.choose(args.runtime, args.precision, len(paths))
    with answers.opened(args.output) as file:
        model = classifier.open_classifier(args.model, args.weights)
        start = time.monotonic()
        found = predict.answer(
            model,
            paths,
            top=args.top,
            runtime=args.runtime,
            precision=args.precision,
            progress=not (here and sys.stdout.isatty()),
        )
        tally = answers.write(found, file, kind, model)
    seconds = time.monotonic() - start
    _conclude(tally, seconds, None if here else args.output)


def _conclude(tally, seconds, output):
    """Says what could not be read, and where the rest is."""
    if tally.unreadable == tally.images:
        raise UsageError(
            f"none of the {tally.images:,} images could be read; the first: {tally.reasons[0]}"
        )
    for reason in tally.reasons:
        print(f"zoo: skipped {reason}", file=sys.stderr)
    if tally.unreadable > len(tally.reasons):
        print(f"zoo: and {tally.unreadable - len(tally.reasons):,} more", file=sys.stderr)
    if tally.unreadable:
        print(
            f"zoo: {tally.unreadable:,} of {tally.images:,} images could not be read",
            file=sys.stderr,
        )
    if output:
        rate = tally.images / seconds
        print(
            f"zoo: {output} has the answers to {tally.images:,} images, {rate:,.0f} a second",
            file=sys.stderr,
        )
