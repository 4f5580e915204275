"""Which network of the zoo the tensors of a PyTorch state dict look like most."""

from __future__ import annotations

import math

from zoo import graphs
from zoo.catalog import RANDOM, models
from zoo.graphs import HEAD_LAYER
from zoo.lazy import keras
from zoo.weights import torch_conversion, torch_names

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # tensors that do not learn
MAX_CANDIDATES = 3  # networks of about that size that are outlined, to compare names and shapes
MAX_SIZE_RATIO = 1.1  # factor by which the number of parameters may differ


def describe_nearest(tensors, build):
    """Returns words that name the network that tensors look like; `""` if they look like none.

    Networks are sorted by the number of their parameters, which is known without building them.
    Of the nearest few, those with a table of names are outlined, without values, and compared.

    Args:
        tensors: arrays by their names in PyTorch.
        build: `zoo.build`, which imports this module.
    """
    found = _candidates_by_size(tensors)[:MAX_CANDIDATES]
    scores = {name: _matched_fraction(name, tensors, build) for name in found}
    best = max(found, key=lambda name: scores[name], default=None)
    if best is None:
        return ""
    if scores[best]:
        return f"most like {best}, of which {scores[best]:.0%} of the layers fit"
    return f"about as large as {best}"


def _candidates_by_size(tensors):
    """Returns the names of networks of about as many parameters, the nearest first."""
    trainable = {name: x for name, x in tensors.items() if name.rpartition(".")[2] not in BUFFERS}
    trainable = {name: x for name, x in trainable.items() if not name.startswith(("aux", "Aux"))}
    total = sum(math.prod(x.shape) for x in trainable.values())
    heads = [x.shape for x in trainable.values() if len(x.shape) == 2]
    gaps = {}
    for name in models.names():
        spec = models.get(name)
        if spec.weights or spec.kind != "classifier" or not spec.parameters:
            continue
        classes, size = spec.num_classes or 0, total
        if heads:  # as if it had as many classes
            size += (classes - heads[-1][0]) * (heads[-1][1] + 1)
        if size > 0:
            gaps[name] = abs(math.log(size / spec.parameters))
    return sorted((name for name in gaps if gaps[name] < math.log(MAX_SIZE_RATIO)), key=gaps.get)


def _matched_fraction(name, tensors, build):
    """Returns the share of the layers of a network, but for its head, that tensors fit."""
    spec = models.get(name)
    table = torch_names.NAME_TABLES.get(spec.family)
    if table is None:
        return 0
    with keras.StatelessScope(initialize_variables=False):
        model = build(name, weights=RANDOM)
    layers = [
        layer for layer in graphs.leaf_layers(model) if layer.weights and layer.name != HEAD_LAYER
    ]
    names, modules = table(layers), torch_conversion.group_by_module(tensors, spec.family)
    fitting = [
        sorted(math.prod(x.shape) for x in layer.weights)
        == sorted(math.prod(x.shape) for x in modules[names[layer.name]].values())
        for layer in layers
        if names.get(layer.name) in modules
    ]
    return sum(fitting) / max(len(layers), len(modules) - 1)
