"""Inputs, weights and errors for tests that compare networks."""

import keras
import numpy as np

import zoo

EAGER = keras.config.backend() == "tensorflow"  # where tracing a graph takes longer than eager ops


def pixels(shape, seed=0):
    """Returns random pixels, float32 in [0, 255]."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


def run(model, x, **kwargs):
    """Returns the output of a model or layer as a NumPy array."""
    return keras.ops.convert_to_numpy(model(x, **kwargs))


def outline(name, make=zoo.build, **options):
    """Builds a model without allocating weights, which takes a tenth of the time and no memory."""
    with keras.StatelessScope(initialize_variables=False):
        return make(name, **{"weights": "random", **options})


def copied(layer):
    """Returns a layer after serialization and deserialization."""
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))


def relative_error(a, b):
    """Returns the largest absolute difference, divided by the largest absolute value."""
    return np.abs(np.asarray(a, "float64") - b).max() / np.abs(b).max()


def randomized(model, seed=0):
    """Gives random values to weights that are zero and to the statistics of batch normalization."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.3, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
        for weight in layer.trainable_weights:
            if not keras.ops.convert_to_numpy(weight).any():
                weight.assign(rng.normal(0, 0.1, weight.shape))
    return model
