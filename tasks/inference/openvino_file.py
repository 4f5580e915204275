"""Writes a model to an OpenVINO file, with named inputs and outputs and its metadata inside."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tasks.inference import exported_file
from tasks.inference.export_model import ExportModel
from zoo.lazy import LazyModule

_openvino = LazyModule("openvino")


def convert(exported: ExportModel, function):
    """Returns the OpenVINO model of a model, in float32.

    Args:
        exported: the model.
        function: its `export_graph.trace`.
    """
    # Importing OpenVINO sends telemetry, unless its telemetry package is missing.
    sys.modules.setdefault("openvino_telemetry", None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pb"
        file.write_bytes(function.graph.as_graph_def().SerializeToString())
        network = _openvino.Core().read_model(file)
    names = sorted(exported.model.output)
    by_name = {name: output for output in network.outputs for name in output.get_names()}
    outputs = [by_name[tensor.name] for tensor in function.outputs]
    network = _openvino.Model(outputs, network.get_parameters(), "keras-zoo")
    for name, output in zip(names, network.outputs, strict=True):
        output.get_tensor().set_names({name})
    for entry in network.inputs:
        entry.get_tensor().set_names({entry.get_any_name().split(":")[0]})
    return network


def save(network, path, metadata, *, half=False):
    """Writes an OpenVINO model to a file, and its weights to a file `.bin` beside it.

    Args:
        network: the OpenVINO model.
        path: path of the file, which ends in `.xml`.
        metadata: JSON values by key.
        half: whether weights are stored in float16.
    """
    for key, value in metadata.items():
        network.set_rt_info(json.dumps(value), [exported_file.METADATA_SECTION, key])
    _openvino.save_model(network, path, compress_to_fp16=half)
