"""Prediction with a style transfer network: images of any size, whole or in tiles."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tasks.data import decoding, image_io
from tasks.inference import threads, tiles
from tasks.inference.exported_file import ExportedNetwork
from tasks.inference.predictor import Predictor, describe_channels
from tasks.style_transfer import style_images
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras, np

log = logging.getLogger("zoo")

MEMORY_FRACTION = 0.5  # of the free memory, for the feature maps of one image
WARMUP_SIZE = 64  # side of the image that the model is compiled with, in pixels
PROBE_SIZE = 256  # side of the image that the memory is estimated for, in pixels
TILE_ALIGNMENT = 32  # tiles start at multiples of it


@dataclass(frozen=True)
class StyleTransferPredictor(Predictor):
    """A style transfer network with its preprocessing and output.

    Attributes:
        model: a `keras.Model` from images to images of the same size, in [0, 255].
        name: name of the model for messages.
        size: side of the training images, for `scale="fit"`; 0 if unknown.
        luminance: whether images keep their own colors.
        pixel_bytes: memory of the feature maps per pixel, in bytes.
    """

    model: keras.Model = field(repr=False)
    name: str
    size: int = 0
    luminance: bool = False
    pixel_bytes: int = 0

    columns: ClassVar = ("path", "stylized", "width", "height", "error")
    writes_images: ClassVar = True
    resize: ClassVar = "stretch"
    keras_only: ClassVar = True  # other runtimes differ at some image sizes

    @property
    def image_shape(self):
        """`(None, None, channels)`: images are read at their own size."""
        return (None, None, self.model.input_shape[-1])

    @property
    def protocol(self):
        """A description of the preprocessing."""
        colours = "; the colors of the image are preserved" if self.luminance else ""
        return f"whole, at its own size, {describe_channels(self.model.input_shape[-1])}{colours}"

    def prepare(self, images, start):
        """Returns the compiled model, which processes one image at a time.

        Each image uses all cores and much memory, so that threads would not help.
        """
        return threads.with_lock(
            start(self.model, images[0].pixels[None, :WARMUP_SIZE, :WARMUP_SIZE])
        )

    def predict(self, images, run, options):
        """Returns the size of each image and, with a folder for drawings, the stylized file."""
        return [self._predict_image(image, run, options) for image in images]

    def text_lines(self, prediction):
        """Returns the line to print for a stylized image."""
        height, width = prediction["size"]
        file = f": {prediction['stylized']}" if prediction.get("stylized") else ""
        return [f"stylized, {width} x {height}{file}"]

    def csv_rows(self, prediction):
        """Returns the file and the size of a stylized image."""
        height, width = prediction["size"]
        return [(prediction.get("stylized") or "", width, height)]

    def stylize(self, pixels, run, *, scale="auto", tile=0):
        """Returns an image in the style of the model, both uint8 `(height, width, channels)`.

        Args:
            pixels: the image.
            run: what `prepare` returned.
            scale: `fit` resizes the image to the size of the training images, and the result back;
                otherwise the image keeps its size, or is reduced if memory is short.
            tile: side of the tiles in pixels, as in `predictor.PredictOptions`; 0 for the whole
                image at once.
        """
        height, width, channels = pixels.shape
        longer = max(height, width)
        ratio = self.size / longer if scale == "fit" and self.size else 1.0
        max_pixels = MEMORY_FRACTION * decoding.free_memory() / max(1, self.pixel_bytes)
        if not tile and height * width * ratio**2 > max_pixels:
            ratio = (max_pixels / (height * width)) ** 0.5
            log.warning(
                "%d x %d pixels do not fit into memory: stylized at %.0f%% of that size and "
                "enlarged; --tile 1024 keeps the size",
                *(width, height, 100 * ratio),
            )
        sides = [max(1, round(side * ratio)) for side in (height, width)]
        resized = pixels if ratio == 1 else image_io.read_image(pixels, (*sides, channels))
        stylized = (
            self._stylize_tiles(resized, run, tile) if tile else self._stylize_image(resized, run)
        )
        if ratio != 1:
            stylized = image_io.read_image(stylized, (height, width, channels))
        return style_images.restore_colours(stylized, pixels) if self.luminance else stylized

    def _stylize_image(self, pixels, run):
        return np.asarray(run(pixels[None]))[0].round().clip(0, 255).astype("uint8")

    def _stylize_tiles(self, pixels, run, tile):
        """Stylizes overlapping tiles, and keeps the center of each."""
        stylized = np.empty_like(pixels)
        for read, kept, target in tiles.tile_slices(
            pixels.shape[:2], [tiles.round_up_tile(tile)] * 2, TILE_ALIGNMENT
        ):
            stylized[target] = self._stylize_image(pixels[read], run)[kept]
        return stylized

    def _predict_image(self, image, run, options):
        prediction = {"size": [*image.pixels.shape[:2]]}
        if options.drawings_dir:
            stylized = self.stylize(image.pixels, run, scale=options.scale, tile=options.tile)
            path = options.drawings_dir / f"{image.stem}-stylized.png"
            style_images.write(stylized, path)
            prediction["stylized"] = str(path)
        return prediction


def from_file(path, model, about):
    """Returns the predictor of a model file.

    Args:
        path: path of the file, for messages.
        model: its `keras.Model`.
        about: its metadata.

    Raises:
        UsageError: the model does not map images to images.
    """
    if about.get("model") == "gatys":
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        raise UsageError(
            f"{path} holds one image, {folder / 'picture.png'}; for other images "
            "train a network: zoo train style_transfer --model fast_style"
        )
    shape, output = model.input_shape, model.output_shape
    if not (isinstance(shape, tuple) and isinstance(output, tuple) and shape == output):
        raise UsageError(f"{path} is not a style transfer network: it maps {shape} to {output}")
    return StyleTransferPredictor(
        model,
        str(path),
        int(about.get("size", 0)),
        about.get("keep_colours") == "luminance",
        pixel_bytes(model),
    )


def from_export(opened):
    """Returns the predictor of an exported style transfer network.

    Args:
        opened: its `exported_file.ExportedFile`.
    """
    about = opened.metadata
    return StyleTransferPredictor(
        ExportedNetwork(opened, lambda outputs: outputs["stylized"]),
        str(opened.path),
        int(about["size"][0]),
        about["preserve_colors"] == "luminance",
    )


def pixel_bytes(model):
    """Returns an estimate of the memory of a network's feature maps per pixel, in bytes.

    It is that of the layer with the largest inputs and outputs, in float32, times two for
    temporary copies.
    """
    image = keras.Input((PROBE_SIZE, PROBE_SIZE, model.input_shape[-1]))
    net = graphs.rebuild(graphs.flatten(model), graphs.call_node, image)
    widest = max(
        sum(math.prod(x.shape[1:]) for x in (*node.input_tensors, *node.output_tensors))
        for node in graphs.nodes(net)
    )
    return 2 * 4 * widest // PROBE_SIZE**2
