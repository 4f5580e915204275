"""Predicts on images: zoo predict runs/NAME photo.jpg.

MODEL is a run folder, a .keras file, a pretrained model such as resnet50.imagenet, or a file of
`zoo export` (.onnx, .tflite, .xml), which starts fastest. IMAGE is a file, a folder, or a pattern:

    zoo predict runs/NAME photos --output predictions.csv
    zoo predict runs/NAME 'photos/**/*.jpg' --format jsonl | head

The prediction depends on the task of the model: classes, a mask, boxes, a caption, a stylized
image, or the continuation of a text or a series. Masks, overlays, boxes, stylized images and, with
--explain, saliency and attention maps are written to --drawings-dir (default:
predictions-pictures next to predictions.csv, or the folder predictions). A language model also
takes text in place of files:

    zoo predict runs/NAME 'The first' --temperature 0.5

With --runtime auto, an export of the model is cached in the run folder (inference/) after the
second use, or after the first with many images. Later predictions use it and start without
TensorFlow.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from zoo import terminal
from zoo.errors import UsageError, unknown_name_error

SCALES = ("auto", "fit", "native")
OPTIONS = ("top", "tile", "explain", "temperature", "steps", "seed")  # passed on as they are
FORMER_SCALES = {"own": "native"}  # names of earlier versions, which still work


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "model", metavar="MODEL", help="run folder, .keras or exported file, or pretrained model"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image, folder, pattern or text")
    parser.add_argument("--weights", metavar="FILE", help="weights for a pretrained model")
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="number of classes to print (default: 5); a multi-label model prints all that apply",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="output file, named FILE.partial until it is complete; - for standard output",
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="text, csv, jsonl or json (default: from the suffix of FILE, else text)",
    )
    parser.add_argument("--json", action="store_true", help="same as --format json")
    parser.add_argument(
        "--runtime",
        default="auto",
        metavar="NAME",
        help="keras, openvino, litert, onnx, or auto for the fastest (default: auto)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="float32, or bfloat16, which is faster with openvino and less exact "
        "(default: float32)",
    )
    _add_sequence_options(parser)
    _add_drawing_options(parser)


def run(args):
    """Prints or writes the prediction for each image."""
    from tasks.deploy import cached_export, model_loader, predict, prediction_writer
    from tasks.inference import exported_file, runtimes

    _check_args(args)
    kind = prediction_writer.choose_format("json" if args.json else args.format, args.output)
    to_stdout = args.output in (None, "", prediction_writer.STDOUT)
    # Checked before the model is loaded, which takes seconds.
    found = model_loader.find_model(args.model)
    paths = predict.find_inputs(args.model, args.images)
    cached = (args.runtime, args.precision) == ("auto", "float32") and not args.explain
    if not cached and not exported_file.is_exported(str(found)):
        runtimes.choose_runtime(args.runtime, args.precision, len(paths))
    with prediction_writer.open_output(args.output) as file:
        predictor = model_loader.load_predictor(args.model, args.weights, cached=cached)
        drawings_dir = _drawings_dir(args, predictor, None if to_stdout else args.output)
        start = time.monotonic()
        predictions = predict.predict_files(
            predictor,
            paths,
            runtime=args.runtime,
            precision=args.precision,
            progress=not (to_stdout and sys.stdout.isatty()),
            drawings_dir=drawings_dir,
            scale=FORMER_SCALES.get(args.scale, args.scale),
            **{name: getattr(args, name) for name in OPTIONS},
        )
        summary = prediction_writer.write_predictions(predictions, file, kind, predictor)
    seconds = time.monotonic() - start
    _print_summary(summary, predictor.noun, seconds, None if to_stdout else args.output)
    if drawings_dir:
        print(f"zoo: drawings are in {drawings_dir}", file=sys.stderr)
    if cached and not predictor.is_exported:
        cached_export.store(args.model, paths)


def _add_sequence_options(parser):
    """Adds the options of models of text and series."""
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="X",
        help="of text: less than 1 samples probable characters more often, 0 only the most "
        "probable (default: 1)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=0,
        metavar="N",
        help="characters or steps to add to a text or series; 0 for the length of a window "
        "(default: 0)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed of text (default: 0)"
    )


def _add_drawing_options(parser):
    """Adds the options of models whose predictions are drawn."""
    drawings = {"metavar": "DIR", "dest": "drawings_dir"}
    parser.add_argument("--drawings-dir", help="folder for drawings; none to draw none", **drawings)
    parser.add_argument("--pictures", help=argparse.SUPPRESS, **drawings)  # its former name
    parser.add_argument(
        "--explain",
        action="store_true",
        help="draw a heat map of the predicted class, or the attention of each word of a caption",
    )
    parser.add_argument(
        "--scale",
        default="auto",
        metavar="NAME",
        help="size at which masks and stylized images are computed: fit for the size of the "
        "training images, native for that of the image, auto as in training (default: auto)",
    )
    parser.add_argument(
        "--tile",
        type=int,
        default=0,
        metavar="N",
        help="side in pixels of the tiles that a larger image is processed in; 0 for the default "
        "of the model (default: 0)",
    )


def _check_args(args):
    if args.top < 1:
        raise UsageError(f"--top must be 1 or more, not {args.top}")
    if args.json and args.format not in (None, "json"):
        raise UsageError(f"--json and --format {args.format} exclude each other; pass one of them")
    if args.scale not in (*SCALES, *FORMER_SCALES):
        raise unknown_name_error("scale", args.scale, SCALES)
    if not 0 <= args.temperature < math.inf:
        raise UsageError(f"--temperature must be 0 or more, not {args.temperature}")
    for name in ("steps", "seed"):
        if getattr(args, name) < 0:
            raise UsageError(f"--{name} must be 0 or more, not {getattr(args, name)}")
    if args.tile < 0:
        raise UsageError(f"--tile must be 0 or more, not {args.tile}")


def _drawings_dir(args, predictor, output):
    """Returns the folder for drawings, or `None` to draw none.

    Raises:
        UsageError: the model cannot draw the explanations that `--explain` requests.
    """
    if args.explain and not predictor.has_explanations:
        raise UsageError(
            f"{predictor.name} does not support --explain; zoo explain is for classifiers, "
            "segmenters and detectors"
        )
    if not (predictor.writes_images or args.explain):
        return None
    if args.drawings_dir:
        return None if args.drawings_dir == "none" else Path(args.drawings_dir)
    if output:
        return Path(output).with_name(f"{Path(output).stem}-pictures")
    return Path("predictions")


def _print_summary(summary, noun, seconds, output):
    """Prints the unreadable images and the path of the output; fails if all are unreadable."""
    if summary.unreadable == summary.images:
        raise UsageError(
            f"none of the {summary.images:,} {noun}s could be read; the first: {summary.reasons[0]}"
        )
    for reason in summary.reasons:
        print(f"zoo: skipped {terminal.escape_line(reason)}", file=sys.stderr)
    if summary.unreadable > len(summary.reasons):
        print(f"zoo: and {summary.unreadable - len(summary.reasons):,} more", file=sys.stderr)
    if summary.unreadable:
        print(
            f"zoo: {summary.unreadable:,} of {summary.images:,} {noun}s could not be read",
            file=sys.stderr,
        )
    if output:
        rate = summary.images / seconds
        print(
            f"zoo: predictions for {summary.images:,} {noun}s in {output}, {rate:,.0f} {noun}s/s",
            file=sys.stderr,
        )
