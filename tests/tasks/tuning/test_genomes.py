"""Genomes of architectures: serialization, random genomes, mutation and crossover."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import zoo
from tasks.tuning import genetic_operators, genomes
from zoo import flops as count
from zoo.errors import UsageError

MODELS = list(genomes.MODELS)
SHAPE = (16, 16, 1)


def random_genomes(name, number, seed=0):
    rng = np.random.default_rng(seed)
    return [genetic_operators.random_genome(name, rng) for _ in range(number)]


def genes(value, path=()):
    """Returns the genes of a genome by path, including the lengths of sequences."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        parts = [genes(getattr(value, name), (*path, name)) for name in names]
    elif isinstance(value, tuple):
        parts = [genes(item, (*path, place)) for place, item in enumerate(value)]
        parts.append({(*path, "length"): len(value)})
    else:
        return {path: value}
    return {place: gene for part in parts for place, gene in part.items()}


def without_indices(place):
    return tuple(part for part in place if not isinstance(part, int))


def changed(one, other):
    """Returns the paths at which two genomes differ; of extra items only the length."""
    mine, theirs = genes(one), genes(other)
    return [place for place in mine.keys() & theirs.keys() if mine[place] != theirs[place]]


def built(genome):
    options = genome.options()
    return zoo.build(genomes.model_name(genome), input_shape=SHAPE, num_classes=3, **options)


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


# Genomes


@pytest.mark.parametrize("name", MODELS)
def test_genomes_survive_serialisation(name):
    for genome in random_genomes(name, 50):
        text = genomes.to_model_options(genome, {"hidden_dropout": 0.25})
        assert genomes.from_model_options(name, text) == genome
        assert "hidden_dropout: 0.25" in text
        assert "\n" not in text
        assert genomes.model_name(genome) == name


@pytest.mark.parametrize("name", MODELS)
def test_genomes_can_be_built_at_the_counted_cost(name):
    for genome in random_genomes(name, 2):
        model = built(genome)
        text = genomes.to_model_options(genome)
        assert genomes.model_cost(name, text, SHAPE, 3) == count.count_params_and_flops(model)
        assert model(np.zeros((2, *SHAPE))).shape == (2, 3)


@pytest.mark.parametrize("name", MODELS)
def test_cost_of_all_genomes_is_counted(name):
    for genome in random_genomes(name, 8, seed=1):
        parameters, flops = genomes.model_cost(name, genomes.to_model_options(genome), SHAPE, 3)
        assert parameters > 0
        assert flops > 0


def test_model_without_genome_class_is_rejected():
    with pytest.raises(UsageError, match="no model that can evolve named 'vgg16'"):
        genomes.genome_class("vgg16")


# Genetic operators


@pytest.mark.parametrize("name", MODELS)
def test_random_genomes_cover_all_values_of_all_genes(name):
    seen = {}
    for genome in random_genomes(name, 400):
        for place, value in genes(genome).items():
            seen.setdefault(without_indices(place), set()).add(value)
    cls = genomes.genome_class(name)
    for field in dataclasses.fields(cls):
        about = field.metadata
        if "item" in about:
            assert seen[field.name, "length"] == {
                *range(about["min_items"], about["max_items"] + 1)
            }
            for inner in dataclasses.fields(about["item"]):
                assert seen[field.name, inner.name] == set(inner.metadata["values"])
        else:
            assert seen[(field.name,)] == set(about["values"])


@pytest.mark.parametrize("name", MODELS)
def test_mutation_changes_one_gene(name):
    rng = np.random.default_rng(2)
    paths, known = set(), set()
    for genome in random_genomes(name, 300):
        child = genetic_operators.mutate(genome, rng)
        different = changed(genome, child)
        assert len(different) == 1, (genome, child)
        assert child.effective_options() != genome.effective_options()
        place = different[0]
        if place[-1] in ("width", "depth", "kernel"):
            values = {"depth": (1, 2, 3), "kernel": (3, 5, 7)}.get(place[-1])
            values = values or (genomes.WIDTHS if place[0] == "blocks" else genomes.UNITS)
            steps = [values.index(genes(one)[place]) for one in (genome, child)]
            assert abs(steps[0] - steps[1]) == 1
        elif place[-1] == "length":
            lengths = [genes(one)[place] for one in (genome, child)]
            assert abs(lengths[0] - lengths[1]) == 1
        paths.add(without_indices(place))
        known |= set(map(without_indices, genes(genome)))
    assert paths == known


