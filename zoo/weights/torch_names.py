"""Names of PyTorch modules for the layers of each family.

They are those of torchvision, and of timm if it has the same network. Used by
`zoo.weights.torch_conversion`.
"""

from __future__ import annotations

import re

from zoo.lazy import np

FAMILY_MARKERS = (  # a key that identifies the family; the first match counts
    ("layer1.0.conv1.weight", "resnet"),
    ("inception3a.branch1.conv.weight", "googlenet"),
    ("features.3.squeeze.weight", "squeezenet"),
    ("conv_proj.weight", "vit"),
    ("patch_embed.proj.weight", "vit"),
    ("features.0.weight", "vgg"),  # or AlexNet, which has a larger kernel
)
ALEXNET_KERNEL = 11

# Regular expressions that rename keys of timm, of older torchvision versions and of other sources
# to those of torchvision.
KEY_RENAMES = {
    "resnet": (  # akamaster/pytorch_resnet_cifar10
        (r"linear\.", "fc."),
        (r"(layer\d\.\d+)\.shortcut\.", r"\1.downsample."),
    ),
    "vgg": (
        (r"pre_logits\.fc1\.", "classifier.0."),
        (r"pre_logits\.fc2\.", "classifier.3."),
        (r"head\.fc\.", "classifier.6."),
    ),
    "vit": (
        (r"(class_token|cls_token)$", "class_token.weight"),
        (r"(encoder\.pos_embedding|pos_embed)$", "encoder.pos_embedding.weight"),
        (r"patch_embed\.proj\.", "conv_proj."),
        (r"(.*self_attention\.in_proj)_", r"\1."),
        (r"blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.encoder_layer_\1.ln_\2."),
        (r"blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.encoder_layer_\1.self_attention.in_proj."),
        (
            r"blocks\.(\d+)\.attn\.proj\.",
            r"encoder.layers.encoder_layer_\1.self_attention.out_proj.",
        ),
        (r"blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layers.encoder_layer_\1.mlp.0."),
        (r"blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layers.encoder_layer_\1.mlp.3."),
        (r"(.*)\.mlp\.linear_1\.", r"\1.mlp.0."),
        (r"(.*)\.mlp\.linear_2\.", r"\1.mlp.3."),
        (r"norm\.", "encoder.ln."),
        (r"head\.", "heads.head."),
    ),
}

RESNET_MODULES = r"(layer\d\.\d+\.)?(conv|bn)\d|layer\d\.\d+\.downsample\.[01]|fc"
RESNETS = {  # by the blocks per stage: with basic blocks, with bottlenecks
    (2, 2, 2, 2): ("resnet18", ""),
    (3, 4, 6, 3): ("resnet34", "resnet50_v1_5"),
    (3, 4, 23, 3): ("", "resnet101_v1_5"),
    (3, 8, 36, 3): ("", "resnet152_v1_5"),
}
CIFAR_RESNETS = {(n, n, n, 0): f"resnet{6 * n + 2}" for n in (3, 5, 7, 9, 18)}
VGGS = {8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}  # by the number of convolutions
VITS = {192: "vit_tiny", 384: "vit_small", 768: "vit_base"}  # by the width

ALEXNET = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc1": "classifier.1",
    "fc2": "classifier.4",
    "logits": "classifier.6",
}
GOOGLENET = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "project": "branch4.1",
}
FIRES = {7: (3, 4, 5, 7, 8, 9, 10, 12), 3: (3, 4, 6, 7, 9, 10, 11, 12)}  # by conv1's kernel
VIT = {
    "class_token": "class_token",
    "positions": "encoder.pos_embedding",
    "patches": "conv_proj",
    "norm": "encoder.ln",
    "logits": "heads.head",
}
VIT_BLOCK = {
    "norm1": "ln_1",
    "attention_qkv": "self_attention.in_proj",
    "attention_out": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp1": "mlp.0",
    "mlp2": "mlp.3",
}


def detect_family(tensors):
    """Returns the family of a state dict, such as `resnet`, or `None` if it is unknown."""
    found = next((family for probe, family in FAMILY_MARKERS if probe in tensors), None)
    if found == "vgg" and np.shape(tensors["features.0.weight"])[-1] == ALEXNET_KERNEL:
        return "alexnet"
    return found


