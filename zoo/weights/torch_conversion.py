"""PyTorch's state dicts poured into our layers: names, layouts, epsilons, pixels.

Convolutions go from (out, in, height, width) to (height, width, in, out), dense layers from
(out, in) to (in, out), those behind flattened maps also from the order of (channel, height, width)
to that of (height, width, channel). Where our epsilon is another one, the variance takes the
difference up.
"""

from __future__ import annotations

import math
import re

from zoo.errors import UsageError
from zoo.lazy import keras, np
from zoo.weights import formats, torch_names

TENSOR_ORDER = ("weight", "bias", "running_mean", "running_var")  # in the order of Keras
IGNORED_TENSORS = ("num_batches_tracked", "n_averaged")  # counts of training steps
KEY_PREFIXES = ("module.", "_orig_mod.", "model.")  # what some trainers put before every name

EPSILONS = {"googlenet": 1e-3}  # of PyTorch's normalisation; 1e-5 where nobody says
HEAD_LAYERS = re.compile(
    r"fc\d?|logits|auxiliary.*"
)  # our layers that a file may lack or have wider
TORCH_HEAD_MODULES = re.compile(r"(fc|aux\d|classifier|heads?|pre_logits)(\..*)?")

FAMILY_PREPROCESSING = {
    "googlenet": "tf"
}  # torchvision's turns the pixels of the others, `torch`, into these


class UnknownStateDictError(UsageError):
    """A PyTorch state dict is of no network that it could be.

    Args:
        message: what is wrong.
        tensors: arrays by their names in PyTorch, from which the nearest network is found.
        advice: what follows it.
    """

    def __init__(self, message, tensors, advice=""):
        super().__init__(f"{message}{advice}")
        self.message, self.tensors, self.advice = message, tensors, advice


def convert_state_dict(entries, layers, path):
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
    if not entries or entries[0].kind != formats.TORCH_TENSOR:
        return entries
    tensors = _strip_prefixes({entry.name: entry.arrays[0] for entry in entries})
    family = torch_names.detect_family(tensors)
    if family is None:
        raise UnknownStateDictError(
            f"{path} is a PyTorch state dict of a network without a table here",
            tensors,
            f"; those that have one: {', '.join(torch_names.NAME_TABLES)}",
        )
    found_modules = group_by_module(tensors, family)
    names = torch_names.NAME_TABLES[family](layers)
    found = {
        layer.name: _to_keras_arrays(found_modules[names[layer.name]], layer, family)
        for layer in layers
        if names.get(layer.name) in found_modules
    }
    used = {names[name] for name in found}
    left = [name for name in found_modules if name not in used]
    if problem := _mismatch(layers, found, left):
        network = torch_names.detect_architecture(family, found_modules)
        message = f"{path} holds PyTorch weights that do not fit ({problem})"
        if network:
            raise UsageError(f"{message}: those of {network}; build that")
        raise UnknownStateDictError(f"{message}: another network's", tensors)
    return [
        *(formats.Entry(name, formats.TORCH_TENSOR, arrays) for name, arrays in found.items()),
        *(
            formats.Entry(f"{name}.{part}", formats.TORCH_TENSOR, [array])
            for name in left
            for part, array in found_modules[name].items()
        ),
    ]


def infer_preprocessing(source, spec):
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
    if (
        source is None
        or spec.family not in torch_names.NAME_TABLES
        or not formats.is_torch_state_dict(source)
    ):
        return spec.preprocessing
    theirs = FAMILY_PREPROCESSING.get(spec.family, "torch")
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


def _strip_prefixes(tensors):
    """Takes off what stands before every name."""
    tensors = {name: array for name, array in tensors.items() if name not in IGNORED_TENSORS}
    for wrapper in KEY_PREFIXES:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): array for name, array in tensors.items()}
    return tensors


def group_by_module(tensors, family):
    """Groups tensors under torchvision's names: `{"layer1.0.bn1": {"weight": ..., ...}, ...}`."""
    found = {}
    for name, array in tensors.items():
        for theirs, torchvisions in torch_names.KEY_RENAMES.get(family, ()):
            if re.match(theirs, name):
                name = re.sub(f"^(?:{theirs})", torchvisions, name)
                break
        module, _, part = name.rpartition(".")
        if part not in IGNORED_TENSORS:
            found.setdefault(module, {})[part] = array
    return found


def _to_keras_arrays(module, layer, family):
    """Returns a module's tensors as a layer of ours holds them."""
    arrays = [module[part] for part in TENSOR_ORDER if part in module]
    if "weight" in module:
        arrays[0] = _to_keras_kernel(module["weight"], layer)
    if "running_var" in module:
        theirs = EPSILONS.get(family, 1e-5)
        ours = getattr(layer, "epsilon", theirs)
        arrays[-1] = np.maximum(arrays[-1].astype("float32") + (theirs - ours), 0)
    return arrays


def _to_keras_kernel(weight, layer):
    """Turns a weight into the layout of Keras."""
    if weight.ndim == 4:
        weight = weight.transpose(2, 3, 1, 0)
        return weight.reshape(-1, weight.shape[-1]) if len(layer.weights[0].shape) == 2 else weight
    if weight.ndim != 2:
        return weight
    ours = tuple(layer.weights[0].shape)
    if len(ours) == 4 and weight.shape[1] == math.prod(ours[:3]):  # a dense layer as convolution
        return weight.reshape(-1, ours[2], *ours[:2]).transpose(2, 3, 1, 0)
    maps = _flattened_shape(layer)
    if maps and weight.shape[1] == maps[0] * maps[1] * maps[2]:
        height, width, channels = maps
        weight = weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
        return weight.reshape(-1, weight.shape[-1])
    return weight.T


def _flattened_shape(layer):
    """Returns (height, width, channels) of the maps whose flattened form enters a layer, if any."""
    [before] = layer._inbound_nodes[0].input_tensors
    operation = before._keras_history.operation
    return operation.input.shape[1:] if isinstance(operation, keras.layers.Flatten) else None


def _mismatch(layers, found, left):
    """Returns how a file lacks a layer of the trunk, or has one more or another; `""` if not."""
    problems = [f"it lacks {x.name}" for x in layers if x.name not in found and not _is_head(x)]
    problems += [
        f"it has {name} besides" for name in left if not TORCH_HEAD_MODULES.fullmatch(name)
    ]
    problems += [
        f"{layer.name} has {len(found[layer.name])} tensors there and {len(layer.weights)} here"
        for layer in layers
        if layer.name in found and len(found[layer.name]) != len(layer.weights)
    ]
    return problems[0] if problems else ""


def _is_head(layer):
    return HEAD_LAYERS.fullmatch(layer.name) is not None


def _is_torchvision(source):
    return any(entry.name.endswith("conv_proj.weight") for entry in formats.read(source))
