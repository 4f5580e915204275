"""Exports a model to files of several formats, each compared with Keras before it gets its name.

A file is written into a temporary folder beside its place and run there, in a process of its own
by the runtime of its format. Only a folder that holds everything gets its name.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.export import converters, exported_process, predict_script, quantization, target
from tasks.export.converters import FORMATS, Conversion
from tasks.inference import comparisons, export_graph, partial_folders
from tasks.web import onnxruntime_web, web_folder
from zoo import hub
from zoo.errors import UsageError, raised_by_project, unknown_name_error
from zoo.lazy import keras

EXPORT_FOLDER, REPORT, SCRIPT = "export", "export.json", "predict.py"
EXPORTS_FOLDER = Path("exports")  # the parent of exports of models that are no runs
PRECISIONS = ("float32", "float16", "int8")
NUM_TEST_IMAGES = 32

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        pixels: dtype of images in the file, one of `export_graph.PIXEL_DTYPES`.
        images: paths of images for the comparison; by default the test split of the run.
        calibration: a data set to calibrate int8 on; by default that of the run.
        data_dir: the folder of TFDS data sets; by default that of the run.
        max_drop: the largest drop of the metric by int8.
        evaluation_images: the largest number of images of a split that int8 is evaluated on.
        onnxruntime_web: path of a copy of ONNX Runtime Web for a web page; by default, of npm.
    """

    pixels: str = "uint8"
    images: tuple[str, ...] = ()
    calibration: str = ""
    data_dir: str = ""
    max_drop: float = 0.01
    evaluation_images: int = quantization.MAX_EVALUATION_IMAGES
    onnxruntime_web: str = ""

    def __post_init__(self):
        if self.pixels not in export_graph.PIXEL_DTYPES:
            raise unknown_name_error("dtype of pixels", self.pixels, export_graph.PIXEL_DTYPES)
        if not 0 <= self.max_drop <= 1:
            raise UsageError(f"--max-drop must be in [0, 1], not {self.max_drop:g}")
        if self.evaluation_images < 1:
            raise UsageError(f"--evaluation-images must be 1 or more, not {self.evaluation_images}")


def export(name, formats, precisions=("float32",), *, out=None, weights=None, **options):
    """Exports a model.

    Args:
        name: a run folder, a `.keras` file, or the name of a pretrained model.
        formats: names of formats, keys of `FORMATS`.
        precisions: names of precisions, of `PRECISIONS`.
        out: the folder of the exports; by default `export` in the run folder, or
            `exports/NAME`. Each export is a folder in it, such as `onnx` or `litert-int8`.
        weights: a weights file for a pretrained model.
        **options: the attributes of `ExportOptions`.

    Returns:
        A list of dicts, the contents of the files `export.json`.

    Raises:
        UsageError: a format or precision is unknown or not supported, a package is missing, there
            are no images for the comparison, or a file differs from Keras.
    """
    options = ExportOptions(**options)
    pairs = check_formats(formats, precisions)
    runtime = onnxruntime_web.load(options.onnxruntime_web) if "web" in formats else None
    loaded = target.load(name, weights, options.calibration, options.data_dir)
    for each in formats:
        if reason := loaded.exported.unsupported.get(each):
            able = ", ".join(key for key in FORMATS if key not in loaded.exported.unsupported)
            raise UsageError(f"{name}: {reason}; formats that can: {able}")
    if "web" in formats:
        web_folder.check(loaded.exported)
    out = Path(out) if out else _default_folder(loaded)
    for each, precision in pairs:
        _check_folder(out / _folder_name(each, precision))
    inputs, source = target.comparison_inputs(loaded, NUM_TEST_IMAGES, options.images)
    expected = export_graph.keras_outputs(loaded.exported, inputs)
    comparison = _ComparisonData(inputs, expected, source)
    comparison.warn_if_empty()
    data = quantization.load_data(loaded, options) if "int8" in precisions else None
    reports = []
    for each, precision in pairs:
        folder = out / _folder_name(each, precision)
        conversion = Conversion(loaded.exported, options.pixels, precision, web_runtime=runtime)
        with _new_folder(folder) as partial:
            report = _export_one(each, conversion, partial, comparison, data, options.max_drop)
        reports.append({**report, "folder": str(folder)})
    return reports


@dataclass(frozen=True)
class _ComparisonData:
    """Inputs for the comparison with Keras, its outputs for them, and where they come from."""

    inputs: dict
    expected: dict
    source: str

    def warn_if_empty(self):
        """Warns if Keras finds no object, so that there are no boxes to compare."""
        if "boxes" in self.expected and not self.expected["scores"].any():
            log.warning(
                "no object is found in the %d images (%s), so that no box is compared with Keras; "
                "pass others: --images FOLDER",
                len(self.expected["boxes"]),
                self.source,
            )


