"""A run: its model, and what is trained on which data in each stage of the plan."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from dataclasses import dataclass

from tasks.data import batches, decoding
from tasks.distributed import strategies
from tasks.engine import callbacks, finetune, hardware, optimize, resume
from tasks.inference import feature_cache
from zoo import surgery
from zoo.graphs import leaf_layers
from zoo.lazy import LazyModule, keras

param_groups = LazyModule("tasks.engine.param_groups")

EXTRA_STATE_PREFIX = "memory/"  # of the names of a task's extra state in a checkpoint
SEED_VARIABLE_NAME = "seed_generator_state"  # of the state of random numbers in Keras


@dataclass(frozen=True, eq=False)
class PreparedStage:
    """The model and data of a stage of the plan.

    Attributes:
        training_model: The compiled model that `fit` is called on, which shares weights with the
            whole model.
        model: A model with the outputs of the whole model: the training model itself, unless the
            task derives that from it.
        data: The data of training and validation.
        pipeline: The data pipeline of `data`.
    """

    training_model: keras.Model
    model: keras.Model
    data: object
    pipeline: object


class TrainingRun:
    """A model, its optimizers, and the plan by which it is trained.

    Args:
        task: The `tasks.Task`.
        data: What its `load` returned.
        strategy: A `tf.distribute.Strategy`.
    """

    def __init__(self, task, data, strategy):
        self.task, self.data, self.strategy = task, data, strategy
        pipeline = task.training(data)
        self.stages = task.stages_with_passes(pipeline.steps)
        self.ends = list(itertools.accumulate(stage.epochs for stage in self.stages))
        strategies.check_batch_size(strategy, pipeline.size)
        # Not earlier: models traced before, and their number, must not change the weights.
        keras.utils.set_random_seed(task.seed)
        with strategy.scope():
            self.model = task.build(data)
            made = task.optimizers(self.model, pipeline.steps)
            self.optimizers = [optimize.with_loss_scaling(each) for each in made]
        self.updated_variables = _updated_variables(self.model, self.stages, task.checkpoint_all)
        self.extra_state, self._others = task.extra_state(data), {}
        self._prepared_stage = None, None
        self.feature_seconds = 0.0  # seconds that the features of frozen layers took

    def stage(self, epoch):
        """Returns the index of the stage of an epoch, both from 0."""
        return sum(epoch >= end for end in self.ends[:-1])

    def optimizer(self, epoch):
        """Returns the optimizer of an epoch's stage."""
        return self.optimizers[self.stage(epoch)]

    def prepared_stage(self, epoch, *, begun=False):
        """Returns the `PreparedStage` of an epoch.

        Args:
            epoch: The epoch, from 0.
            begun: Whether the run is resumed in the middle of this epoch.
        """
        number = self.stage(epoch)
        if self._prepared_stage[0] != number:
            first = epoch == self.ends[number] - self.stages[number].epochs and not begun
            with self.strategy.scope():
                self._prepared_stage = number, self._prepared(number, first)
        return self._prepared_stage[1]

    def set_rate_factor(self, epoch, history):
        """Sets the learning rate factor of an epoch, from 0, by the history of its stage."""
        stage = self.stage(epoch)
        first = self.ends[stage] - self.stages[stage].epochs
        factor = optimize.plateau_factor(self.task, history[first:epoch])
        optimize.set_rate_factor(self.optimizers[stage], factor)

    def recalibrate_batch_norm(self, epoch):
        """Estimates the BatchNorm statistics of the averaged weights of an epoch."""
        finetune.set_trainable(self.model, self.stages[self.stage(epoch)])
        self.task.recalibrate_batch_norm(self.model, self.data)

    @contextlib.contextmanager
    def ema_weights(self, epoch):
        """Swaps in the weights and BatchNorm statistics that an epoch is validated with."""
        statistics = [v for norm in finetune.batch_norm_layers(self.model) for v in norm.variables]
        seeds = [v for v in self.model.variables if v.name == SEED_VARIABLE_NAME]
        with (
            finetune.preserve_values([*statistics, *seeds]),
            optimize.ema_weights(self.optimizer(epoch)),
        ):
            self.task.recalibrate_batch_norm(self.model, self.data)
            yield

    def _prepared(self, number, first):
        task, stage = self.task, self.stages[number]
        finetune.set_trainable(self.model, stage)
        pipeline = task.training(self.data)
        if first and stage.batch_norm == "recalibrate":
            finetune.recalibrate(task.training_model(self.model, self.data), pipeline)
        alone = self.strategy.num_replicas_in_sync == 1
        model, data, flops = self.model, self.data, task.flops()
        for (before, after), caches in self._split_at_frozen(stage):
            if caches:
                model, data = after, self._data_with_features(before)
                pipeline, flops = task.training(data, augmented=False), feature_cache.flops(model)
        if not all(layer.trainable for layer in finetune.batch_norm_layers(model)):
            model = surgery.absorb(model)
        training_model = task.training_model(model, data)
        task.compile(training_model, data, _optimizer_for(self.optimizers[number], training_model))
        if alone:
            # Small networks would spend their time in Python. With several replicas Keras 3.15
            # loses the iterator in its loop.
            training_model.steps_per_execution = hardware.steps_per_execution(flops * pipeline.size)
        return PreparedStage(training_model, model, data, batches.repeat(pipeline, stage.passes))

    def features_setting(self):
        """Returns what `--features` means: `on`, `off`, or `auto` if that differs by stage."""
        found = set()
        for stage in self.stages:
            finetune.set_trainable(self.model, stage)
            found |= {caches for _, caches in self._split_at_frozen(stage)}
        return "auto" if len(found) > 1 else "on" if True in found else "off"

    def _split_at_frozen(self, stage):
        """Returns a list of the frozen and the other part of the model, and whether features of
        the former are cached; it is empty if they cannot be."""
        alone, versions = self.strategy.num_replicas_in_sync == 1, self.task.versions(self.data)
        parts = surgery.split(self.model) if alone and versions and stage.learn != "all" else None
        if parts is None:
            return []
        images = len(self.data.train) + len(self.data.validation or ())
        worthwhile = feature_cache.is_worthwhile(
            parts[0], images, epochs=stage.epochs * stage.passes, views=len(versions)
        )
        return [(parts, {"auto": worthwhile, "on": True, "off": False}[self.task.features])]

    def _data_with_features(self, before):
        """Returns the data with features of the frozen part of the model in place of images."""
        versions = self.task.versions(self.data)
        share = feature_cache.flops(before) / max(1, feature_cache.flops(self.model))
        times = f"{len(versions)} times" if len(versions) > 1 else "once"
        percent = int(1000 * share) / 10  # rounded down, to be below 100
        callbacks.print_status(
            f"{percent}% of the network is frozen: its features are computed {times} per image"
        )
        validation_versions = [(self.data.validation, "")] if self.data.validation else []
        several, started = [*versions, *validation_versions], time.perf_counter()
        featured = [
            dataclasses.replace(examples, pixels=pixels)
            for (examples, _), pixels in zip(
                several, feature_cache.compute_features_for_each(before, several), strict=True
            )
        ]
        self.feature_seconds += time.perf_counter() - started
        training_versions = featured[: len(versions)]
        first = training_versions[0]
        train = decoding.VersionedExamples(
            *(first.name, first.pixels, first.labels, first.dropped),
            versions=tuple(training_versions),
        )
        validation = featured[-1] if validation_versions else None
        return dataclasses.replace(self.data, train=train, validation=validation)

    def variables(self):
        """Returns the variables that change in a run: weights, random states, optimizer state."""
        mine = [v for optimizer in self.optimizers for v in optimize.optimizer_variables(optimizer)]
        return list({id(v): v for v in [*self.updated_variables, *mine]}.values())

    def arrays(self):
        """Returns the arrays of a checkpoint by name."""
        remembered = {**self._others, **self.extra_state.arrays()} if self.extra_state else {}
        named = {EXTRA_STATE_PREFIX + name: array for name, array in remembered.items()}
        return {**resume.variable_values(self.variables(), "run"), **named}

    def alone(self, prepared_stage=None):
        """Returns a scope in which this process computes without the other workers.

        All workers enter it together.

        Args:
            prepared_stage: The stage that is being trained, if any.
        """
        if self.extra_state:
            self._others = strategies.gather(self.extra_state.arrays())
        models, metrics = [self.model], []
        if prepared_stage:
            models += [prepared_stage.training_model, prepared_stage.model]
            metrics = prepared_stage.training_model.metrics_variables
        return strategies.single_process(models, [*self.variables(), *metrics])

    def restore(self, arrays):
        """Restores the arrays of a checkpoint."""
        resume.assign_values(self.variables(), arrays, "run")
        if self.extra_state:
            known = [key for key in arrays if key.startswith(EXTRA_STATE_PREFIX)]
            self.extra_state.restore(
                {key.removeprefix(EXTRA_STATE_PREFIX): arrays[key] for key in known}
            )


def _optimizer_for(optimizer, training_model):
    """Returns an optimizer whose variables are in the order of the model's, as JAX needs it."""
    known = getattr(optimizer, "_trainable_variables", [])
    if not known or [id(v) for v in known] == [id(v) for v in training_model.trainable_variables]:
        return optimizer
    return param_groups.ParamGroupOptimizer([(optimizer, known)])


def _updated_variables(model, stages, checkpoint_all):
    """Returns the variables of a model that a plan trains, or all of them."""
    if checkpoint_all:
        return list(model.variables)
    found = []
    for stage in stages:
        finetune.set_trainable(model, stage)
        learning = [layer for layer in leaf_layers(model) if layer.trainable_weights]
        estimated = finetune.batch_norm_layers(model) if stage.batch_norm == "recalibrate" else []
        found += [v for layer in (*learning, *estimated) for v in layer.variables]
    return [*found, *(v for v in model.variables if v.name == SEED_VARIABLE_NAME)]
