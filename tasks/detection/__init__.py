"""Object detection: finds the objects in an image, with a bounding box, class and score each."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import zoo
from tasks.data import class_order, data_fingerprint, data_splits, geometry, splits
from tasks.detection import (
    batches,
    box_annotations,
    coco_metrics,
    dataset,
    head_losses,
    metrics,
    report,
    selective_search,
    train_model,
)
from tasks.engine import hardware
from tasks.engine.flags import augment_flag, flag, flag_of, patience_flag
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report.evaluation_report import EvaluatedModel, Evaluation, EvaluationReport
from zoo import model_files
from zoo.lazy import LazyModule, np

NUM_SUMMARY_IMAGES = 16
SUMMARY_KEYS = ("image", "boxes", "labels")
# RoIs per image to train on, for models that pass each through the backbone.
REGIONS_PER_IMAGE = {"rcnn": 32}


@register
class Detection(BackboneTask):
    """Trains a detector of the zoo."""

    kind: ClassVar = "detector"
    predictor: ClassVar = LazyModule("tasks.detection.predictor")
    exporter: ClassVar = LazyModule("tasks.detection.exporter")
    has_image_results: ClassVar = True
    curves: ClassVar = {"loss": "Loss", "ap": "Average precision", "ap50": "AP at an IoU of .5"}
    monitor: ClassVar = ("val_ap",)

    epochs: int = flag_of(BackboneTask, "epochs", 6)
    batch_size: int = flag_of(BackboneTask, "batch_size", 8)
    clip_norm: float = flag_of(BackboneTask, "clip_norm", 10.0)
    model: str = flag("faster_rcnn", "name of a zoo model; see `zoo list --kind detector`")
    dataset: str = flag(
        "shapes", "shapes, a COCO JSON file, a Pascal VOC or YOLO folder, or tfds:NAME"
    )
    image_size: int = flag_of(BackboneTask, "image_size", 128)
    # Most of a detector is randomly initialized: training its head alone would not suffice.
    plan: str = flag_of(BackboneTask, "plan", "full")
    patience: int = patience_flag("val_ap")
    augment: str = augment_flag("none", "training images and their boxes", geometry.LEVELS)
    proposals: int = flag(
        128, "selective-search proposals per image, for rcnn and fast_rcnn", low=1
    )
    search_mode: str = flag(
        "fast",
        "mode of selective search",
        choices=tuple(selective_search.MODES),
        former="search",
    )
    regions_per_image: int = flag(
        0,
        f"RoIs per image to train on; 0 for {head_losses.ROI_MATCHING.count}"
        + "".join(f", of {model} {count}" for model, count in REGIONS_PER_IMAGE.items()),
        low=0,
        former="regions",
    )
    focal_gamma: float = flag(
        head_losses.DENSE_MATCHING.gamma,
        "focusing parameter of the focal loss of retinanet",
        high=100.0,
    )

    def load(self):
        shape = self.shape()
        # Fails before training if pycocotools is not installed.
        coco_metrics.pairwise_iou(np.ones((1, 4)), np.ones((1, 4)))
        source = class_order.match_weights(self.source, self.weights, box_annotations.relabel)
        data_splits.check_classes(source, self.num_classes)
        data = dataset.prepare(source, self.slices(), shape, self.resize, self.bits)
        parts = {name: getattr(data, name) for name in splits.ROLES}
        parts = {name: part and self._with_proposals(part) for name, part in parts.items()}
        return dataclasses.replace(data, **parts)

    def options(self):
        own = {"proposals": self.proposals} if self._takes_proposals() else {}
        return {**own, **super().options()}

    def training_model(self, model, data):
        return train_model.build_training_model(
            model,
            data.train.boxes.shape[1],
            dense=dataclasses.replace(head_losses.DENSE_MATCHING, gamma=self.focal_gamma),
            classifying=dataclasses.replace(
                head_losses.ROI_MATCHING, count=self._num_sampled_regions()
            ),
        )

    def compile(self, training_model, data, optimizer):
        train_model.compile_losses(
            training_model, optimizer, **hardware.compile_options(self, training_model)
        )

    def notes(self, data):
        return [*super().notes(data), *(line for part in data.parts for line in part.notes)]

    def show(self, data, events):
        batch, _ = next(iter(self.training(data).epoch(0)))
        columns = (np.asarray(batch[name])[:NUM_SUMMARY_IMAGES] for name in SUMMARY_KEYS)
        rows = zip(*columns, strict=True)
        images = [_draw_ground_truth(*row, data.source.classes) for row in rows]
        events.images("training images and boxes", np.stack(images), 0)

    def training(self, data, *, augmented=True):
        return batches.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            augment=self.augment if augmented else "none",
            noise={head_losses.RANDOM_INPUT: 1},
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        predictions = batches.predict(model, data.validation, batch_size=self.batch_size)
        return metrics.detection_metrics(data.validation, predictions, len(data.source.classes))

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.findings.bits,
            "model": self.model,
            "classes": list(data.source.classes),
            "resize": self.resize,
            "search": self.search_mode,
        }
        if data.validation:
            predictions = batches.predict(model, data.validation, batch_size=self.batch_size)
            score_threshold = metrics.best_score_threshold(
                data.validation, predictions, len(data.source.classes)
            )
            about["least"] = round(score_threshold, 4)
        model_files.save(model, path, about)

    def build_report(self, model, data):
        classes = data.source.classes
        predictions = batches.predict(model, data.test, batch_size=self.batch_size)
        figures = metrics.metrics_with_interval(
            data.test, predictions, len(classes), seed=self.seed
        )
        figures |= metrics.deduplicated_ap(data.test, predictions, len(classes), data.copies)
        if self._takes_proposals():
            figures["proposal_recall"] = selective_search.recall(data.test)
        evaluated = EvaluatedModel(
            self.model, self.data_name, len(data.test), len(data.train), len(data.copies)
        )
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(evaluated, figures),
            sections=report.sections(data.test, classes, predictions),
            warnings=[*dataset.notes(data), *data.warnings()],
            metric_warnings=report.detection_warnings(figures),
            image_results=report.image_results(data.test, predictions, len(classes)),
            class_figures=report.class_figures(data.test, classes, predictions),
        )

    @functools.cached_property
    def source(self):
        return dataset.load(self.dataset, self.data_dir or None)

    def evaluate(self, model, about, split):
        source = class_order.named_as(self.source, about["classes"])
        part = self.evaluation_split(source, split)
        image = model.input["image"] if isinstance(model.input, dict) else model.input
        examples = dataset.decode(part, tuple(image.shape[1:]), self.resize)
        examples = dataset.remap_labels(examples, source.classes, about["classes"])
        predictions = batches.predict(
            model, self._with_proposals(examples), batch_size=self.batch_size
        )
        figures = metrics.metrics_with_interval(
            examples, predictions, len(about["classes"]), seed=self.seed
        )
        results = report.image_results(examples, predictions, len(about["classes"]))
        return Evaluation(figures, part.name, results, data_fingerprint.split_digest(part))

    def _num_sampled_regions(self):
        default = REGIONS_PER_IMAGE.get(self.model, head_losses.ROI_MATCHING.count)
        return self.regions_per_image or default

    def _takes_proposals(self):
        return "proposals" in zoo.spec(self.model).inputs

    def _with_proposals(self, examples):
        """Returns examples with proposals, where the model takes them."""
        if not self._takes_proposals():
            return examples
        return selective_search.add_proposals(
            examples, max_proposals=self.proposals, mode=self.search_mode
        )


def _draw_ground_truth(image, boxes, labels, classes):
    """Returns an image with its ground truth boxes drawn into it."""
    valid = labels >= 0
    scores = np.ones(valid.sum())
    drawn_boxes = report.boxes_of_classes(boxes[valid], scores, labels[valid], classes)
    return report.draw_boxes(image, drawn_boxes)
