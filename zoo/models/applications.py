"""The networks of keras.applications that have no file of their own here, as one table.

Keras builds each of them; this file adapts it to the contract of the zoo: pixels as input, float32
logits as output, a feature pyramid, and a spec that is available before anything is built. The
facts are in `assets/applications.json`: URLs and digests from the source of Keras 3.15.1, figures
from keras.io/api/applications unless `protocol` names another source, parameters and FLOPs from
`zoo.flops`.
"""

from __future__ import annotations

import collections
import json
import math
import re

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import ASSETS, Weights

KERAS_FILES = "https://storage.googleapis.com/"

FACTS = json.loads((ASSETS / "applications.json").read_text(encoding="utf-8"))

PROTOCOL = "ImageNet validation, as listed on keras.io/api/applications"

LICENCES = {  # of the weights, by family
    "convnext": "MIT (Facebook AI Research; as Keras distributes them)",
    "densenet": "BSD 3-clause (Liu, Huang and others; as Keras distributes them)",
    "efficientnet": "Apache 2.0 (Google; as Keras distributes them)",
    "efficientnet_v2": "Apache 2.0 (Google; as Keras distributes them)",
    "inception": "Apache 2.0 (TensorFlow models; as Keras distributes them)",
    "mobilenet": "Apache 2.0 (TensorFlow models; as Keras distributes them)",
    "nasnet": "Apache 2.0 (TensorFlow models; as Keras distributes them)",
    "resnet_v2": "BSD (Facebook, fb.resnet.torch; as Keras distributes them)",
    "xception": "MIT (François Chollet; as Keras distributes them)",
}

# The weights of EfficientNet expect one more division than the layers that Keras builds.
TAG_PREPROCESSING = {"efficientnet": "efficientnet"}

RGB_ONLY = ("ConvNeXt", "EfficientNetV2B")  # their first layer holds the means of three channels

FIRST_STAGE = collections.defaultdict(lambda: 1, convnext=2)  # ConvNeXt's stem has stride 4


def application(image, num_classes=1000, *, constructor, alpha=None, dropout=None):
    """Builds one of the networks of keras.applications.

    Layers, names and weights are Keras's up to the last layer. The endpoint of a stage is the
    last tensor at its stride that has as many channels as the widest input of the next stride:
    the block's output where a block ends a stage, the expanded activation in the MobileNets and
    EfficientNets, the activation before the strided block in ResNetV2. Networks without padding
    (Inception, Xception) have stages slightly smaller than `1 / 2**N` of the image.

    Departures: the last layer is a float32 dense layer named `logits`, also where Keras has an
    equivalent 1 x 1 convolution (MobileNet, MobileNetV3); layers with automatic names are
    numbered from zero in each network, as in a fresh process.

    Args:
        image: `(batch, height, width, channels)`, preprocessed by the spec's `preprocessing`.
        num_classes: width of the logits, or `None` for the stages only.
        constructor: name of Keras's function, such as `MobileNetV2`.
        alpha: width multiplier of the MobileNets; Keras's default if `None`.
        dropout: rate before the logits, in [0, 1); Keras's rate for the network if `None`.

    Returns:
        Endpoints `stage1` (`stage2` in ConvNeXt) to `stage5` and, with classes, `logits`.

    Raises:
        UsageError: the network cannot be built for images of that shape.
    """
    _, *sides, channels = image.shape
    if constructor.startswith(RGB_ONLY) and channels != 3:
        raise UsageError(f"{constructor} takes RGB images; got {channels} channels, not 3")
    if constructor.startswith("NASNet") and None in sides:  # it would join maps of different sizes
        raise UsageError(f"{constructor} needs images of a fixed height and width; got {sides}")
    operations = _operations(image, constructor, {} if alpha is None else {"alpha": alpha})
    _renumber(operations)
    pools = [
        i for i, op in enumerate(operations) if isinstance(op, keras.layers.GlobalAveragePooling2D)
    ]
    endpoints = _pyramid(operations[: pools[-1] + 1])
    if num_classes:
        features, rate = _features(operations[pools[-1] :])
        rate = rate if dropout is None else dropout
        endpoints["logits"] = blocks.logits(features, num_classes, dropout=rate)
    return endpoints


