"""Test-time augmentation: what a model says of several views of each image, taken together."""

from __future__ import annotations

import dataclasses

from tasks.data import batches
from zoo.errors import unknown_name_error
from zoo.lazy import np

SHIFT_DIVISOR = 16  # a view is moved by a sixteenth of the picture, reflected at the border

_CORNERS = tuple((down, right) for down in (-1, 1) for right in (-1, 1))
VIEWS = {  # name: (mirrored, parts down, parts right) of each view
    "one": ((False, 0, 0),),
    "flip": ((False, 0, 0), (True, 0, 0)),
    "ten": tuple((mirror, *shift) for mirror in (False, True) for shift in ((0, 0), *_CORNERS)),
}
LEVELS = tuple(VIEWS)


def predict(model, examples, *, batch_size, views="one", multi_label=False):
    """Returns a model's logits for every example, once and in order.

    The probabilities of all views are averaged, as in Krizhevsky et al., 2012; what is returned
    is the logits that give this average.

    Args:
        model: a `keras.Model` from images to logits.
        examples: a `decoding.Examples`.
        batch_size: images at a time.
        views: `one`, the image as it is; `flip`, it and its mirror image; `ten`, these two in
            the middle and moved towards each corner.
        multi_label: whether probabilities are sigmoids of the logits, not their softmax.
    """
    if views not in VIEWS:
        raise unknown_name_error("set of views", views, LEVELS)
    if views == "one":
        return batches.predict(model, examples, batch_size=batch_size)
    logs = []
    for view in VIEWS[views]:
        view_examples = dataclasses.replace(examples, pixels=ShiftedImages(examples.pixels, *view))
        logits = np.asarray(batches.predict(model, view_examples, batch_size=batch_size), "float64")
        logs.append(_log_sigmoids(logits) if multi_label else _log_softmax(logits))
    if not multi_label:
        return (_log_mean_exp(np.stack(logs))).astype("float32")
    yes, no = (_log_mean_exp(np.stack(parts)) for parts in zip(*logs, strict=True))
    return (yes - no).astype("float32")


class ShiftedImages:
    """Images that are mirrored and moved each time they are asked for.

    Args:
        pixels: uint8 `(count, height, width, channels)`, or what gives them when indexed.
        mirror: whether left and right are swapped.
        down, right: where to, in parts of `SHIFT` of the height and width.
    """

    def __init__(self, pixels, mirror, down, right):
        self.pixels, self.mirror, self.down, self.right = pixels, mirror, down, right
        self.shape = pixels.shape

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, indices):
        images = self.pixels[indices]
        for axis, parts in ((-3, self.down), (-2, self.right)):
            images = _shifted(images, axis, parts * max(1, images.shape[axis] // SHIFT_DIVISOR))
        return images[..., ::-1, :] if self.mirror else images


def _shifted(images, axis, offset):
    """Moves images along an axis; their own reflection comes in at the border."""
    if not offset:
        return images
    side = images.shape[axis]
    places = np.abs(np.arange(side) - offset)  # ... 2 1 0 1 2 ...
    return images.take(np.minimum(places, 2 * (side - 1) - places), axis=axis)


def _log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _log_sigmoids(logits):
    """Returns the logarithms of the sigmoid and of what it lacks to 1."""
    return -np.logaddexp(0, -logits), -np.logaddexp(0, logits)


def _log_mean_exp(logs):
    maximum = logs.max(axis=0)
    return maximum + np.log(np.exp(logs - maximum).mean(axis=0))
