"""What a small network would do, by NumPy: to call a graph would take longer than it does."""

from __future__ import annotations

from zoo import graphs
from zoo.lazy import keras, layers, np

MOST_WEIGHTS = 200_000  # of a network that NumPy, on one core, is asked for


def policy(network):
    """Returns a function from frames `(batch, frames, numbers)` to the best actions `(batch,)`.

    Its further arguments are the network's variables, as arrays in their order. It is `None`
    where the network is large, computes in less than float32, or has other layers than are known.
    """
    net, numbers = graphs.checked(network), {id(v): n for n, v in enumerate(network.variables)}
    steps = [_step(node, numbers) for node in graphs.nodes(net) if not node.is_input]
    if None in steps or network.count_params() > MOST_WEIGHTS:
        return None
    first, last = id(net.inputs[0]), id(net.outputs[0])

    def choose(frames, *variables):
        known = {first: frames.reshape(len(frames), -1)}
        for rule, given, made, own in steps:
            known[made] = rule(*[known[x] for x in given], *[variables[n] for n in own])
        return known[last].argmax(axis=1)

    return choose


def _step(node, numbers):
    """Returns the rule of a layer's call, what it takes, what it makes and which variables; `None`
    where there is no rule."""
    layer = node.operation
    rule = _rule(layer)
    if rule is None or layer.compute_dtype != "float32":
        return None
    [made] = node.output_tensors
    given = [id(x) for x in node.input_tensors]
    return rule, given, id(made), [numbers[id(v)] for v in layer.variables]


def _rule(layer):
    if type(layer) is keras.layers.Dense and layer.use_bias:
        return DENSE.get(layer.activation.__name__)
    return _dueling if type(layer) is layers.Dueling else None


def _linear(x, kernel, bias):
    return x @ kernel + bias


def _relu(x, kernel, bias):
    return np.maximum(x @ kernel + bias, 0)


def _dueling(value, advantages):
    return value + advantages - advantages.mean(axis=1, keepdims=True)


DENSE = {"linear": _linear, "relu": _relu}  # by activation
