"""An episode as pictures: a film for a report, and a strip of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from tasks.report.formatting import escape
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

_MAX_FRAMES = 200  # pictures of a film; of a longer one every second is left out, or more
_FRAME_SECONDS = 0.04  # of a picture; browsers do not show shorter ones
_NUM_COLOURS = 16


def gif_figure(pictures: Sequence, caption: str) -> str:
    """Returns the pictures of an episode as an HTML figure with a GIF in it.

    Args:
        pictures: uint8 images `(height, width, 3)` of one size.
        caption: Says what is seen.
    """
    source = f"data:image/gif;base64,{base64.b64encode(gif(pictures)).decode('ascii')}"
    height, width = pictures[0].shape[:2]
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" alt="{escape(caption)}"/>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def gif(pictures: Sequence) -> bytes:
    """Returns pictures as an animated GIF that goes round."""
    step = -(-len(pictures) // _MAX_FRAMES)
    first, *others = [
        Image.fromarray(picture).quantize(_NUM_COLOURS) for picture in pictures[::step]
    ]
    file = io.BytesIO()
    first.save(
        file,
        "GIF",
        save_all=True,
        append_images=others,
        duration=round(1000 * _FRAME_SECONDS * min(step, 2)),
        loop=0,
        optimize=True,
    )
    return file.getvalue()


def sample_frames(pictures: Sequence, count: int):
    """Returns some of the pictures, from the first to the last, `(count, height, width, 3)`."""
    places = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)
    return np.stack([pictures[place] for place in places])
