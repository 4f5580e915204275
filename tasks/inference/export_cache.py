"""The OpenVINO export in a run folder, by which `zoo predict` starts without TensorFlow.

It belongs to one model file, by digest: after a change of the model, or of the export, it is
ignored. The record beside it is written last, so that an export that is not complete is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import zoo
from tasks.inference import (
    comparisons,
    export_graph,
    exported_file,
    openvino_file,
    partial_folders,
)
from tasks.inference.export_model import ExportModel
from zoo import atomic_files
from zoo.errors import UsageError

FOLDER, RECORD, FILES = "inference", "export.json", ("model.xml", "model.bin")
GPU_DEVICE = "/dev/nvidiactl"  # where it is, Keras runs on the GPU
MAX_RECORD_BYTES = 2**16
# Of an export: not made yet; made; not possible, or different from Keras.
USED, READY, REFUSED = "used", "ready", "refused"


def state(model):
    """Returns the state of the export of a model, or an empty string if it was never used.

    Args:
        model: path of the `.keras` file in a run folder.
    """
    record = _read_record(model)
    return str(record.get("state", "")) if _is_valid(record, model) else ""


def open_cached(model, streams):
    """Returns the `ExportedFile` of a model, or `None` if there is no valid one, or there is a GPU.

    Args:
        model: path of the `.keras` file in a run folder.
        streams: number of threads that call it at a time.
    """
    if Path(GPU_DEVICE).exists() or state(model) != READY:
        return None
    try:
        return exported_file.open_file(_folder(model) / FILES[0], streams=streams)
    except UsageError:  # such as without OpenVINO
        return None


def mark_used(model):
    """Records that a model was used to predict."""
    _write_record(model, USED)


def write(model, exported: ExportModel, images):
    """Exports a model if the export computes what Keras computes; otherwise records why not.

    Args:
        model: path of the `.keras` file in a run folder.
        exported: what it exports.
        images: uint8 `(count, height, width, channels)`, for the comparison.

    Returns:
        The reasons why it is not exported; empty if it is.
    """
    folder = _folder(model)
    folder.mkdir(exist_ok=True)
    inputs = {exported.model.inputs[0].name: images}
    expected = export_graph.keras_outputs(exported, inputs)
    partial_folders.remove_abandoned(folder)
    with tempfile.TemporaryDirectory(
        prefix=partial_folders.partial_name(""), dir=folder
    ) as partial:
        path = Path(partial) / FILES[0]
        network = openvino_file.convert(exported, export_graph.trace(exported, "uint8"))
        openvino_file.save(network, path, exported.metadata)
        found = exported_file.open_file(path).run(inputs)
        _, reasons = comparisons.compare_outputs(exported, found, expected, "float32")
        if not reasons:
            for name in FILES:
                os.replace(Path(partial) / name, folder / name)
    _write_record(model, REFUSED if reasons else READY, reasons)
    return reasons


def refuse(model, reason):
    """Records that a model cannot be exported, so that it is not tried again."""
    _write_record(model, REFUSED, [reason])


def _folder(model):
    return Path(model).parent / FOLDER


def _read_record(model):
    try:
        with (_folder(model) / RECORD).open("rb") as file:
            record = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_valid(record, model):
    """Returns whether a record is of this model, this version, and the files that are there."""
    if not record or record.get("version") != zoo.__version__:
        return False
    files = FILES if record.get("state") == READY else ()
    return record.get("digests") == _digests(model, files)


def _write_record(model, state, reasons=()):
    digests = _digests(model, FILES if state == READY else ())
    record = {"state": state, "version": zoo.__version__, "digests": digests, "reasons": reasons}
    atomic_files.write_text(_folder(model) / RECORD, json.dumps(record, indent=1) + "\n")


def _digests(model, files):
    """Returns the SHA-256 of a model and of files of its export; `None` of one that is missing."""
    paths = [Path(model), *(_folder(model) / name for name in files)]
    return {path.name: _digest(path) for path in paths}


def _digest(path):
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
