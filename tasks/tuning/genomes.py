"""Genomes: architectures of `convnet` and `mlp` as dataclasses, and the cost of their networks.

A genome is a frozen dataclass whose fields are genes. Each field declares the values of its gene,
which `tasks.tuning.genetic_operators` reads. A new gene needs one field here and one entry in
`options`.
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

WIDTHS = (8, 16, 32, 64, 128)  # channels; few values, so that few trials suffice
UNITS = (16, 32, 64, 128, 256, 512)
NORMS = ("batch", "layer", "group", "none")
ACTIVATIONS = ("relu", "gelu", "silu", "elu", "tanh")


def gene(*values, ordinal=False):
    """Declares a gene with its values; an `ordinal` one mutates one step at a time."""
    return dataclasses.field(metadata={"values": values, "ordinal": ordinal})


def sequence_gene(item, min_items, max_items):
    """Declares a gene that is a sequence of `min_items` to `max_items` genomes of a class."""
    return dataclasses.field(
        metadata={"item": item, "min_items": min_items, "max_items": max_items}
    )


@dataclasses.dataclass(frozen=True)
class ConvBlock:
    """Convolutions at one resolution, and the pooling after them."""

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
    """The architecture of a `convnet`."""

    blocks: tuple[ConvBlock, ...] = sequence_gene(ConvBlock, 1, 4)
    hidden: tuple[DenseLayer, ...] = sequence_gene(DenseLayer, 0, 2)
    norm: str = gene(*NORMS)
    activation: str = gene(*ACTIVATIONS)
    head: str = gene("flatten", "pool")

    def options(self):
        """Returns the options of the builder for this architecture."""
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

    def effective_options(self):
        """Returns the options that have an effect on the network: all of them."""
        return self.options()

    @classmethod
    def from_options(cls, options):
        """Returns the genome for options of the builder; the inverse of `options`."""
        columns = ("depths", "widths", "kernel_size", "skip", "pooling")
        rows = zip(*(options[column] for column in columns), strict=True)
        hidden = tuple(map(DenseLayer, options["hidden"]))
        rest = (options[name] for name in ("norm", "activation", "head"))
        return cls(tuple(itertools.starmap(ConvBlock, rows)), hidden, *rest)


@dataclasses.dataclass(frozen=True)
class MLP:
    """The architecture of an `mlp`."""

    hidden: tuple[DenseLayer, ...] = sequence_gene(DenseLayer, 1, 4)
    norm: str = gene(*NORMS)
    activation: str = gene(*ACTIVATIONS)
    skip: bool = gene(False, True)

    def options(self):
        """Returns the options of the builder for this architecture."""
        widths = [layer.width for layer in self.hidden]
        rest = {"norm": self.norm, "activation": self.activation, "skip": self.skip}
        return {"widths": widths, **rest}

    def effective_options(self):
        """Returns the options that have an effect; `skip` needs two neighbors of one width."""
        alike = any(one == other for one, other in itertools.pairwise(self.hidden))
        return {**self.options(), "skip": self.skip and alike}

    @classmethod
    def from_options(cls, options):
        """Returns the genome for options of the builder; the inverse of `options`."""
        hidden = tuple(map(DenseLayer, options["widths"]))
        return cls(hidden, *(options[name] for name in ("norm", "activation", "skip")))


MODELS = {"convnet": ConvNet, "mlp": MLP}  # models whose architecture can evolve


def genome_class(name):
    """Returns the genome class of a model.

    Raises:
        UsageError: the architecture of the model cannot evolve.
    """
    if name not in MODELS:
        raise unknown_name_error("model that can evolve", name, list(MODELS))
    return MODELS[name]


def model_name(genome):
    """Returns the name of the model that a genome describes."""
    return next(name for name, cls in MODELS.items() if isinstance(genome, cls))


def to_model_options(genome, fixed=None):
    """Returns the flag `model_options` for a genome, as one line of YAML.

    Args:
        genome: the genome.
        fixed: further options of the builder, such as `{"conv_dropout": 0.0}`.
    """
    options = {**(fixed or {}), **genome.options()}
    text = yaml.safe_dump(options, default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip()


@functools.lru_cache(4096)
def from_model_options(name, text):
    """Returns the genome for the flags `model` and `model_options` of a trial."""
    return genome_class(name).from_options(yaml.safe_load(text))


@functools.lru_cache(4096)
def model_cost(name, text, input_shape, num_classes):
    """Returns the trainable parameters and FLOPs of a model, built without weight values.

    Args:
        name: name of the model.
        text: its options, as `to_model_options` returns them.
        input_shape: `(height, width, channels)`.
        num_classes: the number of classes.

    Raises:
        UsageError: the model has no such options, or cannot be built with them.
    """
    shape = {"input_shape": input_shape, "num_classes": num_classes}
    with keras.StatelessScope(initialize_variables=False):
        return flops.count_params_and_flops(
            zoo.build(name, weights=RANDOM, **shape, **yaml.safe_load(text))
        )
