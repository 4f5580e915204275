"""Classification: name the one object in each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import zoo
from tasks.data import augment, batches, sources, splits
from tasks.engine import finetune, hardware, optimize
from tasks.engine.task import Between, Task, Verdict, flag, register
from tasks.report import metrics, page, plots
from zoo import files
from zoo.catalog import RANDOM
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

yaml = LazyModule("yaml")

SHOWN_MISTAKES = 24


@dataclass(frozen=True)
class Data:
    """What a classification run learns from.

    Attributes:
        source: the `sources.Source`, for its classes and what it skipped.
        train, validation, test: `batches.Examples`; validation may be `None`.
        image_shape: `(height, width, channels)` of every image.
    """

    source: sources.Source
    train: batches.Examples
    validation: batches.Examples | None
    test: batches.Examples
    image_shape: tuple[int, int, int]


@register
class Classification(Task):
    """Teaches a model of the zoo to tell the classes of a data set apart."""

    curves: ClassVar = {"loss": "Loss", "accuracy": "Accuracy"}

    model: str = flag("resnet20.cifar10", "name of a zoo model; see `zoo list`")
    weights: str = flag("", "file to start from, in place of the model's own weights; or random")
    model_options: str = flag("", "builder options as YAML, such as '{widths: [32, 64]}'")
    dataset: str = flag(
        "fashion_sample", "fashion_sample, shapes, a folder, a CSV file or tfds:NAME"
    )
    data_dir: str = flag("", "where TFDS keeps its data sets")
    train_split: str = flag("", "slice to learn from, such as train[:4000]")
    validation_split: str = flag("", "slice that picks the best epoch; none for no validation")
    test_split: str = flag("", "slice that the report is about")
    image_size: int = flag(0, "height and width of the images; 0 for the model's own", low=0)
    resize: str = flag(
        "stretch",
        "how images get there",
        choices=("stretch", "crop", "pad"),
        search=("stretch", "crop"),
    )
    num_classes: int = flag(0, "classes to expect; 0 for as many as the data have", low=0)
    plan: str = flag(
        "auto", "what learns: scratch, full or probe (the logits alone)", choices=finetune.PLANS
    )
    batch_norm: str = flag(
        "auto", "statistics of pretrained BatchNorm: auto freezes them", choices=finetune.POLICIES
    )
    augment: str = flag(
        "none", "random changes of training images", choices=augment.LEVELS, search=augment.LEVELS
    )
    label_smoothing: float = flag(
        0.0,
        "share of a label spread over all classes",
        search=Between(0.0, 0.2, log=False),
        low=0.0,
    )
    dropout: float = flag(0.0, "rate before the logits", search=(0.0, 0.2, 0.5), low=0.0)

    def load(self):
        spec = zoo.spec(self.model)
        if spec.kind != "classifier":
            raise UsageError(f"{self.model} is a {spec.kind}; classification needs a classifier")
        height, width, channels = spec.input_shape
        size = (self.image_size or height, self.image_size or width)
        shape = spec.checked_shape((*size, channels))
        source = sources.load(self.dataset, self.data_dir or None)
        if self.num_classes not in (0, len(source.classes)):
            raise UsageError(
                f"{self.dataset} has {len(source.classes)} classes, not {self.num_classes}"
            )
        parts = splits.plan(source, self.train_split, self.validation_split, self.test_split)
        decoded = [part and batches.decode(part, shape, self.resize) for part in parts]
        return Data(source, *decoded, shape)

    def build(self, data, steps):
        classes = len(data.source.classes)
        facts = zoo.spec(self.model).weights
        pretrained = self.weights != RANDOM and bool(self.weights or facts)
        plan = finetune.plan(self.plan, pretrained)
        model = zoo.build(
            self.model,
            input_shape=data.image_shape,
            num_classes=classes,
            weights=self.weights or None,
            **self._options(),
        )
        finetune.freeze(model, plan, self.batch_norm)
        inputs = keras.Input(data.image_shape, name="image")
        x = inputs
        for layer in augment.layers(self.augment, self.seed):
            x = layer(x)
        learner = keras.Model(inputs, model(x), name="learner")
        rate = optimize.schedule(
            self.schedule,
            finetune.rate(self.learning_rate, plan, self.optimizer, facts),
            steps=steps,
            warmup_steps=round(self.warmup_epochs * steps / self.epochs),
        )
        learner.compile(
            optimizer=optimize.optimizer(
                self.optimizer, rate, momentum=self.momentum, weight_decay=self.weight_decay
            ),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=self.label_smoothing
            ),
            jit_compile=hardware.jit(),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
        return learner

    def training(self, data, start):
        return batches.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            start=start,
            num_classes=len(data.source.classes),
        )

    def validate(self, model, data):
        if not data.validation:
            return {}
        return metrics.classification(self._logits(model, data.validation), data.validation.labels)

    def better(self, row, best):
        def rank(row):
            return row["val_accuracy"], -row["val_loss"]

        # With nothing to choose by, the last epoch is the one to keep.
        return "val_accuracy" not in row or rank(row) > rank(best)

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "model": self.model,
            "classes": list(data.source.classes),
            "resize": self.resize,
        }
        files.save(product(model), path, about)

    def judge(self, model, data):
        logits = self._logits(model, data.test)
        figures = metrics.classification(logits, data.test.labels)
        parts = [part for part in (data.train, data.validation, data.test) if part]
        bad = [*data.source.skipped, *(pair for part in parts for pair in part.dropped)]
        return Verdict(
            figures=figures,
            title=f"{self.model} on {self.dataset}",
            lead=(
                f"{self.model} names {figures['accuracy']:.1%} of {len(data.test):,} test images "
                f"of {self.dataset} right, which it never saw while learning from "
                f"{len(data.train):,} others of {len(data.source.classes)} classes."
            ),
            sections=evidence(data.test, data.source.classes, logits),
            warnings=[f"skipped {path}: {reason}" for path, reason in bad],
        )

    def evaluate(self, model, about, split):
        source = sources.load(self.dataset, self.data_dir or None)
        own = splits.plan(source, self.train_split, self.validation_split, self.test_split)[-1]
        part = splits.select(source, split) if split else own
        part = relabelled(part, source.classes, about["classes"])
        examples = batches.decode(part, model.input_shape[1:], self.resize)
        logits = batches.predict(model, examples, batch_size=self.batch_size)
        return metrics.classification(logits, examples.labels), part.name

    def _options(self):
        """Returns the options of the model's builder."""
        try:
            options = yaml.safe_load(self.model_options) or {}
        except yaml.YAMLError:
            options = None
        if not isinstance(options, dict):
            raise UsageError(
                f"--model-options takes YAML such as '{{depth: 2}}', not {self.model_options!r}"
            )
        return {**options, **({"dropout": self.dropout} if self.dropout else {})}

    def _logits(self, learner, examples):
        return batches.predict(product(learner), examples, batch_size=self.batch_size)


