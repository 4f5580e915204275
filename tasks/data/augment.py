"""Augmentation: images changed at random while training, by level."""

from __future__ import annotations

from zoo.lazy import keras

LEVELS = ("none", "light")
SHIFT = 0.125  # of the height and width; 4 of 32 pixels, as in the ResNet paper, section 4.2


def layers(level, seed):
    """Returns the Keras layers of a level; they act in training only.

    Args:
        level: `none`, or `light`: mirrored left to right, and shifted by up to an eighth of the
            picture with its own reflection at the border.
        seed: of the random draws. The state of the draws is saved with the layers.
    """
    if level == "none":
        return []
    # Nearest pixels, so that a shifted image is as sharp as one that is not.
    shift = {"fill_mode": "reflect", "interpolation": "nearest"}
    return [
        keras.layers.RandomFlip("horizontal", seed=seed, dtype="float32"),
        keras.layers.RandomTranslation(SHIFT, SHIFT, **shift, seed=seed + 1, dtype="float32"),
    ]
