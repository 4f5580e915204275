"""An episode as animated GIF for a report, and as a few frames for TensorBoard."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from tasks.report.formatting import escape
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

_MAX_FRAMES = 200  # of a GIF; longer episodes are subsampled
_FRAME_SECONDS = 0.04  # browsers do not show shorter ones
_NUM_COLOURS = 16


def gif_figure(frames: Sequence, caption: str) -> str:
    """Returns the frames of an episode as an HTML figure with an animated GIF.

    Args:
        frames: uint8 images `(height, width, 3)` of one size.
        caption: text below the GIF.
    """
    source = f"data:image/gif;base64,{base64.b64encode(gif(frames)).decode('ascii')}"
    height, width = frames[0].shape[:2]
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" alt="{escape(caption)}"/>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def gif(frames: Sequence) -> bytes:
    """Returns uint8 frames `(height, width, 3)` as an animated GIF that loops."""
    step = -(-len(frames) // _MAX_FRAMES)
    first, *others = [Image.fromarray(frame).quantize(_NUM_COLOURS) for frame in frames[::step]]
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


def sample_frames(frames: Sequence, count: int):
    """Returns evenly spaced frames, the first and the last included.

    Args:
        frames: uint8 images `(height, width, 3)`.
        count: the number of frames to return, at most.

    Returns:
        uint8 `(count, height, width, 3)`.
    """
    indices = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return np.stack([frames[index] for index in indices])
