"""Exports a model to other runtimes: zoo export runs/NAME --format onnx,litert.

TARGET is a run folder, a .keras file, or a pretrained model such as resnet50.imagenet. Formats are
onnx, openvino, litert, saved_model, keras, and web, a page that runs the model in the browser.
Each export is a folder in --out with the file, its report export.json, and a script predict.py
that needs nothing but the runtime of the format:

    zoo export runs/NAME --format onnx,openvino --precision float32,int8
    python runs/NAME/export/onnx/predict.py photo.jpg
    zoo predict runs/NAME/export/onnx/model.onnx photos

An exported model takes batches of images with pixels in [0, 255] and computes the predictions of
its task: class probabilities, a mask, boxes after non-maximum suppression, a caption, an image, or
action values. Its runtime executes it on test images in a separate process; if its outputs differ
from those of Keras, it is not saved.
"""

from __future__ import annotations

import json

from scripts import _output


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "target", metavar="TARGET", help="run folder, .keras file or pretrained model"
    )
    parser.add_argument(
        "--format",
        required=True,
        metavar="NAME,...",
        help="comma-separated formats: onnx, openvino, litert, web, saved_model, keras",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME,...",
        help="comma-separated precisions: float32, float16, int8 (default: float32)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="output folder (default: export in the run folder, else exports/NAME)",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights for a pretrained model")
    parser.add_argument(
        "--pixels",
        default="uint8",
        metavar="DTYPE",
        help="dtype of the input images: uint8 or float32 (default: uint8)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=(),
        metavar="IMAGE",
        help="images, folders or patterns to compare with Keras on (default: the test split of "
        "the run; shapes for a model without a run)",
    )
    _add_web_options(parser)
    _add_quantization_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints a table of the exports."""
    from tasks.export import export, export_table

    reports = export.export(
        args.target,
        _names(args.format),
        _names(args.precision),
        out=args.out,
        weights=args.weights,
        pixels=args.pixels,
        images=tuple(args.images),
        calibration=args.calibration,
        data_dir=args.data_dir,
        max_drop=args.max_drop,
        evaluation_images=args.evaluation_images,
        onnxruntime_web=args.onnxruntime_web,
    )
    if args.json:
        print(json.dumps(reports))
        return
    columns = export_table.COLUMNS
    print(_output.format_table(columns, export_table.rows(reports), columns[2:]))
    if rows := export_table.int8_rows(reports):
        columns = export_table.INT8_COLUMNS
        print("", _output.format_table(columns, rows, columns[4:7]), sep="\n")
        print(*export_table.float_layer_lines(reports), "", sep="\n")
    for report in reports:
        print(f"{report['folder']}/{report.get('page', report['file'])}")


def _add_web_options(parser):
    parser.add_argument(
        "--onnxruntime-web",
        default="",
        metavar="DIR",
        help="for web: copy of the npm package onnxruntime-web, a folder or .tgz (default: "
        "downloaded by npm)",
    )


def _add_quantization_options(parser):
    parser.add_argument(
        "--calibration",
        default="",
        metavar="DATASET",
        help="data set whose training split is used to calibrate int8 (default: that of the run)",
    )
    parser.add_argument("--data-dir", default="", metavar="DIR", help="folder of TFDS data sets")
    parser.add_argument(
        "--evaluation-images",
        type=int,
        default=2000,
        metavar="N",
        help="maximum number of images of the validation and the test split to evaluate int8 on "
        "(default: 2000)",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.01,
        metavar="X",
        help="maximum drop of the validation metric by int8; sensitive layers are left in "
        "float until it is reached (default: 0.01)",
    )


def _names(text):
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
