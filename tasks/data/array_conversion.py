"""Arrays and tensors of any library as NumPy arrays."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import np

CHANNELS = (1, 2, 3, 4)  # of images whose channels come first, as PyTorch's do


def images_to_array(images):
    """Returns images as an array; PyTorch's with the channels last."""
    array = to_array(images)
    if _is_torch(images) and array.ndim == 4 and array.shape[1] in CHANNELS:
        return array if array.shape[-1] in CHANNELS else array.transpose(0, 2, 3, 1)
    return array


def to_array(values):
    """Returns values as an array; bfloat16, which NumPy lacks, as float32.

    Raises:
        UsageError: Their shapes differ.
    """
    try:
        if _is_torch(values):
            values = values.detach().cpu()
            values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
        array = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"images or labels of different shapes: {error}") from error
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _is_torch(values):
    return type(values).__module__.startswith("torch")
