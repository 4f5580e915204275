"""Architecture search by regularized evolution: tournament selection, the oldest dies."""

from __future__ import annotations

import dataclasses
import math

from tasks.data import builder_options as builder
from tasks.data import sources
from tasks.tuning import genetic_operators, genomes, oracles
from zoo.errors import UsageError
from zoo.lazy import np

MAX_ATTEMPTS = 200  # to propose a new genome, by mutation and at random each
MAX_OVER_BUDGET = 20  # random genomes that exceed the budget even after shrinking
PARENT = "parent"  # the hyperparameter that names the trial to inherit weights from


@dataclasses.dataclass(frozen=True)
class Individual:
    """A completed trial.

    Attributes:
        name: id of the trial.
        genome: its genome, the architecture.
        flags: values of the searched flags, by name.
        score: its score; higher is better.
    """

    name: str
    genome: genomes.ConvNet | genomes.MLP
    flags: dict
    score: float


class Evolution(oracles.SearchOracle):
    """Regularized evolution of architectures (Real et al., 2019).

    The population is the last completed trials. The best of a random sample of it is mutated into
    a child, and the oldest individual dies, even if it is the best. Departures from the paper:
    there are children before the population is complete, some children are a crossover of two
    parents, no architecture is trained twice or over budget, and a child may inherit weights of
    its parent.

    Proposals depend only on the seed, on the number of trials, and on the ended trials in their
    order, so that a search that was killed resumes deterministically.

    Args:
        space: a `space.SearchSpace`; its flags are genes, too.
        trials: the maximum number of trials.
        seed: the random seed.
        task: the base `tasks.Task` of all trials. Its `model_options` hold for all architectures
            and may set no gene.
        models: comma-separated names of `genomes.MODELS` to evolve; by default the model of the
            task or, if it cannot evolve, `convnet`.
        population: size of the population.
        tournament: size of the sample, drawn with replacement, whose best is a parent.
        random: fraction of the trials, at first, that are random genomes; 1 for random search. A
            random genome over budget is shrunk step by step.
        crossover: fraction of the children that have two parents.
        max_params: maximum number of trainable parameters; 0 for no maximum.
        max_flops: maximum FLOPs, as counted by `zoo show`; 0 for no maximum.
        inherit: whether children inherit weights of a parent.

    Raises:
        UsageError: an option is invalid, or the models of the task cannot evolve.
    """

    def __init__(
        self,
        space,
        *,
        trials,
        seed,
        task,
        models="",
        population=16,
        tournament=8,
        random=0.25,
        crossover=0.5,
        max_params=0.0,
        max_flops=0.0,
        inherit=True,
    ):
        super().__init__(space, trials=trials, seed=seed, task=task)
        if getattr(task, "kind", "") != "classifier":
            raise UsageError(
                f"evolution searches architectures of classifiers, not models of {task.name}"
            )
        if reserved := sorted({"model", "model_options", "weights"} & set(space.ranges)):
            raise UsageError(f"evolution sets {', '.join(reserved)} itself; leave out the range")
        _check_options(population, tournament, {"random": random, "crossover": crossover})
        own = _default_model(task)
        names = models.split(",") if isinstance(models, str) else models
        self.models = [name.strip() for name in names if name.strip()] or [own]
        self.fixed = builder.parse_options(task.model_options)
        self.first = max(1, round(random * trials))
        self.population, self.tournament, self.crossover = population, tournament, crossover
        self.budget = _parse_budget("max_params", max_params), _parse_budget("max_flops", max_flops)
        self.inherit, self.base_seed, self.num_classes = inherit, seed, None
        for name in self.models:
            _check_fixed_options(name, self.fixed)

    def populate_space(self, trial_id):
        """Returns the values of the next trial: a random genome, or a child of the population."""
        rng = np.random.default_rng((self.base_seed, len(self.start_order)))
        tried = {_trial_key(*self._decode(trial)) for trial in self.trials.values()}
        population = self._population()
        proposers = [lambda: self._random(rng)]
        if population and len(self.start_order) >= self.first:
            proposers.insert(0, lambda: self._child(population, rng))
        for draw in proposers:
            num_over_budget = 0
            for _ in range(MAX_ATTEMPTS):
                genome, flags, parent = draw()
                fits = self.within_budget(genome)
                num_over_budget += parent is None and not fits
                if num_over_budget == MAX_OVER_BUDGET:
                    break
                if fits and _trial_key(genome, flags) not in tried:
                    return {
                        "status": oracles.RUNNING,
                        "values": self._trial_values(genome, flags, parent),
                    }
        if not self.trials:
            parameters, flops = self.budget
            raise UsageError(
                f"none of {MAX_OVER_BUDGET} random architectures of {' or '.join(self.models)}, "
                f"shrunk as far as possible, has at most {parameters:,.0f} parameters and "
                f"{flops:,.0f} FLOPs; raise max_params or max_flops"
            )
        return {"status": oracles.STOPPED, "values": None}

    def within_budget(self, genome):
        """Returns whether the network of a genome is within the budgets."""
        if self.budget == (math.inf, math.inf):
            return True
        name, text = genomes.model_name(genome), genomes.to_model_options(genome, self.fixed)
        shape = dataclasses.replace(self.task, model=name, model_options=text).shape()
        if self.num_classes is None:
            source = sources.load(self.task.dataset, self.task.data_dir or None)
            self.num_classes = len(source.classes)
        found = genomes.model_cost(name, text, shape, self.num_classes)
        return all(cost <= most for cost, most in zip(found, self.budget, strict=True))

    def _population(self):
        """Returns the individuals of the population, the oldest first."""
        ended = [self.trials[name] for name in self.end_order]
        scored = [trial for trial in ended if trial.status == oracles.COMPLETED]
        return [
            Individual(trial.trial_id, *self._decode(trial), trial.score)
            for trial in scored[-self.population :]
        ]

    def _random(self, rng):
        """Returns a random genome, random flags, and no parent."""
        genome = genetic_operators.random_genome(
            self.models[int(rng.integers(len(self.models)))], rng
        )
        while not self.within_budget(genome) and (smaller := genetic_operators.shrink(genome, rng)):
            genome = smaller
        return genome, {name: self._sample_flag(name, rng) for name in self.space.ranges}, None

    def _child(self, population, rng):
        """Returns the genome of a child, its flags, and its parent."""
        parent, other = (
            self._tournament_winner(population, rng),
            self._tournament_winner(population, rng),
        )
        if rng.random() < self.crossover:
            genome = genetic_operators.crossover(parent.genome, other.genome, rng)
            flags = {name: (parent, other)[rng.integers(2)].flags[name] for name in parent.flags}
            if genome:
                return genome, flags, parent
        genes = [*genetic_operators.neighbours(parent.genome), *parent.flags]
        gene = genes[int(rng.integers(len(genes)))]
        if gene in parent.flags:
            return parent.genome, {**parent.flags, gene: self._sample_flag(gene, rng)}, parent
        return genetic_operators.mutate(parent.genome, rng, gene), parent.flags, parent

    def _tournament_winner(self, population, rng):
        drawn = rng.integers(len(population), size=self.tournament)
        return max((population[index] for index in drawn), key=lambda one: one.score)

    def _sample_flag(self, name, rng):
        """Returns a random value of a searched flag."""
        found = next(hp for hp in self.hyperparameters.space if hp.name == name)
        return found.random_sample(int(rng.integers(2**31)))

    def _trial_values(self, genome, flags, parent):
        """Returns the values of the hyperparameters of a trial."""
        values = {"model": genomes.model_name(genome), **flags}
        values["model_options"] = genomes.to_model_options(genome, self.fixed)
        if self.inherit and self.task.plan == "auto":
            values.setdefault(
                "plan", "scratch"
            )  # with weights, `auto` would choose a plan for pretrained models
        if self.inherit and parent:
            values[PARENT] = parent.name
        return values

    def _decode(self, trial):
        """Returns the genome of a trial and its searched flags."""
        flags = self.space.flags(trial.hyperparameters.values)
        genome = genomes.from_model_options(flags["model"], flags["model_options"])
        return genome, {name: flags[name] for name in self.space.ranges}