def _operations(image, constructor, options):
    """Returns the operations of Keras's network on `image`, in topological order."""
    function = getattr(keras.applications, constructor)
    try:
        # Of the head only what precedes its last layer is used.
        trunk = function(weights=None, input_tensor=image, classes=1, **options)
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        shape = " x ".join(str(side) for side in image.shape[1:])
        raise UsageError(
            f"keras.applications.{constructor} cannot be built for images of {shape}: {reason}"
        ) from error
    found, available = [], {id(image)}
    for operation in trunk.operations:  # the first ones are those that compute `image`
        node = operation._inbound_nodes[0]
        if node.input_tensors and all(id(x) in available for x in node.input_tensors):
            found.append(operation)
            available.update(id(x) for x in node.output_tensors)
    return found


def _renumber(operations):
    """Renumbers automatic names from zero, whatever was built before."""
    numbered = collections.defaultdict(list)
    for operation in operations:
        stem, number = re.fullmatch(r"(.+?)(?:_(\d+))?", operation.name).groups()
        if stem == keras.src.utils.naming.to_snake_case(type(operation).__name__):
            numbered[stem].append((int(number or 0), operation))
    for stem, members in numbered.items():
        members.sort(key=lambda member: member[0])
        for index, (_, operation) in enumerate(members):
            operation.name = f"{stem}_{index}" if index else stem


def _pyramid(operations):
    """Returns the last tensor of each stage, by name, of a network that ends in a pooling."""
    strides = {}  # of each tensor, by id
    candidates = collections.defaultdict(list)  # stride: the tensors that could end its stage
    widths = collections.defaultdict(int)  # stride: channels of the widest input of the next one
    for operation in operations:
        [node] = operation._inbound_nodes
        [out] = node.output_tensors
        before = max(strides.get(id(x), 1) for x in node.input_tensors)
        strides[id(out)] = before * (2 if operation is operations[-1] else _stride(operation))
        if strides[id(out)] > before:
            widths[before] = max(widths[before], node.input_tensors[0].shape[-1])
        if not isinstance(operation, (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)):
            candidates[strides[id(out)]].append(out)
    endpoints = {}
    for stride, width in sorted(widths.items()):
        if stride > 1:
            *_, last = (x for x in candidates[stride] if x.shape[-1] == width)
            endpoints[f"stage{stride.bit_length() - 1}"] = last
    return endpoints


def _features(head):
    """Returns the input of the last layer with weights of a head, and its dropout rate."""
    last = max(index for index, operation in enumerate(head) if _weights(operation))
    drops = [operation for operation in head[:last] if isinstance(operation, keras.layers.Dropout)]
    *_, before = (operation for operation in head[:last] if operation not in drops)
    features = before.output
    if len(features.shape) == 4:
        features = keras.layers.Flatten(name="flatten")(features)
    return features, sum(operation.rate for operation in drops)


def _stride(operation):
    """Returns the factor by which an operation reduces height and width."""
    if isinstance(operation, keras.Sequential):
        return math.prod(_stride(layer) for layer in operation.layers)
    strides = getattr(operation, "strides", 1)
    return strides if isinstance(strides, int) else strides[0]


def _weights(operation):
    return getattr(operation, "weights", [])  # operations such as `add` are not layers


def _pretrained(facts):
    return Weights(
        source=KERAS_FILES + facts["source"],
        digest=facts["digest"],
        headless=(KERAS_FILES + facts["headless"][0], facts["headless"][1])
        if "headless" in facts
        else None,
        classes="imagenet",
        preprocessing=TAG_PREPROCESSING.get(facts["family"], ""),
        options={"dropout": 0.2},
        licence=LICENCES[facts["family"]],
        figures=facts["figures"],
        protocol=facts.get("protocol", PROTOCOL),
    )


for _name, _facts in FACTS.items():
    register(
        {_name: {key: _facts[key] for key in ("constructor", "alpha") if key in _facts}},
        family=_facts["family"],
        paper=_facts["paper"],
        input_shape=(_facts["size"], _facts["size"], 3),
        min_size=_facts["min_size"],
        stages=range(FIRST_STAGE[_facts["family"]], 6),
        preprocessing=_facts["preprocessing"],
        counts={_name: (_facts["parameters"], _facts["flops"])},
        weights={_name: {"imagenet": _pretrained(_facts)}},
    )(application)
