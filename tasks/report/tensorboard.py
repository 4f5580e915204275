"""TensorBoard event files: metrics and images of a run by epoch, without the package tensorboard.

`tf.summary.scalar` and `tf.summary.image` import `tensorboard`, which need not be installed where a
model is trained; the same records are written here directly.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tasks.report import image_channels
from zoo.lazy import LazyModule, np, tf

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")
ImageFont = LazyModule("PIL.ImageFont")

_SCALAR, _BLOBS = 1, 3  # DATA_CLASS_SCALAR, DATA_CLASS_BLOB_SEQUENCE of summary.proto

_MAX_NAMED_CLASSES = 30  # a confusion matrix of more classes has no names
_MAX_NAME_LENGTH = 18  # in characters
_FONT_SIZE = 14  # in pixels, as all lengths below
_MATRIX_SIZE = 480  # approximate side of all cells together
_MARGIN = 8
_WHITE, _DARK, _TEXT_COLOUR = (255, 255, 255), (6, 42, 96), (27, 31, 36)


class SummaryWriter:
    """Writes event files in a folder, and continues them after the last row of a history.

    Records of later epochs are dropped, so that none is duplicated; scalars are rewritten from the
    history, so that none is missing.

    Args:
        folder: The folder of the files.
        history: The rows of the completed epochs.
    """

    def __init__(self, folder, history: Sequence[Mapping[str, float]] = ()):
        last = history[-1]["epoch"] if history else 0
        old = sorted(Path(folder).glob("events*"))
        kept = {key: parts for key, parts in _image_summaries(old) if key[1] <= last}
        self._writer = tf.summary.create_file_writer(str(folder))
        for (tag, step), parts in kept.items():
            self._write(tag, tf.constant(parts), step, "images", _BLOBS)
        for row in history:
            self.scalars(row)
        self._writer.flush()
        for path in old:
            path.unlink()

    def scalars(self, row: Mapping[str, float]) -> None:
        """Writes the metrics in a row of the history at its `epoch`."""
        for name, value in row.items():
            if name != "epoch":
                value = tf.constant(value, tf.float32)
                self._write(name, value, row["epoch"], "scalars", _SCALAR)
        self._writer.flush()

    def images(self, tag: str, images, step: int) -> None:
        """Writes images under a name.

        Args:
            tag: The name of the images.
            images: `(count, height, width, channels)` in [0, 255], rounded to integers. The
                channels of `image_channels.to_displayable` are written.
            step: The epoch, from 1.
        """
        images = np.asarray(images)
        if images.ndim != 4:
            raise ValueError(
                f"got images {images.shape}, expected (count, height, width, channels)"
            )
        images = image_channels.to_displayable(images)
        if images.dtype != np.uint8:
            images = images.astype(np.float32).round().clip(0, 255).astype(np.uint8)
        count, height, width, _ = images.shape
        parts = [str(width), str(height), *(_png(image) for image in images)]
        self._write(tag, tf.constant(parts, shape=(2 + count,)), step, "images", _BLOBS)
        self._writer.flush()

    def confusion(self, matrix, classes: Sequence[str], step: int) -> None:
        """Writes a confusion matrix as an image under the name `confusion`.

        Rows are true classes, columns predicted classes, with names if there are 30 or fewer. The
        darkness of a cell is the square root of its fraction of the row, so that rare errors are
        visible.

        Args:
            matrix: Counts `(classes, classes)`, as from `metrics.confusion_matrix`.
            classes: The class names, in the order of the matrix.
            step: The epoch, from 1.
        """
        self.images("confusion", _heat_map(np.asarray(matrix), classes)[None], step)

    def _write(self, tag, value, step, plugin, data_class):
        kind = tf.compat.v1.SummaryMetadata
        metadata = kind(plugin_data=kind.PluginData(plugin_name=plugin), data_class=data_class)
        with self._writer.as_default():
            tf.summary.write(tag, value, step=step, metadata=metadata)


def _image_summaries(paths):
    """Yields `((tag, step), parts)` of the images in files, up to the first damaged record."""
    for path in paths:
        with suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "images":
                        yield (value.tag, event.step), tf.make_ndarray(value.tensor)


def _png(image):
    """Returns a uint8 image `(height, width, 1 or 3)` encoded as PNG."""
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return file.getvalue()


def _heat_map(matrix, classes):
    """Returns a confusion matrix as a uint8 image `(height, width, 3)`."""
    count = len(matrix)
    shares = np.sqrt(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))[:, :, None]
    colours = np.array(_WHITE) + shares * (np.array(_DARK) - _WHITE)
    side = max(1, _MATRIX_SIZE // count)
    if count <= _MAX_NAMED_CLASSES:
        side = max(side, _FONT_SIZE + 2)
    cells = Image.fromarray(colours.round().astype(np.uint8).repeat(side, 0).repeat(side, 1))
    names = _label_images(classes) if count <= _MAX_NAMED_CLASSES else []
    edge = _MARGIN + max((name.width + _MARGIN for name in names), default=0)
    length = edge + cells.width + _MARGIN
    canvas = Image.new("RGB", (length, length), _WHITE)
    canvas.paste(cells, (edge, edge))
    end = edge + cells.width
    ImageDraw.Draw(canvas).rectangle((edge - 1, edge - 1, end, end), outline=(200, 206, 212))
    for index, name in enumerate(names):
        middle = edge + side * index + (side - name.height) // 2
        canvas.paste(name, (edge - _MARGIN - name.width, middle))
        upright = name.rotate(90, expand=True)
        canvas.paste(upright, (middle, edge - _MARGIN - name.width))
    return np.asarray(canvas)


def _label_images(classes):
    """Returns class names as images, each as wide as its text."""
    font = ImageFont.load_default(_FONT_SIZE)
    labels = []
    for name in map(str, classes):
        name = name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 3]}..."
        label = Image.new("RGB", (max(1, round(font.getlength(name))), _FONT_SIZE + 2), _WHITE)
        ImageDraw.Draw(label).text((0, 0), name, font=font, fill=_TEXT_COLOUR)
        labels.append(label)
    return labels
