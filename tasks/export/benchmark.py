"""Measures the speed and the memory of models: runtimes x precisions x batch sizes x threads.

Each model is converted once for each runtime and precision, into a temporary folder, and each
case is timed in a process of its own. Inputs are random: the speed does not depend on them, nor on
the weights, so that an architecture without weights can be measured, too. int8 is calibrated on
these inputs, which its accuracy would depend on; `zoo export` measures that.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import zoo
from tasks.deploy import cached_export, model_loader
from tasks.export import benchmark_process, converters, export, target
from tasks.inference import exported_file
from tasks.inference.export_model import DEFAULT_SIDE
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np

PRECISIONS = ("float32", "float16", "int8")
NUM_CALIBRATION_IMAGES = 8
PATTERN_SIGNS = "*?["


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured.

    Attributes:
        runtimes: names of formats, keys of `converters.FORMATS`; empty for all that are installed.
        precisions: of `PRECISIONS`.
        batch_sizes: images per call.
        threads: numbers of threads of a call; empty for that of the cores.
        seconds: for how long a case is timed.
    """

    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("float32",)
    batch_sizes: tuple[int, ...] = (1, 8)
    threads: tuple[int, ...] = ()
    seconds: float = 2.0

    def __post_init__(self):
        for name in self.precisions:
            if name not in PRECISIONS:
                raise unknown_name_error("precision", name, PRECISIONS)
        for name in self.runtimes:
            if name not in converters.FORMATS:
                raise unknown_name_error("runtime", name, list(converters.FORMATS))
        if not self.precisions or min((*self.batch_sizes, *self.threads), default=0) < 1:
            raise UsageError(
                "precisions, batch sizes and threads each take one value or more, "
                "and numbers are 1 or more"
            )
        if not 0 < self.seconds <= 3600:
            raise UsageError(f"--seconds must be in (0, 3600], not {self.seconds:g}")


def find_targets(words):
    """Returns what is to be measured: words, with patterns replaced by names of classifiers.

    Args:
        words: run folders, `.keras` or exported files, names of models, with a tag or without, or
            patterns of names such as `mobilenet*`, which match names without a tag.

    Raises:
        UsageError: a pattern matches nothing.
    """
    found = []
    for word in words:
        if not any(sign in word for sign in PATTERN_SIGNS) or Path(word).exists():
            found.append(word)
            continue
        tagged = {} if "." in word else {"weights": False}
        names = zoo.names(word, kind="classifier", **tagged)
        if not names:
            raise UsageError(f"no classifier of the zoo matches {word}; see zoo list")
        found += names
    return list(dict.fromkeys(found))


def benchmark(words, *, on_row=lambda row: None, **options):
    """Measures models.

    Args:
        words: as for `find_targets`.
        on_row: a function that is called with each row when it is measured.
        **options: the attributes of `BenchmarkOptions`.

    Returns:
        A list of dicts with `model`, `runtime`, `precision`, `batch_size`, `threads`, and either
        the figures of `benchmark_process.measure`, or `reason`, why there are none.

    Raises:
        UsageError: there is no such model, runtime or precision.
    """
    options = BenchmarkOptions(**options)
    rows, names = [], find_targets(words)
    for name in names:  # before anything is measured, which takes long
        if name not in zoo.names(kind="classifier", weights=False):
            model_loader.find_model(name)
    for name in names:
        for row in _measure_target(name, options):
            on_row(row)
            rows.append(row)
    return rows


def _measure_target(name, options):
    """Yields the rows of a model."""
    if exported_file.is_exported(name):
        yield from _measure_exported(name, options)
        return
    exported = _load(name)
    for runtime, precision in itertools.product(_runtimes(options), options.precisions):
        about = {"model": str(name), "runtime": runtime, "precision": precision}
        with converters.temporary_folder() as folder:
            path = folder / converters.FORMATS[runtime].file
            try:
                export.check_formats([runtime], [precision])
                if reason := exported.unsupported.get(runtime):
                    raise UsageError(reason)
                _convert(exported, runtime, precision, path)
            except UsageError as error:
                yield {**about, "batch_size": None, "threads": None, "reason": str(error)}
                continue
            make = lambda count: _inputs(exported, count)  # noqa: E731
            yield from _measure_cases(path, make, about, options)


def _measure_exported(name, options):
    opened = exported_file.open_file(name)
    runtime = next(
        key for key, own in converters.FORMATS.items() if own.file.endswith(Path(name).suffix)
    )
    about = {"model": str(name), "runtime": runtime, "precision": "as exported"}
    side = opened.metadata.get("size") or [DEFAULT_SIDE] * 2
    random = np.random.default_rng(0)

    def make(count):
        shapes = {
            key: (count, *(x or y for x, y in zip(shape[1:], (*side, 3), strict=False)))
            for key, shape in opened.shapes.items()
        }
        return {
            key: np.zeros(shape, "int32")  # an index of a class
            if np.issubdtype(opened.dtypes[key], np.signedinteger)
            else random.integers(0, 256, shape, "uint8")
            for key, shape in shapes.items()
        }

    yield from _measure_cases(name, make, about, options)


def _measure_cases(path, make_inputs, about, options):
    threads = options.threads or (os.cpu_count() or 1,)
    for count, num_threads in itertools.product(options.batch_sizes, threads):
        row = {**about, "batch_size": count, "threads": num_threads}
        try:
            figures = benchmark_process.measure(
                path, make_inputs(count), num_threads=num_threads, seconds=options.seconds
            )
        except UsageError as error:
            figures = {"reason": str(error)}
        yield {**row, **figures}


def _load(name):
    """Returns the `ExportModel` of a target; that of a name without weights has random ones."""
    if not Path(name).exists() and name in zoo.names(kind="classifier", weights=False):
        return cached_export.export_model(zoo.build(name), {}, name)
    return target.load(name).exported


def _runtimes(options):
    names = ("keras", "openvino", "litert", "onnx")
    return options.runtimes or [name for name in names if not export.missing_packages(name)]


def _convert(exported, runtime, precision, path):
    calibration = None
    if precision == "int8":
        if not exported.takes_images:
            raise UsageError("int8 is calibrated on images, which the model does not take")
        (calibration,) = _inputs(exported, NUM_CALIBRATION_IMAGES).values()
    names = exported.float_layers if precision == "int8" else ()
    conversion = converters.Conversion(exported, "uint8", precision, calibration, names)
    export.write(runtime, conversion, path)


def _inputs(exported, count):
    """Returns random inputs by name."""
    if not exported.takes_images:
        return exported.make_inputs(count)
    shape = (count, *exported.sample_shape)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    return {exported.model.inputs[0].name: pixels}
