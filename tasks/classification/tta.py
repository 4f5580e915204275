"""Test-time augmentation: averages the predictions over several views of each image."""

from __future__ import annotations

import dataclasses

from zoo.errors import unknown_name_error
from zoo.lazy import LazyModule, np

batched_outputs = LazyModule("tasks.inference.batched_outputs")

SHIFT_DIVISOR = 16  # a view is shifted by 1/16 of the image, with reflection at the border

_CORNERS = tuple((down, right) for down in (-1, 1) for right in (-1, 1))
VIEWS = {  # by name, the views as (flipped, steps down, steps right)
    "one": ((False, 0, 0),),
    "flip": ((False, 0, 0), (True, 0, 0)),
    "ten": tuple((flip, *shift) for flip in (False, True) for shift in ((0, 0), *_CORNERS)),
}


def predict(model, examples, *, batch_size, views="one", multi_label=False):
    """Returns the logits of a model for every example, once and in order.

    The probabilities are averaged over the views, as in Krizhevsky et al., 2012. The returned
    logits are those that give the averaged probabilities.

    Args:
        model: A `keras.Model` from images to logits.
        examples: A `decoding.Examples`.
        batch_size: The number of images per batch.
        views: `one`, the image itself; `flip`, the image and its horizontal flip; `ten`, both of
            these in the center and shifted towards each corner.
        multi_label: Whether probabilities are sigmoids of the logits instead of their softmax.

    Returns:
        Logits `(examples, classes)`.

    Raises:
        UsageError: `views` is not a key of `VIEWS`.
    """
    if views not in VIEWS:
        raise unknown_name_error("test-time augmentation", views, tuple(VIEWS))
    if views == "one":
        return batched_outputs.predict(
            model, examples, batch_size=batch_size, multi_label=multi_label
        )
    logs = []
    for view in VIEWS[views]:
        view_examples = dataclasses.replace(examples, pixels=ShiftedImages(examples.pixels, *view))
        logits = batched_outputs.predict(model, view_examples, batch_size=batch_size)
        logits = np.asarray(logits, "float64")
        logs.append(_log_sigmoids(logits) if multi_label else _log_softmax(logits))
    if not multi_label:
        return (_log_mean_exp(np.stack(logs))).astype("float32")
    positive, negative = (_log_mean_exp(np.stack(parts)) for parts in zip(*logs, strict=True))
    return (positive - negative).astype("float32")


class ShiftedImages:
    """Images that are flipped and shifted each time they are indexed.

    Args:
        pixels: uint8 `(count, height, width, channels)`, or a sequence that returns such arrays.
        flip: Whether images are flipped horizontally.
        down, right: The shift, in units of 1 / `SHIFT_DIVISOR` of the height and of the width.
    """

    def __init__(self, pixels, flip, down, right):
        self.pixels, self.flip, self.down, self.right = pixels, flip, down, right
        self.shape = pixels.shape

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, indices):
        images = self.pixels[indices]
        for axis, steps in ((-3, self.down), (-2, self.right)):
            images = _shifted(images, axis, steps * max(1, images.shape[axis] // SHIFT_DIVISOR))
        return images[..., ::-1, :] if self.flip else images


def _shifted(images, axis, offset):
    """Shifts images along an axis, with reflection at the border."""
    if not offset:
        return images
    side = images.shape[axis]
    indices = np.abs(np.arange(side) - offset)  # ... 2 1 0 1 2 ...
    return images.take(np.minimum(indices, 2 * (side - 1) - indices), axis=axis)


def _log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _log_sigmoids(logits):
    """Returns the logarithms of the sigmoid and of its complement to 1."""
    return -np.logaddexp(0, -logits), -np.logaddexp(0, logits)


def _log_mean_exp(logs):
    maximum = logs.max(axis=0)
    return maximum + np.log(np.exp(logs - maximum).mean(axis=0))
