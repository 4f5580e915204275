"""Preprocessing schemes of networks, faults of preprocessing, and how to identify them.

The schemes are those of `keras.applications`; a `Correction` applies one to the input of a model,
or undoes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from zoo import graphs
from zoo.lazy import keras, np
from zoo.parts import blocks

MISSING, TWICE, ORDER = "preprocessing missing", "preprocessing done twice", "channel order"
RANGE, OTHER = "value range", "preprocessing of another network"

REMEDIES = {
    MISSING: "add it to the model as its first layer, so that it is saved with the model, or apply "
    "it to every input image",
    TWICE: "remove one of the two: the layer in the model, or `preprocess_input` before it; models "
    "of the zoo and Keras's EfficientNet, ConvNeXt and MobileNetV3 include their preprocessing",
    ORDER: "read images as RGB (OpenCV returns BGR: cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), or "
    "reverse the channels in the first layer of the model",
    RANGE: "check what the first layers do to pixels in [0, 255]",
    OTHER: "use the `preprocess_input` of the same module of keras.applications as the network",
}

SCHEMES = {  # name: description, and arguments of `_normalize`
    "unit": ("x / 255", {"mean": 0.0, "scale": 255.0}),
    "tf": ("x / 127.5 - 1", blocks.PREPROCESSING["tf"]),
    "torch": (
        "subtracting ImageNet's mean and dividing by its deviation",
        blocks.PREPROCESSING["torch"],
    ),
    "caffe": (
        "turning RGB to BGR and subtracting ImageNet's mean",
        blocks.PREPROCESSING["caffe"],
    ),
}

# Name patterns of networks of keras.applications, and the schemes that their weights expect.
EXPECTED_SCHEMES = {
    r"vgg(16|19)|resnet(50|101|152)": "caffe",
    r"resnet(50|101|152)v2|mobilenet(v2)?_\d.*|inception_v3|inception_resnet_v2|xception"
    r"|nasnet(_mobile|_large)?": "tf",
    r"densenet(121|169|201)": "torch",
}


@dataclass(frozen=True)
class Correction:
    """A transform of pixels in [0, 255] that may correct the input of a model.

    Attributes:
        name: name of the fault that it corrects.
        words: description of the transform.
        change: function of float32 images `(images, height, width, channels)`.
    """

    name: str
    words: str
    change: Callable


def corrections(channels):
    """Returns the corrections to try for images with so many channels."""
    found = []
    for words, facts in SCHEMES.values():
        found.append(Correction(MISSING, f"after {words}", _normalize(**facts)))
        found.append(Correction(TWICE, f"after undoing {words}", _denormalize(**facts)))
    if channels == 3:
        found.append(Correction(ORDER, "with red and blue swapped", lambda x: x[..., ::-1]))
    return found


def identify_scheme(slope, offset, flipped):
    """Returns the key in `SCHEMES` of a linear transform; `None` for the identity, or `"other"`."""
    if np.allclose(slope, 1, atol=1e-3) and np.allclose(offset, 0, atol=1e-2) and not flipped:
        return None
    for kind, (_, facts) in SCHEMES.items():
        scale = np.broadcast_to(1 / np.asarray(facts["scale"]), slope.shape)
        shift = np.broadcast_to(-np.asarray(facts["mean"]) * scale, slope.shape)
        alike = np.allclose(slope, scale, rtol=0.02) and np.allclose(offset, shift, rtol=0.02)
        if alike and flipped == facts.get("reverse", False):
            return kind
    return "other"


def expected_scheme(model):
    """Returns the scheme that a network of keras.applications expects, and its name."""
    parts = [part for part in model._flatten_layers() if isinstance(part, keras.Model)]
    if any(layer.name == blocks.PREPROCESSING_LAYER for layer in graphs.leaf_layers(model)):
        return None, ""  # a model of the zoo, which includes its preprocessing
    for part in parts:
        for pattern, kind in EXPECTED_SCHEMES.items():
            if re.fullmatch(pattern, part.name, re.IGNORECASE):
                return kind, part.name
    return None, ""


def _normalize(mean, scale, reverse=False):
    def change(x):
        x = x[..., ::-1] if reverse and x.shape[-1] == 3 else x
        return ((x - _channel_values(mean, x)) / _channel_values(scale, x)).astype("float32")

    return change


def _denormalize(mean, scale, reverse=False):
    def change(x):
        x = (x * _channel_values(scale, x) + _channel_values(mean, x)).astype("float32")
        return x[..., ::-1] if reverse and x.shape[-1] == 3 else x

    return change


def _channel_values(values, x):
    values = np.asarray(values, "float32")
    return values if values.shape in ((), x.shape[-1:]) else values.mean()
