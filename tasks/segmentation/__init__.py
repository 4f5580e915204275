"""Segmentation: tell what each pixel of an image shows."""

from __future__ import annotations

import contextlib
import functools
from typing import ClassVar

from tasks.data import data_splits, geometry, image_io
from tasks.engine import backbones, hardware
from tasks.engine.flags import flag, patience_flag
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report.evaluation_report import EvaluationReport
from tasks.segmentation import batches, evaluation, losses, metrics, report
from tasks.segmentation import dataset as segmentation_dataset
from zoo import model_files
from zoo.lazy import np

DEFAULT_EPOCHS = {False: 18, True: 12}  # by whether a backbone is pretrained
SHOWN_EXAMPLES = 16
SAMPLED_IMAGES = 16  # images whose own size tells whether a data set was brought to another


@register
class Segmentation(BackboneTask):
    """Teaches a model of the zoo what each pixel of an image shows."""

    kind: ClassVar = "segmenter"
    scratch_learning_rate: ClassVar = (
        2e-3  # `unet` learns `shapes` faster than at 1e-3, and not at 6e-3
    )
    curves: ClassVar = {
        "loss": "Loss",
        "miou": "Mean intersection over union",
        "pixel_accuracy": "Pixel accuracy",
    }
    monitor: ClassVar = ("val_miou", "-val_loss")

    epochs: int = flag(
        0, "passes over the training split; 0 for 18, or 12 on a pretrained backbone", low=0
    )
    batch_size: int = flag(8, "examples per step, over all replicas", low=1)
    model: str = flag("unet", "name of a zoo model; see `zoo list --kind segmenter`")
    dataset: str = flag(
        "shapes", "shapes, a folder of images/ and masks/, a COCO JSON file or tfds:NAME"
    )
    patience: int = patience_flag("val_miou")
    colours: str = flag("", "file of class names and, for masks in colours, their colours")
    image_size: int = flag(128, "height and width of the images; 0 for the model's own", low=0)
    augment: str = flag(
        "mirror",
        "random changes of training images and their masks",
        choices=tuple(geometry.LEVELS),
        search=tuple(geometry.LEVELS),
    )
    loss: str = flag(
        "cross_entropy+dice",
        f"what is taught by: {', '.join(losses.LOSSES)}, or a sum such as cross_entropy+dice",
        search=("cross_entropy", "focal", "cross_entropy+dice"),
    )
    focal_gamma: float = flag(2.0, "of the focal loss: how little the known counts", high=100.0)
    class_weight: str = flag(
        "none",
        "balanced, or median as in SegNet: rare classes count more",
        choices=(losses.CLASS_WEIGHTS),
    )

    def __post_init__(self):
        super().__post_init__()
        losses.parse_loss(self.loss)
        if not self.epochs:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS[backbones.is_pretrained(self)])

    def load(self):
        shape = self.shape()
        source = segmentation_dataset.load(self.dataset, self.data_dir or None, self.colours)
        data_splits.check_classes(source, self.num_classes)
        return segmentation_dataset.data(source, self.slices(), shape, self.resize, self.image_bits)

    def compile(self, training_model, data, optimizer):
        count = len(data.source.classes)
        weights = None
        if self.class_weight != "none":
            counts = losses.pixel_counts(data.train.labels, count)
            weights = losses.class_weights(self.class_weight, counts)
        training_model.compile(
            optimizer=optimizer,
            loss=losses.segmentation_loss(
                self.loss, num_classes=count, gamma=self.focal_gamma, class_weights=weights
            ),
            **hardware.compile_options(self, training_model),
        )

    def notes(self, data):
        return [*super().notes(data), *segmentation_dataset.notes(data)]

    def show(self, data, events):
        batch = next(iter(self.training(data).epoch(0)))
        pairs = zip(*(np.asarray(part)[:SHOWN_EXAMPLES] for part in batch), strict=True)
        shown = [report.overlay(*pair, data.source.classes) for pair in pairs]
        events.images("training images and masks", np.stack(shown), 0)

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
        count, loss = evaluation.evaluate(model, data.validation, batch_size=size)
        events.confusion(count.matrix, data.source.classes, step)
        return {**metrics.segmentation_metrics(count.matrix), "loss": loss}

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.seen.bits,
            "model": self.model,
            "options": backbones.architecture_options(self),
            "classes": list(data.source.classes),
            "resize": self.resize,
            "size": list(data.image_shape[:2]),
            "own_size": _has_native_size(data),
        }
        model_files.save(model, path, about)

    def build_report(self, model, data):
        figures, count = self._figures(model, data.test)
        classes, absent = (
            data.source.classes,
            segmentation_dataset.missing_classes(data.train, data.source.classes),
        )
        predict = functools.partial(
            evaluation.predict, model, data.test, batch_size=self.batch_size
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
                classes=len(classes),
                copies=len(data.copies),
            ),
            sections=report.sections(data.test, classes, count, predict),
            warnings=[
                *(f"no training image has the class {name}" for name in absent),
                *segmentation_dataset.notes(data),
                *data.warnings(),
            ],
            metric_warnings=report.segmentation_warnings(figures, count.matrix, classes),
        )

    def evaluate(self, model, about, split):
        known = tuple(about["classes"])
        source = segmentation_dataset.load(self.dataset, self.data_dir or None, self.colours, known)
        part = self.evaluation_split(source, split)
        part = segmentation_dataset.relabel(part, source.classes, about["classes"])
        shape = model.input_shape[1:]
        examples = segmentation_dataset.decode(part, len(about["classes"]), shape, self.resize)
        return self._figures(model, examples)[0], part.name

    def _figures(self, model, examples):
        """Returns the figures of a model on some examples, with how far to trust the first."""
        count, loss = evaluation.evaluate(model, examples, batch_size=self.batch_size)
        figures = metrics.metrics_with_intervals(
            count.matrix, count.counts_per_image, seed=self.seed
        )
        return {**figures, "loss": loss}, count


def _has_native_size(data):
    """Tells whether the images of a data set, so far as was looked, had their size already."""
    items = next(iter(data.source.splits.values())).items
    sizes = set()
    for index in np.unique(np.linspace(0, len(items) - 1, SAMPLED_IMAGES).astype("int64")):
        with contextlib.suppress(image_io.UnreadableImage):
            sizes.add(tuple(image_io.image_size(items[int(index)])))
    return sizes == {tuple(data.image_shape[:2])}