@pytest.mark.parametrize("name", MODELS)
def test_neighbours_are_valid_genomes(name):
    for genome in random_genomes(name, 20):
        for others in genetic_operators.neighbours(genome).values():
            for other in others:
                assert genomes.from_model_options(name, genomes.to_model_options(other)) == other
                for field in dataclasses.fields(other):
                    size = len(getattr(other, field.name)) if "item" in field.metadata else 0
                    assert not size or size <= field.metadata["max_items"]
                    if "item" in field.metadata:
                        assert size >= field.metadata["min_items"]


@pytest.mark.parametrize("name", MODELS)
def test_genomes_shrink_step_by_step(name):
    rng = np.random.default_rng(8)
    for genome in random_genomes(name, 10):
        lengths = []
        while smaller := genetic_operators.shrink(genome, rng):
            (place,) = changed(genome, smaller)
            assert genes(smaller)[place] < genes(genome)[place]
            lengths.append(place[-1] == "length")
            genome = smaller
        assert lengths == sorted(lengths), "items go when numbers cannot"
        low = {"width": 8 if name == "convnet" else 16, "depth": 1, "kernel": 3}
        found = genes(genome)
        assert all(value == low[place[-1]] for place, value in found.items() if place[-1] in low)
        assert sum(value for place, value in found.items() if place[-1] == "length") == 1


def test_ineffective_skip_is_not_a_mutation():
    hidden = (genomes.DenseLayer(32), genomes.DenseLayer(64))
    genome = genomes.MLP(hidden, "none", "relu", False)
    assert "skip" not in genetic_operators.neighbours(genome)
    alike = dataclasses.replace(genome, hidden=hidden[:1] * 2)
    assert [one.skip for one in genetic_operators.neighbours(alike)["skip"]] == [True]


@pytest.mark.parametrize("name", MODELS)
def test_crossover_combines_genes_of_both_parents(name):
    rng = np.random.default_rng(3)
    pairs = zip(random_genomes(name, 200, seed=4), random_genomes(name, 200, seed=5), strict=True)
    for one, other in pairs:
        if len(changed(one, other)) < 2:
            continue
        child = genetic_operators.crossover(one, other, rng)
        assert child.effective_options() not in (one.effective_options(), other.effective_options())
        for place, value in genes(child).items():
            assert value in (genes(one).get(place), genes(other).get(place))
        assert changed(child, one), "nothing of the other"
        assert changed(child, other), "nothing of the one"


def test_crossover_needs_two_differences_and_one_class():
    rng = np.random.default_rng(6)
    genome = random_genomes("convnet", 1)[0]
    assert genetic_operators.crossover(genome, genome, rng) is None
    assert (
        genetic_operators.crossover(genome, genetic_operators.mutate(genome, rng, "norm"), rng)
        is None
    )
    assert genetic_operators.crossover(genome, random_genomes("mlp", 1)[0], rng) is None


def test_operators_are_deterministic():
    def life(seed):
        rng = np.random.default_rng(seed)
        one, other = (genetic_operators.random_genome("convnet", rng) for _ in range(2))
        return [
            one,
            other,
            genetic_operators.mutate(one, rng),
            genetic_operators.crossover(one, other, rng),
        ]

    assert life(7) == life(7) != life(8)


# Options of the networks


