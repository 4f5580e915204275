"""Architecture search by evolution: selection, population, budgets, inherited weights."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest

import tasks
import zoo
from tasks.data import builder_options
from tasks.engine import callbacks, trainer
from tasks.tuning import engines, genomes, space, weight_inheritance
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError

pytest.importorskip("keras_tuner")

KINDS = {"model": str, "model_options": str, "plan": str, "learning_rate": float}
NO_RANGES = space.SearchSpace({}, KINDS)
TASK = tasks.get("classification")


def evolution(trials=40, seed=0, ranges=NO_RANGES, task=None, **options):
    task = task or TASK(model="convnet")
    return engines.make_oracle("evolution", ranges, trials=trials, seed=seed, task=task, **options)


def start_trial(oracle):
    """Returns the next trial and its flags."""
    trial = oracle.create_trial("one")
    return trial, trial.hyperparameters.values


def end_trial(oracle, trial, score):
    """Ends a trial with a score, or as failed without one."""
    trial.status = "FAILED"
    if score is not None:
        oracle.update_trial(trial.trial_id, {"score": score})
        trial.status = "COMPLETED"
    oracle.end_trial(trial)


def genome(flags):
    return genomes.from_model_options(flags["model"], flags["model_options"])


def fitness(one):
    """A synthetic accuracy of an architecture, with interactions between genes."""
    work = sum(block.depth * math.log2(block.width) for block in one.blocks)
    parts = (
        0.1 * (1 - math.exp(-work / 20)),
        -0.01 * abs(len(one.blocks) - 3),
        {"batch": 0.03, "group": 0.015, "layer": 0.01, "none": 0.0}[one.norm],
        {"relu": 0.02, "gelu": 0.025, "silu": 0.02, "elu": 0.01, "tanh": 0.0}[one.activation],
        np.mean([{3: 0.02, 5: 0.015, 7: 0.0}[block.kernel] for block in one.blocks]),
        0.01 * np.mean([block.skip == (block.depth > 1) for block in one.blocks]),
        -0.01 * abs(len(one.hidden) - 1),
        0.01 * ((one.head == "flatten") == (len(one.blocks) < 3)),
    )
    return 0.7 + float(sum(parts))


def run_trials(oracle, trials, score=fitness):
    """Runs trials to their end; returns the flags and the score of each."""
    found = []
    for _ in range(trials):
        trial, flags = start_trial(oracle)
        found.append((flags, score(genome(flags))))
        end_trial(oracle, trial, found[-1][1])
    return found


# Selection


def test_oldest_individual_dies_not_the_worst():
    oracle = evolution(population=3, random=1.0)
    for score in (0.9, 0.1, 0.5, 0.4):
        end_trial(oracle, start_trial(oracle)[0], score)
    assert [(one.name, one.score) for one in oracle._population()] == [
        ("01", 0.1),
        ("02", 0.5),
        ("03", 0.4),
    ]


def test_parents_win_a_tournament():
    """With a tournament of 3 among 6, the k-th best is a parent with a known probability."""
    oracle = evolution(trials=3000, population=6, tournament=3, random=0.001, crossover=0.0)
    scores = [0.3, 0.5, 0.1, 0.6, 0.2, 0.4]
    for _ in range(3):
        end_trial(oracle, start_trial(oracle)[0], None)  # random genomes, which all fail
    while len(oracle._population()) < 6:
        end_trial(oracle, start_trial(oracle)[0], scores[len(oracle._population())])
    population, rng = oracle._population(), np.random.default_rng(0)
    assert [one.score for one in population] == scores
    draws = [oracle._child(population, rng)[2].score for _ in range(3000)]
    for rank, score in enumerate(sorted(scores)):
        expected = ((rank + 1) ** 3 - rank**3) / 6**3
        assert draws.count(score) / 3000 == pytest.approx(expected, abs=0.03)


def test_random_genomes_precede_children():
    found = run_trials(evolution(trials=20, random=0.25), 20)
    assert ["parent" in flags for flags, _ in found] == [False] * 5 + [True] * 15
    assert not any("parent" in flags for flags, _ in run_trials(evolution(random=1.0), 10))


def test_children_differ_from_their_parent_in_one_gene():
    oracle = evolution(crossover=0.0)
    for flags, _ in run_trials(oracle, 30):
        if "parent" in flags:
            parent = oracle.trials[flags["parent"]].hyperparameters.values
            mine, theirs = genome(flags).options(), genome(parent).options()
            places = [name for name in mine if mine[name] != theirs[name]]
            added = len(mine["widths"]) != len(theirs["widths"])
            assert len(places) == 1 or added, (mine, theirs)


def test_no_architecture_is_tried_twice():
    found = run_trials(evolution(trials=60, population=2, tournament=2), 60)
    texts = [flags["model_options"] for flags, _ in found]
    assert len(set(texts)) == 60


def test_failed_trials_have_no_children():
    oracle = evolution(random=0.1)
    failed = set()
    for number in range(30):
        trial, flags = start_trial(oracle)
        assert flags.get("parent") not in failed
        if number % 3:
            failed.add(trial.trial_id)
        end_trial(oracle, trial, None if number % 3 else 0.5)


def test_trials_may_run_in_parallel():
    oracle = evolution(trials=12, random=0.1)
    first, second = oracle.create_trial("one"), oracle.create_trial("two")
    assert first.trial_id != second.trial_id
    assert "parent" not in second.hyperparameters.values  # the population is empty
    end_trial(oracle, second, 0.4)
    third = oracle.create_trial("two")
    assert third.hyperparameters.values["parent"] == second.trial_id


def test_search_ends_after_its_trials():
    oracle = evolution(trials=3)
    run_trials(oracle, 3)
    assert oracle.create_trial("one").status == "STOPPED"


def test_several_models_evolve():
    found = [
        flags["model"] for flags, _ in run_trials(evolution(models="convnet, mlp"), 40, lambda _: 0)
    ]
    assert set(found) == {"convnet", "mlp"}
    assert {flags["model"] for flags, _ in run_trials(evolution(task=TASK()), 3)} == {"convnet"}


# Resuming


def test_killed_search_resumes_deterministically(tmp_path):
    whole = [flags for flags, _ in run_trials(evolution(), 24)]
    parted = []
    for number in range(24):
        oracle = evolution()
        oracle.save_to(tmp_path)
        trial, flags = start_trial(oracle)
        if number % 2:  # killed during the trial
            oracle = evolution()
            oracle.save_to(tmp_path)
            trial, again = start_trial(oracle)
            assert again == flags
        parted.append(flags)
        end_trial(oracle, trial, fitness(genome(flags)))
    assert parted == whole


def test_seeds_differ():
    texts = [run_trials(evolution(seed=seed), 1)[0][0]["model_options"] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


# Budgets


@pytest.mark.check
def test_architectures_over_budget_are_not_tried():
    task = TASK(model="convnet", image_size=16)
    oracle = evolution(task=task, max_params=20_000, max_flops="4e6")
    for flags, _ in run_trials(oracle, 8):
        shape = (16, 16, 1)
        cost = genomes.model_cost(flags["model"], flags["model_options"], shape, 10)
        assert cost[0] <= 20_000
        assert cost[1] <= 4_000_000


def test_impossible_budget_is_an_error(monkeypatch):
    monkeypatch.setattr("tasks.tuning.evolution.MAX_OVER_BUDGET", 3)
    with pytest.raises(
        UsageError, match=r"none of 3 .*mlp.* has at most 9 parameters.*raise max_params"
    ):
        start_trial(evolution(models="mlp", max_params=9))


# Flags besides the architecture


def test_searched_flags_are_genes():
    ranges = space.SearchSpace({"learning_rate": space.Between(1e-4, 1e-1)}, KINDS)
    oracle = evolution(80, ranges=ranges, crossover=0.0)
    inherited = []
    for flags, _ in run_trials(oracle, 80):
        assert 1e-4 <= flags["learning_rate"] <= 1e-1
        if "parent" in flags:
            parent = oracle.trials[flags["parent"]].hyperparameters.values
            same = genome(parent) == genome(flags)
            rate = oracle.space.flags(parent)["learning_rate"]
            inherited.append(math.isclose(rate, flags["learning_rate"], rel_tol=1e-5))
            assert same != inherited[-1]
    assert set(inherited) == {True, False}


def test_other_model_options_hold_for_all_architectures():
    task = TASK(model="convnet", model_options="{conv_dropout: 0.0}")
    for flags, _ in run_trials(evolution(task=task), 10):
        assert builder_options.parse_options(flags["model_options"])["conv_dropout"] == 0.0


def test_inheritance_can_be_disabled():
    for flags, _ in run_trials(evolution(inherit=False), 20):
        assert flags.keys() == {"model", "model_options"}
    assert run_trials(evolution(), 1)[0][0]["plan"] == "scratch"
    own = TASK(model="convnet", plan="full")
    assert "plan" not in run_trials(evolution(task=own), 1)[0][0]


ERRORS = [
    ({"models": "vgg16"}, "no model that can evolve named 'vgg16'"),
    ({"tournament": 0}, "tournament of evolution must be 1 or more, not 0"),
    ({"max_flops": "few"}, "max_flops of evolution must be a number, not 'few'"),
    (
        {"ranges": space.SearchSpace({"model": space.Choices(("mlp", "convnet"))}, KINDS)},
        "evolution sets model itself; leave out the range",
    ),
    ({"random": 1.5}, "random of evolution must be from 0 to 1, not 1.5"),
    (
        {"task": TASK(model="convnet", model_options="{norm: batch}")},
        "cannot set norm of convnet, which evolution searches",
    ),
    ({"task": tasks.get("dqn")()}, "architectures of classifiers, not models of dqn"),
]


def test_model_that_cannot_evolve_is_rejected():
    flags = {"dataset": "fashion_sample", "model": "vgg16"}
    with pytest.raises(
        UsageError, match="vgg16 has no architecture to search; use --model convnet or mlp"
    ):
        engines.make_oracle("evolution", NO_RANGES, trials=4, seed=0, task=TASK(**flags))


@pytest.mark.parametrize(("given", "message"), ERRORS)
def test_invalid_options_are_rejected(given, message):
    with pytest.raises(UsageError, match=message):
        evolution(**given)


# Benefit


@pytest.mark.check
def test_evolution_beats_random_search():
    """Compares the true fitness of the best trial by a noisy synthetic fitness."""

    def best(seed, **options):
        noise = np.random.default_rng(seed + 100)
        found = run_trials(
            evolution(60, seed, **options), 60, lambda one: fitness(one) + noise.normal(0, 0.005)
        )
        return fitness(genome(max(found, key=lambda pair: pair[1])[0]))

    seeds = range(8)
    evolved = [best(seed) for seed in seeds]
    random = [best(seed, random=1.0) for seed in seeds]
    wins = sum(one > other for one, other in zip(evolved, random, strict=True))
    error = np.std(np.subtract(evolved, random), ddof=1) / len(seeds) ** 0.5
    assert wins >= 6
    assert np.mean(evolved) - np.mean(random) > 2.5 * error


# Inherited weights

STACK = {"depths": [1, 2], "widths": [4, 6], "kernel_size": [3, 3], "hidden": [8]}


def convnet(seed=0, name="convnet", **options):
    keras.utils.set_random_seed(seed)
    shape = (12, 12, 1)
    model = zoo.build(name, input_shape=shape, num_classes=3, **{**STACK, **options})
    for layer in model.layers:  # statistics and scales unlike the initial ones
        if "Normalization" in type(layer).__name__ and layer.weights:
            rng = np.random.default_rng(seed)
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])
    return model


def outputs(model):
    images = np.random.default_rng(9).uniform(0, 255, (4, *model.input_shape[1:]))
    return np.array(model(images))


SAME = [  # changes that keep the function of the network
    {},
    {"widths": [7, 6]},
    {"widths": [4, 9]},
    {"widths": [4, 9], "head": "flatten"},
    {"kernel_size": [5, 3]},
    {"kernel_size": [7, 5], "widths": [5, 7]},
    {"hidden": [11]},
]


SKIPS = [  # options of a parent with skips in some blocks, and a change
    ({"skip": [True, True]}, {"widths": [7, 9]}),  # of convolutions on both skips
    ({"skip": [False, True], "widths": [6, 6]}, {"widths": [8, 6]}),  # none before, one then
    ({"skip": [False, True], "widths": [6, 6]}, {"widths": [6, 8]}),
    ({"skip": [False, False]}, {"skip": [True, True]}),
]


@pytest.mark.parametrize(("common", "change"), SKIPS, ids=str)
def test_new_skips_keep_the_function(common, change):
    common = {"head": "pool", **common}
    parent, child = convnet(1, **common), convnet(2, **{**common, **change})
    weight_inheritance.inherit_weights(parent, child)
    np.testing.assert_allclose(outputs(child), outputs(parent), atol=1e-4)


@pytest.mark.parametrize("change", SAME, ids=str)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_larger_network_keeps_the_function_of_its_parent(change, norm):
    common = {"norm": norm, "head": "pool"}
    common |= {"head": change["head"]} if "head" in change else {}
    parent, child = convnet(1, **common), convnet(2, **{**common, **change})
    assert not np.allclose(outputs(child), outputs(parent), atol=1e-3)
    taken = weight_inheritance.inherit_weights(parent, child)
    np.testing.assert_allclose(outputs(child), outputs(parent), atol=1e-4)
    assert taken == sum(math.prod(weight.shape) for weight in parent.weights)


def test_new_weights_are_trainable():
    """Weights that a wider layer initializes with zeros get a gradient."""
    parent, child = convnet(1, head="pool"), convnet(2, head="pool", widths=[7, 6])
    weight_inheritance.inherit_weights(parent, child)
    new = child.get_layer("block2_conv1").kernel
    assert not np.array(new)[:, :, 4:].any()
    child.compile("sgd", "mse")
    images = np.random.default_rng(0).uniform(0, 255, (4, 12, 12, 1))
    child.fit(images, np.eye(3)[[0, 1, 2, 0]], verbose=0)
    assert np.array(new)[:, :, 4:].all()


def test_smaller_network_inherits_first_channels_and_kernel_centres():
    parent = convnet(1, kernel_size=[5, 3], head="pool")
    child = convnet(2, widths=[3, 6], head="pool")
    weight_inheritance.inherit_weights(parent, child)
    old, new = (np.array(m.get_layer("block1_conv1").kernel) for m in (parent, child))
    np.testing.assert_array_equal(new, old[1:4, 1:4, :, :3])
    old, new = (np.array(m.get_layer("block2_conv1").kernel) for m in (parent, child))
    np.testing.assert_array_equal(new, old[:, :, :3])


def test_layers_with_other_inputs_are_not_inherited():
    parent = convnet(1)
    for change in ({"head": "pool"}, {"depths": [1], "widths": [6], "kernel_size": [3]}):
        child = convnet(2, **change)
        before = np.array(child.get_layer("hidden1").kernel)
        weight_inheritance.inherit_weights(parent, child)
        np.testing.assert_array_equal(before, child.get_layer("hidden1").kernel)
    child = convnet(2, norm="layer")
    scales = [layer for layer in child.layers if layer.name.endswith("_ln")]
    before = [checks.values(layer) for layer in scales]
    weight_inheritance.inherit_weights(parent, child)
    assert len(before) == 4
    for values, layer in zip(before, scales, strict=True):
        checks.assert_same(values, checks.values(layer))


@pytest.fixture
def family(tmp_path, monkeypatch):
    """Returns the folder of a parent, the task of its child, and what was messages, a list."""
    messages = []
    monkeypatch.setattr(callbacks, "print_status", messages.append)
    about = {"model": "convnet", "classes": ["a", "b", "c"]}
    model_files.save(convnet(1, head="pool"), tmp_path / "07" / "model.keras", about)
    text = "{depths: [1, 2], widths: [5, 6], kernel_size: [3, 3], hidden: [8], head: pool}"
    child = TASK(model="convnet", model_options=text, image_size=12)
    return tmp_path / "07", child, messages


def test_weights_file_of_the_child_is_written(family, tmp_path):
    folder, task, messages = family
    path = weight_inheritance.write_inherited_weights(
        folder, task, tmp_path / "08.inherited.weights.h5"
    )
    assert path == str(tmp_path / "08.inherited.weights.h5")
    model = dataclasses.replace(task, weights=path).network((12, 12, 1), 3)
    parent = model_files.load(folder / "model.keras")[0]
    np.testing.assert_allclose(outputs(model), outputs(parent), atol=1e-4)
    mine, theirs = (sum(w.numpy().size for w in m.weights) for m in (model, parent))
    assert messages == [
        f"{theirs:,} of {mine:,} weights ({theirs / mine:.0%}) are inherited from 07"
    ]


def test_existing_weights_file_is_kept(family, tmp_path):
    folder, task, _ = family
    path = tmp_path / "08.weights.h5"
    weight_inheritance.write_inherited_weights(folder, task, path)
    once = path.read_bytes()
    (folder / "model.keras").unlink()
    assert weight_inheritance.write_inherited_weights(folder, task, path) == str(path)
    assert path.read_bytes() == once


def test_no_weights_are_inherited_from_another_or_missing_model(family, tmp_path):
    folder, task, messages = family
    path = tmp_path / "08.weights.h5"
    other = dataclasses.replace(task, model="mlp", model_options="{widths: [8]}")
    assert weight_inheritance.write_inherited_weights(folder, other, path) == ""
    assert (
        weight_inheritance.write_inherited_weights(
            folder, dataclasses.replace(task, image_size=16), path
        )
        == ""
    )
    assert weight_inheritance.write_inherited_weights(tmp_path / "none", task, path) == ""
    assert not path.exists()
    assert len(messages) == 3
    assert "no model file" in messages[2]


@pytest.mark.check
def test_child_starts_from_the_loss_of_its_parent(tmp_path):
    flags = {"dataset": "fashion_sample", "precision": "float32", "train_split": "train[:320]"}
    flags |= {"validation_split": "train[320:420]", "test_split": "test[:50]"}
    text = "{{widths: [{}], norm: batch}}"
    parent = TASK(model="mlp", model_options=text.format(24), epochs=6, **flags)
    trainer.train(parent, tmp_path / "00")
    child = TASK(model="mlp", model_options=text.format(32), epochs=1, plan="scratch", **flags)
    path = weight_inheritance.write_inherited_weights(
        tmp_path / "00", child, tmp_path / "01.weights.h5"
    )
    trainer.train(dataclasses.replace(child, weights=path), tmp_path / "01")
    trainer.train(child, tmp_path / "02")
    losses = [checks.column(tmp_path / name, "val_loss") for name in ("00", "01", "02")]
    assert losses[1][0] < losses[2][0] - 0.3
    assert losses[1][0] < losses[0][0]
