"""The catalog of models: registers and looks up their specs."""

import dataclasses
import fnmatch
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from zoo import arguments
from zoo.errors import UsageError
from zoo.registry import Registry
from zoo.weights import Weights

models: "Registry[Spec]" = Registry("model", package="zoo.models")
Builder = TypeVar("Builder", bound=Callable[..., Any])

RANDOM = "random"  # the argument `weights` for random initialization
# The axes of an input shape, by their number.
AXES = {1: "features,", 2: "steps, channels", 3: "height, width, channels"}


@dataclass(frozen=True)
class Spec:
    """The metadata of a model, available without building it.

    Attributes:
        name: `architecture`, or `architecture.tag` for a model with pretrained weights.
        family: name of the builder function, such as `resnet`.
        kind: the kind of model, such as `classifier` (image to logits) or `segmenter` (image to
            logits per pixel). Each kind has its own contract of inputs and outputs.
        paper: URL of the publication that describes the model.
        builder: function from a symbolic input to endpoints.
        options: the builder's options for this variant.
        input_shape: default `(height, width, channels)`, or `(steps, channels)` of a sequence.
        min_size: smallest height and width in pixels that can be built; at least the stride of
            the last stage.
        stages: names of the levels of the feature pyramid; `stageN` has stride `2**N`.
        preprocessing: preprocessing in the first layer, a key of `blocks.PREPROCESSING`.
        parameters: number of trainable parameters with `input_shape` and the default head.
        flops: 2 x multiply-adds of convolutions and dense layers for one input of `input_shape`.
        weights: metadata of the pretrained weights, or `None` for random initialization.
        auxiliary: names of the auxiliary heads, which are used in training only, such as those of
            GoogLeNet, and the weights of their losses.
        inputs: names of further inputs besides the first, such as the proposals of an R-CNN.
    """

    name: str
    family: str
    kind: str
    paper: str
    builder: Callable[..., dict]
    options: Mapping[str, object]
    input_shape: tuple[int, ...]
    min_size: int
    stages: tuple[str, ...]
    preprocessing: str
    parameters: int | None = None
    flops: int | None = None
    weights: Weights | None = None
    auxiliary: Mapping[str, float] = dataclasses.field(default_factory=dict)
    inputs: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """The name without the weights tag."""
        return self.name.partition(".")[0]

    @property
    def first_input(self) -> str:
        """The name of the first input if there are several: the builder's first parameter."""
        return next(iter(inspect.signature(self.builder).parameters))

    @property
    def num_classes(self) -> int | None:
        """The default number of classes, or `None`."""
        if "num_classes" in self.options:
            return self.options["num_classes"]
        parameter = inspect.signature(self.builder).parameters.get("num_classes")
        return parameter.default if parameter else None

    def validate_input_shape(
        self, shape: Sequence[int | None] | None = None
    ) -> tuple[int | None, ...]:
        """Returns a valid input shape: `shape`, or the default for `None`.

        Raises:
            UsageError: the shape has another rank, or is smaller than `min_size`.
        """
        shape = self.input_shape if shape is None else shape
        if not isinstance(shape, list | tuple) or len(shape) != len(self.input_shape):
            axes = AXES[len(self.input_shape)]
            raise UsageError(
                f"{self.name} needs input_shape ({axes}), not {arguments.short_repr(shape)}"
            )
        *sides, channels = shape
        name = f"input_shape of {self.name}"
        sides = [s if s is None else arguments.check_int(s, f"a side in {name}") for s in sides]
        shape = (*sides, arguments.check_int(channels, f"the last number in {name}"))
        if any(side is not None and side < self.min_size for side in shape[:-1]):
            raise UsageError(
                f"{self.name} needs images of {self.min_size} x {self.min_size} pixels or more, "
                f"not {' x '.join(str(side) for side in shape[:-1])}"
            )
        return shape


