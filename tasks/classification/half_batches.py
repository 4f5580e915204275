"""The halves of a batch, computed side by side: what a tiny network keeps two cores busy with."""

from __future__ import annotations

from tasks.distributed import devices, replicas
from tasks.engine import finetune
from zoo.lazy import keras


def parallel_half_batches(model, size, flops):
    """Returns a network of the same weights that computes the halves of a batch apart, or itself.

    The operations of a tiny network are too short to be shared out among cores, but two of them
    run at a time if neither needs the other. Gradients are those of the whole batch, summed in
    another order. A network stays as it is where that gains nothing, or would change what it
    learns, as with batch normalisation.

    Args:
        model: from images to one tensor of answers.
        size: images in a batch.
        flops: of the network for one image; 0 if they are not known.
    """
    unsupported = size % 2 or isinstance(model.output, dict) or replicas.is_multi_replica()
    if unsupported or not devices.is_tiny(flops * size) or not devices.runs_ops_concurrently():
        return model
    if any(norm.trainable for norm in finetune.batch_norm_layers(model)):
        return model
    images = keras.Input(batch_shape=(size, *model.input_shape[1:]), dtype=model.inputs[0].dtype)
    outputs = [model(half) for half in keras.ops.split(images, 2)]
    return keras.Model(images, keras.ops.concatenate(outputs), name=model.name)
