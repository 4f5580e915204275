"""Small examples of layers, of the zoo and of Keras, for gradient checks."""

from __future__ import annotations

import zoo
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np

VECTORS, SEQUENCES, MAPS, VOLUMES = (3, 4), (2, 6, 4), (2, 6, 6, 4), (2, 4, 4, 4, 2)
KERNEL, UNITS, HEADS = {"kernel_size": 2}, {"units": 3}, {"num_heads": 2, "key_dim": 3}
TABLE = {"input_dim": 5, "output_dim": 3}
WINDOW = {"filters": 3, "kernel_size": 2}
REGIONS = [[[2, 3, 19, 14], [0, 5, 9, 22]], [[4, 4, 12, 12], [11, 1, 23, 20]]]  # pixels


def _tokens(rng):
    return rng.integers(0, 5, (2, 4))


# Of each layer: its arguments, or a function that returns them, and its inputs. These are the shape
# of an array of random numbers; a list of shapes; a tuple of shapes, for several arguments of the
# call; or a function of a random generator that returns the arrays.
ZOO = {
    "AbsorbedConv2D": (
        lambda: {
            "conv": keras.layers.Conv2D(**WINDOW),
            "norm": keras.layers.BatchNormalization(
                gamma_initializer=keras.initializers.RandomUniform(0.5, 2),
                moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2),
                trainable=False,
            ),
        },
        MAPS,
    ),
    "ArgmaxPooling2D": ({}, MAPS),
    "AttendingLSTM": ({"units": 3, "attention": 2}, ((2, 3, 4), (2, 5, 6))),
    "Canvas": ({}, MAPS),
    "ClassToken": ({}, SEQUENCES),
    "ClipAtInference": ({"low": -1.0, "high": 1.0}, MAPS),
    "CropLike": ({}, [MAPS, (2, 4, 5, 4)]),
    "DilatedPooling2D": ({"pool_size": (2, 2), "dilation_rate": 2}, MAPS),
    "Dueling": ({}, [(3, 1), (3, 5)]),
    "FlattenRegions": ({}, SEQUENCES),
    "LocalResponseNormalization": ({"alpha": 0.1}, MAPS),
    "MaxUnpooling2D": (
        {},
        lambda rng: [rng.normal(size=MAPS), rng.integers(0, 4, MAPS).astype("int8")],
    ),
    "MixChannels": ({"matrix": [[1, 2], [-1, 0], [3, 1], [0, 0.5]]}, MAPS),
    "PaddedShortcut": ({"channels": 7, "strides": 2}, MAPS),
    "PixelNormalization": ({"mean": 127.5, "scale": 127.5}, MAPS),
    "PositionEmbedding": ({}, SEQUENCES),
    "ReflectPadToMultiple2D": ({"multiple": 4, "margin": 1}, MAPS),
    "ReflectionPadding2D": ({}, MAPS),
    "ResizeLike": ({}, [MAPS, (2, 9, 8, 4)]),
    "RoIAlign": (
        {"size": 2, "strides": (4,)},
        lambda rng: ([rng.normal(size=MAPS)], np.array(REGIONS, "float32")),
    ),
    "RoIPool": (
        {"size": 2, "stride": 4},
        lambda rng: (rng.normal(size=MAPS), np.array(REGIONS, "float32")),
    ),
    "SinusoidalPositions": ({}, SEQUENCES),
    "SpectralConv2D": (WINDOW, MAPS),
    "SpectralDense": ({"units": 3}, VECTORS),
    "SpectralEmbedding": (
        {"input_dim": 5, "output_dim": 3},
        lambda rng: rng.integers(0, 5, (2, 4)),
    ),
    "TellingLSTM": ({"units": 3}, ((2, 3, 4), (2, 4))),
    "UnflattenRegions": ({}, ((6, 5), (2, 3, 4))),
}
KERAS = {
    "Activation": ({"activation": "gelu"}, VECTORS),
    **dict.fromkeys(("ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax", "Identity"), ({}, VECTORS)),
    "AdditiveAttention": ({}, [SEQUENCES, (2, 3, 4)]),
    "Attention": ({"use_scale": True}, [SEQUENCES, (2, 3, 4)]),
    "GroupQueryAttention": (
        {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
        (SEQUENCES, (2, 3, 4)),
    ),
    "MultiHeadAttention": (HEADS, (SEQUENCES, (2, 3, 4))),
    **dict.fromkeys(("Conv1D", "Conv1DTranspose", "SeparableConv1D"), (WINDOW, SEQUENCES)),
    **dict.fromkeys(("Conv2D", "Conv2DTranspose", "SeparableConv2D"), (WINDOW, MAPS)),
    **dict.fromkeys(("Conv3D", "Conv3DTranspose"), (WINDOW, VOLUMES)),
    "DepthwiseConv1D": (KERNEL, SEQUENCES),
    "DepthwiseConv2D": (KERNEL, MAPS),
    "Dense": ({"units": 3, "activation": "tanh"}, VECTORS),
    "EinsumDense": ({"equation": "abc,cd->abd", "output_shape": (None, 3)}, SEQUENCES),
    **dict.fromkeys(("Embedding", "ReversibleEmbedding"), (TABLE, _tokens)),
    "Lambda": (lambda: {"function": keras.ops.square}, VECTORS),
    "Masking": ({}, SEQUENCES),
    **dict.fromkeys(
        ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"),
        ({}, [VECTORS, VECTORS]),
    ),
    "Dot": ({"axes": 1}, [VECTORS, VECTORS]),
    **dict.fromkeys(
        ("BatchNormalization", "LayerNormalization", "RMSNormalization", "UnitNormalization"),
        ({}, MAPS),
    ),
    "GroupNormalization": ({"groups": 2}, MAPS),
    "SpectralNormalization": (lambda: {"layer": keras.layers.Dense(3)}, VECTORS),
    **{
        f"{kind}{sides}D": (options, shape)
        for sides, shape in enumerate((SEQUENCES, MAPS, VOLUMES), start=1)
        for kind, options in (
            ("AdaptiveAveragePooling", {"output_size": 2}),
            ("AdaptiveMaxPooling", {"output_size": 2}),
            ("AveragePooling", {"pool_size": 2}),
            ("MaxPooling", {"pool_size": 2}),
            ("SpatialDropout", {"rate": 0.5}),
            *((kind, {}) for kind in ("GlobalAveragePooling", "GlobalMaxPooling", "UpSampling")),
            *((kind, {}) for kind in ("Cropping", "ZeroPadding")),
        )
    },
    **dict.fromkeys(("AlphaDropout", "Dropout", "GaussianDropout"), ({"rate": 0.5}, VECTORS)),
    "GaussianNoise": ({"stddev": 1.0}, VECTORS),
    "ActivityRegularization": ({}, VECTORS),
    "Flatten": ({}, MAPS),
    "Permute": ({"dims": (2, 1)}, SEQUENCES),
    "RepeatVector": ({"n": 3}, VECTORS),
    "Reshape": ({"target_shape": (8, 3)}, SEQUENCES),
    **dict.fromkeys(("GRU", "LSTM", "SimpleRNN"), (UNITS, SEQUENCES)),
    **dict.fromkeys(("GRUCell", "SimpleRNNCell"), (UNITS, (VECTORS, (3, 3)))),
    "LSTMCell": (UNITS, (VECTORS, [(3, 3), (3, 3)])),
    "StackedRNNCells": (
        lambda: {"cells": [keras.layers.GRUCell(3), keras.layers.GRUCell(2)]},
        (VECTORS, [(3, 3), (3, 2)]),
    ),
    "RNN": (lambda: {"cell": keras.layers.LSTMCell(3)}, SEQUENCES),
    "Bidirectional": (lambda: {"layer": keras.layers.LSTM(3)}, SEQUENCES),
    "TimeDistributed": (lambda: {"layer": keras.layers.Dense(3)}, SEQUENCES),
    "ConvLSTM1D": (WINDOW, (2, 3, 5, 2)),
    "ConvLSTM2D": (WINDOW, (2, 3, 4, 4, 2)),
    "ConvLSTM3D": (WINDOW, (2, 2, 3, 3, 3, 2)),
    "Normalization": ({"mean": 1.0, "variance": 4.0}, VECTORS),
    "Rescaling": ({"scale": 2.0}, MAPS),
    "Resizing": ({"height": 4, "width": 9}, MAPS),
    "CenterCrop": ({"height": 4, "width": 3}, MAPS),
    "STFTSpectrogram": (
        {"frame_length": 8, "frame_step": 4, "fft_length": 8, "mode": "real"},
        (2, 24, 1),
    ),
}
# TensorFlow pools volumes in float32 only, which holds the sums of these numbers.
IN_FLOAT32 = ("Average", "Max", "AdaptiveAverage", "AdaptiveMax")
KERAS |= {
    f"{name}Pooling3D": (
        KERAS[f"{name}Pooling3D"][0] | {"dtype": "float32"},
        lambda rng: rng.permutation(256).reshape(VOLUMES) / 256,
    )
    for name in IN_FLOAT32
}
STEPS = {  # of layers that compute in float32: they are linear, or linear within that step
    **dict.fromkeys(("Resizing", "ResizeLike"), 1.0),
    **dict.fromkeys((f"{name}Pooling3D" for name in IN_FLOAT32), 2**-10),
}
WITHOUT_GRADIENT = {  # the reason why a layer is not checked
    "its output is constant": ("Anchors",),
    "it stops gradients, since it selects boxes": ("DecodeDetections", "ProposalLayer"),
    "it is an initializer": ("BilinearInitializer",),
    "it computes in float32 only, and not linearly": ("MelSpectrogram",),
    "it is a base class": ("Layer", "Wrapper", "InputLayer", "Pipeline"),
    "it needs a function of another framework or a SavedModel": (
        *("FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"),
    ),
    "it takes or returns integers or strings": (
        *("CategoryEncoding", "Discretization", "HashedCrossing", "Hashing", "IntegerLookup"),
        *("MaxNumBoundingBoxes", "StringLookup", "TextVectorization"),
    ),
    "it augments images in a data pipeline": (
        *("AugMix", "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "CutMix"),
        *("Equalization", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration"),
        *("RandomColorJitter", "RandomContrast", "RandomCrop", "RandomElasticTransform"),
        *("RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue"),
        *("RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation"),
        *("RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom"),
        *("Solarization",),
    ),
}


def names() -> list[str]:
    """Returns the names of the layers that have an example, those of the zoo first."""
    return [*ZOO, *KERAS]


def example(name: str, seed: int = 0):
    """Returns a small layer that computes in float64, and inputs for it.

    Args:
        name: of a class of `zoo.layers` or `keras.layers`.
        seed: of the inputs.

    Returns:
        The layer, its inputs and a dict of options, as `gradcheck` takes them.

    Raises:
        UsageError: there is no such layer, or it has no gradient.
    """
    for reason, without in WITHOUT_GRADIENT.items():
        if name in without:
            raise UsageError(f"the gradient of {name} cannot be checked: {reason}")
    if name not in names():
        raise unknown_name_error("layer", name, names())
    arguments, inputs = {**KERAS, **ZOO}[name]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        arguments = arguments() if callable(arguments) else arguments
        layer = getattr(zoo.layers if name in ZOO else keras.layers, name)(**arguments)
    finally:
        keras.config.set_dtype_policy(before)
    rng = np.random.default_rng(seed)
    inputs = inputs(rng) if callable(inputs) else _random(inputs, rng)
    return layer, inputs, {"step": STEPS[name]} if name in STEPS else {}


def _random(shape, rng):
    """Returns random numbers in the structure of lists and tuples of shapes."""
    if isinstance(shape[0], int):
        return rng.normal(size=shape)
    return type(shape)(_random(each, rng) for each in shape)
