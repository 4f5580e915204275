"""Compares the formats of `zoo export` on every task: parity with Keras and milliseconds.

    python benchmarks/export.py --out exports                    # needs keras-zoo[export]
    python benchmarks/export.py --runs runs/a runs/b --out exports --max-drop 0.01
    python benchmarks/export.py --runs resnet20.cifar10 --calibration tfds:cifar10 --out exports

Without `--runs` a small network of each task is trained for one epoch on `shapes`, on the bundled
sample of Fashion-MNIST, or in CartPole, and exported to every format in every precision. Columns:
`ms/image` is the median time of one image, alone in its batch, in the runtime of the format, in a
process of its own; `largest` and `mean` are differences from Keras, relative to the largest value
where an output has no scale, of pixels in [0, 255]; `equal` is the share of equal classes, tokens
or boxes. An export without a file is listed below the table with the reason.

Measured on 2 cores of an Intel Xeon with VNNI, on a busy machine, with `--formats openvino
--evaluation-images 1000 --max-drop 0.01`, for a ResNet50 of ImageNet whose head was trained on
3,000 images of CIFAR-10 at 96 pixels (`--plan probe`); docs/export.md has the other formats:

    format    precision     MB  ms/image
    openvino  float32    94.39     27.93
    openvino  int8       24.06     21.15
    int8      split       images  metric    float32  int8    drop     95% interval
    openvino  validation  1,000   accuracy  0.7850   0.7830  0.0020   -0.0110 to 0.0150
    openvino  test        1,000   accuracy  0.8160   0.8170  -0.0010  -0.0140 to 0.0120

Milliseconds are unreliable there: `zoo benchmark` on the same two files gave 30.6 and 10.1.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tasks
from scripts import _output
from tasks.engine import resume, trainer
from tasks.export import export, export_table
from zoo.errors import UsageError

COLUMNS = (
    *(("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "int8")),
    *(("litert", "float32"), ("litert", "float16"), ("litert", "int8")),
    *(("saved_model", "float32"), ("keras", "float32")),
)
IMAGES = {"train_split": "train[:128]", "test_split": "test[:64]"}
TRAINING = {
    "classification": {"model": "lenet5", "dataset": "fashion_sample"},
    "segmentation": {
        "model": "unet",
        "model_options": "{widths: [8, 16, 32]}",
        "image_size": 64,
        **IMAGES,
    },
    "detection": {
        "model": "faster_rcnn",
        "backbone": "lenet5",
        "model_options": "{levels: [2, 3], channels: 16, proposals: 32, hidden: [16]}",
        "image_size": 64,
        **IMAGES,
    },
    "captioning": {"model": "show_attend_tell", "image_size": 64, **IMAGES},
    "gan": {"dataset": "fashion_sample", "width": 8, "num_samples": 64, **IMAGES},
    "style_transfer": {
        "model": "fast_style",
        "model_options": "{width: 8, depth: 2}",
        "backbone": "lenet5",
        "backbone_weights": "random",
        "image_size": 64,
        "patch_size": 64,
        "steps": 4,
        "train_split": "train[:8]",
        "validation_split": "validation[:2]",
        "test_split": "test[:2]",
    },
    "dqn": {"epoch_steps": 1_000, "learning_starts": 200, "test_episodes": 5},
}


def main():
    """Prints a table for each run, with a row for each format and precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and exports")
    parser.add_argument("--runs", nargs="+", type=Path, help="finished runs or models to export")
    parser.add_argument("--calibration", default="", help="data set of int8 for models without run")
    parser.add_argument("--data-dir", default="", help="folder of TFDS data sets")
    parser.add_argument("--max-drop", type=float, default=1.0, help="as for zoo export")
    parser.add_argument("--evaluation-images", type=int, default=2000, help="as for zoo export")
    parser.add_argument("--formats", nargs="+", default=sorted(dict(COLUMNS)), help="of COLUMNS")
    parser.add_argument("--tasks", nargs="+", default=list(TRAINING), choices=list(TRAINING))
    args = parser.parse_args()
    for run in args.runs or (load_or_train(name, args.out / "runs" / name) for name in args.tasks):
        reports, reasons = [], []
        for name, precision in COLUMNS:
            if name not in args.formats:
                continue
            try:
                reports += export.export(
                    run,
                    [name],
                    [precision],
                    out=args.out / run.name,
                    # The metric of a network that was hardly trained is of no interest: no limit.
                    max_drop=args.max_drop,
                    evaluation_images=args.evaluation_images,
                    calibration=args.calibration if not run.is_dir() else "",
                    data_dir=args.data_dir,
                )
            except UsageError as error:
                reasons.append(f"{name} {precision}: {error}")
        print(f"\n{run.name}")
        columns = export_table.COLUMNS
        print(_output.format_table(columns, export_table.rows(reports), columns[2:]))
        if rows := export_table.int8_rows(reports):
            print(_output.format_table(export_table.INT8_COLUMNS, rows))
        print(*reasons, sep="\n", flush=True)


def load_or_train(name, out):
    """Returns the folder of a run of a task, which is trained if it is not there."""
    if not (out / resume.REPORT).exists():
        trainer.train(tasks.get(name)(epochs=1, **TRAINING[name]), out)
    return out


if __name__ == "__main__":
    main()
