"""Class colors, the same in all reports and saved masks."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from zoo.lazy import np

BACKGROUND_NAMES = ("ground", "background")  # black, and transparent in overlays
GOLDEN_RATIO = 0.618034  # step of the hue between consecutive classes


def class_colours(classes: Sequence[str]):
    """Returns a color for each class, uint8 `(classes, 3)`, which depends only on its index.

    Classes named in `BACKGROUND_NAMES` are black.
    """
    tones = []
    for index, name in enumerate(classes):
        bright = (1.0, 0.75, 0.9)[index % 3]
        tone = colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1, (0.85, 1.0, 0.6)[index % 3], bright)
        tones.append((0, 0, 0) if name in BACKGROUND_NAMES else tone)
    return np.rint(255 * np.array(tones)).astype("uint8")
