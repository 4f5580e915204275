"""Quantization of OpenVINO models to 8 bits by NNCF."""

from __future__ import annotations

import contextlib
import io
import logging
import sys

from tasks.export.float_layers import kernel_key, kernel_keys, matches
from zoo.lazy import LazyModule

_nncf = LazyModule("nncf")
_advanced = LazyModule("nncf.quantization.advanced_parameters")


def quantize(network, conversion):
    """Returns an OpenVINO model with 8-bit weights per channel and 8-bit activations.

    Args:
        network: an OpenVINO model in float32.
        conversion: the `Conversion`, with images for the calibration.
    """
    # NNCF sends telemetry as OpenVINO does, unless the package for it is missing.
    sys.modules.setdefault("openvino_telemetry", None)
    images = conversion.calibration.astype(conversion.pixels)
    scope = _nncf.IgnoredScope(names=_excluded(network, conversion), validate=False)
    _nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # of progress bars
        return _nncf.quantize(
            network,
            _nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            preset=_nncf.QuantizationPreset.MIXED,
            ignored_scope=scope,
            # Correct biases layer by layer: networks with depthwise convolutions lose less by far.
            fast_bias_correction=False,
            # Without VNNI instructions, sums of two products of 8 bits overflow their 16 bits.
            advanced_parameters=_advanced.AdvancedQuantizationParameters(
                overflow_fix=_advanced.OverflowFix.ENABLE
            ),
        )


def _excluded(network, conversion):
    """Returns the names of the operations that belong to the layers which stay in float."""
    layers = conversion.float_layers
    kernels = kernel_keys(conversion.exported.model, layers)
    return [
        node.get_friendly_name()
        for node in network.get_ordered_ops()
        if matches(node.get_friendly_name(), layers) or (kernels and _has_kernel(node, kernels))
    ]


def _has_kernel(node, kernels):
    """Returns whether one of some kernels is an input of an operation."""
    inputs = [entry.get_source_output().get_node() for entry in node.inputs()]
    return any(
        parent.get_type_name() == "Constant" and kernel_key(parent.data) in kernels
        for parent in inputs
    )
