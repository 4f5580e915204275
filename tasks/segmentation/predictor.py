"""A segmenter with all that is needed to use it: it names what each pixel of an image shows."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import ClassVar

import zoo
from tasks.data import image_io
from tasks.inference import tiles
from tasks.inference.predictor import Predictor, describe_channels
from tasks.segmentation import report
from zoo import graphs
from zoo.atomic_files import atomic_write
from zoo.catalog import RANDOM
from zoo.errors import UsageError
from zoo.graphs import leaf_layers
from zoo.lazy import LazyModule, keras, np

Image = LazyModule("PIL.Image")

log = logging.getLogger("zoo")

MIN_TILE = 512  # pixels along a side that are answered at a time


@dataclass(frozen=True)
class SegmentationPredictor(Predictor):
    """A model that gives each pixel of an image a class.

    Attributes:
        model: a `keras.Model` from images to logits `(batch, height, width, classes)`; of any
            size, or of one.
        classes: name of each class, in the order of the logits.
        name: of the model, for people.
        size: `(height, width)` of the images that it was taught with.
        resize_to: how these were brought to that size.
        own: whether they had that size by themselves, so that any other image stays as it is.
    """

    model: keras.Model = field(repr=False)
    classes: tuple[str, ...]
    name: str
    size: tuple[int, int]
    resize_to: str = "stretch"
    own: bool = False

    columns: ClassVar = ("path", "rank", "class", "share", "mask", "overlay", "error")
    writes_images: ClassVar = True
    resize: ClassVar = "stretch"

    @property
    def image_shape(self):
        """`(None, None, channels)`: images are read at their own size."""
        return (None, None, self.model.input_shape[-1])

    @property
    def protocol(self):
        """How an image is prepared, in words."""
        how = "at its own size"
        if not self.own:
            how = f"{self.resize_to} to {self.size[0]} x {self.size[1]}, bilinear with antialiasing"
        return (
            f"{how}, {describe_channels(self.model.input_shape[-1])}; masks at the image's own size"
        )

    def prepare(self, images, start):
        """Returns what gives the logits of a tile, after a look at one of the first image."""
        shape = self.model.input_shape[1:]
        tile = image_io.read_image(images[0].pixels, (*self.size, shape[-1]))
        return start(self.model, tile[None])

    def predict(self, images, run, options):
        """Returns for each image its size, `classes` with their shares, and what was drawn."""
        return [self._predict_image(image, run, options) for image in images]

    def text_lines(self, prediction):
        """Returns a line for each class that is named, and one for what was drawn."""
        names = [name for name in ("mask", "overlay") if prediction.get(name)]
        shares = [f"{found['share']:6.1%}  {found['name']}" for found in prediction["classes"]]
        return [*shares, *(f"{name}: {prediction[name]}" for name in names)]

    def csv_rows(self, prediction):
        """Returns rank, name and share of each class that is named, and what was drawn."""
        drawn = prediction.get("mask") or "", prediction.get("overlay") or ""
        return [
            (rank, found["name"], f"{found['share']:.6g}", *drawn)
            for rank, found in enumerate(prediction["classes"], 1)
        ]

    def mask(self, pixels, run, *, scale="auto", tile=0):
        """Returns the class of each pixel of an image, uint8 `(height, width)`.

        Args:
            pixels: uint8 `(height, width, channels)`.
            run: what `prepare` returned.
            scale, tile: as `predictor.PredictOptions` has them.
        """
        height, width, channels = pixels.shape
        fit = scale == "fit" or (scale == "auto" and not self.own)
        sides = self._fitted(height, width) if fit else (height, width)
        if sides == (height, width):
            return self._labels(pixels, run, tile)
        scores = np.empty((*sides, len(self.classes)), "float32")
        for place, logits in self._tiled(
            image_io.read_image(pixels, (*sides, channels)), run, tile
        ):
            scores[place] = logits
        return _resized_argmax(scores, (width, height))

    def _predict_image(self, image, run, options):
        mask = self.mask(image.pixels, run, scale=options.scale, tile=options.tile)
        counts = np.bincount(mask.reshape(-1), minlength=len(self.classes))
        order = [i for i in np.argsort(-counts, kind="stable")[: options.top] if counts[i]]
        shares = [{"name": self.classes[i], "share": float(counts[i] / mask.size)} for i in order]
        prediction = {"size": [*mask.shape], "classes": shares}
        if options.drawings_dir:
            drawn = {
                "mask": report.indexed_mask(mask, self.classes),
                "overlay": Image.fromarray(report.overlay(image.pixels, mask, self.classes)),
            }
            for what, picture in drawn.items():
                path = options.drawings_dir / f"{image.stem}-{what}.png"
                with atomic_write(path) as partial:
                    picture.save(partial)
                prediction[what] = str(path)
        return prediction

    def _fitted(self, height, width):
        """Returns the sides of an image that was brought to the scale of those learned from."""
        if self.resize_to == "stretch":
            return tuple(self.size)
        ratios = [to / own for to, own in zip(self.size, (height, width), strict=True)]
        ratio = min(ratios) if self.resize_to == "pad" else max(ratios)
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def _labels(self, pixels, run, tile):
        found = np.empty(pixels.shape[:2], "uint8")
        for place, logits in self._tiled(pixels, run, tile):
            found[place] = logits.argmax(axis=-1)
        return found

    def _tiled(self, pixels, run, tile):
        """Yields parts of an image, as slices, and their logits."""
        fixed = None not in self.model.input_shape[1:3]
        wanted = [tiles.round_up_tile(tile or max(MIN_TILE, side)) for side in self.size]
        sides, grid = (self.model.input_shape[1:3], 1) if fixed else (wanted, tiles.GRID)
        for read, kept, place in tiles.tile_slices(pixels.shape[:2], sides, grid):
            part = _pad_edges(pixels[read], sides if fixed else (1, 1))
            yield place, np.asarray(run(part[None]))[0][kept]


def from_file(path, model, about):
    """Returns the segmenter of a file: its model and what it tells about itself.

    Raises:
        UsageError: it is no segmenter of images.
    """
    shape, logits = model.input_shape, model.output_shape
    if not (isinstance(shape, tuple) and isinstance(logits, tuple) and len(logits) == 4):
        raise UsageError(f"{path} is no segmenter of images: it maps {shape} to {logits}")
    numbers = tuple(f"class {number}" for number in range(logits[-1]))
    return SegmentationPredictor(
        rebuild_for_any_size(model, about),
        tuple(about.get("classes", numbers)),
        str(path),
        tuple(about.get("size", shape[1:3])),
        about.get("resize", "stretch"),
        bool(about.get("own_size", False)),
    )


def rebuild_for_any_size(model, about):
    """Returns a model with the same weights for images of any size, or itself if there is none.

    The network is built anew, as what it does with the borders of an image goes by its size; the
    layers that have weights are the model's own.

    Args:
        model: a segmenter for images of one size.
        about: what its file tells: the name and the options of the zoo by which it was made.
    """
    if None in model.input_shape[1:3] or "model" not in about:
        return model
    known = {layer.name: layer for layer in leaf_layers(model)}

    def call(node, *args, **kwargs):
        layer = node.operation
        return (known[layer.name] if getattr(layer, "weights", ()) else layer)(*args, **kwargs)

    shape, classes = (None, None, model.input_shape[-1]), model.output_shape[-1]
    try:
        with keras.StatelessScope(initialize_variables=False):
            net = zoo.build(
                about["model"],
                input_shape=shape,
                num_classes=classes,
                weights=RANDOM,
                **about.get("options", {}),
            )
        return graphs.rebuild(graphs.flat(net), call)
    except (UsageError, KeyError, ValueError, TypeError) as error:
        log.info("%s is for one size of images: %s", model.name, error)
        return model


def _pad_edges(pixels, sides):
    """Returns an image with its last row and column repeated until it has the sides at least."""
    missing = [max(0, side - own) for side, own in zip(sides, pixels.shape[:2], strict=True)]
    return np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], "edge")


def _resized_argmax(scores, size):
    """Returns the class with the largest score of each pixel of a picture of another size.

    Args:
        scores: float32 `(height, width, classes)`, stretched bilinearly, one class at a time.
        size: `(width, height)`.
    """
    best = np.full(size[::-1], -np.inf, "float32")
    found = np.zeros(size[::-1], "uint8")
    for label in range(scores.shape[-1]):
        plane = Image.fromarray(scores[..., label]).resize(size, Image.Resampling.BILINEAR)
        plane = np.asarray(plane)
        better = plane > best
        found[better] = label
        np.maximum(best, plane, out=best)
    return found
