"""Converts PyTorch state dicts for Keras layers: names, layouts, epsilons, preprocessing.

Convolution kernels are transposed from (out, in, height, width) to (height, width, in, out), dense
kernels from (out, in) to (in, out); dense kernels after flattened maps are also permuted from
(channel, height, width) to (height, width, channel). If the epsilon of our batch normalization is
another one, the difference is added to the moving variance.
"""

from __future__ import annotations

import math
import re

from zoo.errors import UsageError
from zoo.lazy import keras, np
from zoo.weights import formats, torch_names

TENSOR_ORDER = ("weight", "bias", "running_mean", "running_var")  # as in `keras.Layer.weights`
IGNORED_TENSORS = ("num_batches_tracked", "n_averaged")  # counts of training steps
# Prefixes of all keys: of `DataParallel`, of `torch.compile`, and of some trainers.
KEY_PREFIXES = ("module.", "_orig_mod.", "model.")

DEFAULT_EPSILON = 1e-5  # of PyTorch's batch normalization
EPSILONS = {"googlenet": 1e-3}  # by family, if it has another one
HEAD_LAYERS = re.compile(r"fc\d?|logits|auxiliary.*")  # may be missing or wider in a file
TORCH_HEAD_MODULES = re.compile(r"(fc|aux\d|classifier|heads?|pre_logits)(\..*)?")

# torchvision's GoogLeNet has `transform_input`, which converts `torch` pixels to `tf` ones.
FAMILY_PREPROCESSING = {"googlenet": "tf"}


class UnknownStateDictError(UsageError):
    """A PyTorch state dict is not of a network that can be converted.

    Args:
        message: what is wrong.
        tensors: arrays by their PyTorch keys, used to find the most similar network.
        advice: the end of the message.
    """

    def __init__(self, message, tensors, advice=""):
        super().__init__(f"{message}{advice}")
        self.message, self.tensors, self.advice = message, tensors, advice


def convert_state_dict(entries, layers, path):
    """Converts the entries of a PyTorch state dict to the names and layouts of Keras layers.

    Args:
        entries: the entries of a file, from `formats.read`.
        layers: the layers with weights of the model, in order.
        path: the file, for messages.

    Returns:
        A list of entries, unchanged if the file is not of PyTorch. Tensors that match no layer
        keep their names and come last.

    Raises:
        UsageError: there is no name table for the network, or it is another network than the
            model; the message names that network if it is known.
    """
    if not entries or entries[0].kind != formats.TORCH_TENSOR:
        return entries
    tensors = _strip_prefixes({entry.name: entry.arrays[0] for entry in entries})
    family = torch_names.detect_family(tensors)
    if family is None:
        raise UnknownStateDictError(
            f"{path} is a PyTorch state dict of a family that cannot be converted",
            tensors,
            f"; supported families: {', '.join(torch_names.NAME_TABLES)}",
        )
    modules = group_by_module(tensors, family)
    names = torch_names.NAME_TABLES[family](layers)
    converted = {
        layer.name: _to_keras_arrays(modules[names[layer.name]], layer, family)
        for layer in layers
        if names.get(layer.name) in modules
    }
    used = {names[name] for name in converted}
    unused = [name for name in modules if name not in used]
    if problem := _mismatch(layers, converted, unused):
        network = torch_names.detect_architecture(family, modules)
        message = f"{path} holds PyTorch weights of another network ({problem})"
        if network:
            raise UsageError(f"{message}: they are of {network}; build that")
        raise UnknownStateDictError(message, tensors)
    return [
        *(formats.Entry(name, formats.TORCH_TENSOR, arrays) for name, arrays in converted.items()),
        *(
            formats.Entry(f"{name}.{part}", formats.TORCH_TENSOR, [array])
            for name in unused
            for part, array in modules[name].items()
        ),
    ]


