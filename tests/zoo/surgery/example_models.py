"""Models, inputs and comparisons for the tests of surgery."""

from __future__ import annotations

import keras
import numpy as np

import zoo

BATCH_NORM = keras.layers.BatchNormalization


def random_images(size=32, channels=3, batch=2, seed=0):
    shape = (batch, size, size, channels)
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def predict(model, x, **kwargs):
    outputs = model(x, **kwargs)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def relative_error(a, b):
    """Returns the largest difference, relative to the largest value."""
    return np.abs(np.asarray(a, "float64") - b).max() / np.abs(b).max()


def output_error(a, b, x):
    """Returns the relative error between the outputs of two models for one input."""
    return relative_error(predict(a, x), predict(b, x))


def randomize_batch_norm(model, seed=0):
    """Sets statistics, scales and shifts as after training; returns the model."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, BATCH_NORM):
            count = layer.moving_mean.shape[0]
            layer.moving_mean.assign(rng.normal(0, 0.3, count))
            layer.moving_variance.assign(rng.uniform(0.5, 2, count))
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1, count))
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.3, count))
    return model


def freeze_batch_norm(model):
    """Freezes the batch normalization of a model; returns the model."""
    for layer in model._flatten_layers():
        if isinstance(layer, BATCH_NORM):
            layer.trainable = False
    return model


def layer_classes(model):
    return {type(layer).__name__ for layer in model.layers}


def layer_names(layers):
    return [layer.name for layer in layers]


def small_resnet(name="resnet20", **options):
    """Returns a ResNet for CIFAR with one block per stage."""
    return zoo.build(name, depths=(1, 1, 1), input_shape=(32, 32, 3), **options)


def separable_network():
    """Returns a network of plain, depthwise and separable convolutions with batch norm."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.ReLU()(BATCH_NORM()(x))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = keras.layers.ReLU()(BATCH_NORM(scale=False)(x))
    x = keras.layers.SeparableConv2D(12, 3, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(BATCH_NORM(center=False)(x))
    return keras.Model(inputs, keras.layers.Dense(7, name="logits")(x), name="separable")


def mobilenet_v2(size=32):
    return keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(size, size, 3), alpha=0.35
    )


def first_and_last_block_of_mobilenet_v2(size=32):
    """Returns the first and last layers of MobileNetV2, narrower, with their names there."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same", use_bias=False, name="Conv1")(inputs)
    x = keras.layers.ReLU(6, name="Conv1_relu")(BATCH_NORM(name="bn_Conv1")(x))
    x = keras.layers.DepthwiseConv2D(3, 2, use_bias=False, name="block_16_depthwise")(x)
    x = keras.layers.ReLU(6)(BATCH_NORM(name="block_16_depthwise_BN")(x))
    x = keras.layers.Conv2D(12, 1, use_bias=False, name="block_16_project")(x)
    x = BATCH_NORM(name="block_16_project_BN")(x)
    x = keras.layers.Conv2D(16, 1, use_bias=False, name="Conv_1")(x)
    x = keras.layers.ReLU(6, name="out_relu")(BATCH_NORM(name="Conv_1_bn")(x))
    return keras.Model(inputs, x, name="base")


def transfer_model(build_base=first_and_last_block_of_mobilenet_v2, size=32):
    """Returns a model as in tutorials: preprocessing, a nested network, a new head."""
    base = build_base(size)
    inputs = keras.Input((size, size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    head = keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(5)], name="head")
    return randomize_batch_norm(keras.Model(inputs, head(x), name="tutorial"))