def names(
    pattern: str = "*",
    *,
    kind: str | None = None,
    family: str | None = None,
    weights: str | bool | None = None,
) -> list[str]:
    """Returns the names of the models that match all filters.

    Args:
        pattern: a shell pattern such as `resnet*`; without wildcards, a substring of the name.
        kind: only this kind, such as `classifier`.
        family: only this family, such as `vgg`.
        weights: only names with this tag, such as `imagenet`; `True` for any tag, `False` for none.

    Raises:
        UsageError: the pattern is not a string.
    """
    if not isinstance(pattern, str):
        raise UsageError(f"a name pattern must be a string, not {arguments.short_repr(pattern)}")
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"

    def matches(spec):
        tag = spec.name.partition(".")[2]
        return (
            fnmatch.fnmatchcase(spec.name, pattern)
            and kind in (None, spec.kind)
            and family in (None, spec.family)
            and (weights is None or weights == (bool(tag) if isinstance(weights, bool) else tag))
        )

    return [name for name in models.names() if matches(models.get(name))]


def spec(name: str) -> Spec:
    """Returns the `Spec` of the model `name`.

    Raises:
        UsageError: there is no such model.
    """
    return models.get(name)


def register(
    variants: Mapping[str, Mapping[str, object]],
    *,
    input_shape: Sequence[int],
    paper: str,
    kind: str = "classifier",
    family: str | None = None,
    min_size: int = 1,
    stages: Iterable[int] = (),
    preprocessing: str = "tf",
    counts: Mapping[str, tuple[int, int]] | None = None,
    weights: Mapping[str, Mapping[str, Weights]] | None = None,
    auxiliary: Mapping[str, float] | None = None,
    inputs: Sequence[str] = (),
) -> Callable[[Builder], Builder]:
    """Registers a family of models in the catalog.

    Args:
        variants: the paper's table of architectures: the builder's options of each variant, by
            model name.
        input_shape: default `(height, width, channels)`.
        paper: URL of the publication that describes the models.
        kind: the kind of model, such as `"classifier"` (image to logits).
        family: name of the family; by default that of the builder.
        min_size: smallest height and width in pixels.
        stages: the levels N of the `stageN` endpoints, such as `range(1, 6)`.
        preprocessing: preprocessing of the builder's input, a key of `blocks.PREPROCESSING`.
        counts: `(trainable parameters, FLOPs)` by model name.
        weights: the `Weights` of each tag, by model name; adds the names `model.tag`.
        auxiliary: names of the auxiliary endpoints that the builder adds before the last one if
            called with `auxiliary=True`, and the weights of their losses.
        inputs: names of endpoints that the builder may create with `keras.Input`. The input of the
            model is then a dict of these and of the builder's first argument, by name.

    Returns:
        A decorator for a builder, a function from the preprocessed symbolic input to its
        endpoints: an ordered dict of named tensors, in which `stageN` has stride `2**N`, and the
        last one is the model's output. With `num_classes=None` it returns the stages only.

    Example:
        >>> @zoo.register({"tiny": {}}, input_shape=(32, 32, 3), paper="https://example.org")
        ... def tiny(image, num_classes=10):
        ...     x = keras.layers.Flatten()(image)
        ...     return {"logits": keras.layers.Dense(num_classes, name="logits")(x)}
    """

    def decorate(builder: Builder) -> Builder:
        for name, options in variants.items():
            plain = Spec(
                name=name,
                family=family or builder.__name__,
                kind=kind,
                paper=paper,
                builder=builder,
                options=options,
                input_shape=tuple(input_shape),
                min_size=min_size,
                stages=tuple(f"stage{level}" for level in stages),
                preprocessing=preprocessing,
                auxiliary=dict(auxiliary or {}),
                inputs=tuple(inputs),
                **dict(zip(("parameters", "flops"), (counts or {}).get(name, ()), strict=False)),
            )
            models.add(name, plain, builder.__module__)
            for tag, facts in (weights or {}).get(name, {}).items():
                models.add(f"{name}.{tag}", _with_weights(plain, tag, facts), builder.__module__)
        return builder

    return decorate


def _with_weights(plain, tag, facts):
    """Returns the spec of `plain` with pretrained weights."""
    return dataclasses.replace(
        plain,
        name=f"{plain.name}.{tag}",
        weights=facts,
        preprocessing=facts.preprocessing or plain.preprocessing,
        input_shape=facts.input_shape or plain.input_shape,
        options={**plain.options, "num_classes": facts.num_classes},
    )