def _trial_key(genome, flags):
    """Returns a key that is equal for trials with the same network and flags."""
    return repr((genomes.model_name(genome), genome.effective_options(), sorted(flags.items())))


def _default_model(task):
    """Returns the model that evolves by default: that of the task if it was set, else `convnet`."""
    if task.model in genomes.MODELS:
        return task.model
    if task.model != type(task).model:
        raise UsageError(
            f"{task.model} has no architecture to search; use --model {' or '.join(genomes.MODELS)}"
        )
    return "convnet"


def _check_options(population, tournament, shares):
    for name, number in {"population": population, "tournament": tournament}.items():
        if number < 1:
            raise UsageError(f"{name} of evolution must be 1 or more, not {number}")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UsageError(f"{name} of evolution must be from 0 to 1, not {share}")


def _parse_budget(name, number):
    """Returns a budget as a number; YAML reads 1e6, without a decimal point, as a string."""
    try:
        return float(number) or math.inf
    except (TypeError, ValueError):
        raise UsageError(f"{name} of evolution must be a number, not {number!r}") from None


def _check_fixed_options(name, fixed):
    genes = genetic_operators.random_genome(name, np.random.default_rng(0)).options()
    if both := sorted(genes.keys() & fixed.keys()):
        raise UsageError(
            f"--model-options cannot set {', '.join(both)} of {name}, which evolution searches"
        )
