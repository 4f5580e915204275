"""Files of LiteRT for images of any size."""

import numpy as np
import pytest

from tasks.export import converters, litert_layers
from tasks.export.converters import Conversion
from tasks.inference import exported_file
from tasks.inference.export_model import ExportModel, with_image_input
from zoo.layers.pixel_normalization import PixelNormalization
from zoo.parts import blocks


def upsampler(side):
    """Two convolutions, the second of enlarged maps."""
    import keras

    keras.utils.set_random_seed(1)
    image = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Conv2D(2, 3, padding="same")(keras.layers.UpSampling2D(2)(x))
    inner = with_image_input(keras.Model(image, x, name="upsampler"), lambda x: {"maps": x})
    return ExportModel(inner, {"task": "segmentation"}, {"maps": "values"})


def test_enlarged_maps_of_any_size_are_converted(tmp_path):
    """The converter loses their number of channels, and then lacks a convolution for them."""
    pytest.importorskip("ai_edge_litert")
    exported = upsampler(None)
    converters.write_litert(Conversion(exported), tmp_path / "model.tflite")
    opened = exported_file.open_file(tmp_path / "model.tflite")
    assert opened.shapes == {"image": (None, None, None, 3)}
    for height, width in ((8, 8), (12, 20)):
        images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype="uint8")
        found = opened.run({"image": images})["maps"]
        expected = exported.model(images.astype("float32"))["maps"]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_models_of_a_fixed_size_stay_as_they_are():
    exported = upsampler(8)
    assert litert_layers.with_static_channels(exported) is exported


REVERSALS = {
    "operation": lambda image: blocks.normalise_pixels(image, (104, 117, 124), reverse=True),
    "layer": PixelNormalization((104, 117, 124), reverse=True),
}


@pytest.mark.parametrize("reversal", REVERSALS)
def test_reversed_channels_are_quantized_with_the_scale_of_the_pixels(reversal, tmp_path):
    """REVERSE_V2 copies bytes, and the converter gives its result another scale."""
    import keras

    pytest.importorskip("ai_edge_litert")
    image = keras.Input((16, 16, 3))
    x = REVERSALS[reversal](image)
    x = keras.layers.ZeroPadding2D(3)(x)
    inner = with_image_input(keras.Model(image, x, name="reversal"), lambda x: {"maps": x})
    exported = ExportModel(inner, {"task": "segmentation"}, {"maps": "values"})
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype="uint8")
    conversion = Conversion(exported, precision="int8", calibration=images)
    converters.write_litert(conversion, tmp_path / "model.tflite")
    found = exported_file.open_file(tmp_path / "model.tflite").run({"image": images})["maps"]
    expected = exported.model(images.astype("float32"))["maps"]
    np.testing.assert_allclose(found, expected, atol=2)  # of a range of 255, in 255 steps