def test_default_networks_are_unchanged():
    model = zoo.build("convnet")
    assert count.count_params_and_flops(model) == (814_250, 59_308_032)
    names = [layer.name for layer in model.layers if layer.weights]
    convs = [f"block{block}_conv{index}" for block in (1, 2, 3) for index in (1, 2)]
    hidden = ["hidden1", "hidden1_bn", "logits"]
    assert names == [name + end for name in convs for end in ("", "_bn")] + hidden
    model = zoo.build("mlp")
    assert count.count_params_and_flops(model) == (108_210, 215_600)
    assert [x.name for x in model.layers if x.weights] == ["hidden1", "hidden2", "logits"]


def test_kernel_size_and_pooling_per_block():
    options = {"depths": (1, 2), "widths": (4, 6), "hidden": ()}
    model = zoo.build("convnet", kernel_size=(3, 5), pooling=("max", "average"), **options)
    convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.kernel_size[0] for layer in convs] == [3, 5, 5]
    assert [kind for kind in kinds(model) if "Pool" in kind] == [
        "MaxPooling2D",
        "AveragePooling2D",
    ]


def test_skip_adds_the_input_of_a_block():
    options = {"depths": (1, 2), "widths": (4, 4), "norm": "none", "activation": "linear"}
    model = zoo.build("convnet", skip=(False, True), hidden=(), **options)
    assert [x.name for x in model.layers if "skip" in x.name] == ["block2_skip_add"]
    model.get_layer("block2_conv2").set_weights([np.zeros((3, 3, 4, 4)), np.zeros(4)])
    entry = keras.Model(model.input, model.get_layer("block1_dropout").output)
    end = keras.Model(model.input, model.get_layer("block2_conv2_activation").output)
    image = np.random.default_rng(0).normal(size=(1, 28, 28, 1))
    np.testing.assert_array_equal(entry(image), end(image))


def test_skip_is_a_convolution_if_channels_differ():
    model = zoo.build("convnet", depths=(2,), widths=(4,), skip=True, hidden=())
    assert model.get_layer("block1_skip").kernel.shape == (1, 1, 1, 4)


def test_skip_between_hidden_layers_of_one_width():
    model = zoo.build("mlp", widths=(8, 8, 4), skip=True)
    assert kinds(model).count("Add") == 1
    without = zoo.build("mlp", widths=(8, 8, 4))
    assert count.count_params_and_flops(model) == count.count_params_and_flops(without)


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("layer", "LayerNormalization"), ("group", "GroupNormalization"), ("none", None)],
)
@pytest.mark.parametrize(
    ("name", "options"),
    [("convnet", {"depths": (1,), "widths": (12,), "hidden": (6,)}), ("mlp", {"widths": (12, 6)})],
)
def test_normalisation_layers(name, options, norm, kind):
    model = zoo.build(name, norm=norm, **options)
    found = [layer for layer in model.layers if "Normalization" in type(layer).__name__]
    found = [layer for layer in found if layer.name != "pixels"]
    assert [type(layer).__name__ for layer in found] == ([kind] * 2 if kind else [])
    assert model.get_layer("hidden1").use_bias == (norm == "none")
    if norm == "group":
        assert [layer.groups for layer in found] == [4, 2]  # of 12 and 6, at most 8


ERRORS = [
    ({"kernel_size": (3, 3)}, r"needs a kernel_size for each depth; .*kernel_size=\(3, 3\)"),
    ({"skip": [True]}, r"needs a skip for each depth; .*depths=\(2, 2, 2\), skip=\(True,\)"),
    ({"pooling": ("max", "most", "max")}, "no pooling named 'most'; .*max"),
    ({"norm": "instance"}, "no normalization named 'instance'"),
]


@pytest.mark.parametrize(("options", "message"), ERRORS)
def test_invalid_options_of_convnet_are_rejected(options, message):
    with pytest.raises(UsageError, match=message):
        zoo.build("convnet", **options)


def test_invalid_normalisation_of_mlp_is_rejected():
    with pytest.raises(UsageError, match="no normalization named 'instance'"):
        zoo.build("mlp", norm="instance")
