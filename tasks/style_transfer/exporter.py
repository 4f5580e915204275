"""What a style transfer network exports: the stylized image."""

from __future__ import annotations

from tasks.inference.export_model import ExportModel, check_single_input, with_image_input
from tasks.style_transfer import predictor
from zoo.lazy import keras

SHOW = 'Image.fromarray(outputs["stylized"]).save(pathlib.Path(file).stem + "-stylized.png")'


def export_model(model, about, path):
    """Returns the `ExportModel` of a style transfer network, for images of any size.

    Args:
        model: a `keras.Model` from images to images in [0, 255].
        about: the metadata of its file.
        path: its path or name, for messages.

    Raises:
        UsageError: the model does not map images to images.
    """
    check_single_input(model, path)
    found = predictor.from_file(path, model, about)
    side = found.size or predictor.PROBE_SIZE
    metadata = {
        "task": "style_transfer",
        "resize": "stretch",
        "size": [side, side],
        "preserve_colors": "luminance" if found.luminance else "none",
    }
    return ExportModel(
        with_image_input(model, lambda x: {"stylized": to_pixels(x)}),
        metadata,
        {"stylized": "pixels"},
        show=SHOW,
    )


def to_pixels(images):
    """Returns images in [0, 255] as uint8."""
    return keras.ops.cast(keras.ops.clip(keras.ops.round(images), 0, 255), "uint8")
