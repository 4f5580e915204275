"""Image classification, single-label and multi-label."""

from __future__ import annotations

import inspect
from typing import ClassVar

import zoo
from tasks.classification import half_batches, losses, metrics, report, tta
from tasks.classification.relabel import relabel
from tasks.data import batches, class_order, data_fingerprint, data_splits, decoding
from tasks.data.augment import LEVELS, MIXES
from tasks.engine import hardware, plans
from tasks.engine.flags import Between, augment_flag, flag, patience_flag
from tasks.engine.image_task import ImageTask
from tasks.engine.task import register
from tasks.report.evaluation_report import Evaluation
from zoo import builder, model_files
from zoo.catalog import RANDOM
from zoo.errors import UsageError
from zoo.graphs import HEAD_LAYER
from zoo.lazy import LazyModule, keras, np

decision = LazyModule("tasks.classification.decision")

SHOWN_EXAMPLES = 16
IMBALANCE_RATIO = 10  # largest to smallest class from which balanced accuracy is monitored


@register
class Classification(ImageTask):
    """Trains a classifier of the zoo on images with one label each, or with any number."""

    kind: ClassVar = "classifier"
    predictor: ClassVar = LazyModule("tasks.classification.predictor")
    exporter: ClassVar = LazyModule("tasks.classification.exporter")
    has_image_results: ClassVar = True
    curves: ClassVar = {
        "loss": "Loss",
        "accuracy": "Accuracy",
        "balanced_accuracy": "Balanced accuracy",
        "map": "Mean average precision",
    }
    # The history has the first column only if `_monitors_balanced_accuracy`.
    monitor: ClassVar = ("val_balanced_accuracy", "val_accuracy", "val_map", "-val_loss")
    monitor_flags: ClassVar = ("class_weight", "balance")

    model: str = flag("resnet20.cifar10", "name of a zoo model; see `zoo list`")
    dataset: str = flag(
        "fashion_sample", "fashion_sample, shapes, a folder, a CSV file or tfds:NAME"
    )
    augment: str = augment_flag("none", "training images", LEVELS)
    mix: str = flag(
        "none", "combine pairs of training images", choices=tuple(MIXES), search=tuple(MIXES)
    )
    random_erasing: float = flag(
        0.0, "probability of erasing a random rectangle", high=1.0, former="erase"
    )
    cached_views: int = flag(
        0,
        "augmented versions of each image for which features of frozen layers are cached; "
        "0: none, every epoch augments anew",
        low=0,
        former="feature_views",
    )
    tta: str = flag(
        "one",
        "test-time augmentation: views of each test image whose probabilities are averaged",
        choices=tuple(tta.VIEWS),
        former="views",
    )
    loss: str = flag("cross_entropy", "loss function", choices=losses.LOSS_NAMES)
    focal_gamma: float = flag(
        2.0,
        "focusing parameter of the focal loss: larger values down-weight easy images more",
        high=100.0,
    )
    class_weight: str = flag(
        "none",
        "balanced: the same as --balance loss",
        choices=("none", "balanced"),
    )
    balance: str = flag(
        "none",
        "imbalanced classes: loss weights them inversely to their frequency, sample draws "
        "as many images of each in an epoch",
        choices=("none", "loss", "sample"),
    )
    label_smoothing: float = flag(
        0.0,
        "share of each label that is distributed over all classes",
        search=Between(0.0, 0.2, log=False),
        high=1.0,
    )
    weight_decay: float = flag(
        -1.0,
        "decoupled weight decay of kernels, scaled by the learning rate; "
        "-1: 0.05 with adamw, else 1e-4",
        low=-1,
        high=100.0,
    )
    patience: int = patience_flag("val_accuracy (val_balanced_accuracy of imbalanced classes)")
    dropout: float = flag(
        0.0,
        "dropout rate before the logits; 0: the model's own",
        search=(0.0, 0.2, 0.5),
        high=0.99,
    )
    calibrate: str = flag(
        "none",
        "temperature: fit a temperature on the validation split and save it in the model",
        choices=("none", "temperature"),
    )
    error_costs: str = flag(
        "",
        "for two classes: costs of a false positive and a false negative, such as 1:5; the "
        "threshold with the lowest cost on the validation split is saved in the model",
    )

    def __post_init__(self):
        super().__post_init__()
        options = inspect.signature(zoo.spec(self.model).builder).parameters if self.dropout else ()
        if self.dropout and "dropout" not in options:
            others = ", ".join(f"{x}: {self.dropout:g}" for x in options if x.endswith("_dropout"))
            raise UsageError(
                f"{self.model} has no dropout right before its logits; remove --dropout"
                + (f", or use --model-options '{{{others}}}'" if others else "")
            )
        decision.check_flags(self)

    def load(self):
        shape = self.shape()
        data_splits.check_classes(self.source, self.num_classes)
        decision.check_labels(self, self.source)
        return data_splits.load(self.source, self.slices(), shape, self.resize, self.bits)

    def stages(self):
        spec = zoo.spec(self.model)
        # A pretrained head needs no stage of its own before all layers are trained.
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
        dropout = {"dropout": self.dropout} if self.dropout else {}
        auxiliary = {"auxiliary": True} if self._uses_auxiliary_heads() else {}
        return {**super().options(), **dropout, **auxiliary}

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
            data.train, self.seed, self.cached_views, self._augmentation()
        )

    def training(self, data, *, augmented=True):
        return batches.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            num_classes=len(data.source.classes),
            balanced=self.balance == "sample",
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
        if decision.check_validation(self, data):
            logits = self._logits(model, data.source, data.validation, self.tta)
            output = decision.adjusted(self, output, logits, data.validation.labels)
        return keras.Model(model.input, output, name=model.name)

    def save(self, model, data, path):
        metadata = {
            "task": self.name,
            "image_bits": data.findings.bits,
            "model": self.model,
            "classes": list(data.source.classes),
            "resize": self.resize,
            "multi_label": data.source.multi_label,
        }
        model_files.save(model, path, metadata)

    def build_report(self, model, data):
        logits = self._logits(model, data.source, data.test, self.tta)
        return report.evaluation_report(
            data, logits, model, model=self.model, dataset=self.data_name, seed=self.seed
        )

    def evaluate(self, model, about, split):
        source = class_order.named_as(self.source, about["classes"])
        selected = self.evaluation_split(source, split)
        digest = data_fingerprint.split_digest(selected)
        selected = relabel(selected, source.classes, about["classes"])
        examples = decoding.decode(selected, model.input_shape[1:], self.resize)
        logits = self._logits(model, source, examples, self.tta)
        figures = metrics.metrics_with_intervals(logits, examples.labels, seed=self.seed)
        results = report.image_results(examples, about["classes"], logits)
        return Evaluation(figures, selected.name, results, digest)

    def notes(self, data):
        return [
            *super().notes(data),
            *data_splits.class_notes(data),
            *data_splits.majority_baseline(data),
        ]

    def _augmentation(self):
        return {"augment": self.augment, "mix": self.mix, "erase": self.random_erasing}

    def _pretrained(self):
        """Returns whether the model starts from pretrained weights."""
        return self.weights != RANDOM and bool(self.weights or zoo.spec(self.model).weights)

    def _keeps_head(self):
        """Returns whether the initial weights are of a model with the classes of the data set."""
        weights_classes = model_files.read_class_names(self.weights)
        return bool(weights_classes) and builder.same_classes(weights_classes, self.source.classes)

    def _uses_auxiliary_heads(self):
        """Returns whether auxiliary heads are trained: if the model has some, from scratch only."""
        scratch = self.plan == "scratch" or (self.plan == "auto" and not self._pretrained())
        return bool(zoo.spec(self.model).auxiliary) and scratch

    def _monitors_balanced_accuracy(self, data):
        """Returns whether balanced accuracy selects the best epoch.

        It does if classes are balanced or the training split is imbalanced.
        """
        counts = np.bincount(data.train.labels, minlength=len(data.source.classes))
        imbalanced = counts.max() >= IMBALANCE_RATIO * max(1, counts.min())
        return imbalanced or self.class_weight == "balanced" or self.balance != "none"

    def _class_weights(self, data):
        if self.balance != "loss" and self.class_weight == "none":
            return None
        return losses.balanced_class_weights(data.train.labels, len(data.source.classes))

    def _logits(self, model, source, examples, views):
        """Returns the logits `(examples, classes)`, with test-time augmentation by `views`."""
        return tta.predict(
            model,
            examples,
            batch_size=self.batch_size,
            views=views,
            multi_label=source.multi_label,
        )