def product(learner):
    """Returns the model inside a `learner`, without augmentation and optimiser."""
    return learner.layers[-1]


def relabelled(split, classes, known):
    """Returns a split whose labels are positions in `known`, found by the names of classes.

    Args:
        split: a `sources.Split`.
        classes: the names that its labels stand for.
        known: the names that a model was taught, in the order of its logits.

    Raises:
        UsageError: an example has a class that is not known.
    """
    present = [classes[label] for label in np.unique(split.labels)]
    strange = [name for name in present if name not in known]
    if strange:
        raise UsageError(
            f"{split.name} has classes that the model was not taught: {', '.join(strange)}; "
            f"it knows {', '.join(known)}"
        )
    places = np.array([known.index(name) if name in known else -1 for name in classes])
    return sources.Split(split.name, split.items, places[split.labels])


def evidence(examples, classes, logits):
    """Returns the report's sections on what a classifier said of some examples.

    Args:
        examples: `batches.Examples` with labels.
        classes: the names of the classes, in label order.
        logits: float `(count, num_classes)`.
    """
    labels, said = examples.labels, metrics.predictions(logits)
    matrix = metrics.confusion(labels, said, len(classes))
    rows = [
        {"class": name, **scores}
        for name, scores in zip(classes, metrics.per_class(matrix), strict=True)
    ]
    sections = [
        ("Classes", page.table(rows, ["class", "precision", "recall", "f1", "support"])),
        ("Confusion matrix", plots.confusion(matrix, classes)),
    ]
    worst = metrics.worst_mistakes(logits, labels, SHOWN_MISTAKES)
    if len(worst):
        sure = metrics.probabilities(logits[worst])
        items = [
            (image, f"{classes[labels[i]]}\ntaken for {classes[said[i]]}, {sure[row, said[i]]:.0%}")
            for row, (i, image) in enumerate(zip(worst, examples.pixels[worst], strict=True))
        ]
        sections.append(("Worst mistakes", plots.gallery(items)))
    return sections
