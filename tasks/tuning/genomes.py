"""Genomes: structures of `convnet` and `mlp` as values, and what the networks would cost.

A genome is a frozen dataclass whose fields are genes. What a gene may be stands in its field, and
`tasks.tuning.genetic_operators` reads it there: a further gene is a line here, and its place among
the options of the builder.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import zoo
from zoo import flops
from zoo.catalog import RANDOM
from zoo.errors import unknown_name_error
from zoo.lazy import LazyModule, keras

yaml = LazyModule("yaml")

WIDTHS = (8, 16, 32, 64, 128)  # channels; few steps, for few trials
UNITS = (16, 32, 64, 128, 256, 512)
NORMS = ("batch", "layer", "group", "none")
ACTIVATIONS = ("relu", "gelu", "silu", "elu", "tanh")


def gene(*values, ordinal=False):
    """Declares a gene: the values that it may have, and whether it moves one step at a time."""
    return dataclasses.field(metadata={"values": values, "ladder": ordinal})


def sequence_gene(item, min_items, max_items):
    """Declares a gene that is a sequence of small genomes: their class, and how many there are."""
    return dataclasses.field(metadata={"item": item, "least": min_items, "most": max_items})


@dataclasses.dataclass(frozen=True)
class ConvBlock:
    """Convolutions of one resolution, and the pooling after them."""

    depth: int = gene(1, 2, 3, ordinal=True)
    width: int = gene(*WIDTHS, ordinal=True)
    kernel: int = gene(3, 5, 7, ordinal=True)
    skip: bool = gene(False, True)
    pooling: str = gene("max", "average")


@dataclasses.dataclass(frozen=True)
class DenseLayer:
    """A dense layer before the logits."""

    width: int = gene(*UNITS, ordinal=True)


@dataclasses.dataclass(frozen=True)
class ConvNet:
    """The structure of a `convnet`."""

    blocks: tuple[ConvBlock, ...] = sequence_gene(ConvBlock, 1, 4)
    hidden: tuple[DenseLayer, ...] = sequence_gene(DenseLayer, 0, 2)
    norm: str = gene(*NORMS)
    activation: str = gene(*ACTIVATIONS)
    head: str = gene("flatten", "pool")

    def options(self):
        """Returns the options of the builder that mean this structure."""
        return {
            "depths": [block.depth for block in self.blocks],
            "widths": [block.width for block in self.blocks],
            "kernel_size": [block.kernel for block in self.blocks],
            "skip": [block.skip for block in self.blocks],
            "pooling": [block.pooling for block in self.blocks],
            "hidden": [layer.width for layer in self.hidden],
            "norm": self.norm,
            "activation": self.activation,
            "head": self.head,
        }

    def shown(self):
        """Returns the options that the network shows: all."""
        return self.options()

    @classmethod
    def of(cls, options):
        """Returns the genome that `options` were made of."""
        columns = ("depths", "widths", "kernel_size", "skip", "pooling")
        rows = zip(*(options[column] for column in columns), strict=True)
        hidden = tuple(map(DenseLayer, options["hidden"]))
        rest = (options[name] for name in ("norm", "activation", "head"))
        return cls(tuple(itertools.starmap(ConvBlock, rows)), hidden, *rest)


@dataclasses.dataclass(frozen=True)
class MLP:
    """The structure of an `mlp`."""

    hidden: tuple[DenseLayer, ...] = sequence_gene(DenseLayer, 1, 4)
    norm: str = gene(*NORMS)
    activation: str = gene(*ACTIVATIONS)
    skip: bool = gene(False, True)

    def options(self):
        """Returns the options of the builder that mean this structure."""
        widths = [layer.width for layer in self.hidden]
        rest = {"norm": self.norm, "activation": self.activation, "skip": self.skip}
        return {"widths": widths, **rest}

    def shown(self):
        """Returns the options less what the network does not show: a skip with nothing to add."""
        alike = any(one == other for one, other in itertools.pairwise(self.hidden))
        return {**self.options(), "skip": self.skip and alike}

    @classmethod
    def of(cls, options):
        """Returns the genome that `options` were made of."""
        hidden = tuple(map(DenseLayer, options["widths"]))
        return cls(hidden, *(options[name] for name in ("norm", "activation", "skip")))


MODELS = {"convnet": ConvNet, "mlp": MLP}  # what can evolve


def genome_class(name):
    """Returns the class of genomes of the model called `name`.

    Raises:
        UsageError: its structure cannot evolve.
    """
    if name not in MODELS:
        raise unknown_name_error("model whose structure evolves", name, list(MODELS))
    return MODELS[name]


def model_name(genome):
    """Returns the name of the model whose structure a genome is."""
    return next(name for name, cls in MODELS.items() if isinstance(genome, cls))


def to_model_options(genome, fixed=None):
    """Returns the flag `model_options` that a genome means, a line of YAML.

    Args:
        genome: the structure.
        fixed: further options of the builder, such as `{"conv_dropout": 0.0}`.
    """
    options = {**(fixed or {}), **genome.options()}
    text = yaml.safe_dump(options, default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip()


@functools.lru_cache(4096)
def from_model_options(name, text):
    """Returns the genome that the flags `model` and `model_options` of a trial mean."""
    return genome_class(name).of(yaml.safe_load(text))


@functools.lru_cache(4096)
def model_cost(name, text, input_shape, num_classes):
    """Returns the trainable parameters and FLOPs of a model, outlined without values.

    Args:
        name: of the model.
        text: its options, as `written` gives them.
        input_shape: `(height, width, channels)`.
        num_classes: width of its logits.

    Raises:
        UsageError: the model has no such options, or cannot be built of them.
    """
    shape = {"input_shape": input_shape, "num_classes": num_classes}
    with keras.StatelessScope(initialize_variables=False):
        return flops.count_params_and_flops(
            zoo.build(name, weights=RANDOM, **shape, **yaml.safe_load(text))
        )
