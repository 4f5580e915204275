"""The predictor of segmenters: masks of images of any size, in overlapping tiles."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import ClassVar

import zoo
from tasks.data import image_io
from tasks.inference import tiles
from tasks.inference.exported_file import ExportedNetwork
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

MIN_TILE = 512  # smallest default side of a tile, in pixels


@dataclass(frozen=True)
class SegmentationPredictor(Predictor):
    """A segmenter with its class names and preprocessing.

    Attributes:
        model: A `keras.Model` from images to logits `(batch, height, width, classes)`, for images
            of any size or of one size.
        classes: The class names, in the order of the logits.
        name: The display name of the model.
        size: `(height, width)` of the training images.
        resize_to: How training images were resized: `stretch`, `crop` or `pad`.
        native_size: Whether training images were not resized. Images are then predicted at their
            own size.
    """

    model: keras.Model = field(repr=False)
    classes: tuple[str, ...]
    name: str
    size: tuple[int, int]
    resize_to: str = "stretch"
    native_size: bool = False

    columns: ClassVar = ("path", "rank", "class", "share", "mask", "overlay", "error")
    writes_images: ClassVar = True
    resize: ClassVar = "stretch"

    @property
    def image_shape(self):
        """`(None, None, channels)`, as images are read at their own size."""
        return (None, None, self.model.input_shape[-1])

    @property
    def protocol(self):
        """A description of the preprocessing."""
        resize = "at its own size"
        if not self.native_size:
            height, width = self.size
            resize = f"{self.resize_to} to {height} x {width}, bilinear with antialiasing"
        channels = describe_channels(self.model.input_shape[-1])
        return f"{resize}, {channels}; masks at the image's own size"

    def prepare(self, images, start):
        """Returns the function from tiles to logits, traced with a tile of the first image."""
        shape = self.model.input_shape[1:]
        tile = image_io.read_image(images[0].pixels, (*self.size, shape[-1]))
        return start(self.model, tile[None])

    def predict(self, images, run, options):
        """Returns one dict per image.

        It has the `size` of the image, the `classes` with their shares of the pixels, and the
        paths of `mask` and `overlay` if they are drawn.
        """
        return [self._predict_image(image, run, options) for image in images]

    def text_lines(self, prediction):
        """Returns one line per predicted class, and one per drawn image."""
        names = [name for name in ("mask", "overlay") if prediction.get(name)]
        shares = [f"{found['share']:6.1%}  {found['name']}" for found in prediction["classes"]]
        return [*shares, *(f"{name}: {prediction[name]}" for name in names)]

    def csv_rows(self, prediction):
        """Returns rank, name and share of each predicted class, and the paths of drawn images."""
        drawn = prediction.get("mask") or "", prediction.get("overlay") or ""
        return [
            (rank, found["name"], f"{found['share']:.6g}", *drawn)
            for rank, found in enumerate(prediction["classes"], 1)
        ]

    def mask(self, pixels, run, *, scale="auto", tile=0):
        """Returns the class of each pixel of an image, uint8 `(height, width)`.

        Args:
            pixels: uint8 `(height, width, channels)`.
            run: The function that `prepare` returned.
            scale, tile: As in `predictor.PredictOptions`.
        """
        height, width, channels = pixels.shape
        fit = scale == "fit" or (scale == "auto" and not self.native_size)
        sides = self._resized_sides(height, width) if fit else (height, width)
        if sides == (height, width):
            return self._labels(pixels, run, tile)
        scores = np.empty((*sides, len(self.classes)), "float32")
        resized = image_io.read_image(pixels, (*sides, channels))
        for region, logits in self._tiled(resized, run, tile):
            scores[region] = logits
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
            for name, drawing in drawn.items():
                path = options.drawings_dir / f"{image.stem}-{name}.png"
                with atomic_write(path) as partial:
                    drawing.save(partial)
                prediction[name] = str(path)
        return prediction

    def _resized_sides(self, height, width):
        """Returns the sides of an image when it is scaled like the training images."""
        if self.resize_to == "stretch":
            return tuple(self.size)
        ratios = [new / old for new, old in zip(self.size, (height, width), strict=True)]
        ratio = min(ratios) if self.resize_to == "pad" else max(ratios)
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def _labels(self, pixels, run, tile):
        labels = np.empty(pixels.shape[:2], "uint8")
        for region, logits in self._tiled(pixels, run, tile):
            labels[region] = logits.argmax(axis=-1)
        return labels

    def _tiled(self, pixels, run, tile):
        """Yields regions of an image, as slices, and their logits."""
        fixed = None not in self.model.input_shape[1:3]
        default = [tiles.round_up_tile(tile or max(MIN_TILE, side)) for side in self.size]
        sides, grid = (self.model.input_shape[1:3], 1) if fixed else (default, tiles.GRID)
        for read, kept, region in tiles.tile_slices(pixels.shape[:2], sides, grid):
            padded = _pad_edges(pixels[read], sides if fixed else (1, 1))
            yield region, np.asarray(run(padded[None]))[0][kept]


def from_file(path, model, about):
    """Returns the predictor of a saved segmenter.

    Args:
        path: The path of the file.
        model: The `keras.Model` of the file.
        about: The metadata of the file. Without `classes`, classes are named by their index.

    Raises:
        UsageError: The model is not a segmenter.
    """
    shape, logits = model.input_shape, model.output_shape
    if not (isinstance(shape, tuple) and isinstance(logits, tuple) and len(logits) == 4):
        raise UsageError(
            f"{path} is not a segmenter: it maps {shape} to {logits}; expected images (batch, "
            "height, width, channels) and logits (batch, height, width, classes)"
        )
    numbers = tuple(f"class {number}" for number in range(logits[-1]))
    return SegmentationPredictor(
        rebuild_for_any_size(model, about),
        tuple(about.get("classes", numbers)),
        str(path),
        tuple(about.get("size", shape[1:3])),
        about.get("resize", "stretch"),
        bool(about.get("own_size", False)),
    )


def from_export(opened):
    """Returns the predictor of an exported segmenter.

    Args:
        opened: its `exported_file.ExportedFile`.
    """
    about = opened.metadata
    return SegmentationPredictor(
        ExportedNetwork(opened, lambda outputs: outputs["logits"]),
        tuple(about["classes"]),
        str(opened.path),
        tuple(about["size"]),
        about["resize"],
        bool(about["own_size"]),
    )


def rebuild_for_any_size(model, about):
    """Returns a model with shared weights for images of any size.

    The network is built again, because padding and cropping depend on the input size. Layers with
    weights are those of `model`.

    Args:
        model: A segmenter for images of one size.
        about: The metadata of its file, with the name and the options of the zoo model.

    Returns:
        The new model, or `model` itself if it has no fixed size or cannot be built for any size.
    """
    if None in model.input_shape[1:3] or "model" not in about:
        return model
    layers = {layer.name: layer for layer in leaf_layers(model)}

    def call(node, *args, **kwargs):
        layer = node.operation
        return (layers[layer.name] if getattr(layer, "weights", ()) else layer)(*args, **kwargs)

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
        return graphs.rebuild(graphs.flatten(net), call)
    except (UsageError, KeyError, ValueError, TypeError) as error:
        log.info("%s supports one image size only: %s", model.name, error)
        return model


def _pad_edges(pixels, sides):
    """Pads an image at the bottom and right to at least `sides`, by repeating its edge pixels."""
    padding = [max(0, new - old) for new, old in zip(sides, pixels.shape[:2], strict=True)]
    return np.pad(pixels, [(0, padding[0]), (0, padding[1]), (0, 0)], "edge")


def _resized_argmax(scores, size):
    """Resizes scores bilinearly and returns the class with the largest score at each pixel.

    Classes are resized one at a time, to save memory.

    Args:
        scores: float32 `(height, width, classes)`.
        size: `(width, height)` of the result.

    Returns:
        uint8 `(height, width)`.
    """
    best = np.full(size[::-1], -np.inf, "float32")
    labels = np.zeros(size[::-1], "uint8")
    for label in range(scores.shape[-1]):
        plane = Image.fromarray(scores[..., label]).resize(size, Image.Resampling.BILINEAR)
        plane = np.asarray(plane)
        better = plane > best
        labels[better] = label
        np.maximum(best, plane, out=best)
    return labels
