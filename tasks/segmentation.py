"""Segmentation: tell what each pixel of an image shows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import ClassVar

import zoo
from tasks.data import geometry, labelled, mask_stream, masked, readers, splits
from tasks.engine import backbones, hardware, losses, mask_losses, mask_measures, plans, specs
from tasks.engine.task import Task, Verdict, flag, register
from tasks.report import masks, overlays
from zoo import files
from zoo.lazy import np

RATE = 2e-3  # from random weights: `unet` learns `shapes` faster than at 1e-3, and not at 6e-3
SHOWN_EXAMPLES = 16
LOOKED_AT = 16  # images whose own size tells whether a data set was brought to another


@register
class Segmentation(Task):
    """Teaches a model of the zoo what each pixel of an image shows."""

    curves: ClassVar = {
        "loss": "Loss",
        "miou": "Mean intersection over union",
        "pixel_accuracy": "Pixel accuracy",
    }

    epochs: int = flag(18, "passes over the training split", low=1)
    batch_size: int = flag(8, "examples per step, over all replicas", low=1)
    model: str = flag("unet", "name of a zoo model; see `zoo list --kind segmenter`")
    weights: str = flag("", "file to start from; or random, for the backbone too")
    backbone: str = flag("", "a zoo name for the encoder, of models that take any; their own")
    backbone_weights: str = flag("", "file for the encoder, in place of its tag's; or random")
    model_options: str = flag("", "builder options as YAML, such as '{widths: [32, 64]}'")
    dataset: str = flag(
        "shapes", "shapes, a folder of images/ and masks/, a COCO JSON file or tfds:NAME"
    )
    data_dir: str = flag("", "where TFDS keeps its data sets")
    colours: str = flag("", "file of class names and, for masks in colours, their colours")
    train_split: str = flag("", "slice to learn from, such as train[:4000]")
    validation_split: str = flag("", "slice that picks the best epoch; none for no validation")
    test_split: str = flag("", "slice that the report is about")
    image_size: int = flag(128, "height and width of the images; 0 for the model's own", low=0)
    resize: str = flag(
        "stretch",
        "how images and masks get there",
        choices=("stretch", "crop", "pad"),
        search=("stretch", "crop"),
    )
    channels: int = flag(0, "of the images: 1 for grey, 3 for RGB; 0 for the model's own", low=0)
    num_classes: int = flag(0, "classes to expect; 0 for as many as the data have", low=0)
    plan: str = flag(
        "auto", f"what learns and when: {', '.join(plans.PRESETS)}; or YAML, or a file of it"
    )
    batch_norm: str = flag(
        "auto",
        "statistics of pretrained BatchNorm: auto freezes them",
        choices=("auto", *plans.POLICIES),
    )
    augment: str = flag(
        "mirror",
        "random changes of training images and their masks",
        choices=tuple(geometry.LEVELS),
        search=tuple(geometry.LEVELS),
    )
    loss: str = flag(
        "cross_entropy+dice",
        f"what is taught by: {', '.join(mask_losses.NAMES)}, or a sum such as cross_entropy+dice",
        search=("cross_entropy", "focal", "cross_entropy+dice"),
    )
    focal_gamma: float = flag(2.0, "of the focal loss: how little the known counts", low=0.0)
    class_weight: str = flag(
        "none",
        "balanced, or median as in SegNet: rare classes count more",
        choices=(mask_losses.WEIGHTS),
    )

    def __post_init__(self):
        object.__setattr__(self, "plan", plans.text(self.plan))
        super().__post_init__()
        mask_losses.parts(self.loss)

    def flops(self):
        return specs.flops(self)

    def load(self):
        shape = specs.shape(self, "segmenter")
        source = masked.load(self.dataset, self.data_dir or None, self.colours)
        labelled.check_classes(source, self.num_classes)
        return masked.data(source, self._splits(), shape, self.resize)

    def recorded(self):
        stages = [dataclasses.asdict(stage) for stage in self.stages()]
        return {**super().recorded(), "weights_sha256": backbones.digest(self), "stages": stages}

    def stages(self):
        return backbones.stages(self, scratch=RATE)

    def build(self, data):
        model = zoo.build(
            self.model,
            input_shape=data.image_shape,
            num_classes=len(data.source.classes),
            weights=self.weights or None,
            **backbones.given(self),
        )
        losses.penalise(model, self.l1, self.l2)
        return model

    def compile(self, learner, data, optimizer):
        count = len(data.source.classes)
        weights = None
        if self.class_weight != "none":
            counts = mask_losses.counts(data.train.labels, count)
            weights = mask_losses.class_weights(self.class_weight, counts)
        learner.compile(
            optimizer=optimizer,
            loss=mask_losses.masks(
                self.loss, num_classes=count, gamma=self.focal_gamma, class_weights=weights
            ),
            jit_compile=hardware.jit(),
        )

    def show(self, data, events):
        if data.image_shape[-1] in (1, 3):
            batch = next(iter(self.training(data).epoch(0)))
            pairs = zip(*(np.asarray(part)[:SHOWN_EXAMPLES] for part in batch), strict=True)
            shown = [overlays.overlay(*pair, data.source.classes) for pair in pairs]
            events.images("training images and masks", np.stack(shown), 0)

    def versions(self, data):
        return [(data.train, "")] if self.augment == "none" else []

    def training(self, data, *, changed=True):
        return mask_stream.training(
            data.train,
            batch_size=self.batch_size,
            seed=self.seed,
            augment=self.augment if changed else "none",
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        size = self.batch_size
        count, loss = mask_measures.measure(model, data.validation, batch_size=size)
        events.confusion(count.matrix, data.source.classes, step)
        return {**masks.figures(count.matrix), "loss": loss}

    def better(self, row, best):
        def rank(row):
            return row["val_miou"], -row["val_loss"]

        # With nothing to choose by, the last epoch is the one to keep.
        return "val_loss" not in row or rank(row) > rank(best)

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "model": self.model,
            "options": {k: v for k, v in backbones.given(self).items() if k != "backbone_weights"},
            "classes": list(data.source.classes),
            "resize": self.resize,
            "size": list(data.image_shape[:2]),
            "own_size": _own_size(data),
        }
        files.save(model, path, about)

    def judge(self, model, data):
        figures, count = self._figures(model, data.test)
        classes, absent = data.source.classes, masked.absent(data.train, data.source.classes)
        parts = [part for part in (data.train, data.validation, data.test) if part]
        bad = [*data.source.skipped, *(pair for part in parts for pair in part.dropped)]
        predict = functools.partial(
            mask_measures.predict, model, data.test, batch_size=self.batch_size
        )
        return Verdict(
            figures=figures,
            title=f"{self.model} on {self.dataset}",
            lead=overlays.lead(
                self.model,
                self.dataset,
                figures,
                tested=len(data.test),
                taught=len(data.train),
                classes=len(classes),
            ),
            sections=overlays.sections(data.test, classes, count, predict),
            warnings=[
                *(f"no training image has the class {name}" for name in absent),
                *(f"skipped {path}: {reason}" for path, reason in bad),
            ],
        )

    def evaluate(self, model, about, split):
        source = masked.load(self.dataset, self.data_dir or None, self.colours)
        own = splits.plan(source, *self._splits())[-1]
        part = splits.select(source, split) if split else own
        part = masked.relabelled(part, source.classes, about["classes"])
        shape = model.input_shape[1:]
        examples = masked.decode(part, len(about["classes"]), shape, self.resize)
        return self._figures(model, examples)[0], part.name

    def _splits(self):
        return self.train_split, self.validation_split, self.test_split

    def _figures(self, model, examples):
        """Returns the figures of a model on some examples, with how far to trust the first."""
        count, loss = mask_measures.measure(model, examples, batch_size=self.batch_size)
        figures = masks.judged(count.matrix, count.tallies, seed=self.seed)
        return {**figures, "loss": loss}, count


def _own_size(data):
    """Tells whether the images of a data set, so far as was looked, had their size already."""
    items = next(iter(data.source.splits.values())).items
    sizes = set()
    for index in np.unique(np.linspace(0, len(items) - 1, LOOKED_AT).astype("int64")):
        with contextlib.suppress(readers.UnreadableImage):
            sizes.add(tuple(readers.size(items[int(index)])))
    return sizes == {tuple(data.image_shape[:2])}
