"""Sequences: the next character, the next values, or a label."""

from __future__ import annotations

from typing import ClassVar

import zoo
from tasks.data import builder_options
from tasks.data.dataset import short_name
from tasks.engine import hardware, plans, regularizers
from tasks.engine.flags import Between, flag
from tasks.engine.task import Task, register
from tasks.report.evaluation_report import EvaluationReport
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

batches = LazyModule("tasks.sequence.batches")
dataset = LazyModule("tasks.sequence.dataset")
encodings = LazyModule("tasks.sequence.encoding")
evaluation = LazyModule("tasks.sequence.evaluation")
report = LazyModule("tasks.sequence.report")
sources = LazyModule("tasks.sequence.sources")
losses = LazyModule("tasks.sequence.losses")

ALL = "all"


@register
class Sequence(Task):
    """Trains a recurrent network or a small transformer on text, series or labeled sequences."""

    kind: ClassVar = "sequence"
    min_steps_per_epoch: ClassVar = plans.MIN_STEPS_PER_EPOCH
    predictor: ClassVar = LazyModule("tasks.sequence.predictor")
    curves: ClassVar = {"loss": "Loss", "accuracy": "Accuracy", "mase": "Scaled error"}

    dataset: str = flag(
        "python_docs",
        "python_docs, mackey_glass, waves, temporal_order; a text, .csv, .npy or .npz file; or a "
        "folder with a subfolder per class",
    )
    columns: str = flag("", "columns of a CSV that are channels, such as x,y; default: all")
    label_column: str = flag("", "column of a CSV with the class of each step, to be predicted")
    length: int = flag(64, "steps per window, and of generated sequences", low=2)
    stride: int = flag(
        0, "steps between training windows; 0: --length, or fewer for a short series", low=0
    )
    validation_fraction: float = flag(
        0.1, "fraction for validation, which selects the best epoch; 0: no validation", high=0.5
    )
    test_fraction: float = flag(0.1, "fraction for the report", low=0.001, high=0.5)
    model: str = flag("lstm", "name of a zoo model; see `zoo list --kind sequence`")
    model_options: str = flag("", "builder options as YAML, such as '{embedding: 16}'")
    units: int = flag(0, "width of the model; 0: its default", search=(64, 128, 256))
    depth: int = flag(0, "number of layers; 0: the default of the model", search=(1, 2))
    dropout: float = flag(
        0.0, "dropout rate after each layer", high=0.99, search=Between(0.0, 0.5, log=False)
    )
    epochs: int = flag(8, "passes over the training windows", low=1)
    batch_size: int = flag(32, "windows or sequences per step, over all replicas", low=1)
    learning_rate: float = flag(
        0.01, "peak learning rate; 0: the default of the plan", search=Between(1e-4, 1e-1)
    )
    clip_norm: float = flag(1.0, "maximum global norm of the gradient; 0: no clipping", low=0.0)

    @property
    def data_name(self):
        """The name of the data set in a report."""
        return short_name(self.dataset)

    def flops(self):
        spec = self.spec()
        return (spec.flops or 0) * self.length / spec.input_shape[0]

    def spec(self):
        """Returns the spec of the model; raises `UsageError` if it is of another kind."""
        spec = zoo.spec(self.model)
        if spec.kind != self.kind:
            raise UsageError(
                f"{self.model} is a {spec.kind}; {self.name} needs a {self.kind} model: see "
                f"zoo list --kind {self.kind}"
            )
        return spec

    def load(self):
        self.spec()
        return dataset.prepare(self._source(), **self._split_options())

    def data_fingerprint(self, data):
        return data.fingerprint()

    def notes(self, data):
        return list(data.notes)

    def build(self, data):
        encoding = data.encoding
        flags = {name: getattr(self, name) for name in ("units", "depth", "dropout")}
        own = {
            "vocabulary": len(encoding.vocabulary or ()),
            "return_sequences": encoding.objective == encodings.NEXT,
            "mean": encoding.mean,
            "std": encoding.std,
        }
        given = builder_options.parse_model_options(self.model_options)
        if taken := sorted(given.keys() & own.keys()):
            raise UsageError(f"--model-options cannot set {taken[0]}: the data do")
        model = zoo.build(
            self.model,
            input_shape=(None, len(encoding.channels) or 1),
            num_classes=encoding.num_outputs,
            **own,
            **{name: value for name, value in flags.items() if value},
            **given,
        )
        regularizers.add_kernel_regularization(model, self.l1, self.l2)
        return model

    def compile(self, training_model, data, optimizer):
        encoding = data.encoding
        forecasts = not encoding.vocabulary and encoding.objective == encodings.NEXT
        training_model.compile(
            optimizer=optimizer,
            loss=losses.scaled_squared_error(encoding.std)
            if forecasts
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[] if forecasts else [keras.metrics.SparseCategoricalAccuracy("accuracy")],
            **hardware.compile_options(self, training_model),
        )

    def training(self, data, *, augmented=True):
        return batches.training(data.train, batch_size=self.batch_size, seed=self.seed)

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        return self._metrics(model, data.encoding, data.validation)[0]

    def save(self, model, data, path):
        about = {"task": self.name, "model": self.model, **data.encoding.metadata()}
        model_files.save(model, path, about)

    def build_report(self, model, data):
        figures, predictions = self._metrics(model, data.encoding, data.test, seed=self.seed)
        figures |= evaluation.baseline_metrics(data.encoding, data.train, data.test)
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(self.model, data, figures),
            sections=report.sections(model, data, predictions, seed=self.seed),
            warnings=list(data.notes),
            metric_warnings=report.warnings(data, figures),
        )

    def evaluate(self, model, about, split):
        encoding = encodings.Encoding.from_metadata(about)
        split = split or "test"
        if split not in (*dataset.ROLES, ALL):
            raise UsageError(f"--split takes {', '.join(dataset.ROLES)} or {ALL}, not {split!r}")
        source = self._source()
        encoding.check_source(source, self.dataset)
        if split == ALL:
            labels = source.labels if source.classes else [None]
            pairs = list(zip(source.sequences, labels, strict=True))
        else:
            pairs = dataset.split(source, **self._split_options()).get(split)
        if not pairs:
            raise UsageError("the run has no validation part; use --split test")
        labels = {label: encoding.classes.index(name) for label, name in enumerate(source.classes)}
        part = dataset.encode(split, [(x, labels.get(label)) for x, label in pairs], encoding)
        if not len(part):
            needed = encoding.length + part.stride
            raise UsageError(
                f"{self.dataset} has {len(part.steps):,} steps; expected {needed:,} or more"
            )
        return self._metrics(model, encoding, part, seed=self.seed)[0], split

    def _source(self):
        return sources.load(self.dataset, self.length, self.columns, self.label_column)

    def _split_options(self):
        return {
            "length": self.length,
            "stride": self.stride,
            "validation": self.validation_fraction,
            "test": self.test_fraction,
        }

    def _metrics(self, model, encoding, part, seed=None):
        options = {"batch_size": self.batch_size, "seed": seed}
        return evaluation.compute_metrics(model, encoding, part, **options)
