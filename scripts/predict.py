"""Says what is in pictures: zoo predict runs/NAME photo.jpg.

The model is a run's folder, a .keras file, or a pretrained model of the zoo such as
resnet50.imagenet. Pictures are files, folders of them, or patterns:

    zoo predict runs/NAME photos --output answers.csv
    zoo predict runs/NAME 'photos/**/*.jpg' --format jsonl | head

What the model was taught decides what is answered: the classes of a picture, for each of its
pixels one, boxes round its objects, or a sentence. Masks, overlays, boxes and, with --explain, the
attention of a captioner are drawn into a folder: answers-pictures beside answers.csv, or
predictions.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from zoo import terminal
from zoo.errors import UsageError, unknown_name_error

SCALES = ("auto", "fit", "own")


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
    _add_drawing_flags(parser)


def run(args):
    """Prints or writes what is in each image."""
    from tasks.deploy import model_loader, predict, prediction_writer
    from tasks.inference import runtimes

    _check_args(args)
    kind = prediction_writer.choose_format("json" if args.json else args.format, args.output)
    here = args.output in (None, "", prediction_writer.STDOUT)
    # What cannot be is said before a model is loaded for seconds.
    model_loader.find_model(args.model)
    paths = predict.find_images(args.images)
    runtimes.choose_runtime(args.runtime, args.precision, len(paths))
    with prediction_writer.open_output(args.output) as file:
        model = model_loader.load_predictor(args.model, args.weights)
        draws = model.draws or _check_explain(args.explain, model)
        pictures = _drawings_folder(args.pictures, None if here else args.output) if draws else None
        start = time.monotonic()
        found = predict.predict_files(
            model,
            paths,
            runtime=args.runtime,
            precision=args.precision,
            progress=not (here and sys.stdout.isatty()),
            top=args.top,
            pictures=pictures,
            scale=args.scale,
            tile=args.tile,
            explain=args.explain,
        )
        tally = prediction_writer.write_predictions(found, file, kind, model)
    seconds = time.monotonic() - start
    _print_summary(tally, seconds, None if here else args.output)
    if pictures:
        print(f"zoo: {pictures} has the pictures", file=sys.stderr)


def _add_drawing_flags(parser):
    """Adds the flags of models that draw their answers."""
    parser.add_argument(
        "--pictures", metavar="DIR", help="where drawn answers go; none for nowhere"
    )
    parser.add_argument(
        "--explain", action="store_true", help="draw where a captioner looked at each word"
    )
    parser.add_argument(
        "--scale",
        default="auto",
        metavar="NAME",
        help="of pictures that get masks: fit to the size of the training images, own, or auto: "
        "as the training images were (auto)",
    )
    parser.add_argument(
        "--tile",
        type=int,
        default=0,
        metavar="N",
        help="pixels; a larger picture gets its mask in parts (0: what suits)",
    )


def _check_args(args):
    if args.top < 1:
        raise UsageError(f"--top must be 1 or more, not {args.top}")
    if args.json and args.format not in (None, "json"):
        raise UsageError(f"--json and --format {args.format} are two formats; give one")
    if args.scale not in SCALES:
        raise unknown_name_error("scale", args.scale, SCALES)
    if args.tile < 0:
        raise UsageError(f"--tile must be 0 or more, not {args.tile}")


def _check_explain(wanted, model):
    """Tells whether the reasons for answers are drawn; refuses who has none to show."""
    if wanted and not model.explains:
        raise UsageError(f"{model.name} cannot show why it answers so; leave out --explain")
    return wanted


def _drawings_folder(folder, output):
    """Returns the folder for drawn answers, or `None`."""
    if folder == "none":
        return None
    if folder:
        return Path(folder)
    if output:
        return Path(output).with_name(f"{Path(output).stem}-pictures")
    return Path("predictions")


def _print_summary(tally, seconds, output):
    """Says what could not be read, and where the rest is."""
    if tally.unreadable == tally.images:
        raise UsageError(
            f"none of the {tally.images:,} images could be read; the first: {tally.reasons[0]}"
        )
    for reason in tally.reasons:
        print(f"zoo: skipped {terminal.escape_line(reason)}", file=sys.stderr)
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
