"""A painter with all that is needed to use it: it repaints pictures of any size."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tasks.data import decoding, image_io
from tasks.inference import threads, tiles
from tasks.inference.predictor import Predictor, describe_channels
from tasks.style_transfer import style_images
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras, np

log = logging.getLogger("zoo")

MEMORY_FRACTION = 0.5  # of the free memory, that the maps of one picture may fill
WARMUP_SIZE = 64  # pixels of a side
PROBE_SIZE = 256  # side of the image that the maps are counted for
TILE_ALIGNMENT = 32  # what a part of a picture starts at a multiple of


@dataclass(frozen=True)
class StyleTransferPredictor(Predictor):
    """A model that repaints pictures.

    Attributes:
        model: a `keras.Model` from images to pictures of the same size, in [0, 255].
        name: of the model, for people.
        size: longer side of the pictures that it was taught with, for `scale="fit"`; or 0.
        luminance: whether a picture keeps the colours that it had.
        pixel_bytes: memory that a pixel takes while it is painted.
    """

    model: keras.Model = field(repr=False)
    name: str
    size: int = 0
    luminance: bool = False
    pixel_bytes: int = 0

    columns: ClassVar = ("path", "painted", "width", "height", "error")
    writes_images: ClassVar = True
    resize: ClassVar = "stretch"
    keras_only: ClassVar = True  # others do not answer for all sizes as Keras does

    @property
    def image_shape(self):
        """`(None, None, channels)`: images are read at their own size."""
        return (None, None, self.model.input_shape[-1])

    @property
    def protocol(self):
        """How an image is prepared, in words."""
        colours = "; its own colours are kept" if self.luminance else ""
        return f"whole, at its own size, {describe_channels(self.model.input_shape[-1])}{colours}"

    def prepare(self, images, start):
        """Returns what paints, after a look at a corner of the first image.

        It paints one image at a time, as each takes all of the processor and much memory.
        """
        return threads.with_lock(
            start(self.model, images[0].pixels[None, :WARMUP_SIZE, :WARMUP_SIZE])
        )

    def predict(self, images, run, options):
        """Returns for each image its size and, where pictures are wanted, the painted file."""
        return [self._predict_image(image, run, options) for image in images]

    def text_lines(self, prediction):
        """Returns a line for the painted picture."""
        height, width = prediction["size"]
        where = f": {prediction['painted']}" if prediction.get("painted") else ""
        return [f"painted, {width} x {height}{where}"]

    def csv_rows(self, prediction):
        """Returns the painted picture's file and size."""
        height, width = prediction["size"]
        return [(prediction.get("painted") or "", width, height)]

    def stylize(self, pixels, run, *, scale="auto", tile=0):
        """Returns the painted picture of an image, both uint8 `(height, width, channels)`.

        Args:
            pixels: the image.
            run: what `prepare` returned.
            scale: `fit` shrinks or enlarges the image to the size of those learned from, and the
                picture back; else it is painted at its own size, or smaller where memory is short.
            tile: as `predictor.PredictOptions` has it; 0 for the whole at once.
        """
        height, width, channels = pixels.shape
        longer = max(height, width)
        ratio = self.size / longer if scale == "fit" and self.size else 1.0
        max_pixels = MEMORY_FRACTION * decoding.free_memory() / max(1, self.pixel_bytes)
        if not tile and height * width * ratio**2 > max_pixels:
            ratio = (max_pixels / (height * width)) ** 0.5
            log.warning(
                "%d x %d pixels do not fit into memory: painted at %.0f%% of that, and enlarged; "
                "--tile 1024 paints in parts",
                *(width, height, 100 * ratio),
            )
        sides = [max(1, round(side * ratio)) for side in (height, width)]
        given = pixels if ratio == 1 else image_io.read_image(pixels, (*sides, channels))
        found = self._stylize_tiles(given, run, tile) if tile else self._stylize_image(given, run)
        if ratio != 1:
            found = image_io.read_image(found, (height, width, channels))
        return style_images.restore_colours(found, pixels) if self.luminance else found

    def _stylize_image(self, pixels, run):
        return np.asarray(run(pixels[None]))[0].round().clip(0, 255).astype("uint8")

    def _stylize_tiles(self, pixels, run, tile):
        """Paints parts that overlap, and keeps the middle of each."""
        found = np.empty_like(pixels)
        for read, kept, place in tiles.tile_slices(
            pixels.shape[:2], [tiles.round_up_tile(tile)] * 2, TILE_ALIGNMENT
        ):
            found[place] = self._stylize_image(pixels[read], run)[kept]
        return found

    def _predict_image(self, image, run, options):
        prediction = {"size": [*image.pixels.shape[:2]]}
        if options.drawings_dir:
            found = self.stylize(image.pixels, run, scale=options.scale, tile=options.tile)
            path = options.drawings_dir / f"{image.stem}-painted.png"
            style_images.write(found, path)
            prediction["painted"] = str(path)
        return prediction


def from_file(path, model, about):
    """Returns the painter of a file: its model and what it tells about itself.

    Raises:
        UsageError: it paints no image that it is given.
    """
    if about.get("model") == "gatys":
        raise UsageError(
            f"{path} holds one picture, {Path(path).with_name('picture.png')}; to repaint others, "
            "train a painter: zoo train style_transfer --model fast_style"
        )
    shape, found = model.input_shape, model.output_shape
    if not (isinstance(shape, tuple) and isinstance(found, tuple) and shape == found):
        raise UsageError(f"{path} is no painter of images: it maps {shape} to {found}")
    return StyleTransferPredictor(
        model,
        str(path),
        int(about.get("size", 0)),
        about.get("keep_colours") == "luminance",
        pixel_bytes(model),
    )


def pixel_bytes(model):
    """Returns about how many bytes the maps of a painter take at a time, for a pixel.

    They are those of its widest place, where a layer takes something and gives something, with as
    much again for copies that are made on the way.
    """
    image = keras.Input((PROBE_SIZE, PROBE_SIZE, model.input_shape[-1]))
    net = graphs.rebuild(graphs.flat(model), graphs.call_node, image)
    widest = max(
        sum(math.prod(x.shape[1:]) for x in (*node.input_tensors, *node.output_tensors))
        for node in graphs.nodes(net)
    )
    return 2 * 4 * widest // PROBE_SIZE**2
