"""Semantic segmentation: a class for each pixel of an image."""

from __future__ import annotations

import contextlib
import functools
from typing import ClassVar

from tasks.data import class_order, data_fingerprint, data_splits, geometry, image_io
from tasks.engine import backbones, hardware
from tasks.engine.flags import augment_flag, flag, flag_of, patience_flag
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report.evaluation_report import EvaluatedModel, Evaluation, EvaluationReport
from tasks.segmentation import batches, evaluation, losses, metrics, report
from tasks.segmentation import dataset as segmentation_dataset
from tasks.segmentation.threshold_map import NO_THRESHOLD
from zoo import model_files
from zoo.lazy import LazyModule, np

DEFAULT_EPOCHS = {False: 18, True: 12}  # by whether the backbone is pretrained
SHOWN_EXAMPLES = 16
SAMPLED_IMAGES = 16  # images whose size is read to find out whether the data set is resized


@register
class Segmentation(BackboneTask):
    """Trains a segmenter of the zoo on images and masks."""

    kind: ClassVar = "segmenter"
    predictor: ClassVar = LazyModule("tasks.segmentation.predictor")
    exporter: ClassVar = LazyModule("tasks.segmentation.exporter")
    has_image_results: ClassVar = True
    scratch_learning_rate: ClassVar = (
        2e-3  # `unet` converges faster on `shapes` than with 1e-3, and not at all with 6e-3
    )
    curves: ClassVar = {
        "loss": "Loss",
        "miou": "Mean intersection over union",
        "pixel_accuracy": "Pixel accuracy",
    }
    monitor: ClassVar = ("val_miou", "-val_loss")

    epochs: int = flag(
        0, "passes over the training split; 0: 18, or 12 with a pretrained backbone", low=0
    )
    batch_size: int = flag_of(BackboneTask, "batch_size", 8)
    model: str = flag("unet", "name of a zoo model; see `zoo list --kind segmenter`")
    dataset: str = flag(
        "shapes", "shapes, a folder of images/ and masks/, a COCO JSON file or tfds:NAME"
    )
    patience: int = patience_flag("val_miou")
    class_map: str = flag(
        "", "file of class names and, for color-coded masks, their colors", former="colours"
    )
    threshold: int = flag(
        NO_THRESHOLD,
        "masks of one object: values above it are the object, such as 127 for antialiased or JPEG "
        "masks, 0 for ids of instances; -1: masks have the values of classes",
        low=NO_THRESHOLD,
        high=65534,
    )
    image_size: int = flag_of(BackboneTask, "image_size", 128)
    augment: str = augment_flag("mirror", "training images and their masks", geometry.LEVELS)
    loss: str = flag(
        "cross_entropy+dice",
        f"loss function: {', '.join(losses.LOSSES)}, or a sum such as cross_entropy+dice",
        search=("cross_entropy", "focal", "cross_entropy+dice"),
    )
    focal_gamma: float = flag(
        2.0,
        "focusing parameter of the focal loss: larger values down-weight easy pixels more",
        high=100.0,
    )
    class_weight: str = flag(
        "none",
        "balanced: weight classes inversely to their frequency; median: median frequency "
        "balancing, as in SegNet",
        choices=losses.CLASS_WEIGHTS,
    )

    def __post_init__(self):
        super().__post_init__()
        losses.parse_loss(self.loss)
        if not self.epochs:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS[backbones.is_pretrained(self)])

    def load(self):
        shape = self.shape()
        source = class_order.match_weights(self.source, self.weights, segmentation_dataset.relabel)
        data_splits.check_classes(source, self.num_classes)
        return segmentation_dataset.prepare(source, self.slices(), shape, self.resize, self.bits)

    def compile(self, training_model, data, optimizer):
        num_classes = len(data.source.classes)
        weights = None
        if self.class_weight != "none":
            counts = losses.pixel_counts(data.train.labels, num_classes)
            weights = losses.class_weights(self.class_weight, counts)
        training_model.compile(
            optimizer=optimizer,
            loss=losses.segmentation_loss(
                self.loss, num_classes=num_classes, gamma=self.focal_gamma, class_weights=weights
            ),
            **hardware.compile_options(self, training_model),
        )

    def notes(self, data):
        return [*super().notes(data), *segmentation_dataset.notes(data)]

    def show(self, data, events):
        batch = next(iter(self.training(data).epoch(0)))
        pairs = zip(*(np.asarray(part)[:SHOWN_EXAMPLES] for part in batch), strict=True)
        overlays = [report.overlay(*pair, data.source.classes) for pair in pairs]
        events.images("training images and masks", np.stack(overlays), 0)

    def versions(self, data):
        return [(data.train, "")] if self.augment == "none" else []

    def training(self, data, *, augmented=True):
        return batches.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            augment=self.augment if augmented else "none",
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        size = self.batch_size
        counter, loss = evaluation.evaluate(model, data.validation, batch_size=size)
        events.confusion(counter.matrix, data.source.classes, step)
        return {**metrics.segmentation_metrics(counter.matrix), "loss": loss}

    def save(self, model, data, path):
        metadata = {
            "task": self.name,
            "image_bits": data.findings.bits,
            "model": self.model,
            "options": backbones.architecture_options(self),
            "classes": list(data.source.classes),
            "resize": self.resize,
            "size": list(data.image_shape[:2]),
            "own_size": _has_native_size(data),
        }
        model_files.save(model, path, metadata)

    def build_report(self, model, data):
        figures, counter = self._evaluate(model, data.test)
        figures |= metrics.deduplicated_miou(counter.counts_per_image, data.copies)
        classes = data.source.classes
        missing = segmentation_dataset.missing_classes(data.train, classes)
        predict = functools.partial(
            evaluation.predict, model, data.test, batch_size=self.batch_size
        )
        evaluated = EvaluatedModel(
            self.model, self.data_name, len(data.test), len(data.train), len(data.copies)
        )
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(evaluated, figures, len(classes)),
            sections=report.sections(data.test, classes, counter, predict),
            warnings=[
                *(f"no training image has the class {name}" for name in missing),
                *segmentation_dataset.notes(data),
                *data.warnings(),
            ],
            metric_warnings=report.segmentation_warnings(figures, counter.matrix, classes),
            image_results=report.image_results(data.test, counter),
            class_figures=report.class_figures(counter, classes, seed=self.seed),
        )

    @functools.cached_property
    def source(self):
        return self._load_source()

    def evaluate(self, model, about, split):
        classes = tuple(about["classes"])
        source = class_order.named_as(self._load_source(classes), classes)
        selected = self.evaluation_split(source, split)
        digest = data_fingerprint.split_digest(selected)
        selected = segmentation_dataset.relabel(selected, source.classes, classes)
        shape = model.input_shape[1:]
        examples = segmentation_dataset.decode(selected, len(classes), shape, self.resize)
        figures, counter = self._evaluate(model, examples)
        results = report.image_results(examples, counter)
        return Evaluation(figures, selected.name, results, digest)

    def _load_source(self, classes=()):
        return segmentation_dataset.load(
            self.dataset, self.data_dir or None, self.class_map, classes, self.threshold
        )

    def _evaluate(self, model, examples):
        """Returns the metrics of a model with an interval for mIoU, and the pixel counts."""
        counter, loss = evaluation.evaluate(model, examples, batch_size=self.batch_size)
        figures = metrics.metrics_with_intervals(
            counter.matrix, counter.counts_per_image, seed=self.seed
        )
        return {**figures, "loss": loss}, counter


def _has_native_size(data):
    """Returns whether images have the training size before resizing, by a sample of them."""
    items = next(iter(data.source.splits.values())).items
    sizes = set()
    for index in np.unique(np.linspace(0, len(items) - 1, SAMPLED_IMAGES).astype("int64")):
        with contextlib.suppress(image_io.UnreadableImage):
            sizes.add(tuple(image_io.image_size(items[int(index)])))
    return sizes == {tuple(data.image_shape[:2])}
