"""Inputs, weights and distances for tests that compare networks."""

import keras
import numpy as np


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


def distance(a, b):
    """The largest difference, as a share of the largest value."""
    return np.abs(np.asarray(a, "float64") - b).max() / np.abs(b).max()


def shaken(model, seed=0):
    """Gives values to weights that start at zero, and normalisation the statistics of training."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.3, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
        for weight in layer.trainable_weights:
            if not keras.ops.convert_to_numpy(weight).any():
                weight.assign(rng.normal(0, 0.1, weight.shape))
    return model
