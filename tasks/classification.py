"""Classification: name the one object in each image, or all of them."""

from __future__ import annotations

import functools
import inspect
from typing import ClassVar

import zoo
from tasks.data import batches, decoding, labelled, sources, views
from tasks.data.augment import LEVELS, MIXES
from tasks.data.classes import relabelled
from tasks.engine import halves, hardware, losses, plans
from tasks.engine.evaluation import Verdict
from tasks.engine.flags import Between, flag, patience
from tasks.engine.image_task import ImageTask
from tasks.engine.task import register
from tasks.report import baselines, calibration, evidence, metrics
from zoo import builder, files
from zoo.catalog import HEAD, RANDOM
from zoo.errors import UsageError
from zoo.lazy import keras, np

SHOWN_EXAMPLES = 16
IMBALANCED = 10  # times as many training images of one class as of another


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
    goals: ClassVar = ("val_balanced_accuracy", "val_accuracy", "val_map", "-val_loss")

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
    views: str = flag("one", "of each test image, judged together", choices=views.LEVELS)
    loss: str = flag("cross_entropy", "what is taught by", choices=losses.NAMES)
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
    patience: int = patience("val_accuracy (val_balanced_accuracy of imbalanced classes)")
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
        labelled.check_classes(self._source, self.num_classes)
        return labelled.load(self._source, self.slices(), shape, self.resize, self.image_bits)

    def build(self, data):
        names = list(data.source.classes)
        return self.network(data.image_shape, len(names), classes=names)

    def stages(self):
        spec = zoo.spec(self.model)
        # A trained head needs no epochs of its own before all layers learn.
        return plans.resolve(
            "full" if self.plan == "auto" and self._keeps_head() else self.plan,
            epochs=self.epochs,
            pretrained=self._pretrained(),
            levels=spec.stages,
            rate=self.learning_rate,
            optimizer=self.optimizer,
            own=spec.weights and spec.weights.learning_rate,
            batch_norm=self.batch_norm,
            width=builder.head_width(self.model) if self._pretrained() else 0,
        )

    def options(self):
        own = {"dropout": self.dropout} if self.dropout else {}
        auxiliary = {"auxiliary": True} if self._auxiliary() else {}
        return {**super().options(), **own, **auxiliary}

    def learner(self, model, data):
        return halves.side_by_side(model, self.training(data).size, self.flops())

    def compile(self, learner, data, optimizer):
        spec = zoo.spec(self.model)
        loss = losses.classification(
            self.loss,
            multi_label=data.source.multi_label,
            smoothing=self.label_smoothing,
            gamma=self.focal_gamma,
            class_weights=self._class_weights(data),
        )
        several = isinstance(learner.output, dict)
        accuracy = (
            keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
            if data.source.multi_label
            else keras.metrics.CategoricalAccuracy("accuracy")
        )
        learner.compile(
            optimizer=optimizer,
            loss=dict.fromkeys(learner.output, loss) if several else loss,
            loss_weights={HEAD: 1.0, **spec.auxiliary} if several else None,
            metrics={HEAD: [accuracy]} if several else [accuracy],
            **hardware.compiling(self, learner),
        )

    def show(self, data, events):
        images, _ = next(iter(self.training(data).epoch(0)))
        events.images("training images", images[:SHOWN_EXAMPLES], 0)

    def versions(self, data):
        return labelled.versions(data.train, self.seed, self.feature_views, self._changes())

    def training(self, data, *, changed=True):
        return batches.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            num_classes=len(data.source.classes),
            heads=(HEAD, *zoo.spec(self.model).auxiliary) if self._auxiliary() else (),
            **(self._changes() if changed else {}),
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        logits = self._logits(model, data.source, data.validation, "one")
        labels = data.validation.labels
        figures = metrics.summary(logits, labels)
        if not data.source.multi_label:
            matrix = metrics.confusion(labels, metrics.predictions(logits), logits.shape[-1])
            events.confusion(matrix, data.source.classes, step)
            if not self._by_balance(data):
                del figures["balanced_accuracy"]
        return figures

    def finish(self, model, data):
        output = model.output[HEAD] if isinstance(model.output, dict) else model.output
        if self.calibrate == "temperature":
            if not data.validation:
                raise UsageError("--calibrate temperature needs a validation split")
            logits = self._logits(model, data.source, data.validation, self.views)
            heat = calibration.temperature(logits, data.validation.labels)
            output = keras.layers.Rescaling(1 / heat, name="temperature", dtype="float32")(output)
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
        files.save(model, path, about)

    def judge(self, model, data):
        logits = self._logits(model, data.source, data.test, self.views)
        figures = metrics.judged(logits, data.test.labels, seed=self.seed)
        figures |= metrics.deduplicated(logits, data.test.labels, data.copies)
        show = evidence.multi if data.source.multi_label else evidence.single
        return Verdict(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=evidence.lead(
                self.model,
                self.data_name,
                figures,
                tested=len(data.test),
                taught=len(data.train),
                classes=len(data.source.classes),
                copies=len(data.copies),
            ),
            sections=show(data.test, data.source.classes, logits),
            warnings=[*labelled.class_notes(data), *data.warnings()],
            doubts=baselines.classification(figures, data.test.labels, data.source.classes),
        )

    def evaluate(self, model, about, split):
        source = self._source
        part = self.judged(source, split)
        part = relabelled(part, source.classes, about["classes"])
        examples = decoding.decode(part, model.input_shape[1:], self.resize)
        logits = self._logits(model, source, examples, self.views)
        return metrics.judged(logits, examples.labels, seed=self.seed), part.name

    def notes(self, data):
        return [*super().notes(data), *labelled.class_notes(data), *labelled.majorities(data)]

    def _changes(self):
        return {"augment": self.augment, "mix": self.mix, "erase": self.erase}

    def _pretrained(self):
        """Tells whether the model starts from weights that know something."""
        return self.weights != RANDOM and bool(self.weights or zoo.spec(self.model).weights)

    def _keeps_head(self):
        """Tells whether the weights are of a model with the classes of the data."""
        theirs = files.classes(self.weights)
        return bool(theirs) and builder.same_classes(theirs, self._source.classes)

    def _auxiliary(self):
        """Tells whether the model learns with auxiliary heads: where it has such, from scratch."""
        scratch = self.plan == "scratch" or (self.plan == "auto" and not self._pretrained())
        return bool(zoo.spec(self.model).auxiliary) and scratch

    def _by_balance(self, data):
        """Tells whether the epoch is chosen by balanced accuracy: classes are to weigh the same."""
        counts = np.bincount(data.train.labels, minlength=len(data.source.classes))
        return self.class_weight == "balanced" or counts.max() >= IMBALANCED * max(1, counts.min())

    def _class_weights(self, data):
        if self.class_weight == "none":
            return None
        return losses.balanced(data.train.labels, len(data.source.classes))

    def _logits(self, model, source, examples, seen):
        """Returns the logits of examples, `seen` in one of the sets of views."""
        return views.predict(
            model,
            examples,
            batch_size=self.batch_size,
            views=seen,
            multi_label=source.multi_label,
        )
