"""Times an exported model in a process of its own, whose threads and memory are then its own."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from tasks.export import exported_process
from tasks.export.exported_process import ERROR, INPUTS
from tasks.inference import exported_file
from zoo.lazy import np, tf

CODE = (
    "import sys; from tasks.export import benchmark_process; benchmark_process.main(sys.argv[1:])"
)
FIGURES = "figures.json"
WARMUP_RUNS, MIN_RUNS = 3, 5
STATUS = Path("/proc/self/status")


def measure(path, inputs, *, num_threads, seconds):
    """Times the calls of an exported model.

    Args:
        path: path of the exported model.
        inputs: arrays by name, the batch of a call.
        num_threads: number of threads of a call.
        seconds: for how long it is called, at least `MIN_RUNS` times.

    Returns:
        A dict with `median_ms` and `p90_ms` of a call, `images_per_second` by the median, `calls`,
        and `memory_mb`, the peak resident memory of the process; `None` where it is unknown.

    Raises:
        UsageError: the runtime cannot run the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        words = (str(num_threads), str(seconds))
        exported_process.run_code(CODE, path, folder, inputs, *words)
        return json.loads((folder / FIGURES).read_text())


def main(words):
    """Times a model on `inputs.npz` of a folder and writes `figures.json` there."""
    path, folder, num_threads, seconds = words[0], Path(words[1]), int(words[2]), float(words[3])
    try:
        if Path(path).suffix not in (".onnx", ".tflite", ".xml"):
            tf.config.threading.set_intra_op_parallelism_threads(num_threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        exported = exported_file.open_file(path, num_threads=num_threads)
        with np.load(folder / INPUTS) as stored:
            inputs = {name: stored[name].astype(dtype) for name, dtype in exported.dtypes.items()}
        times = np.sort(_times(exported.run, inputs, seconds))
    except Exception as error:
        (folder / ERROR).write_text(f"{type(error).__name__}: {str(error).strip()}")
        raise
    median = float(np.median(times))
    figures = {
        "median_ms": 1e3 * median,
        "p90_ms": 1e3 * float(np.quantile(times, 0.9)),
        "images_per_second": len(next(iter(inputs.values()))) / median,
        "calls": len(times),
        "memory_mb": _peak_memory(),
    }
    (folder / FIGURES).write_text(json.dumps(figures))


def _times(run, inputs, seconds):
    """Returns the seconds of each call."""
    for _ in range(WARMUP_RUNS):
        run(inputs)
    times, end = [], time.perf_counter() + seconds
    while len(times) < MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - start)
    return times


def _peak_memory():
    """Returns the peak resident memory of the process in MB, or `None` without procfs.

    `ru_maxrss` would include that of the parent process.
    """
    if not STATUS.exists():
        return None
    return int(STATUS.read_text().partition("VmHWM:")[2].split()[0]) / 1024
