"""The course of a run: stage by stage of its plan, what learns and from what."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from dataclasses import dataclass

from tasks.data import batches, decoding
from tasks.engine import (
    distribute,
    features,
    finetune,
    hardware,
    optimize,
    record,
    resume,
)
from zoo import surgery
from zoo.lazy import LazyModule, keras
from zoo.weights import leaves

groups = LazyModule("tasks.engine.groups")

MEMORY = "memory/"  # what the names in a checkpoint begin with of what a task remembers
SEED = "seed_generator_state"  # what Keras calls the variables that its random numbers come from


@dataclass(frozen=True, eq=False)
class Lesson:
    """What `fit` is called on in a stage.

    Attributes:
        learner: a compiled model with weights of the whole one.
        model: what answers as the whole one does: the learner, unless the task makes it of that.
        data: what it learns from and is validated on.
        stream: the batches of `data`.
    """

    learner: keras.Model
    model: keras.Model
    data: object
    stream: object


class Course:
    """A model and the plan by which it learns.

    Args:
        task: the `tasks.Task`.
        data: what it loaded.
        strategy: a `tf.distribute.Strategy`.
    """

    def __init__(self, task, data, strategy):
        self.task, self.data, self.strategy = task, data, strategy
        stream = task.training(data)
        self.stages = task.filled(stream.steps)
        self.ends = list(itertools.accumulate(stage.epochs for stage in self.stages))
        distribute.check(strategy, stream.size)
        # Here and no sooner: what was outlined before, and how often, must not change the weights.
        keras.utils.set_random_seed(task.seed)
        with strategy.scope():
            self.model = task.build(data)
            made = task.optimizers(self.model, stream.steps)
            self.optimizers = [optimize.scaled(each) for each in made]
        self.changing = _changing(self.model, self.stages, task.whole)
        self.memory, self._others = task.memory(data), {}
        self._lesson = None, None
        self.featuring = 0.0  # seconds that the features of frozen layers took

    def stage(self, epoch):
        """Returns the number of the stage that an epoch, from 0, belongs to."""
        return sum(epoch >= end for end in self.ends[:-1])

    def optimizer(self, epoch):
        """Returns the optimiser of an epoch's stage."""
        return self.optimizers[self.stage(epoch)]

    def lesson(self, epoch, *, begun=False):
        """Returns the lesson of an epoch.

        Args:
            epoch: its number, from 0.
            begun: whether the run is taken up in the middle of it.
        """
        number = self.stage(epoch)
        if self._lesson[0] != number:
            first = epoch == self.ends[number] - self.stages[number].epochs and not begun
            with self.strategy.scope():
                self._lesson = number, self._prepared(number, first)
        return self._lesson[1]

    def rescale(self, epoch, history):
        """Sets the rates of an epoch, from 0, by the epochs before it, if they depend on those."""
        stage = self.stage(epoch)
        first = self.ends[stage] - self.stages[stage].epochs
        factor = optimize.plateau_factor(self.task, history[first:epoch])
        optimize.rescale(self.optimizers[stage], factor)

    def settle(self, epoch):
        """Gives averaged weights of an epoch the statistics of normalisation that they need."""
        finetune.prepare(self.model, self.stages[self.stage(epoch)])
        self.task.settle(self.model, self.data)

    @contextlib.contextmanager
    def averaged(self, epoch):
        """Lends the model the weights and statistics that an epoch is validated with."""
        statistics = [v for norm in finetune.norms(self.model) for v in norm.variables]
        seeds = [v for v in self.model.variables if v.name == SEED]
        with finetune.kept([*statistics, *seeds]), optimize.averaged(self.optimizer(epoch)):
            self.task.settle(self.model, self.data)
            yield

    def _prepared(self, number, first):
        task, stage = self.task, self.stages[number]
        finetune.prepare(self.model, stage)
        stream = task.training(self.data)
        if first and stage.batch_norm == "recalibrate":
            finetune.recalibrate(task.learner(self.model, self.data), stream)
        alone = self.strategy.num_replicas_in_sync == 1
        parted = alone and task.features == "auto" and self._parted(stage)
        model, data, flops = self.model, self.data, task.flops()
        if parted:
            model, data = parted
            stream, flops = task.training(data, changed=False), features.flops(model)
        if not all(layer.trainable for layer in finetune.norms(model)):
            model = surgery.absorb(model)
        learner = task.learner(model, data)
        task.compile(learner, data, _fitting(self.optimizers[number], learner))
        if alone:
            # With more replicas Keras 3.15 loses the iterator in its loop. Small networks would
            # spend their time on being called.
            learner.steps_per_execution = hardware.steps_at_once(flops * stream.size)
        return Lesson(learner, model, data, batches.passes(stream, stage.passes))

    def _parted(self, stage):
        """Returns what learns in a stage behind what does not, and the features in between.

        `None` where that is nothing, or saves no time.
        """
        versions = self.task.versions(self.data)
        parts = surgery.split(self.model) if versions and stage.learn != "all" else None
        if parts is None:
            return None
        before, after = parts
        images = len(self.data.train) + len(self.data.validation or ())
        often = stage.epochs * stage.passes
        if not features.pays(before, images, epochs=often, views=len(versions)):
            return None
        share = features.flops(before) / max(1, features.flops(self.model))
        times = f"{len(versions)} times" if len(versions) > 1 else "once"
        percent = int(1000 * share) / 10  # never 100
        record.say(
            f"{percent}% of the network is frozen: its features are computed {times} per image"
        )
        judged = [(self.data.validation, "")] if self.data.validation else []
        several, started = [*versions, *judged], time.perf_counter()
        featured = [
            dataclasses.replace(examples, pixels=pixels)
            for (examples, _), pixels in zip(
                several, features.compute_each(before, several), strict=True
            )
        ]
        self.featuring += time.perf_counter() - started
        taught = featured[: len(versions)]
        first = (taught[0].name, taught[0].pixels, taught[0].labels, taught[0].dropped)
        train = decoding.Turns(*first, versions=tuple(taught))
        validation = featured[-1] if judged else None
        return after, dataclasses.replace(self.data, train=train, validation=validation)

    def variables(self):
        """Returns what changes in a run: weights, random states, moments; each once, in order."""
        mine = [v for optimizer in self.optimizers for v in optimize.variables(optimizer)]
        return list({id(v): v for v in [*self.changing, *mine]}.values())

    def arrays(self):
        """Returns the values of all that changes, for a checkpoint."""
        remembered = {**self._others, **self.memory.arrays()} if self.memory else {}
        named = {MEMORY + name: array for name, array in remembered.items()}
        return {**resume.values(self.variables(), "run"), **named}

    def alone(self, lesson=None):
        """Lets this process answer, and know all that changes, without the other workers.

        All of them enter together.

        Args:
            lesson: the one that is being learned, if any.
        """
        if self.memory:
            self._others = distribute.gathered(self.memory.arrays())
        models, metrics = [self.model], []
        if lesson:
            models += [lesson.learner, lesson.model]
            metrics = lesson.learner.metrics_variables
        return distribute.alone(models, [*self.variables(), *metrics])

    def restore(self, arrays):
        """Gives all that changes the values of a checkpoint."""
        resume.assign(self.variables(), arrays, "run")
        if self.memory:
            known = [key for key in arrays if key.startswith(MEMORY)]
            self.memory.restore({key.removeprefix(MEMORY): arrays[key] for key in known})


def _fitting(optimizer, learner):
    """Returns an optimiser that knows the weights of a learner in their order, as JAX needs it."""
    known = getattr(optimizer, "_trainable_variables", [])
    if not known or [id(v) for v in known] == [id(v) for v in learner.trainable_variables]:
        return optimizer
    return groups.Groups([(optimizer, known)])


def _changing(model, stages, whole):
    """Returns the variables of a model that a plan changes, or all of them."""
    if whole:
        return list(model.variables)
    found = []
    for stage in stages:
        finetune.prepare(model, stage)
        learning = [layer for layer in leaves(model) if layer.trainable_weights]
        estimated = finetune.norms(model) if stage.batch_norm == "recalibrate" else []
        found += [v for layer in (*learning, *estimated) for v in layer.variables]
    return [*found, *(v for v in model.variables if v.name == SEED)]
