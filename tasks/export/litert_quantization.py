"""Quantization of LiteRT models to 8 bits by the converter of TensorFlow Lite."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

from tasks.export.float_layers import matches
from zoo.lazy import LazyModule, tf

_litert = LazyModule("ai_edge_litert.interpreter")


def quantize(converter, conversion):
    """Returns a LiteRT model with 8-bit weights per channel and 8-bit activations.

    Args:
        converter: a `tf.lite.TFLiteConverter` of the model.
        conversion: the `Conversion`, with images for the calibration.
    """
    images = conversion.calibration.astype(conversion.pixels)

    def representative_dataset():
        for image in images:
            yield [image[None]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative_dataset
    with _quiet():
        content = converter.convert()
        if not conversion.float_layers:
            return content
        lite = tf.lite.experimental
        debugger = lite.QuantizationDebugger(
            converter=converter, debug_dataset=representative_dataset
        )
        debugger.options = lite.QuantizationDebugOptions(
            denylisted_nodes=_tensors(content, conversion.float_layers)
        )
        return debugger.get_nondebug_quantized_model()


def _tensors(content, layers):
    """Returns the names of tensors that belong to layers, by which operations are named."""
    details = _litert.Interpreter(model_content=content).get_tensor_details()
    return sorted({entry["name"] for entry in details if matches(entry["name"], layers)})


@contextlib.contextmanager
def _quiet():
    logger, level = logging.getLogger("tensorflow"), logging.getLogger("tensorflow").level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # its interpreter is deprecated
            yield
    finally:
        logger.setLevel(level)
