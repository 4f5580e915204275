"""How genomes come about: at random, by a mutation, of two others.

Everything is a function of genomes and a `numpy.random.Generator`; `tasks.tuning.genomes`
says what a genome is.
"""

from __future__ import annotations

import dataclasses

from tasks.tuning import genomes

MAX_CROSSOVER_ATTEMPTS = 50  # tries to make a child that has genes of both


def random_genome(name, rng):
    """Returns a random genome of the model called `name`, every gene drawn evenly."""
    return _sample(genomes.genome_class(name), rng)


def mutate(genome, rng, gene=None):
    """Returns a genome that differs in one thing: a gene, or a random one, changed at random."""
    found = neighbours(genome)
    return _choice(found[gene or _choice([*found], rng)], rng)


def neighbours(genome):
    """Returns the genomes that differ in one thing, as `{gene: [genome, ...]}`.

    A gene on a ladder goes one step up or down, another one to any other value; sequences lose
    their last item, or get one more like it. What no network would show is left out.
    """
    known, found = genome.shown(), {}
    for name, other in _mutations(genome):
        if other.shown() != known:
            found.setdefault(name, []).append(other)
    return found


def shrink(genome, rng):
    """Returns a genome with a random number one step lower or, where none can be, an item less.

    Returns:
        The genome, or `None` if there is none smaller.
    """
    found = [(_size(other), other) for others in neighbours(genome).values() for other in others]
    items, steps = _size(genome)
    lower = [other for size, other in found if size[0] == items and size[1] < steps]
    less = lower or [other for size, other in found if size[0] < items]
    return _choice(less, rng) if less else None


def crossover(one, other, rng):
    """Returns a genome with genes of two others, each gene of either at random.

    Items of sequences are taken whole, those at the same place against each other; how many there
    are is a gene, too.

    Returns:
        The child; or `None` if none differs from both, as where they differ in one thing.
    """
    if type(one) is not type(other):
        return None
    parents = one.shown(), other.shown()
    children = (_recombine(one, other, rng) for _ in range(MAX_CROSSOVER_ATTEMPTS))
    return next((child for child in children if child.shown() not in parents), None)


def _sample(cls, rng):
    values = []
    for field in dataclasses.fields(cls):
        metadata = field.metadata
        if "item" in metadata:
            size = int(rng.integers(metadata["least"], metadata["most"] + 1))
            values.append(tuple(_sample(metadata["item"], rng) for _ in range(size)))
        else:
            values.append(_choice(metadata["values"], rng))
    return cls(*values)


def _mutations(genome):
    """Yields the name of a gene and the genome with another value there, for all there are."""
    for field in dataclasses.fields(genome):
        name, value, metadata = field.name, getattr(genome, field.name), field.metadata
        for inner, other in (_sequence_mutations if "item" in metadata else _value_mutations)(
            value, metadata
        ):
            yield name + inner, dataclasses.replace(genome, **{name: other})


def _value_mutations(value, metadata):
    values = metadata["values"]
    place = values.index(value)
    steps = (place - 1, place + 1) if metadata["ladder"] else range(len(values))
    return [("", values[step]) for step in steps if step != place and 0 <= step < len(values)]


def _sequence_mutations(items, metadata):
    if len(items) > metadata["least"]:
        yield "", items[:-1]
    if len(items) < metadata["most"]:
        yield "", (*items, items[-1] if items else _median_genome(metadata["item"]))
    for place, item in enumerate(items):
        for name, other in _mutations(item):
            yield f".{name}", (*items[:place], other, *items[place + 1 :])


def _size(genome):
    """Returns how many items a genome has, and how many steps its numbers are above their lowest.

    Those of items count.
    """
    items = steps = 0
    for field in dataclasses.fields(genome):
        value, metadata = getattr(genome, field.name), field.metadata
        if "item" in metadata:
            items += len(value)
            steps += sum(_size(item)[1] for item in value)
        elif metadata["ladder"]:
            steps += metadata["values"].index(value)
    return items, steps


def _median_genome(cls):
    """Returns the genome whose genes are in the middle of what they may be."""
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
