"""Static quantization of ONNX models to 8 bits by ONNX Runtime."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from tasks.export.float_layers import kernel_key, kernel_keys, matches
from zoo.lazy import LazyModule, np

_numpy_helper = LazyModule("onnx.numpy_helper")
_onnx = LazyModule("onnx")
_quantization = LazyModule("onnxruntime.quantization")
_shape_inference = LazyModule("onnxruntime.quantization.shape_inference")

# Operations whose inputs become 8 bits. The outputs of arithmetic do only where the next operation
# takes 8 bits, so that those before an activation are not rounded over the range before it.
ARITHMETIC = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add")
SELECTION = ("AveragePool", "GlobalAveragePool", "MaxPool", "Concat", "Pad")
OPTIONS = {"OpTypesToExcludeOutputQuantization": list(ARITHMETIC)}
ZERO_POINT = 128  # of unsigned weights


def quantize(network, conversion):
    """Returns an ONNX model with 8-bit weights per channel and 8-bit activations.

    Biases are integers in steps of the product of those of the input and the kernel. For signed
    weights, ONNX Runtime widens the steps of channels whose kernel is so small that the bias would
    be clipped, such as those that batch normalization has set to a constant. Without VNNI
    instructions, sums of two products of a signed and an unsigned value would overflow their 16
    bits, though; so weights are made unsigned afterwards.

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
                activation_type=_quantization.QuantType.QUInt8,
                weight_type=_quantization.QuantType.QInt8,
                op_types_to_quantize=[*ARITHMETIC, *SELECTION],
                extra_options=OPTIONS,
                nodes_to_exclude=_excluded(_onnx.load(inferred), conversion),
            )
        finally:
            logging.root.setLevel(level)
        return _with_unsigned_weights(_onnx.load(path))


def _with_unsigned_weights(network):
    """Changes signed weights of a quantized model to equal unsigned ones, and returns it."""
    constants = {tensor.name: tensor for tensor in network.graph.initializer}
    signed = {
        name
        for node in network.graph.node
        if node.op_type == "DequantizeLinear"
        for name in (node.input[0], *node.input[2:])
        if name in constants and constants[name].data_type == _onnx.TensorProto.INT8
    }
    for name in signed:
        values = _numpy_helper.to_array(constants[name]).astype("int16") + ZERO_POINT
        constants[name].CopyFrom(_numpy_helper.from_array(values.astype("uint8"), name))
    return network


def _reader(name, images):
    """Returns the `CalibrationDataReader` of images, one at a time."""

    class Reader(_quantization.CalibrationDataReader):
        def __init__(self):
            self.rows = iter(images)

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {name: np.ascontiguousarray(row[None])}

    return Reader()


def _excluded(network, conversion):
    """Returns the names of the nodes that belong to the layers which stay in float."""
    layers = conversion.float_layers
    kernels = kernel_keys(conversion.exported.model, layers)
    own = {
        tensor.name
        for tensor in network.graph.initializer
        if kernels and kernel_key(_numpy_helper.to_array(tensor)) in kernels
    }
    return [
        node.name
        for node in network.graph.node
        if matches(node.name, layers) or own.intersection(node.input)
    ]
