"""Compares the formats of `zoo export` on every task: parity with Keras and milliseconds.

    python benchmarks/export.py --out exports                    # needs keras-zoo[export]
    python benchmarks/export.py --runs runs/a runs/b --out exports

Without `--runs` a small network of each task is trained for one epoch on `shapes`, on the bundled
sample of Fashion-MNIST, or in CartPole, and exported. Each cell is `milliseconds / difference`:
the median time of one image, alone in its batch, in the runtime of the format, in a process of its
own; and the largest difference from Keras, relative to the largest value where the output has no
scale, or `n% equal` of integers. Otherwise the cell is the reason why there is no file. int8 is
calibrated on the training split; its cell also has the drop of the metric on the test split.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tasks
from scripts import _output
from tasks.engine import resume, trainer
from tasks.export import export
from zoo.errors import UsageError

COLUMNS = (
    *(("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "int8")),
    *(("litert", "float32"), ("litert", "float16"), ("litert", "int8")),
    *(("saved_model", "float32"), ("keras", "float32")),
)
TRAINING = {
    "classification": {"model": "lenet5", "dataset": "fashion_sample"},
    "segmentation": {
        "model": "unet",
        "model_options": "{widths: [8, 16, 32]}",
        "image_size": 64,
        "train_split": "train[:512]",
        "test_split": "test[:128]",
    },
    "detection": {
        "model": "retinanet",
        "train_split": "train[:512]",
        "test_split": "test[:128]",
    },
    "captioning": {
        "model": "show_attend_tell",
        "train_split": "train[:512]",
        "test_split": "test[:64]",
    },
    "gan": {"dataset": "fashion_sample", "width": 16, "num_samples": 64},
    "style_transfer": {
        "model": "fast_style",
        "model_options": "{width: 8, depth: 2}",
        "backbone": "lenet5",
        "backbone_weights": "random",
        "image_size": 64,
        "patch_size": 64,
        "steps": 10,
    },
    "dqn": {"epoch_steps": 1_000},
}


def main():
    """Prints a table with a row for each run and a column for each format and precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and exports")
    parser.add_argument("--runs", nargs="+", type=Path, help="finished runs to export")
    parser.add_argument("--tasks", nargs="+", default=list(TRAINING), choices=list(TRAINING))
    args = parser.parse_args()
    runs = args.runs or [trained(name, args.out / "runs" / name) for name in args.tasks]
    rows, reasons = [], []
    for run in runs:
        cells = []
        for name, precision in COLUMNS:
            cell, reason = measured(run, name, precision, args.out / run.name)
            cells.append(cell)
            reasons += [f"[{len(reasons) + 1}] {run.name}, {name} {precision}: {reason}"] * bool(
                reason
            )
            if reason:
                cells[-1] = f"[{len(reasons)}]"
        rows.append((run.name, *cells))
        print(run.name, flush=True)
    for (name, precision), column in zip(COLUMNS, list(zip(*rows, strict=True))[1:], strict=True):
        print(f"\n{name} {precision}")
        pairs = [(row[0], cell) for row, cell in zip(rows, column, strict=True)]
        print(_output.format_table(("run", "ms / difference"), pairs))
    print(*reasons, sep="\n")


def trained(name, out):
    """Returns the folder of a run of a task, which is trained if it is not there."""
    if not (out / resume.REPORT).exists():
        trainer.train(tasks.get(name)(epochs=1, **TRAINING[name]), out)
    return out


def measured(run, name, precision, out):
    """Returns the cell of an export, and the reason if there is none."""
    try:
        # The drop of a network that was hardly trained is of no interest: it is not limited.
        (report,) = export.export(run, [name], [precision], out=out, max_drop=1.0)
    except UsageError as error:
        return "", str(error)
    figures = [value for value in report["parity"].values() if isinstance(value, dict)]
    differences = [value["largest"] for value in figures if "largest" in value]
    equal = [value["equal"] for value in figures if "equal" in value]
    parts = [f"{report['milliseconds']:.2f}"]
    parts += [f"{max(differences):.0e}"] if differences else []
    parts += [f"{min(equal):.1%} equal"] if equal else []
    if "int8" in report:
        parts.append(f"drop {report['int8']['splits']['test']['drop']:.3f}")
    return " / ".join(parts), ""


if __name__ == "__main__":
    main()
