"""Detection: find the objects in each image, draw a box round each and name it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import zoo
from tasks.data import data_splits, geometry, splits
from tasks.detection import batches, report, selective_search, train_model
from tasks.detection import dataset as detection_dataset
from tasks.detection import metrics as metrics
from tasks.engine import hardware, plans
from tasks.engine.flags import flag, patience_flag
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report.evaluation_report import EvaluationReport
from zoo import model_files
from zoo.lazy import np

NUM_SUMMARY_IMAGES = 16
SUMMARY_KEYS = ("image", "boxes", "labels")
REGIONS_PER_IMAGE = {"rcnn": 32}  # of models for which each is a pass through the backbone


@register
class Detection(BackboneTask):
    """Teaches a model of the zoo where the objects of an image are, and what."""

    kind: ClassVar = "detector"
    curves: ClassVar = {"loss": "Loss", "ap": "Average precision", "ap50": "AP at overlap .5"}
    monitor: ClassVar = ("val_ap",)

    epochs: int = flag(6, "passes over the training split", low=1)
    batch_size: int = flag(8, "examples per step, over all replicas", low=1)
    clip_norm: float = flag(10.0, "longest gradient, all weights together; 0 for any", low=0.0)
    model: str = flag("faster_rcnn", "name of a zoo model; see `zoo list --kind detector`")
    dataset: str = flag(
        "shapes", "shapes, a COCO JSON file, a folder of Pascal VOC's or YOLO's, or tfds:NAME"
    )
    image_size: int = flag(128, "height and width of the images; 0 for the model's own", low=0)
    # Most of a detector is fresh beside its backbone: its head alone would learn little by itself.
    plan: str = flag(
        "full", f"what learns and when: {', '.join(plans.PRESETS)}; or YAML, or a file of it"
    )
    patience: int = patience_flag("val_ap")
    augment: str = flag(
        "none",
        "random changes of training images and their boxes",
        choices=tuple(geometry.LEVELS),
        search=tuple(geometry.LEVELS),
    )
    proposals: int = flag(
        128, "boxes an image that selective search gives, to models that look at such", low=1
    )
    search: str = flag(
        "fast", "how thoroughly selective search searches", choices=tuple(selective_search.MODES)
    )
    regions: int = flag(
        0,
        "boxes of an image that learn what they hold, a step; 0 for "
        f"{train_model.ROI_MATCHING.count}"
        + "".join(f", of {model} {count}" for model, count in REGIONS_PER_IMAGE.items()),
        low=0,
    )
    focal_gamma: float = flag(
        train_model.DENSE_MATCHING.gamma,
        "of retinanet's loss: how little the known counts",
        high=100.0,
    )

    def load(self):
        shape = self.shape()
        metrics.pairwise_iou(np.ones((1, 4)), np.ones((1, 4)))  # what is missing is said at once
        source = detection_dataset.load(self.dataset, self.data_dir or None)
        data_splits.check_classes(source, self.num_classes)
        data = detection_dataset.prepare(source, self.slices(), shape, self.resize, self.image_bits)
        parts = {name: getattr(data, name) for name in splits.ROLES}
        found = {name: part and self._with_proposals(part) for name, part in parts.items()}
        return dataclasses.replace(data, **found)

    def options(self):
        own = {"proposals": self.proposals} if self._takes_proposals() else {}
        return {**own, **super().options()}

    def training_model(self, model, data):
        return train_model.build_training_model(
            model,
            data.train.boxes.shape[1],
            dense=dataclasses.replace(train_model.DENSE_MATCHING, gamma=self.focal_gamma),
            classifying=dataclasses.replace(
                train_model.ROI_MATCHING, count=self._regions_per_image()
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
        parts = (np.asarray(batch[name])[:NUM_SUMMARY_IMAGES] for name in SUMMARY_KEYS)
        shown = [_draw_ground_truth(*row, data.source.classes) for row in zip(*parts, strict=True)]
        events.images("training images and boxes", np.stack(shown), 0)

    def training(self, data, *, augmented=True):
        return batches.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            augment=self.augment if augmented else "none",
            noise={train_model.RANDOM_INPUT: 1},
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        predictions = batches.predict(model, data.validation, batch_size=self.batch_size)
        return metrics.detection_metrics(data.validation, predictions, len(data.source.classes))

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.seen.bits,
            "model": self.model,
            "classes": list(data.source.classes),
            "resize": self.resize,
            "search": self.search,
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
        if self._takes_proposals():
            figures["proposal_recall"] = selective_search.recall(data.test)
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(
                self.model,
                self.data_name,
                figures,
                num_test=len(data.test),
                num_train=len(data.train),
                copies=len(data.copies),
            ),
            sections=report.sections(data.test, classes, predictions),
            warnings=[*detection_dataset.notes(data), *data.warnings()],
            metric_warnings=report.detection_warnings(figures),
        )

    def evaluate(self, model, about, split):
        source = detection_dataset.load(self.dataset, self.data_dir or None)
        part = self.evaluation_split(source, split)
        image = model.input["image"] if isinstance(model.input, dict) else model.input
        examples = detection_dataset.decode(part, tuple(image.shape[1:]), self.resize)
        examples = detection_dataset.remap_labels(examples, source.classes, about["classes"])
        predictions = batches.predict(
            model, self._with_proposals(examples), batch_size=self.batch_size
        )
        return metrics.metrics_with_interval(
            examples, predictions, len(about["classes"]), seed=self.seed
        ), part.name

    def _regions_per_image(self):
        return self.regions or REGIONS_PER_IMAGE.get(self.model, train_model.ROI_MATCHING.count)

    def _takes_proposals(self):
        return "proposals" in zoo.spec(self.model).inputs

    def _with_proposals(self, examples):
        """Returns examples with proposals, where the model takes them."""
        if not self._takes_proposals():
            return examples
        return selective_search.add_proposals(
            examples, max_proposals=self.proposals, mode=self.search
        )


def _draw_ground_truth(image, boxes, labels, classes):
    """Returns an image with its objects drawn into it."""
    true = labels >= 0
    return report.draw_boxes(
        image, report.boxes_of_classes(boxes[true], np.ones(true.sum()), labels[true], classes)
    )