def infer_preprocessing(source, spec):
    """Returns the preprocessing of a model with the weights of a file.

    PyTorch networks are trained with another preprocessing than many of ours, and a state dict
    does not state it.

    Args:
        source: a weights file, or `None` or `"random"` for the preprocessing of the spec.
        spec: the `Spec` of the model.

    Returns:
        A key of `blocks.PREPROCESSING`.

    Raises:
        UsageError: the tag of the model implies another preprocessing than the file, or that of
            the file is ambiguous.
    """
    if (
        source is None
        or spec.family not in torch_names.NAME_TABLES
        or not formats.is_torch_state_dict(source)
    ):
        return spec.preprocessing
    expected = FAMILY_PREPROCESSING.get(spec.family, "torch")
    if spec.family == "vit" and not _is_torchvision(source):
        if spec.weights is None:
            raise UsageError(
                f"the preprocessing of {source} is ambiguous; with weights=FILE, build "
                f"{spec.name}.deit (standardized pixels) or {spec.name}.augreg (pixels in [-1, 1])"
            )
        return spec.preprocessing
    if spec.weights is not None and spec.preprocessing != expected:
        raise UsageError(
            f"{spec.name} has the preprocessing {spec.preprocessing!r}, the PyTorch weights of "
            f"{source} need {expected!r}; build {spec.architecture} with these weights"
        )
    return expected


def _strip_prefixes(tensors):
    """Removes the prefixes that all keys have."""
    tensors = {name: array for name, array in tensors.items() if name not in IGNORED_TENSORS}
    for wrapper in KEY_PREFIXES:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): array for name, array in tensors.items()}
    return tensors


def group_by_module(tensors, family):
    """Groups tensors by torchvision's module names: `{"layer1.0.bn1": {"weight": ..., ...}}`."""
    modules = {}
    for name, array in tensors.items():
        for pattern, replacement in torch_names.KEY_RENAMES.get(family, ()):
            if re.match(pattern, name):
                name = re.sub(f"^(?:{pattern})", replacement, name)
                break
        module, _, part = name.rpartition(".")
        if part not in IGNORED_TENSORS:
            modules.setdefault(module, {})[part] = array
    return modules


def _to_keras_arrays(module, layer, family):
    """Returns the tensors of a module in the order and layout of a Keras layer's weights."""
    arrays = [module[part] for part in TENSOR_ORDER if part in module]
    if "weight" in module:
        arrays[0] = _to_keras_kernel(module["weight"], layer)
    if "running_var" in module:
        torch_epsilon = EPSILONS.get(family, DEFAULT_EPSILON)
        difference = torch_epsilon - getattr(layer, "epsilon", torch_epsilon)
        arrays[-1] = np.maximum(arrays[-1].astype("float32") + difference, 0)
    return arrays


def _to_keras_kernel(weight, layer):
    """Returns a weight in the layout of Keras."""
    if weight.ndim == 4:
        weight = weight.transpose(2, 3, 1, 0)
        return weight.reshape(-1, weight.shape[-1]) if len(layer.weights[0].shape) == 2 else weight
    if weight.ndim != 2:
        return weight
    shape = tuple(layer.weights[0].shape)
    if len(shape) == 4 and weight.shape[1] == math.prod(shape[:3]):  # a dense layer as convolution
        return weight.reshape(-1, shape[2], *shape[:2]).transpose(2, 3, 1, 0)
    maps = _flattened_shape(layer)
    if maps and weight.shape[1] == maps[0] * maps[1] * maps[2]:
        height, width, channels = maps
        weight = weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
        return weight.reshape(-1, weight.shape[-1])
    return weight.T


def _flattened_shape(layer):
    """Returns (height, width, channels) of the map before the `Flatten` before a layer, if any."""
    [before] = layer._inbound_nodes[0].input_tensors
    operation = before._keras_history.operation
    return operation.input.shape[1:] if isinstance(operation, keras.layers.Flatten) else None


def _mismatch(layers, converted, unused):
    """Returns the first difference between file and model outside the head; `""` if none."""
    problems = [f"it lacks {x.name}" for x in layers if x.name not in converted and not _is_head(x)]
    problems += [
        f"it has the extra module {name}"
        for name in unused
        if not TORCH_HEAD_MODULES.fullmatch(name)
    ]
    problems += [
        f"{layer.name} has {len(converted[layer.name])} tensors in the file and "
        f"{len(layer.weights)} in the model"
        for layer in layers
        if layer.name in converted and len(converted[layer.name]) != len(layer.weights)
    ]
    return problems[0] if problems else ""


def _is_head(layer):
    return HEAD_LAYERS.fullmatch(layer.name) is not None


def _is_torchvision(source):
    return any(entry.name.endswith("conv_proj.weight") for entry in formats.read(source))
