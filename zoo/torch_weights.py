"""PyTorch's state dicts poured into our layers: names, layouts, epsilons, pixels.

Convolutions go from (out, in, height, width) to (height, width, in, out), dense layers from
(out, in) to (in, out), those behind flattened maps also from the order of (channel, height, width)
to that of (height, width, channel). Where our epsilon is another one, the variance takes the
difference up.
"""

from __future__ import annotations

import math
import re

from zoo import formats, torch_names
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

likeness = LazyModule("zoo.likeness")

PARTS = ("weight", "bias", "running_mean", "running_var")  # in the order of Keras
IGNORED = ("num_batches_tracked", "n_averaged")  # counts of training steps
WRAPPERS = ("module.", "_orig_mod.", "model.")  # what some trainers put before every name

EPSILONS = {"googlenet": 1e-3}  # of PyTorch's normalisation; 1e-5 where nobody says
HEADS = re.compile(r"fc\d?|logits|auxiliary.*")  # our layers that a file may lack or have wider
THEIR_HEADS = re.compile(r"(fc|aux\d|classifier|heads?|pre_logits)(\..*)?")

PIXELS = {"googlenet": "tf"}  # torchvision's turns the pixels of the others, `torch`, into these


def translated(entries, layers, path):
    """Returns the entries of a file with those of PyTorch under the names of our layers.

    Args:
        entries: what `formats.read` gave.
        layers: the layers with weights of the model that they are for, in order.
        path: the file, for messages.

    Returns:
        Entries. Those that are not PyTorch's are as they were; tensors that no layer wants keep
        their names and come last.

    Raises:
        UsageError: the tensors are of a network that we have no table for, or of another one
            than the model, which then is named.
    """
    if not entries or entries[0].kind != formats.TORCH:
        return entries
    tensors = _plain_names({entry.name: entry.arrays[0] for entry in entries})
    family = torch_names.family(tensors)
    if family is None:
        like = likeness.nearest(tensors)
        raise UsageError(
            f"{path} is a PyTorch state dict of a network without a table here"
            f"{', ' * bool(like)}{like}; those that have one: {', '.join(torch_names.TABLES)}"
        )
    found_modules = modules(tensors, family)
    names = torch_names.TABLES[family](layers)
    found = {
        layer.name: _arrays(found_modules[names[layer.name]], layer, family)
        for layer in layers
        if names.get(layer.name) in found_modules
    }
    used = {names[name] for name in found}
    left = [name for name in found_modules if name not in used]
    if problem := _problem(layers, found, left):
        network = torch_names.network(family, found_modules)
        like = "" if network else likeness.nearest(tensors)
        name = f"those of {network}; build that" if network else "another network's"
        raise UsageError(
            f"{path} holds PyTorch weights that do not fit ({problem}): {name}{', ' * bool(like)}"
            f"{like}"
        )
    return [
        *(formats.Entry(name, formats.TORCH, arrays) for name, arrays in found.items()),
        *(
            formats.Entry(f"{name}.{part}", formats.TORCH, [array])
            for name in left
            for part, array in found_modules[name].items()
        ),
    ]


def pixels(source, spec):
    """Returns what the network called `spec.name` wants its pixels to be with weights of `source`.

    PyTorch's networks were trained on pixels of their own kind, which the file does not state.

    Args:
        source: a weights file, or `None` or `"random"` for the spec's own.
        spec: the `Spec` that is built.

    Returns:
        A key of `blocks.PREPROCESSING`.

    Raises:
        UsageError: the tag of the name wants other pixels than the file, or it cannot be known.
    """
    if source is None or spec.family not in torch_names.TABLES or not formats.is_torch(source):
        return spec.preprocessing
    theirs = PIXELS.get(spec.family, "torch")
    if spec.family == "vit" and not _is_torchvision(source):
        if spec.weights is None:
            raise UsageError(
                f"{source} does not say which pixels it was trained on; name {spec.name}.deit "
                f"(standardised) or {spec.name}.augreg (between -1 and 1) beside weights=FILE"
            )
        return spec.preprocessing
    if spec.weights is not None and spec.preprocessing != theirs:
        raise UsageError(
            f"{spec.name} wants its pixels as {spec.preprocessing!r}, the PyTorch weights of "
            f"{source} as {theirs!r}; build {spec.architecture} with these weights"
        )
    return theirs


def _plain_names(tensors):
    """Takes off what stands before every name."""
    tensors = {name: array for name, array in tensors.items() if name not in IGNORED}
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): array for name, array in tensors.items()}
    return tensors


def modules(tensors, family):
    """Groups tensors under torchvision's names: `{"layer1.0.bn1": {"weight": ..., ...}, ...}`."""
    found = {}
    for name, array in tensors.items():
        for theirs, torchvisions in torch_names.RENAMED.get(family, ()):
            if re.match(theirs, name):
                name = re.sub(f"^(?:{theirs})", torchvisions, name)
                break
        module, _, part = name.rpartition(".")
        if part not in IGNORED:
            found.setdefault(module, {})[part] = array
    return found


def _arrays(module, layer, family):
    """Returns a module's tensors as a layer of ours holds them."""
    arrays = [module[part] for part in PARTS if part in module]
    if "weight" in module:
        arrays[0] = _kernel(module["weight"], layer)
    if "running_var" in module:
        theirs = EPSILONS.get(family, 1e-5)
        ours = getattr(layer, "epsilon", theirs)
        arrays[-1] = np.maximum(arrays[-1].astype("float32") + (theirs - ours), 0)
    return arrays


def _kernel(weight, layer):
    """Turns a weight into the layout of Keras."""
    if weight.ndim == 4:
        weight = weight.transpose(2, 3, 1, 0)
        return weight.reshape(-1, weight.shape[-1]) if len(layer.weights[0].shape) == 2 else weight
    if weight.ndim != 2:
        return weight
    ours = tuple(layer.weights[0].shape)
    if len(ours) == 4 and weight.shape[1] == math.prod(ours[:3]):  # a dense layer as convolution
        return weight.reshape(-1, ours[2], *ours[:2]).transpose(2, 3, 1, 0)
    maps = _maps(layer)
    if maps and weight.shape[1] == maps[0] * maps[1] * maps[2]:
        height, width, channels = maps
        weight = weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
        return weight.reshape(-1, weight.shape[-1])
    return weight.T


def _maps(layer):
    """Returns (height, width, channels) of the maps whose flattened form enters a layer, if any."""
    [before] = layer._inbound_nodes[0].input_tensors
    operation = before._keras_history.operation
    return operation.input.shape[1:] if isinstance(operation, keras.layers.Flatten) else None


def _problem(layers, found, left):
    """Returns how a file lacks a layer of the trunk, or has one more or another; `""` if not."""
    problems = [f"it lacks {x.name}" for x in layers if x.name not in found and not _is_head(x)]
    problems += [f"it has {name} besides" for name in left if not THEIR_HEADS.fullmatch(name)]
    problems += [
        f"{layer.name} has {len(found[layer.name])} tensors there and {len(layer.weights)} here"
        for layer in layers
        if layer.name in found and len(found[layer.name]) != len(layer.weights)
    ]
    return problems[0] if problems else ""


def _is_head(layer):
    return HEADS.fullmatch(layer.name) is not None


def _is_torchvision(source):
    return any(entry.name.endswith("conv_proj.weight") for entry in formats.read(source))
