"""Grids of small images, as PNG, as animated GIF, and as a figure of a report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from tasks.report import image_channels
from tasks.report.formatting import escape
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

GAP = 2  # pixels between images
MIN_DISPLAY_SIDE = 56  # images are enlarged by an integer factor to this side or more
WHITE = 255
FRAME_MILLISECONDS = 250  # per frame of a GIF
LAST_FRAME_MILLISECONDS = 2500


def grid(images, columns: int):
    """Returns a grid of images as one uint8 image `(height, width, channels)`.

    Args:
        images: uint8 `(count, height, width, channels)`, in row-major order; empty cells of the
            last row are white.
        columns: images per row.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), WHITE)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = row * (height + GAP), column * (width + GAP)
        canvas[top : top + height, left : left + width] = image
    return canvas.astype("uint8")


def png(image) -> bytes:
    """Returns a uint8 image `(height, width, channels)` encoded as PNG."""
    return _encode([_to_pil(image)], "PNG")


def gif(frames: Sequence, side: int) -> bytes:
    """Returns uint8 images of one size as an animated GIF that loops.

    Args:
        frames: grids, `(height, width, channels)` each.
        side: side of the images in a grid; small ones are enlarged.
    """
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
    images = [_upscale(_to_pil(frame), side) for frame in frames]
    return _encode(images, "GIF", save_all=True, duration=durations, loop=0)


def figure(image, caption: str, side: int) -> str:
    """Returns a grid of images as an HTML figure for a section of `page.write`.

    Args:
        image: uint8 `(height, width, channels)`, or the bytes of a GIF.
        caption: text below it.
        side: side of the images in the grid; small ones are enlarged.
    """
    if isinstance(image, bytes):
        file_format, content = "gif", image
    else:
        file_format, content = "png", _encode([_upscale(_to_pil(image), side)], "PNG")
    source = f"data:image/{file_format};base64,{base64.b64encode(content).decode('ascii')}"
    return (
        f'<figure><img style="max-width:100%" src="{source}" alt="{escape(caption)}"/>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _to_pil(image):
    image = image_channels.to_displayable(image)
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def _upscale(image, side):
    factor = -(-MIN_DISPLAY_SIDE // side)
    return image.resize((image.width * factor, image.height * factor), Image.NEAREST)


def _encode(images, file_format, **options):
    file = io.BytesIO()
    first, *others = images
    if others:
        options["append_images"] = others
    first.save(file, file_format, **options)
    return file.getvalue()
