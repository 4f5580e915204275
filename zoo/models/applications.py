"""The networks of keras.applications that no file here writes out, as one table.

Keras builds each of them; this file gives it the contract of the zoo: pixels in, float32 logits
out, a feature pyramid on the way, and facts that are known before anything is built. The facts
stand in `assets/applications.json`: addresses and digests from the source of Keras 3.15.1,
figures from keras.io/api/applications unless a `protocol` says otherwise, parameters and FLOPs
from `zoo.flops`.
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

# The weights of EfficientNet call for one more division than the layers that Keras writes.
TAG_PREPROCESSING = {"efficientnet": "efficientnet"}

RGB_ONLY = ("ConvNeXt", "EfficientNetV2B")  # their first layer knows the means of three channels

FIRST_STAGE = collections.defaultdict(lambda: 1, convnext=2)  # ConvNeXt's stem has stride 4


def application(image, num_classes=1000, *, constructor, alpha=None, dropout=None):
    """Builds one of the networks of keras.applications.

    Layers, names and weights are Keras's up to the last layer. A stage is closed by the last
    tensor of its stride that is as wide as the widest one to enter the next stride: the block's
    output where a block ends a stage, the expanded activation in the MobileNets and
    EfficientNets, the activation before the strided block in ResNetV2. Networks that do not
    pad (Inception, Xception) give stages of a little less than `1 / 2**N` of the image.

    Departures: the last layer is a dense one in float32 called `logits`, also where Keras has
    an equal 1 x 1 convolution (MobileNet, MobileNetV3); layers that nobody named are counted
    from nought in each network, as in a fresh process.

    Args:
        image: `(batch, height, width, channels)`, as `preprocessing` of the spec makes them.
        num_classes: width of the logits, or `None` for the stages only.
        constructor: name of Keras's function, such as `MobileNetV2`.
        alpha: width multiplier of the MobileNets; theirs by default.
        dropout: rate before the logits; by default the one that Keras gives the network.

    Returns:
        Endpoints `stage1` (`stage2` in ConvNeXt) to `stage5` and, with classes, `logits`.

    Raises:
        UsageError: the network cannot be built for images of that shape.
    """
    _, *sides, channels = image.shape
    if constructor.startswith(RGB_ONLY) and channels != 3:
        raise UsageError(f"{constructor} takes RGB images; got {channels} channels, not 3")
    if constructor.startswith("NASNet") and None in sides:  # it would join maps of unequal sizes
        raise UsageError(f"{constructor} must know the height and width of its images; got {sides}")
    operations = _operations(image, constructor, {} if alpha is None else {"alpha": alpha})
    _number(operations)
    pools = [
        i for i, op in enumerate(operations) if isinstance(op, keras.layers.GlobalAveragePooling2D)
    ]
    ends = _pyramid(operations[: pools[-1] + 1])
    if num_classes:
        features, rate = _features(operations[pools[-1] :])
        rate = rate if dropout is None else dropout
        ends["logits"] = blocks.logits(features, num_classes, dropout=rate)
    return ends


def _operations(image, constructor, options):
    """Returns what Keras's network does with `image`, each operation after those it needs."""
    function = getattr(keras.applications, constructor)
    try:
        # The head is thrown away but for what stands before its last layer.
        trunk = function(weights=None, input_tensor=image, classes=1, **options)
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        shape = " x ".join(str(side) for side in image.shape[1:])
        raise UsageError(
            f"keras.applications.{constructor} cannot be built for images of {shape}: {reason}"
        ) from error
    found, known = [], {id(image)}
    for operation in trunk.operations:  # which begin with whatever made the image
        node = operation._inbound_nodes[0]
        if node.input_tensors and all(id(x) in known for x in node.input_tensors):
            found.append(operation)
            known.update(id(x) for x in node.output_tensors)
    return found


def _number(operations):
    """Counts the operations that Keras named from nought, whatever was built before them."""
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
    """Returns the tensors that close the stages, by name, of a network that ends in a pool."""
    strides = {}  # of each tensor, by id
    closing = collections.defaultdict(list)  # stride: the tensors that could close its stage
    widths = collections.defaultdict(int)  # stride: channels of the widest tensor to leave it
    for operation in operations:
        [node] = operation._inbound_nodes
        [out] = node.output_tensors
        before = max(strides.get(id(x), 1) for x in node.input_tensors)
        strides[id(out)] = before * (2 if operation is operations[-1] else _stride(operation))
        if strides[id(out)] > before:
            widths[before] = max(widths[before], node.input_tensors[0].shape[-1])
        if not isinstance(operation, (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)):
            closing[strides[id(out)]].append(out)
    return {
        f"stage{stride.bit_length() - 1}": [x for x in closing[stride] if x.shape[-1] == width][-1]
        for stride, width in sorted(widths.items())
        if stride > 1
    }


def _features(head):
    """Returns what enters a head's last layer with weights, and the rate of dropout there."""
    last = max(index for index, operation in enumerate(head) if _weights(operation))
    drops = [operation for operation in head[:last] if isinstance(operation, keras.layers.Dropout)]
    *_, before = (operation for operation in head[:last] if operation not in drops)
    features = before.output
    if len(features.shape) == 4:
        features = keras.layers.Flatten(name="flatten")(features)
    return features, sum(operation.rate for operation in drops)


def _stride(operation):
    """Returns by how much an operation shrinks height and width."""
    if isinstance(operation, keras.Sequential):
        return math.prod(_stride(layer) for layer in operation.layers)
    strides = getattr(operation, "strides", 1)
    return strides if isinstance(strides, int) else strides[0]


def _weights(operation):
    return getattr(operation, "weights", [])  # `add` and its like are no layers


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
