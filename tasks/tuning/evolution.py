"""Evolution of structures: the best of a few has a child, and the oldest dies."""

from __future__ import annotations

import dataclasses
import math

from tasks.data import builder_options as builder
from tasks.data import sources
from tasks.tuning import genetic_operators, genomes, oracles
from zoo.errors import UsageError
from zoo.lazy import np

MAX_ATTEMPTS = 200  # children, and random structures, that may be of no use before there is none
MAX_OVER_BUDGET = 20  # random structures, made as small as they can be, that do not fit either
PARENT = "parent"  # the hyperparameter that names the trial to inherit weights from


@dataclasses.dataclass(frozen=True)
class Individual:
    """A trial that came to a score.

    Attributes:
        name: id of the trial.
        genome: its structure.
        flags: values of the flags that are searched besides, by name.
        score: the larger the better.
    """

    name: str
    genome: genomes.ConvNet | genomes.MLP
    flags: dict
    score: float


class Evolution(oracles.SearchOracle):
    """Tries structures, and children of the best (Real et al., 2019).

    Regularised evolution: the population is the trials that ended last; the best of a sample of
    it has a child, that differs in one thing; the oldest dies, be it the best. Departures: there
    are children before the population is complete, some have two parents, no structure is tried
    twice, one over budget never, and a child may begin with weights of its parent.

    What is proposed is a function of the seed, of how many trials there were and of those that
    ended, in their order: a search that was killed goes on as if it had not been.

    Args:
        space: a `space.SearchSpace`; its flags are genes like any other.
        trials: how many there may be.
        seed: of all choices.
        task: the `tasks.Task` that every trial starts from; its `model_options` are those of all
            structures, and may name no gene.
        models: what evolves, of `genomes.MODELS`: names, with commas between them; by default the
            task's model or, where that cannot evolve, `convnet`.
        population: how many live at a time.
        tournament: how many of them are drawn, with repetition, to have the best for a parent.
        random: share of the trials that are random structures, at first; 1 for all. One over
            budget is made smaller, step by step.
        crossover: share of the children that have genes of two parents.
        max_params: trainable parameters that no structure exceeds; 0 for any number.
        max_flops: the same for FLOPs, as `zoo show` counts them.
        inherit: whether children begin with weights of a parent.

    Raises:
        UsageError: an option has no sense, or this task's structures cannot evolve.
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
                f"evolution searches structures of classifiers; {task.name} teaches none"
            )
        if reserved := sorted({"model", "model_options", "weights"} & set(space.ranges)):
            raise UsageError(
                f"evolution itself searches {', '.join(reserved)}; leave out the range"
            )
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
        """Returns what to try next: a random structure, or a child of the population."""
        rng = np.random.default_rng((self.base_seed, len(self.start_order)))
        tried = {_trial_key(*self._decode(trial)) for trial in self.trials.values()}
        living = self._alive()
        proposers = [lambda: self._random(rng)]
        if living and len(self.start_order) >= self.first:
            proposers.insert(0, lambda: self._child(living, rng))
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
                f"none of {MAX_OVER_BUDGET} structures of {' or '.join(self.models)}, each as "
                "small as it "
                f"can be, has at most {parameters:,.0f} parameters and {flops:,.0f} FLOPs; "
                "allow more"
            )
        return {"status": oracles.STOPPED, "values": None}

    def within_budget(self, genome):
        """Tells whether a structure is within the budgets."""
        if self.budget == (math.inf, math.inf):
            return True
        name, text = genomes.model_name(genome), genomes.to_model_options(genome, self.fixed)
        shape = dataclasses.replace(self.task, model=name, model_options=text).shape()
        if self.num_classes is None:
            source = sources.load(self.task.dataset, self.task.data_dir or None)
            self.num_classes = len(source.classes)
        found = genomes.model_cost(name, text, shape, self.num_classes)
        return all(cost <= most for cost, most in zip(found, self.budget, strict=True))

    def _alive(self):
        """Returns the population, the oldest first."""
        ended = [self.trials[name] for name in self.end_order]
        scored = [trial for trial in ended if trial.status == oracles.COMPLETED]
        return [
            Individual(trial.trial_id, *self._decode(trial), trial.score)
            for trial in scored[-self.population :]
        ]

    def _random(self, rng):
        """Returns a random structure, flags for it, and no parent."""
        genome = genetic_operators.random_genome(
            self.models[int(rng.integers(len(self.models)))], rng
        )
        while not self.within_budget(genome) and (less := genetic_operators.shrink(genome, rng)):
            genome = less
        return genome, {name: self._sample_flag(name, rng) for name in self.space.ranges}, None

    def _child(self, living, rng):
        """Returns the structure of a child, flags for it, and its parent."""
        parent, other = self._tournament_winner(living, rng), self._tournament_winner(living, rng)
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

    def _tournament_winner(self, living, rng):
        drawn = rng.integers(len(living), size=self.tournament)
        return max((living[place] for place in drawn), key=lambda one: one.score)

    def _sample_flag(self, name, rng):
        """Returns a random value of a flag that is searched besides."""
        found = next(hp for hp in self.hyperparameters.space if hp.name == name)
        return found.random_sample(int(rng.integers(2**31)))

    def _trial_values(self, genome, flags, parent):
        """Returns what a trial is told."""
        values = {"model": genomes.model_name(genome), **flags}
        values["model_options"] = genomes.to_model_options(genome, self.fixed)
        if self.inherit and self.task.plan == "auto":
            values.setdefault("plan", "scratch")  # which inherited weights would make another one
        if self.inherit and parent:
            values[PARENT] = parent.name
        return values

    def _decode(self, trial):
        """Returns the structure of a trial, and the flags that are searched besides."""
        flags = self.space.flags(trial.hyperparameters.values)
        genome = genomes.from_model_options(flags["model"], flags["model_options"])
        return genome, {name: flags[name] for name in self.space.ranges}


def _trial_key(genome, flags):
    """Returns what two trials that are the same have in common."""
    return repr((genomes.model_name(genome), genome.shown(), sorted(flags.items())))


def _default_model(task):
    """Returns what evolves where no option says so: the task's model, if somebody named one."""
    if task.model in genomes.MODELS:
        return task.model
    if task.model != type(task).model:
        raise UsageError(
            f"{task.model} does not evolve; take --model {' or '.join(genomes.MODELS)}"
        )
    return "convnet"


def _check_options(population, tournament, shares):
    for name, number in {"population": population, "tournament": tournament}.items():
        if number < 1:
            raise UsageError(f"{name} of evolution must be 1 or more, not {number}")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UsageError(f"{name} of evolution is a share from 0 to 1, not {share}")


def _parse_budget(name, number):
    """Returns a budget as a number; YAML reads 1e6, without a point, as a word."""
    try:
        return float(number) or math.inf
    except (TypeError, ValueError):
        raise UsageError(f"{name} of evolution is a number, not {number!r}") from None


def _check_fixed_options(name, fixed):
    genes = genetic_operators.random_genome(name, np.random.default_rng(0)).options()
    if both := sorted(genes.keys() & fixed.keys()):
        raise UsageError(
            f"--model-options cannot fix {', '.join(both)} of {name}, which evolution changes"
        )
