"""The TensorFlow graph of a model, which converters read: one function with named tensors."""

from __future__ import annotations

from tasks.inference.export_model import ExportModel
from zoo.lazy import keras, np, tf

PIXEL_DTYPES = ("uint8", "float32")


def input_dtypes(exported: ExportModel, pixels):
    """Returns the dtype of each input of an exported file by name.

    Args:
        exported: the model.
        pixels: dtype of images, one of `PIXEL_DTYPES`.
    """
    if exported.takes_images:
        return {exported.model.inputs[0].name: pixels}
    return {entry.name: entry.dtype for entry in exported.model.inputs}


def trace(exported: ExportModel, pixels):
    """Returns a concrete function from the inputs of a model to a dict of its outputs.

    Weights are constants, as converters need not handle variables then. The batch size is any.

    Args:
        exported: the model.
        pixels: dtype of images, one of `PIXEL_DTYPES`.
    """
    model = exported.model
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    split = len(model.trainable_variables)
    dtypes = input_dtypes(exported, pixels)

    def predict(*tensors):
        weights = [tf.constant(value) for value in values]
        inputs = [tf.cast(x, entry.dtype) for x, entry in zip(tensors, model.inputs, strict=True)]
        inputs = inputs[0] if len(inputs) == 1 else dict(zip(dtypes, inputs, strict=True))
        found, _ = model.stateless_call(weights[:split], weights[split:], inputs, training=False)
        return {name: tf.identity(value, name=name) for name, value in found.items()}

    specs = [
        tf.TensorSpec((None, *entry.shape[1:]), dtypes[entry.name], entry.name)
        for entry in model.inputs
    ]
    return tf.function(predict, autograph=False).get_concrete_function(*specs)


def keras_outputs(exported: ExportModel, inputs, batch_size=8):
    """Returns the outputs of Keras by name.

    Args:
        exported: the model.
        inputs: arrays by name.
        batch_size: rows at a time.
    """
    model, parts = exported.model, []
    count = len(next(iter(inputs.values())))
    for start in range(0, count, batch_size):
        batch = {name: rows[start : start + batch_size] for name, rows in inputs.items()}
        found = model(batch if len(batch) > 1 else next(iter(batch.values())), training=False)
        parts.append({name: np.asarray(value) for name, value in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
