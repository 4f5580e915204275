"""Classification: name the one object in each image, or all of them."""

from __future__ import annotations

import functools
import inspect
from typing import ClassVar

import zoo
from tasks.classification import calibration, half_batches, losses, metrics, report, tta
from tasks.classification.relabel import relabel
from tasks.data import batches, data_splits, decoding, sources
from tasks.data.augment import LEVELS, MIXES
from tasks.engine import hardware, plans
from tasks.engine.flags import Between, flag, patience_flag
from tasks.engine.image_task import ImageTask
from tasks.engine.task import register
from tasks.report.evaluation_report import EvaluationReport
from zoo import builder, model_files
from zoo.catalog import RANDOM
from zoo.errors import UsageError
from zoo.graphs import HEAD_LAYER
from zoo.lazy import keras, np

SHOWN_EXAMPLES = 16
IMBALANCE_RATIO = 10  # times as many training images of one class as of another


@register
class Classification(ImageTask):
    """Teaches a model of the zoo to tell the classes of a data set apart."""

    kind: ClassVar = "classifier"
    curves: ClassVar = {
        "loss": "Loss",
        "accuracy": "Accuracy",
        "balanced_accuracy": "Balanced accuracy",
        "map": "Mean average precision",
    }
    # The first is in the history where it is to choose the epoch: see `_by_balance`.
    monitor: ClassVar = ("val_balanced_accuracy", "val_accuracy", "val_map", "-val_loss")

    model: str = flag("resnet20.cifar10", "name of a zoo model; see `zoo list`")
    dataset: str = flag(
        "fashion_sample", "fashion_sample, shapes, a folder, a CSV file or tfds:NAME"
    )
    augment: str = flag(
        "none", "random changes of training images", choices=tuple(LEVELS), search=tuple(LEVELS)
    )
    mix: str = flag("none", "two images made one", choices=tuple(MIXES), search=tuple(MIXES))
    erase: float = flag(0.0, "share of images that lose a random rectangle", high=1.0)
    feature_views: int = flag(
        0,
        "changed versions of each image that the frozen part of a network is computed for, once; "
        "0: none, so that every epoch sees new ones",
        low=0,
    )
    views: str = flag("one", "of each test image, judged together", choices=tta.LEVELS)
    loss: str = flag("cross_entropy", "what is taught by", choices=losses.LOSS_NAMES)
    focal_gamma: float = flag(2.0, "of the focal loss: how little the known counts", high=100.0)
    class_weight: str = flag(
        "none", "balanced: rare classes count more", choices=("none", "balanced")
    )
    label_smoothing: float = flag(
        0.0,
        "share of a label spread over all classes",
        search=Between(0.0, 0.2, log=False),
        high=1.0,
    )
    weight_decay: float = flag(
        -1.0,
        "decoupled decay of kernels, times the rate; -1: 0.05 of adamw, else 1e-4",
        low=-1,
        high=100.0,
    )
    patience: int = patience_flag("val_accuracy (val_balanced_accuracy of imbalanced classes)")
    dropout: float = flag(
        0.0, "rate before the logits; 0: its own", search=(0.0, 0.2, 0.5), high=0.99
    )
    calibrate: str = flag(
        "none",
        "temperature: fit one on validation and save it in the model",
        choices=("none", "temperature"),
    )

    def __post_init__(self):
        super().__post_init__()
        known = inspect.signature(zoo.spec(self.model).builder).parameters if self.dropout else ()
        if self.dropout and "dropout" not in known:
            own = ", ".join(f"{x}: {self.dropout:g}" for x in known if x.endswith("_dropout"))
            raise UsageError(
                f"{self.model} has no dropout right before its logits; leave --dropout out"
                + (f", or take --model-options '{{{own}}}'" if own else "")
            )

    @functools.cached_property
    def _source(self):
        return sources.load(self.dataset, self.data_dir or None)

    def load(self):
        shape = self.shape()
        data_splits.check_classes(self._source, self.num_classes)
        return data_splits.load(self._source, self.slices(), shape, self.resize, self.image_bits)

    def build(self, data):
        names = list(data.source.classes)
        return self.network(data.image_shape, len(names), classes=names)

    def stages(self):
        spec = zoo.spec(self.model)
        # A trained head needs no epochs of its own before all layers learn.
        return plans.resolve_plan(
            "full" if self.plan == "auto" and self._keeps_head() else self.plan,
            epochs=self.epochs,
            pretrained=self._pretrained(),
            levels=spec.stages,
            rate=self.learning_rate,
            optimizer=self.optimizer,
            own=spec.weights and spec.weights.learning_rate,
            batch_norm=self.batch_norm,
            width=builder.head_in_features(self.model) if self._pretrained() else 0,
        )

    def options(self):
        own = {"dropout": self.dropout} if self.dropout else {}
        auxiliary = {"auxiliary": True} if self._uses_auxiliary_heads() else {}
        return {**super().options(), **own, **auxiliary}

    def training_model(self, model, data):
        return half_batches.parallel_half_batches(model, self.training(data).size, self.flops())

    def compile(self, training_model, data, optimizer):
        spec = zoo.spec(self.model)
        loss = losses.classification_loss(
            self.loss,
            multi_label=data.source.multi_label,
            smoothing=self.label_smoothing,
            gamma=self.focal_gamma,
            class_weights=self._class_weights(data),
        )
        multi_output = isinstance(training_model.output, dict)
        accuracy = (
            keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
            if data.source.multi_label
            else keras.metrics.CategoricalAccuracy("accuracy")
        )
        training_model.compile(
            optimizer=optimizer,
            loss=dict.fromkeys(training_model.output, loss) if multi_output else loss,
            loss_weights={HEAD_LAYER: 1.0, **spec.auxiliary} if multi_output else None,
            metrics={HEAD_LAYER: [accuracy]} if multi_output else [accuracy],
            **hardware.compile_options(self, training_model),
        )

    def show(self, data, events):
        images, _ = next(iter(self.training(data).epoch(0)))
        events.images("training images", images[:SHOWN_EXAMPLES], 0)

    def versions(self, data):
        return data_splits.augmented_versions(
            data.train, self.seed, self.feature_views, self._augmentation()
        )

    def training(self, data, *, augmented=True):
        return batches.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            num_classes=len(data.source.classes),
            heads=(HEAD_LAYER, *zoo.spec(self.model).auxiliary)
            if self._uses_auxiliary_heads()
            else (),
            **(self._augmentation() if augmented else {}),
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        logits = self._logits(model, data.source, data.validation, "one")
        labels = data.validation.labels
        figures = metrics.summary(logits, labels)
        if not data.source.multi_label:
            matrix = metrics.confusion_matrix(labels, metrics.predictions(logits), logits.shape[-1])
            events.confusion(matrix, data.source.classes, step)
            if not self._monitors_balanced_accuracy(data):
                del figures["balanced_accuracy"]
        return figures

    def finish(self, model, data):
        output = model.output[HEAD_LAYER] if isinstance(model.output, dict) else model.output
        if self.calibrate == "temperature":
            if not data.validation:
                raise UsageError("--calibrate temperature needs a validation split")
            logits = self._logits(model, data.source, data.validation, self.views)
            temperature = calibration.fit_temperature(logits, data.validation.labels)
            output = keras.layers.Rescaling(1 / temperature, name="temperature", dtype="float32")(
                output
            )
        return keras.Model(model.input, output, name=model.name)

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.seen.bits,
            "model": self.model,
            "classes": list(data.source.classes),
            "resize": self.resize,
            "multi_label": data.source.multi_label,
        }
        model_files.save(model, path, about)

    def build_report(self, model, data):
        logits = self._logits(model, data.source, data.test, self.views)
        figures = metrics.metrics_with_intervals(logits, data.test.labels, seed=self.seed)
        figures |= metrics.deduplicated_metrics(logits, data.test.labels, data.copies)
        show = (
            report.multi_label_sections if data.source.multi_label else report.single_label_sections
        )
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(
                self.model,
                self.data_name,
                figures,
                num_test=len(data.test),
                num_train=len(data.train),
                classes=len(data.source.classes),
                copies=len(data.copies),
            ),
            sections=show(data.test, data.source.classes, logits),
            warnings=[*data_splits.class_notes(data), *data.warnings()],
            metric_warnings=report.classification_warnings(
                figures, data.test.labels, data.source.classes
            ),
        )

    def evaluate(self, model, about, split):
        source = self._source
        part = self.evaluation_split(source, split)
        part = relabel(part, source.classes, about["classes"])
        examples = decoding.decode(part, model.input_shape[1:], self.resize)
        logits = self._logits(model, source, examples, self.views)
        return metrics.metrics_with_intervals(logits, examples.labels, seed=self.seed), part.name

    def notes(self, data):
        return [
            *super().notes(data),
            *data_splits.class_notes(data),
            *data_splits.majority_baseline(data),
        ]

    def _augmentation(self):
        return {"augment": self.augment, "mix": self.mix, "erase": self.erase}

    def _pretrained(self):
        """Tells whether the model starts from weights that know something."""
        return self.weights != RANDOM and bool(self.weights or zoo.spec(self.model).weights)

    def _keeps_head(self):
        """Tells whether the weights are of a model with the classes of the data."""
        weights_classes = model_files.read_class_names(self.weights)
        return bool(weights_classes) and builder.same_classes(weights_classes, self._source.classes)

    def _uses_auxiliary_heads(self):
        """Tells whether the model learns with auxiliary heads: where it has such, from scratch."""
        scratch = self.plan == "scratch" or (self.plan == "auto" and not self._pretrained())
        return bool(zoo.spec(self.model).auxiliary) and scratch

    def _monitors_balanced_accuracy(self, data):
        """Tells whether the epoch is chosen by balanced accuracy: classes are to weigh the same."""
        counts = np.bincount(data.train.labels, minlength=len(data.source.classes))
        return self.class_weight == "balanced" or counts.max() >= IMBALANCE_RATIO * max(
            1, counts.min()
        )

    def _class_weights(self, data):
        if self.class_weight == "none":
            return None
        return losses.balanced_class_weights(data.train.labels, len(data.source.classes))

    def _logits(self, model, source, examples, seen):
        """Returns the logits of examples, `seen` in one of the sets of views."""
        return tta.predict(
            model,
            examples,
            batch_size=self.batch_size,
            views=seen,
            multi_label=source.multi_label,
        )
