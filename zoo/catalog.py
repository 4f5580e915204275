"""The catalogue of models: how one is declared and looked up."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zoo import arguments
from zoo.errors import UsageError
from zoo.registry import Registry
from zoo.weights import Weights

models = Registry("model", package="zoo.models")

RANDOM = "random"


@dataclass(frozen=True)
class Spec:
    """Everything known about a model before it is built.

    Attributes:
        name: `architecture`, or `architecture.tag` where pretrained weights belong to it.
        family: the file's builder, such as `resnet`.
        kind: what it does, such as `classifier` (image to logits) or `segmenter` (image to the
            logits of each pixel); every kind has a contract of its own.
        paper: link to the publication that the numbers were taken from.
        builder: function from a symbolic input to endpoints.
        options: the builder's options that make this variant.
        input_shape: `(height, width, channels)` when the caller gives none.
        min_size: smallest height and width that it accepts, in pixels: what can be built, and
            not less than the stride of the last stage.
        stages: names of the feature pyramid's levels; `stageN` has stride `2**N`.
        preprocessing: what its first layer does to pixels, a key of `blocks.PREPROCESSING`.
        parameters: trainable parameters at `input_shape`, with the default head.
        flops: 2 x multiply-adds of convolutions and dense layers for one such input.
        weights: facts about the pretrained weights, or `None` for random ones.
        auxiliary: endpoints that train with the logits and are gone at inference, such as
            GoogLeNet's: their names and the factors of their losses.
        inputs: endpoints that are inputs besides the first, such as an R-CNN's proposals.
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
    def architecture(self):
        """The name without its weights tag."""
        return self.name.partition(".")[0]

    @property
    def first(self):
        """What the first input is called beside others, such as `image`: as the builder has it."""
        return next(iter(inspect.signature(self.builder).parameters))

    @property
    def num_classes(self):
        """Classes that it tells apart when the caller does not say, or `None`."""
        if "num_classes" in self.options:
            return self.options["num_classes"]
        parameter = inspect.signature(self.builder).parameters.get("num_classes")
        return parameter.default if parameter else None

    def validate_input_shape(self, shape=None):
        """Returns `shape`, or the default for `None`, if the model can be built with it.

        Raises:
            UsageError: it has another rank, or is smaller than `min_size`.
        """
        shape = self.input_shape if shape is None else shape
        if not isinstance(shape, list | tuple) or len(shape) != len(self.input_shape):
            axes = "height, width, channels" if len(self.input_shape) > 1 else "features,"
            raise UsageError(
                f"{self.name} takes input_shape ({axes}), not {arguments.short_repr(shape)}"
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


def names(pattern="*", *, kind=None, family=None, weights=None):
    """Returns the names of the models that fit.

    Args:
        pattern: a shell pattern such as `resnet*`; a word without `*` may stand anywhere.
        kind: only this kind, such as `classifier`.
        family: only this family, such as `vgg`.
        weights: only names with this tag, such as `imagenet`; `True` for any tag, `False` for none.
    """
    if not isinstance(pattern, str):
        raise UsageError(f"a pattern of names must be text, not {arguments.short_repr(pattern)}")
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"

    def fits(spec):
        tag = spec.name.partition(".")[2]
        return (
            fnmatch.fnmatchcase(spec.name, pattern)
            and kind in (None, spec.kind)
            and family in (None, spec.family)
            and (weights is None or weights == (bool(tag) if isinstance(weights, bool) else tag))
        )

    return [name for name in models.names() if fits(models.get(name))]


def spec(name):
    """Returns the `Spec` of the model called `name`; raises `UsageError` if there is none."""
    return models.get(name)


def register(
    variants,
    *,
    input_shape,
    paper,
    kind="classifier",
    family=None,
    min_size=1,
    stages=(),
    preprocessing="tf",
    counts=None,
    weights=None,
    auxiliary=None,
    inputs=(),
):
    """Enters a family of models in the catalogue.

    Args:
        variants: the paper's table of architectures: model name to the builder
            options that set it apart.
        input_shape: `(height, width, channels)` used when the caller gives none.
        paper: link to the publication the numbers were taken from.
        kind: what the models do, such as `"classifier"` (image to logits).
        family: what the variants are called together; the builder's name by default.
        min_size: smallest height and width that they accept.
        stages: the levels N of the `stageN` endpoints, such as `range(1, 6)`.
        preprocessing: a key of `blocks.PREPROCESSING`; what the builder's input has undergone.
        counts: model name to its trainable parameters and FLOPs.
        weights: model name to its tags, each a `Weights`; adds the names `model.tag`.
        auxiliary: names of endpoints that the builder adds before the last one when it is called
            with `auxiliary=True`, and the factors of their losses in training.
        inputs: names of endpoints that the builder may make with `keras.Input`: the model then
            takes a dict of these and of the builder's first argument, by its name.

    Returns:
        A decorator for a builder. A builder takes the preprocessed symbolic input and returns
        its endpoints, an ordered dict of named tensors: a tensor under `stageN` has stride
        `2**N`, and the last entry is the model's output. Called with `num_classes=None` it
        returns the stages only.

    Example:
        >>> @zoo.register({"tiny": {}}, input_shape=(32, 32, 3), paper="https://example.org")
        ... def tiny(image, num_classes=10):
        ...     x = keras.layers.Flatten()(image)
        ...     return {"logits": keras.layers.Dense(num_classes, name="logits")(x)}
    """

    def decorate(builder):
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
                models.add(f"{name}.{tag}", with_weights(plain, tag, facts), builder.__module__)
        return builder

    return decorate


def with_weights(plain, tag, facts):
    """Returns the spec of `plain` with the facts of pretrained weights"""
    return dataclasses.replace(
        plain,
        name=f"{plain.name}.{tag}",
        weights=facts,
        preprocessing=facts.preprocessing or plain.preprocessing,
        input_shape=facts.input_shape or plain.input_shape,
        options={**plain.options, "num_classes": facts.num_classes},
    )
