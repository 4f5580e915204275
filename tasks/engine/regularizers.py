"""L1 and L2 regularization of kernels."""

from __future__ import annotations

from zoo.lazy import keras


def add_kernel_regularization(model, l1, l2):
    """Adds `l1 * sum(|w|) + l2 * sum(w ** 2)` of every trainable kernel to a model's loss."""
    if l1 or l2:
        for weight in model.trainable_weights:
            if "kernel" in weight.name:
                weight.regularizer = keras.regularizers.L1L2(l1, l2)
