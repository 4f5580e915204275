"""The displayed channels of an image, in reports, TensorBoard and drawn predictions.

One channel is displayed as gray, three as red, green and blue. With two channels, the first is
displayed as gray; with more than three, the first three are displayed.
"""

from __future__ import annotations

from zoo.lazy import np


def to_displayable(images):
    """Returns the displayed channels of images, `(..., height, width, 1 or 3)`.

    Args:
        images: `(..., height, width, channels)`.
    """
    images = np.asarray(images)
    channels = images.shape[-1]
    return images if channels in (1, 3) else images[..., : 3 if channels > 3 else 1]


def to_rgb(images):
    """Returns the displayed channels of images as RGB, `(..., height, width, 3)`."""
    shown = to_displayable(images)
    return shown if shown.shape[-1] == 3 else np.repeat(shown, 3, axis=-1)
