"""Genetic operators: random genomes, mutation and crossover.

All are functions of genomes (see `tasks.tuning.genomes`) and a `numpy.random.Generator`.
"""

from __future__ import annotations

import dataclasses

from tasks.tuning import genomes

MAX_CROSSOVER_ATTEMPTS = 50  # to find a child that differs from both parents


def random_genome(name, rng):
    """Returns a random genome of a model, each gene uniformly distributed."""
    return _sample(genomes.genome_class(name), rng)


def mutate(genome, rng, gene=None):
    """Returns a genome with one mutation, of the given gene or of a random one."""
    found = neighbours(genome)
    return _choice(found[gene or _choice([*found], rng)], rng)


def neighbours(genome):
    """Returns all genomes that are one mutation away, as `{gene: [genome, ...]}`.

    An ordinal gene moves one step up or down, another gene to any other value; a sequence loses
    its last item, or gets a copy of it. Mutations that do not change the network are left out.
    """
    known, found = genome.effective_options(), {}
    for name, other in _mutations(genome):
        if other.effective_options() != known:
            found.setdefault(name, []).append(other)
    return found


def shrink(genome, rng):
    """Returns a smaller genome: a random ordinal gene one step lower, else one item less.

    Returns:
        The genome, or `None` if there is no smaller one.
    """
    found = [(_size(other), other) for others in neighbours(genome).values() for other in others]
    items, steps = _size(genome)
    lower = [other for size, other in found if size[0] == items and size[1] < steps]
    smaller = lower or [other for size, other in found if size[0] < items]
    return _choice(smaller, rng) if smaller else None


def crossover(one, other, rng):
    """Returns a uniform crossover of two genomes: each gene comes from either parent.

    Items of sequences are inherited as a whole, by position; their number is a gene, too.

    Returns:
        The child, or `None` if no child differs from both parents, as when these differ in one
        gene only.
    """
    if type(one) is not type(other):
        return None
    parents = one.effective_options(), other.effective_options()
    children = (_recombine(one, other, rng) for _ in range(MAX_CROSSOVER_ATTEMPTS))
    return next((child for child in children if child.effective_options() not in parents), None)


def _sample(cls, rng):
    values = []
    for field in dataclasses.fields(cls):
        metadata = field.metadata
        if "item" in metadata:
            size = int(rng.integers(metadata["min_items"], metadata["max_items"] + 1))
            values.append(tuple(_sample(metadata["item"], rng) for _ in range(size)))
        else:
            values.append(_choice(metadata["values"], rng))
    return cls(*values)


def _mutations(genome):
    """Yields the name of a gene and a genome with another value of it, for all mutations."""
    for field in dataclasses.fields(genome):
        name, value, metadata = field.name, getattr(genome, field.name), field.metadata
        for inner, other in (_sequence_mutations if "item" in metadata else _value_mutations)(
            value, metadata
        ):
            yield name + inner, dataclasses.replace(genome, **{name: other})


def _value_mutations(value, metadata):
    values = metadata["values"]
    position = values.index(value)
    steps = (position - 1, position + 1) if metadata["ordinal"] else range(len(values))
    return [("", values[step]) for step in steps if step != position and 0 <= step < len(values)]


def _sequence_mutations(items, metadata):
    if len(items) > metadata["min_items"]:
        yield "", items[:-1]
    if len(items) < metadata["max_items"]:
        yield "", (*items, items[-1] if items else _median_genome(metadata["item"]))
    for position, item in enumerate(items):
        for name, other in _mutations(item):
            yield f".{name}", (*items[:position], other, *items[position + 1 :])


def _size(genome):
    """Returns the number of items of a genome, and the sum of steps of its ordinal genes.

    Genes of items count, too.
    """
    items = steps = 0
    for field in dataclasses.fields(genome):
        value, metadata = getattr(genome, field.name), field.metadata
        if "item" in metadata:
            items += len(value)
            steps += sum(_size(item)[1] for item in value)
        elif metadata["ordinal"]:
            steps += metadata["values"].index(value)
    return items, steps


def _median_genome(cls):
    """Returns the genome whose genes have the median of their values."""
    ranges = [field.metadata["values"] for field in dataclasses.fields(cls)]
    return cls(*(values[len(values) // 2] for values in ranges))


def _recombine(one, other, rng):
    values = []
    for field in dataclasses.fields(one):
        pair = getattr(one, field.name), getattr(other, field.name)
        taken = _choice(pair, rng)
        if "item" in field.metadata:
            long, short = sorted(pair, key=len, reverse=True)
            both = [_choice(items, rng) for items in zip(*pair, strict=False)]
            taken = (*both, *long[len(short) :])[: len(taken)]
        values.append(taken)
    return type(one)(*values)


def _choice(values, rng):
    return values[int(rng.integers(len(values)))]
