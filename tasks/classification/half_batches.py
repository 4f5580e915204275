"""Computes the halves of a batch in parallel, so that a tiny network keeps two cores busy."""

from __future__ import annotations

from tasks.distributed import devices, replicas
from tasks.engine import finetune
from zoo.lazy import keras


def parallel_half_batches(model, size, flops):
    """Returns a model with shared weights that computes the two halves of a batch in parallel.

    The operations of a tiny network are too short to be split over cores, but two independent
    operations can run at the same time. Gradients equal those of the whole batch, summed in
    another order.

    Args:
        model: A `keras.Model` from images to one output tensor.
        size: The batch size.
        flops: FLOPs of the model for one image; 0 if unknown.

    Returns:
        The new model, or `model` itself where nothing is gained or training would change: odd
        batch sizes, several outputs or replicas, larger networks, trainable batch normalization.
    """
    unsupported = size % 2 or isinstance(model.output, dict) or replicas.is_multi_replica()
    if unsupported or not devices.is_tiny(flops * size) or not devices.runs_ops_concurrently():
        return model
    if any(norm.trainable for norm in finetune.batch_norm_layers(model)):
        return model
    images = keras.Input(batch_shape=(size, *model.input_shape[1:]), dtype=model.inputs[0].dtype)
    outputs = [model(half) for half in keras.ops.split(images, 2)]
    return keras.Model(images, keras.ops.concatenate(outputs), name=model.name)
