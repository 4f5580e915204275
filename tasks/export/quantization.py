"""Quantization to 8 bits whose effect on the metric is measured, and limited."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field

from tasks.export import float_layers, target
from tasks.inference import exported_file
from tasks.inference.export_model import as_batches
from tasks.report import confidence_intervals
from zoo.errors import UsageError
from zoo.lazy import np

NUM_CALIBRATION_IMAGES = 300
MAX_EVALUATION_IMAGES = 2000
BATCH_SIZE = 16
ROUNDING = 1e-9  # of a drop of one image of 100, which is not exactly 0.01
MAX_FLOAT_SHARE = 0.5  # of the layers with a kernel that are left in float at most

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class QuantizationData:
    """The images of a quantization.

    Attributes:
        calibration: images, uint8 `(count, height, width, channels)`.
        splits: `decoding.Examples` by role, `validation` and `test`, without those that the data
            set lacks.
        expected: by role, the outputs of Keras.
    """

    calibration: object = field(repr=False)
    splits: dict = field(repr=False)
    expected: dict = field(repr=False)


def load_data(loaded, options):
    """Returns the `QuantizationData` of a target.

    Args:
        loaded: a `target.Target`.
        options: the `ExportOptions`.

    Raises:
        UsageError: there are no images to calibrate or evaluate on, or the model cannot be
            evaluated.
    """
    reader, task_name = loaded.exported.data, loaded.exported.metadata["task"]
    if reader is None or reader.evaluate is None:
        raise UsageError(
            f"int8 is for classification with one label per image, segmentation and detection, "
            f"not for {loaded.name}, a model of {task_name}; use float16 or float32"
        )
    if loaded.task is None:
        raise UsageError(
            f"{loaded.name} has no run whose images int8 could be calibrated on; pass a data set "
            "with the same classes: --calibration DATASET"
        )
    train = target.split_examples(loaded, "train", NUM_CALIBRATION_IMAGES, options.calibration)
    splits, expected = {}, {}
    for role in ("validation", "test"):
        examples = target.split_examples(loaded, role, options.evaluation_images)
        if examples is not None:
            splits[role] = examples
            expected[role] = _keras_outputs(loaded.exported, _pixels(examples))
    return QuantizationData(_pixels(train), splits, expected)


def quantize(write, conversion, path, data, max_drop):
    """Writes an int8 file, with as few layers in float as the limit on the drop allows.

    Args:
        write: a function of a `Conversion` and a path that writes the file.
        conversion: the `Conversion`.
        path: path of the file.
        data: the `QuantizationData`.
        max_drop: the largest drop of the metric on the validation split, or on the test split
            of a run without one.

    Returns:
        A dict with the `metric`, by split its value in `float32` and `int8`, their `drop` with the
        ends of a paired 95% interval; and the names of the `float_layers`.

    Raises:
        UsageError: the drop is larger with half of the layers in float, too.
    """
    exported = float_layers.folded(conversion.exported)
    conversion = dataclasses.replace(conversion, exported=exported, calibration=data.calibration)
    role = next(iter(data.splits))
    ranked, count, largest = None, 0, 0
    while True:
        names = (*exported.float_layers, *(ranked[:count] if ranked else ()))
        write(dataclasses.replace(conversion, float_layers=names), path)
        found = {name: _file_outputs(path, _pixels(data.splits[name])) for name in data.splits}
        report = {
            name: compare(exported.data, found[name], data.expected[name], data.splits[name])
            for name in data.splits
        }
        drop = report[role]["drop"]
        if not report[role]["float32"]:
            log.warning(
                "%s of float32 on %s is 0: int8 cannot lower it", exported.data.metric, role
            )
        if drop <= max_drop + ROUNDING:
            own = list(ranked[:count]) if ranked else []
            return {"metric": exported.data.metric, "splits": report, "float_layers": own}
        if ranked is None:
            ranked = float_layers.rank(exported, data.calibration)
            largest = int(len(ranked) * MAX_FLOAT_SHARE)
        log.info("int8 with %d layers in float: %.4f lower on %s", count, drop, role)
        if count >= largest:
            raise UsageError(
                f"int8 lowers {exported.data.metric} on {role} by {drop:.4f}, more than --max-drop "
                f"{max_drop:g}, even with {count} of {len(ranked)} layers in float; use float16 "
                "or float32, or raise --max-drop"
            )
        count = min(largest, max(1, 2 * count))


def compare(reader, found, expected, examples):
    """Returns the metric of float32 and of int8 on a split, and the drop with its interval.

    Both are resampled together, so that the interval is that of the difference.

    Args:
        reader: the `SplitReader` of the task.
        found, expected: outputs by name of int8 and of Keras.
        examples: the `decoding.Examples`.
    """
    measures = [reader.evaluate([outputs], examples) for outputs in (expected, found)]
    count = len(examples)
    full, rounded = (float(measure(np.ones((1, count), "int64"))[0]) for measure in measures)
    low, high = confidence_intervals.bootstrap_interval(
        lambda draws: measures[0](draws) - measures[1](draws), count, seed=0
    )
    return {
        "images": count,
        "float32": full,
        "int8": rounded,
        **confidence_intervals.with_interval("drop", full - rounded, (low, high)),
    }


def _pixels(examples):
    return np.asarray(examples.pixels[np.arange(len(examples))])


def _keras_outputs(exported, pixels):
    return exported.model.predict(pixels, batch_size=BATCH_SIZE, verbose=0)


def _file_outputs(path, pixels):
    opened = exported_file.open_file(path)
    ((name, dtype),) = opened.dtypes.items()
    parts = [
        opened.run({key: rows.astype(dtype) for key, rows in batch.items()})
        for batch in as_batches({name: pixels}, BATCH_SIZE)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
