"""What a task exports: a model with named outputs, and what goes with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zoo.errors import UsageError
from zoo.lazy import keras, np

IMAGE_INPUT = "image"
DEFAULT_SIDE = 128  # of images, in pixels, for a model that takes any size


@dataclass(frozen=True)
class ExportModel:
    """A model that computes what a user wants from it, such as probabilities instead of logits.

    Attributes:
        model: a functional `keras.Model` from one tensor, or a dict of tensors, to a dict of
            tensors. Its input names and output names are those of the exported file.
        metadata: JSON values by key: `task`, `model`, `classes`, `resize` and others. They are
            stored in the file.
        comparisons: by output, how it is compared with that of Keras, one of
            `tasks.inference.comparisons.COMPARISONS`.
        files: texts to write beside the file, by file name, such as a vocabulary.
        show: a line of Python that prints the outputs of one image, `outputs`, for `predict.py`.
        make_inputs: a function of a count that returns inputs by name, for a model that takes no
            images.
        float_layers: names of layers that int8 always leaves in float, such as those that decode
            boxes.
        unsupported: by format, why it cannot hold the model.
        data: the `SplitReader` of the task, or `None` if it has no labeled images.
    """

    model: keras.Model = field(repr=False)
    metadata: Mapping[str, object]
    comparisons: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    show: str = "print({name: value.shape for name, value in outputs.items()})"
    make_inputs: Callable | None = None
    float_layers: tuple[str, ...] = ()
    unsupported: Mapping[str, str] = field(default_factory=dict)
    data: SplitReader | None = None

    @property
    def image_shape(self):
        """`(height, width, channels)` of the images, `None` for a side of any size."""
        return tuple(self.model.inputs[0].shape[1:])

    @property
    def sample_shape(self):
        """`(height, width, channels)` of images to try the model on, also if it takes any size."""
        *sides, channels = self.image_shape
        default = self.metadata.get("size") or [DEFAULT_SIDE] * 2
        return (*(side or own for side, own in zip(sides, default, strict=True)), channels)

    @property
    def takes_images(self):
        """Whether the only input is a batch of images."""
        return self.make_inputs is None


@dataclass(frozen=True)
class SplitReader:
    """Functions that read the images of a run, and evaluate predictions on them.

    Attributes:
        load: function of the `Task` of the run and its name of a data set, which returns the
            `dataset.Source`.
        decode: function of the `Task`, a `dataset.Split` and an `ExportModel` that returns
            `decoding.Examples`, or raises `UsageError` if it has other classes.
        metric: name of the metric that `evaluate` returns.
        evaluate: function of a list of dicts of outputs, one for each batch, and `Examples` that
            returns a function of how often each image is drawn, integers `(rows, images)`, to the
            metric of each row; `None` if quantized models are not evaluated.
    """

    load: Callable
    decode: Callable
    metric: str = ""
    evaluate: Callable | None = None


def with_image_input(model, add_outputs: Callable):
    """Returns a model from one input, `image`, to a dict of named outputs.

    Args:
        model: a `keras.Model` from images to any outputs.
        add_outputs: a function of these outputs that returns a dict of tensors.
    """
    image = keras.Input(tuple(model.inputs[0].shape[1:]), name=IMAGE_INPUT)
    return keras.Model(image, add_outputs(model(image)), name=model.name)


def check_single_input(model, name):
    """Raises `UsageError` if a model, called `name` in the message, has several inputs."""
    if len(model.inputs) != 1:
        names = ", ".join(entry.name for entry in model.inputs)
        raise UsageError(
            f"{name} has {len(model.inputs)} inputs ({names}); only a model with one input, a "
            "batch of images, can be exported"
        )


def as_batches(inputs, size):
    """Yields dicts of at most `size` rows of the arrays in a dict."""
    count = len(next(iter(inputs.values())))
    for start in range(0, count, size):
        yield {name: np.asarray(rows[start : start + size]) for name, rows in inputs.items()}