def detect_architecture(name, modules):
    """Returns the name in the zoo of the network of a state dict; `""` if it is unknown.

    Args:
        name: the family.
        modules: the modules of the state dict by name, each a dict of tensors.
    """
    if name == "resnet":
        matches = [re.fullmatch(r"layer(\d)\.\d+\.conv1", module) for module in modules]
        stages = [match[1] for match in matches if match]
        depths = tuple(stages.count(stage) for stage in "1234")
        # Variants of timm, such as ResNet-D, have other modules or another stem.
        ordinary = all(re.fullmatch(RESNET_MODULES, module) for module in modules)
        stem = modules.get("conv1", {}).get("weight", np.zeros(0)).shape
        if ordinary and stem == (16, 3, 3, 3):
            projected = " with shortcut: projection" * any("downsample" in key for key in modules)
            return CIFAR_RESNETS.get(depths, "") and CIFAR_RESNETS[depths] + projected
        ordinary = ordinary and stem[:1] == (64,) and stem[2:] != (3, 3)
        return RESNETS.get(depths, ("", ""))["layer1.0.conv3" in modules] if ordinary else ""
    features = [module["weight"] for key, module in modules.items() if key.startswith("features.")]
    if name == "vgg":
        found = VGGS.get(sum(weight.ndim == 4 for weight in features), "")
        return found and found + "_bn" * any(weight.ndim == 1 for weight in features)
    if name == "squeezenet":
        return "squeezenet" if modules["features.0"]["weight"].shape[-1] == 7 else "squeezenet_v1_1"
    if name == "vit":
        return VITS.get(modules["conv_proj"]["weight"].shape[0], "")
    return name


def alexnet(_):
    """Returns the module names of torchvision's AlexNet, by the name of the Keras layer."""
    return ALEXNET


def resnet(layers):
    """Returns the module names of torchvision's and timm's ResNets, by the name of the Keras layer.

    Args:
        layers: the layers with weights of the Keras model, in order; as in all these functions.
    """
    found = {"logits": "fc"}
    for layer in layers:
        match = re.fullmatch(r"conv(\d)(?:_block(\d+)_(\d))?_(conv|bn)", layer.name)
        if not match:
            continue
        stage, block, part, kind = match.groups()
        if block is None:
            found[layer.name] = f"{kind}1"
            continue
        inside = {"conv": "downsample.0", "bn": "downsample.1"}[kind]
        inside = f"{kind}{part}" if part != "0" else inside
        found[layer.name] = f"layer{int(stage) - 1}.{int(block) - 1}.{inside}"
    return found


def vgg(layers):
    """Returns the module names of torchvision's VGGs, by the name of the Keras layer.

    Their numbers count convolutions, normalizations, activations and pooling layers.
    """
    found = {"fc1": "classifier.0", "fc2": "classifier.3", "logits": "classifier.6"}
    normalised = any("_bn" in layer.name for layer in layers)
    index, before = 0, "1"
    for layer in layers:
        match = re.fullmatch(r"block(\d+)_(conv|bn)\d+", layer.name)
        if match:
            block, kind = match.groups()
            index += block != before
            found[layer.name] = f"features.{index}"
            index += 1 if normalised and kind == "conv" else 2
            before = block
    return found


def googlenet(layers):
    """Returns the module names of torchvision's GoogLeNet, by the name of the Keras layer."""
    found = {"logits": "fc"}
    for layer in layers:
        name, _, kind = layer.name.rpartition("_")
        module, _, branch = name.partition("_")
        if name in GOOGLENET:
            found[layer.name] = f"{GOOGLENET[name]}.{kind}"
        elif branch in BRANCHES:
            found[layer.name] = f"{module}.{BRANCHES[branch]}.{kind}"
        elif head := re.fullmatch(r"auxiliary(\d)(?:_(fc|reduce_conv|reduce_bn))?", layer.name):
            number, part = head.groups()
            inside = {None: "fc2", "fc": "fc1"}.get(part, f"conv.{kind}")
            found[layer.name] = f"aux{number}.{inside}"
    return found


def squeezenet(layers):
    """Returns the module names of torchvision's SqueezeNets, by the name of the Keras layer."""
    kernel = {layer.name: layer for layer in layers}["conv1"].kernel_size[0]
    found = {"conv1": "features.0", "logits": "classifier.1"}
    for fire, at in enumerate(FIRES.get(kernel, ()), start=2):
        for part in ("squeeze", "expand1x1", "expand3x3"):
            found[f"fire{fire}_{part}"] = f"features.{at}.{part}"
    return found


def vit(layers):
    """Returns the module names of torchvision's ViTs, by the name of the Keras layer."""
    found = dict(VIT)
    for layer in layers:
        match = re.fullmatch(r"block(\d+)_(.+)", layer.name)
        if match and match[2] in VIT_BLOCK:
            block = f"encoder.layers.encoder_layer_{int(match[1]) - 1}"
            found[layer.name] = f"{block}.{VIT_BLOCK[match[2]]}"
    return found


NAME_TABLES = {
    "alexnet": alexnet,
    "googlenet": googlenet,
    "resnet": resnet,
    "squeezenet": squeezenet,
    "vgg": vgg,
    "vit": vit,
}