def check_formats(formats, precisions):
    """Returns the pairs of format and precision to export.

    Raises:
        UsageError: one is unknown, a format does not support any of the precisions, or its
            package is missing.
    """
    if not formats or not precisions:
        raise UsageError("--format and --precision each take one name or more, with commas")
    for name in formats:
        if name not in FORMATS:
            raise unknown_name_error("format", name, list(FORMATS))
    for name in precisions:
        if name not in PRECISIONS:
            raise unknown_name_error("precision", name, PRECISIONS)
    for name in formats:
        own = FORMATS[name]
        if wrong := [each for each in precisions if each not in own.precisions]:
            able = ", ".join(key for key, one in FORMATS.items() if wrong[0] in one.precisions)
            raise UsageError(f"{name} is not exported in {wrong[0]}; formats that are: {able}")
        if missing := missing_packages(name, quantized="int8" in precisions):
            raise UsageError(
                f"{name} needs {' and '.join(missing)}; install with: "
                "pip install 'keras-zoo[export]'"
            )
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            "export needs a TensorFlow graph, but the backend of Keras is "
            f"{keras.backend.backend()}; unset KERAS_BACKEND"
        )
    return [(name, precision) for name in formats for precision in precisions]


def missing_packages(name, *, quantized=False):
    """Returns the import names of the packages that a format needs and that are not installed."""
    own = FORMATS[name]
    needed = (*own.packages, *(own.quantizers if quantized else ()))
    return [each for each in needed if not importlib.util.find_spec(each)]


def _export_one(name, conversion, folder, comparison, data, max_drop):
    """Writes one export into a folder and returns its report."""
    exported, file = conversion.exported, folder / FORMATS[name].file
    start = time.perf_counter()
    quantized = {}
    if conversion.precision == "int8":
        write_one = functools.partial(write, name)
        quantized = {"int8": quantization.quantize(write_one, conversion, file, data, max_drop)}
    else:
        write(name, conversion, file)
    seconds = time.perf_counter() - start
    found = exported_process.run_in_process(file, comparison.inputs)
    figures, reasons = comparisons.compare_outputs(
        exported, found.outputs, comparison.expected, conversion.precision
    )
    if reasons:
        raise UsageError(
            f"{name} in {conversion.precision} differs from Keras and is not written: {reasons[0]}"
        )
    dtypes = export_graph.input_dtypes(exported, conversion.pixels)
    report = {
        "format": name,
        "precision": conversion.precision,
        "file": file.name,
        "bytes": _size(folder),
        "milliseconds": round(found.milliseconds, 3),
        "seconds_to_export": round(seconds, 2),
        "inputs": {x.name: [dtypes[x.name], *x.shape] for x in exported.model.inputs},
        "outputs": {key: [x.dtype, *x.shape] for key, x in exported.model.output.items()},
        "parity": {"rows": found.rows, "source": comparison.source, **figures},
        **quantized,
        "metadata": exported.metadata,
    }
    for title, text in exported.files.items():
        (folder / title).write_text(text, encoding="utf-8")
    report |= FORMATS[name].add(conversion, file)
    (folder / SCRIPT).write_text(predict_script.render(name, file.name, exported, dtypes))
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def write(name, conversion, file):
    """Writes a `Conversion` to a file of the format called `name`.

    Raises:
        UsageError: the format cannot hold the model.
    """
    try:
        FORMATS[name].write(conversion, file)
    except UsageError:
        raise
    except Exception as error:  # a converter may raise anything
        if raised_by_project(error):
            raise
        title = FORMATS[name].title
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = f"the model cannot be converted to {title}: {reason:.300}"
        if missing := converters.missing_operations(error):
            model = conversion.exported.model.name
            reason = f"{title} has no operation {missing}, which {model} needs"
        raise UsageError(f"{reason}; {_formats_that_convert(name, conversion)}") from error


def _formats_that_convert(failed, conversion):
    """Returns which other formats can hold a model, by converting it to them."""
    able = []
    for name, own in FORMATS.items():
        if name == failed or missing_packages(name) or conversion.precision not in own.precisions:
            continue
        with converters.temporary_folder() as folder:
            try:
                own.write(conversion, folder / own.file)
                exported_process.check_opens(folder / own.file)
                able.append(name)
            except Exception as error:
                log.debug("%s: %s", name, error)
    return f"formats that can: {', '.join(able)}" if able else "no other format can"


def _default_folder(loaded):
    if loaded.run:
        return loaded.run / EXPORT_FOLDER
    if hub.is_hub_name(loaded.name):
        return EXPORTS_FOLDER / hub.parse(loaded.name)[0].partition("/")[2]
    path = Path(loaded.name)
    return EXPORTS_FOLDER / (path.stem if path.exists() else loaded.name)


def _folder_name(name, precision):
    return name if precision == "float32" else f"{name}-{precision}"


def _check_folder(folder):
    """Raises `UsageError` if a folder is there that is not an export, and must not be replaced."""
    if folder.exists() and not (folder / REPORT).is_file():
        raise UsageError(f"{folder} exists and is not an export; choose another --out")


@contextmanager
def _new_folder(folder):
    """Yields a temporary folder that replaces `folder` if the block succeeds."""
    try:
        with partial_folders.partial_folder(folder) as partial:
            yield partial
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from error


def _size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
