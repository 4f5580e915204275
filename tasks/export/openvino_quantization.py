"""Quantization of OpenVINO models to 8 bits by NNCF."""

from __future__ import annotations

import contextlib
import io
import logging
import sys

from tasks.export.float_layers import pattern
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
    scope = None
    if conversion.float_layers:
        scope = _nncf.IgnoredScope(
            patterns=[f".*{pattern(name)}.*" for name in conversion.float_layers], validate=False
        )
    _nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # of progress bars
        return _nncf.quantize(
            network,
            _nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            preset=_nncf.QuantizationPreset.MIXED,
            ignored_scope=scope,
            # Without VNNI instructions, sums of two products of 8 bits overflow their 16 bits.
            advanced_parameters=_advanced.AdvancedQuantizationParameters(
                overflow_fix=_advanced.OverflowFix.ENABLE
            ),
        )
