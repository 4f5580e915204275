"""The contract of a task: a frozen dataclass whose fields are its flags."""

from __future__ import annotations

import abc
import dataclasses
import math
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

from tasks.distributed import replicas
from tasks.engine import finetune, flags, optimize, plans
from tasks.engine.training_flags import TrainingFlags
from zoo.errors import UsageError
from zoo.registry import Registry

if TYPE_CHECKING:
    import keras

tasks: Registry[type[Task]] = Registry("task", package="tasks")
T = TypeVar("T")

RECORDED = ("stages", "weights_sha256", "resolved")  # in a recipe, besides flags


@dataclass_transform(kw_only_default=True, frozen_default=True)
def register(cls: type[T]) -> type[T]:
    """Makes a `Task` subclass a frozen dataclass and registers it under the name of its module."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    cls.name = cls.__module__.rpartition(".")[2]
    tasks.add(cls.name, cls, cls.__module__)
    return cls


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(TrainingFlags, abc.ABC):
    """Data to train on, a model to train, and a way to evaluate it.

    A task does not train: `tasks.engine.trainer` does, the same way for all tasks. It calls, in
    this order, `load`, `training`, `build` within the strategy's scope, `validate` and `better`
    after each epoch, `finish` with the best weights, then `save` and `build_report`.
    """

    name: ClassVar[str]  # set by `register`
    curves: ClassVar[dict[str, str]] = {"loss": "Loss"}  # columns of the history to plot: titles
    # Columns that select the best epoch; later ones break ties. `-`: lower is better.
    monitor: ClassVar[tuple[str, ...]] = ("-val_loss",)
    monitor_flags: ClassVar[tuple[str, ...]] = ()  # flags on which that choice depends
    compilable: ClassVar[bool] = True  # by XLA
    checkpoint_all: ClassVar[bool] = False  # whether checkpoints also hold what no stage trains
    min_steps_per_epoch: ClassVar[int] = 1  # small data sets are repeated within an epoch
    # Module whose `from_file(path, model, metadata)` returns the `Predictor` of a trained model,
    # and, optionally, whose `from_spec(spec, weights)` returns that of a pretrained one.
    predictor: ClassVar[ModuleType | None] = None
    # Module whose `export_model(model, metadata, path)` returns what `zoo export` writes.
    exporter: ClassVar[ModuleType | None] = None
    has_image_results: ClassVar[bool] = False  # whether an evaluation has `ImageResults`
    command: ClassVar[str] = "zoo predict"  # the command that uses a trained model

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            flags.check_value(field, getattr(self, field.name))
        if self.jit_compile == "on" and not self.compilable:
            raise UsageError(
                f"--jit-compile on: XLA cannot compile a step of {self.name}; "
                "use --jit-compile auto"
            )

    def flops(self) -> float:
        """Returns the FLOPs of a forward pass for one example, or 0 if they are unknown."""
        return 0

    def recipe_fields(self) -> dict[str, Any]:
        """Returns the entries of a recipe: the flags and the keys of `RECORDED`."""
        return dataclasses.asdict(self)

    def stages(self) -> tuple[plans.Stage, ...]:
        """Returns the plan of the run: the stages that make up its epochs."""
        plan_options = {"rate": self.learning_rate, "optimizer": self.optimizer}
        return plans.resolve_plan("scratch", epochs=self.epochs, pretrained=False, **plan_options)

    def stages_with_passes(self, steps: int) -> tuple[plans.Stage, ...]:
        """Returns the stages with `passes` resolved, for `steps` per pass over the images."""
        return plans.stages_with_passes(self.stages(), steps, self.min_steps_per_epoch)

    def learning_rates(self, peak: float, steps: int, epochs: int = 0) -> Any:
        """Returns the learning rate schedule of `steps` steps in `epochs`, by default in all."""
        return optimize.schedule_from_flags(self, peak, steps, epochs or self.epochs)

    def rate_factor(self) -> float:
        """Returns the factor of `--scale-learning-rate` for the learning rates of the plan."""
        reference = self.reference_batch_size or type(self).batch_size
        per_update = self.batch_size * self.gradient_accumulation_steps
        return replicas.rate_factor(self.scale_learning_rate, per_update, reference)

    def make_optimizer(self, rates: Any, *, clip: bool = True) -> keras.optimizers.Optimizer:
        """Returns the optimizer that the flags describe, for a learning rate schedule."""
        return optimize.optimizer_from_flags(self, rates, clip=clip)

    def optimizers(self, model: keras.Model, steps: int) -> list[keras.optimizers.Optimizer]:
        """Returns the optimizer of each stage of the plan; called within the scope.

        Args:
            model: The whole model.
            steps: Steps per pass over the training images.
        """
        return finetune.optimizers(self, model, self.stages_with_passes(steps), steps)

    def extra_state(self, data: Any) -> Any:
        """Returns state of a run besides variables, such as a replay buffer, or `None`.

        The object has `arrays()`, a dict of arrays by name for checkpoints, and
        `restore(arrays)`.
        """
        return None

    @abc.abstractmethod
    def load(self) -> Any:
        """Loads the data and returns what `build`, `training` and the other methods need.

        The result is a dataclass. If its fields `train` and `validation` are
        `decoding.Examples`, they may be replaced by cached features of frozen layers.
        """

    def data_fingerprint(self, data: Any) -> dict[str, Any]:
        """Returns the properties of the data that must not change during a run, as JSON types."""
        return {}

    def resolved(self, data: Any) -> dict[str, Any]:
        """Returns flag values that follow from the data, for the recipe."""
        return {}

    def notes(self, data: Any) -> list[str]:
        """Returns lines about the data to print before training."""
        return []

    @abc.abstractmethod
    def build(self, data: Any) -> keras.Model:
        """Returns a `keras.Model` for the data; called within the strategy's scope."""

    def training_model(self, model: keras.Model, data: Any) -> keras.Model:
        """Returns the model that `compile` and `fit` are called on; by default `model` itself.

        A model whose outputs are not those that the loss needs is rebuilt here from the same
        layers, with further inputs, such as targets, or other outputs, such as losses.
        `training` yields the inputs of this model. Called within the strategy's scope, once per
        stage of the plan.

        Args:
            model: The whole model or, where its lower layers are frozen, the remaining upper
                layers, with the same outputs; frozen BatchNorm may have been absorbed.
            data: What `load` returned.
        """
        return model

    @abc.abstractmethod
    def compile(
        self, training_model: keras.Model, data: Any, optimizer: keras.optimizers.Optimizer
    ) -> None:
        """Compiles the training model; called within the strategy's scope, once per stage.

        Args:
            training_model: What `training_model` returned.
            data: What `load` returned.
            optimizer: A Keras optimizer.
        """

    def show(self, data: Any, events: Any) -> None:
        """Writes images of the data to TensorBoard before the first epoch, if the task can."""
        return None

    def versions(self, data: Any) -> list[tuple[Any, str]]:
        """Returns the inputs for which features of frozen layers may be cached.

        A list of `(examples, description)` of the training split: one version, or several that
        the epochs use in turn. Empty where each epoch sees other images.
        """
        return []

    @abc.abstractmethod
    def training(self, data: Any, *, augmented: bool = True) -> Any:
        """Returns the training data pipeline, with random augmentation if `augmented`.

        The pipeline has `steps` per epoch, the batch `size`, and `epoch(number, start)`, which
        returns the batches of an epoch, counted from 0, without the first `start`, as a finite
        `tf.data.Dataset`.
        """

    @abc.abstractmethod
    def validate(self, model: keras.Model, data: Any, events: Any, step: int) -> dict[str, float]:
        """Returns metrics on the validation split after an epoch, or `{}` without that split.

        The history stores them as `val_NAME`.

        Args:
            model: The model as it predicts.
            data: What `load` returned.
            events: A `tasks.report.tensorboard.SummaryWriter` for images.
            step: The epoch, counted from 1.
        """

    def recalibrate_batch_norm(self, model: keras.Model, data: Any) -> None:
        """Estimates the BatchNorm statistics of averaged weights in trainable layers."""
        layers = [layer for layer in finetune.batch_norm_layers(model) if layer.trainable]
        if self.ema_decay and layers:
            finetune.recalibrate(self.training_model(model, data), self.training(data), layers)

    def monitored_values(self, row: dict[str, float]) -> tuple[float, ...]:
        """Returns the values of `monitor` in a row of the history; higher is better."""
        signs = {name.removeprefix("-"): -1 if name.startswith("-") else 1 for name in self.monitor}
        return tuple(sign * row[name] for name, sign in signs.items() if name in row)

    def better(self, row: dict[str, float], best: dict[str, float]) -> bool:
        """Returns whether the epoch of history `row` is better than the best one so far."""
        found, before = self.monitored_values(row), self.monitored_values(best)
        # Without a monitored value the last epoch is kept.
        return not found or found > before or any(map(math.isnan, before))

    def finish(self, model: keras.Model, data: Any) -> keras.Model:
        """Returns the model to save and evaluate, given the trained one with its best weights."""
        return model

    @abc.abstractmethod
    def build_report(self, model: keras.Model, data: Any) -> Any:
        """Evaluates a trained model; returns an `EvaluationReport`."""

    @abc.abstractmethod
    def evaluate(
        self, model: keras.Model, about: dict[str, Any], split: str
    ) -> tuple[dict[str, float], str]:
        """Returns the metrics of a saved `model` on a slice of data, and the slice's name.

        Args:
            model: What `zoo.model_files.load` returned.
            about: The metadata that `save` stored with the model.
            split: A slice of the task's data, or `""` for its test split.
        """

    @abc.abstractmethod
    def save(self, model: keras.Model, data: Any, path: Path) -> None:
        """Writes the part of a trained model that is used after training to `path`."""
