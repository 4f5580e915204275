"""Finds the model of the zoo that is most similar to a PyTorch state dict, for error messages."""

from __future__ import annotations

import math

from zoo import graphs
from zoo.catalog import RANDOM, models
from zoo.graphs import HEAD_LAYER
from zoo.lazy import keras
from zoo.weights import torch_conversion, torch_names

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # not trainable
MAX_CANDIDATES = 3  # models whose names and shapes are compared
MAX_SIZE_RATIO = 1.1  # between numbers of trainable parameters


def describe_nearest(tensors, build):
    """Returns the part of a message that names the most similar model; `""` if there is none.

    Models are ranked by the number of parameters, which their specs state. The closest of them
    that have a table of PyTorch names are built without values, to compare names and shapes.

    Args:
        tensors: arrays by their PyTorch keys.
        build: `zoo.build`; an argument because it imports this module.
    """
    candidates = _candidates_by_size(tensors)[:MAX_CANDIDATES]
    scores = {name: _matched_fraction(name, tensors, build) for name in candidates}
    best = max(candidates, key=lambda name: scores[name], default=None)
    if best is None:
        return ""
    if scores[best]:
        return f"the most similar model is {best}: {scores[best]:.0%} of its layers match"
    return f"{best} has about as many parameters"


def _candidates_by_size(tensors):
    """Returns the names of models with a similar number of parameters, the closest first."""
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
        if heads:  # correct for another number of classes
            size += (classes - heads[-1][0]) * (heads[-1][1] + 1)
        if size > 0:
            gaps[name] = abs(math.log(size / spec.parameters))
    return sorted((name for name in gaps if gaps[name] < math.log(MAX_SIZE_RATIO)), key=gaps.get)


def _matched_fraction(name, tensors, build):
    """Returns the fraction of a model's layers, except the head, that tensors match."""
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
    matches = [
        sorted(math.prod(x.shape) for x in layer.weights)
        == sorted(math.prod(x.shape) for x in modules[names[layer.name]].values())
        for layer in layers
        if names.get(layer.name) in modules
    ]
    return sum(matches) / max(len(layers), len(modules) - 1)
