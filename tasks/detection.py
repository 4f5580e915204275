"""Detection: find the objects in each image, draw a box round each and name it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import zoo
from tasks.data import box_stream, boxed, geometry, labelled, splits
from tasks.data import proposals as selective_search
from tasks.engine import detectors, hardware, plans
from tasks.engine.evaluation import Verdict
from tasks.engine.flags import flag, patience
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report import baselines, detections
from tasks.report import boxes as measures
from zoo import files
from zoo.lazy import np

SHOWN_EXAMPLES = 16
SHOWN = ("image", "boxes", "labels")
REGIONS = {"rcnn": 32}  # of models for which each is a pass through the backbone


@register
class Detection(BackboneTask):
    """Teaches a model of the zoo where the objects of an image are, and what."""

    kind: ClassVar = "detector"
    curves: ClassVar = {"loss": "Loss", "ap": "Average precision", "ap50": "AP at overlap .5"}
    goals: ClassVar = ("val_ap",)

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
    patience: int = patience("val_ap")
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
        f"boxes of an image that learn what they hold, a step; 0 for {detectors.CLASSIFYING.count}"
        + "".join(f", of {model} {count}" for model, count in REGIONS.items()),
        low=0,
    )
    focal_gamma: float = flag(
        detectors.DENSE.gamma, "of retinanet's loss: how little the known counts", high=100.0
    )

    def load(self):
        shape = self.shape()
        measures.overlaps(np.ones((1, 4)), np.ones((1, 4)))  # what is missing is said at once
        source = boxed.load(self.dataset, self.data_dir or None)
        labelled.check_classes(source, self.num_classes)
        data = boxed.plan(source, self.slices(), shape, self.resize, self.image_bits)
        parts = {name: getattr(data, name) for name in splits.ROLES}
        found = {name: part and self._proposed(part) for name, part in parts.items()}
        return dataclasses.replace(data, **found)

    def options(self):
        own = {"proposals": self.proposals} if self._takes_proposals() else {}
        return {**own, **super().options()}

    def learner(self, model, data):
        return detectors.learner(
            model,
            data.train.boxes.shape[1],
            dense=dataclasses.replace(detectors.DENSE, gamma=self.focal_gamma),
            classifying=dataclasses.replace(detectors.CLASSIFYING, count=self._regions()),
        )

    def compile(self, learner, data, optimizer):
        detectors.compile_losses(learner, optimizer, **hardware.compiling(self, learner))

    def notes(self, data):
        return [*super().notes(data), *(line for part in data.parts for line in part.notes)]

    def show(self, data, events):
        batch, _ = next(iter(self.training(data).epoch(0)))
        parts = (np.asarray(batch[name])[:SHOWN_EXAMPLES] for name in SHOWN)
        shown = [_shown(*row, data.source.classes) for row in zip(*parts, strict=True)]
        events.images("training images and boxes", np.stack(shown), 0)

    def training(self, data, *, changed=True):
        return box_stream.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            augment=self.augment if changed else "none",
            noise={detectors.DRAW: 1},
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        answers = box_stream.predict(model, data.validation, batch_size=self.batch_size)
        return measures.figures(data.validation, answers, len(data.source.classes))

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
            answers = box_stream.predict(model, data.validation, batch_size=self.batch_size)
            least = measures.best_threshold(data.validation, answers, len(data.source.classes))
            about["least"] = round(least, 4)
        files.save(model, path, about)

    def judge(self, model, data):
        classes = data.source.classes
        answers = box_stream.predict(model, data.test, batch_size=self.batch_size)
        figures = measures.judged(data.test, answers, len(classes), seed=self.seed)
        if self._takes_proposals():
            figures["proposal_recall"] = selective_search.recall(data.test)
        return Verdict(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=detections.lead(
                self.model,
                self.data_name,
                figures,
                tested=len(data.test),
                taught=len(data.train),
                copies=len(data.copies),
            ),
            sections=detections.sections(data.test, classes, answers),
            warnings=[*boxed.notes(data), *data.warnings()],
            doubts=baselines.detection(figures),
        )

    def evaluate(self, model, about, split):
        source = boxed.load(self.dataset, self.data_dir or None)
        part = self.judged(source, split)
        image = model.input["image"] if isinstance(model.input, dict) else model.input
        examples = boxed.decode(part, tuple(image.shape[1:]), self.resize)
        examples = boxed.relabelled(examples, source.classes, about["classes"])
        answers = box_stream.predict(model, self._proposed(examples), batch_size=self.batch_size)
        return measures.judged(examples, answers, len(about["classes"]), seed=self.seed), part.name

    def _regions(self):
        return self.regions or REGIONS.get(self.model, detectors.CLASSIFYING.count)

    def _takes_proposals(self):
        return "proposals" in zoo.spec(self.model).inputs

    def _proposed(self, examples):
        """Returns examples with proposals, where the model takes them."""
        if not self._takes_proposals():
            return examples
        return selective_search.added(examples, most=self.proposals, mode=self.search)


def _shown(image, boxes, labels, classes):
    """Returns an image with its objects drawn into it."""
    true = labels >= 0
    return detections.drawn(
        image, detections.of_classes(boxes[true], np.ones(true.sum()), labels[true], classes)
    )
