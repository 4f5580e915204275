"""Static quantization of ONNX models to 8 bits by ONNX Runtime."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from tasks.export.float_layers import matches
from zoo.lazy import LazyModule, np

_onnx = LazyModule("onnx")
_quantization = LazyModule("onnxruntime.quantization")
_shape_inference = LazyModule("onnxruntime.quantization.shape_inference")

# Operations between convolutions, whose inputs and outputs are then 8 bits, too.
OPERATIONS = (
    *("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Clip", "Relu"),
    *("AveragePool", "GlobalAveragePool", "MaxPool", "Concat"),
)


def quantize(network, conversion):
    """Returns an ONNX model with 8-bit weights per channel and 8-bit activations.

    Weights use 7 bits of their 8: without VNNI instructions, sums of two products of 8 bits
    overflow their 16 bits.

    Args:
        network: an ONNX model in float32.
        conversion: the `Conversion`, with images for the calibration.
    """
    name, level = network.graph.input[0].name, logging.root.level
    images = conversion.calibration.astype(conversion.pixels)
    with tempfile.TemporaryDirectory() as folder:
        plain, inferred, path = (Path(folder) / f"{n}.onnx" for n in ("plain", "shapes", "int8"))
        _onnx.save(network, plain)
        logging.root.setLevel(logging.ERROR)  # it logs through the root logger
        try:
            _shape_inference.quant_pre_process(plain, inferred, skip_symbolic_shape=True)
            _quantization.quantize_static(
                inferred,
                path,
                _reader(name, images),
                per_channel=True,
                reduce_range=True,
                activation_type=_quantization.QuantType.QUInt8,
                weight_type=_quantization.QuantType.QInt8,
                op_types_to_quantize=list(OPERATIONS),
                nodes_to_exclude=_excluded(_onnx.load(inferred), conversion.float_layers),
            )
        finally:
            logging.root.setLevel(level)
        return _onnx.load(path)


def _reader(name, images):
    """Returns the `CalibrationDataReader` of images, one at a time."""

    class Reader(_quantization.CalibrationDataReader):
        def __init__(self):
            self.rows = iter(images)

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {name: np.ascontiguousarray(row[None])}

    return Reader()


def _excluded(network, layers):
    return [node.name for node in network.graph.node if matches(node.name, layers)]
