"""What a task is: a frozen dataclass whose fields are its flags."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar, dataclass_transform

from tasks.distributed import replicas
from tasks.engine import finetune, flags, optimize, plans
from tasks.engine.flags import flag
from tasks.engine.training_flags import TrainingFlags
from zoo.errors import UsageError
from zoo.registry import Registry

tasks = Registry("task", package="tasks")


RECORDED = ("stages", "weights_sha256", "resolved")  # in a recipe, besides flags


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(flag,))
def register(cls):
    """Makes a `Task` subclass a frozen dataclass, named after its file."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    cls.name = cls.__module__.rpartition(".")[2]
    tasks.add(cls.name, cls, cls.__module__)
    return cls


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(TrainingFlags, abc.ABC):
    """Data to learn from, a model to teach, and a way to judge it.

    A task does not train: `tasks.engine.trainer` does, the same way for all. It calls, in this
    order, `load`, `training`, `build` inside the strategy's scope, `validate` and `better` after
    each epoch, `finish` with the best weights, and then `save` and `judge`.
    """

    curves: ClassVar[dict[str, str]] = {"loss": "Loss"}  # columns of the history to draw: titles
    # Columns that an epoch is chosen by, the next where one is equal; `-`: the less the better.
    monitor: ClassVar[tuple[str, ...]] = ("-val_loss",)
    compilable: ClassVar[bool] = True  # by XLA
    checkpoint_all: ClassVar[bool] = False  # whether a checkpoint holds what no stage changes, too
    min_steps_per_epoch: ClassVar[int] = 1  # of an epoch; few images are gone through more often

    def __post_init__(self):
        for field in dataclasses.fields(self):
            flags.check_value(field, getattr(self, field.name))
        if self.jit_compile == "on" and not self.compilable:
            raise UsageError(
                f"--jit-compile on: XLA cannot compile a step of {self.name}; "
                "take --jit-compile auto"
            )

    def flops(self):
        """Returns the FLOPs of the model for one example, 0 where they are not known before."""
        return 0

    def recipe_fields(self):
        """Returns what a recipe holds: the flags and, by `RECORDED`, what else they meant."""
        return dataclasses.asdict(self)

    def stages(self):
        """Returns the plan of the run, a tuple of `plans.Stage` that make up its epochs."""
        plan_options = {"rate": self.learning_rate, "optimizer": self.optimizer}
        return plans.resolve_plan("scratch", epochs=self.epochs, pretrained=False, **plan_options)

    def stages_with_passes(self, steps):
        """Returns the stages with their `passes`, where one through the images takes some steps."""
        return plans.stages_with_passes(self.stages(), steps, self.min_steps_per_epoch)

    def learning_rates(self, peak, steps, epochs=0):
        """Returns the schedule of some steps, in all `epochs` or so many, of the flags' shape."""
        return optimize.schedule_from_flags(self, peak, steps, epochs or self.epochs)

    def rate_factor(self):
        """Returns what the rates of the plan are multiplied by, as `--scale-learning-rate` says."""
        reference = self.reference_batch_size or type(self).batch_size
        per_update = self.batch_size * self.gradient_accumulation_steps
        return replicas.rate_factor(self.scale_learning_rate, per_update, reference)

    def make_optimizer(self, rates, *, clip=True):
        """Returns the optimiser that the flags describe, for a schedule of rates."""
        return optimize.optimizer_from_flags(self, rates, clip=clip)

    def optimizers(self, model, steps):
        """Returns the Keras optimiser of each stage of the plan; called inside the scope.

        Args:
            model: the whole model.
            steps: of a pass through the training images.
        """
        return finetune.optimizers(self, model, self.stages_with_passes(steps), steps)

    def extra_state(self, data):
        """Returns what a run knows besides variables, such as what an agent saw, or `None`.

        It has `arrays()`, a dict of arrays by name that a checkpoint holds, and `restore(arrays)`.
        """
        return None

    @abc.abstractmethod
    def load(self):
        """Returns what `build`, `training` and the rest need to know of the data.

        It is a dataclass; its fields `train` and `validation`, where they are
        `decoding.Examples`, may be replaced by what the frozen part of a model makes of them.
        """

    def data_fingerprint(self, data):
        """Returns what of the data must stay the same while a run goes on, as JSON has it."""
        return {}

    def resolved(self, data):
        """Returns values of flags that follow from the data, to repeat the run with."""
        return {}

    def notes(self, data):
        """Returns lines on the data to read before the training."""
        return []

    @abc.abstractmethod
    def build(self, data):
        """Returns a `keras.Model` for the data; called inside the strategy's scope."""

    def training_model(self, model, data):
        """Returns the model that `compile` and `fit` are called on; by default `model` itself.

        A model whose answers are not what it learns by is rebuilt here, of the same layers, into
        one that has more inputs, such as the truth, or other outputs, such as losses. `training`
        gives what that one takes. It is called inside the strategy's scope, once per stage of the
        plan.

        Args:
            model: the whole model or, where its lower layers are frozen, the rest of it, with the
                same outputs; frozen batch normalisation may have been absorbed.
            data: what `load` returned.
        """
        return model

    @abc.abstractmethod
    def compile(self, training_model, data, optimizer):
        """Compiles what learns; called inside the strategy's scope, once per stage of the plan.

        Args:
            training_model: what `training_model` returned.
            data: what `load` returned.
            optimizer: of Keras.
        """

    def show(self, data, events):
        """Writes pictures of the data to TensorBoard, before the first epoch, if the task can."""
        return None

    def versions(self, data):
        """Returns what a network that does not learn may be computed for beforehand.

        It is a list of `(examples, description)` of the training split: one, or several that the
        epochs see in turn; empty where each epoch sees other examples.
        """
        return []

    @abc.abstractmethod
    def training(self, data, *, changed=True):
        """Returns the stream of examples, changed at random where the flags say so.

        It has `steps` per epoch, `size` examples in each, and `epoch(number, start)`, which
        returns the batches of that epoch, from 0, without the first `start`, as a finite
        `tf.data.Dataset`.
        """

    @abc.abstractmethod
    def validate(self, model, data, events, step):
        """Returns figures on the validation split after an epoch, or `{}` without one.

        The history has them as `val_NAME`. Pictures may go to TensorBoard through `events`, a
        `tasks.report.tensorboard.SummaryWriter`, at `step`, the epoch counted from 1.
        """

    def recalibrate_batch_norm(self, model, data):
        """Estimates the BatchNorm statistics of averaged weights, where layers are trainable."""
        layers = [layer for layer in finetune.batch_norm_layers(model) if layer.trainable]
        if self.ema_decay and layers:
            finetune.recalibrate(self.training_model(model, data), self.training(data), layers)

    def monitored_values(self, row):
        """Returns what `goals` come to in a row of the history, a tuple: the more the better."""
        signs = {name.removeprefix("-"): -1 if name.startswith("-") else 1 for name in self.monitor}
        return tuple(sign * row[name] for name, sign in signs.items() if name in row)

    def better(self, row, best):
        """Tells whether the epoch of history `row` is better than the best one so far."""
        found, before = self.monitored_values(row), self.monitored_values(best)
        # With nothing to choose by, the last epoch is the one to keep.
        return not found or found > before or any(map(math.isnan, before))

    def finish(self, model, data):
        """Returns the model to save and to judge, made of the trained one with its best weights."""
        return model

    @abc.abstractmethod
    def build_report(self, model, data):
        """Returns the `Verdict` on a trained model."""

    @abc.abstractmethod
    def evaluate(self, model, about, split):
        """Returns the figures of a saved `model` on a slice of data, and the slice's name.

        Args:
            model: what `zoo.model_files.load` read.
            about: the facts that `save` put beside it.
            split: a slice of the task's data, or `""` for its own test split.
        """

    @abc.abstractmethod
    def save(self, model, data, path):
        """Writes the part of a trained model that is worth keeping to `path`."""
