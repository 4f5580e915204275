"""Pictures of many small images: a grid of them, how it changed as a GIF, and both in a report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from tasks.report import image_channels
from tasks.report.formatting import escape
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

GAP = 2  # pixels between images
MIN_DISPLAY_SIDE = (
    56  # images are enlarged by a whole factor to this side or more, so that one sees them
)
WHITE = 255
FRAME_MILLISECONDS = 250  # that a frame of a GIF is seen
LAST_FRAME_MILLISECONDS = 2500  # and the last one


def grid(images, columns: int):
    """Returns images, uint8 `(count, height, width, channels)`, side by side as one.

    Args:
        images: row after row; what is missing of the last row is white.
        columns: images in a row.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), WHITE)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = row * (height + GAP), column * (width + GAP)
        canvas[top : top + height, left : left + width] = image
    return canvas.astype("uint8")


def png(image) -> bytes:
    """Returns a uint8 image `(height, width, channels)` as the bytes of a PNG file."""
    return _encoded([_to_pil(image)], "PNG")


def gif(frames: Sequence, side: int) -> bytes:
    """Returns uint8 images of one size as the bytes of a GIF that goes round.

    Args:
        frames: `(height, width, channels)` each.
        side: of the images that a frame is a grid of; smaller ones are enlarged.
    """
    times = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
    pictures = [_upscaled(_to_pil(frame), side) for frame in frames]
    return _encoded(pictures, "GIF", save_all=True, duration=times, loop=0)


def figure(image, caption: str, side: int) -> str:
    """Returns a grid of images as a figure for a section of `page.write`.

    Args:
        image: uint8 `(height, width, channels)`, or the bytes of a GIF.
        caption: below it.
        side: of the images that it is a grid of; smaller ones are enlarged.
    """
    if isinstance(image, bytes):
        kind, content = "gif", image
    else:
        kind, content = "png", _encoded([_upscaled(_to_pil(image), side)], "PNG")
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return (
        f'<figure><img style="max-width:100%" src="{source}" alt="{escape(caption)}"/>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _to_pil(image):
    image = image_channels.to_displayable(image)
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def _upscaled(picture, side):
    times = -(-MIN_DISPLAY_SIDE // side)
    return picture.resize((picture.width * times, picture.height * times), Image.NEAREST)


def _encoded(pictures, kind, **options):
    file = io.BytesIO()
    first, *others = pictures
    if others:
        options["append_images"] = others
    first.save(file, kind, **options)
    return file.getvalue()
