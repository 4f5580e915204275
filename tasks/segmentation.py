"""Segmentation: tell what each pixel of an image shows."""

from __future__ import annotations

import contextlib
import functools
from typing import ClassVar

from tasks.data import geometry, labelled, mask_stream, masked, readers
from tasks.engine import backbones, hardware, mask_losses, mask_measures
from tasks.engine.evaluation import Verdict
from tasks.engine.flags import flag, patience
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report import baselines, masks, overlays
from zoo import files
from zoo.lazy import np

EPOCHS = {False: 18, True: 12}  # by whether a backbone is pretrained
SHOWN_EXAMPLES = 16
LOOKED_AT = 16  # images whose own size tells whether a data set was brought to another


@register
class Segmentation(BackboneTask):
    """Teaches a model of the zoo what each pixel of an image shows."""

    kind: ClassVar = "segmenter"
    scratch_rate: ClassVar = 2e-3  # `unet` learns `shapes` faster than at 1e-3, and not at 6e-3
    curves: ClassVar = {
        "loss": "Loss",
        "miou": "Mean intersection over union",
        "pixel_accuracy": "Pixel accuracy",
    }
    goals: ClassVar = ("val_miou", "-val_loss")

    epochs: int = flag(
        0, "passes over the training split; 0 for 18, or 12 on a pretrained backbone", low=0
    )
    batch_size: int = flag(8, "examples per step, over all replicas", low=1)
    model: str = flag("unet", "name of a zoo model; see `zoo list --kind segmenter`")
    dataset: str = flag(
        "shapes", "shapes, a folder of images/ and masks/, a COCO JSON file or tfds:NAME"
    )
    patience: int = patience("val_miou")
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
        f"what is taught by: {', '.join(mask_losses.NAMES)}, or a sum such as cross_entropy+dice",
        search=("cross_entropy", "focal", "cross_entropy+dice"),
    )
    focal_gamma: float = flag(2.0, "of the focal loss: how little the known counts", high=100.0)
    class_weight: str = flag(
        "none",
        "balanced, or median as in SegNet: rare classes count more",
        choices=(mask_losses.WEIGHTS),
    )

    def __post_init__(self):
        super().__post_init__()
        mask_losses.parts(self.loss)
        if not self.epochs:
            object.__setattr__(self, "epochs", EPOCHS[backbones.pretrained(self)])

    def load(self):
        shape = self.shape()
        source = masked.load(self.dataset, self.data_dir or None, self.colours)
        labelled.check_classes(source, self.num_classes)
        return masked.data(source, self.slices(), shape, self.resize, self.image_bits)

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
            **hardware.compiling(self, learner),
        )

    def notes(self, data):
        return [*super().notes(data), *masked.notes(data)]

    def show(self, data, events):
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

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.seen.bits,
            "model": self.model,
            "options": backbones.architecture(self),
            "classes": list(data.source.classes),
            "resize": self.resize,
            "size": list(data.image_shape[:2]),
            "own_size": _own_size(data),
        }
        files.save(model, path, about)

    def judge(self, model, data):
        figures, count = self._figures(model, data.test)
        classes, absent = data.source.classes, masked.absent(data.train, data.source.classes)
        predict = functools.partial(
            mask_measures.predict, model, data.test, batch_size=self.batch_size
        )
        return Verdict(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=overlays.lead(
                self.model,
                self.data_name,
                figures,
                tested=len(data.test),
                taught=len(data.train),
                classes=len(classes),
                copies=len(data.copies),
            ),
            sections=overlays.sections(data.test, classes, count, predict),
            warnings=[
                *(f"no training image has the class {name}" for name in absent),
                *masked.notes(data),
                *data.warnings(),
            ],
            doubts=baselines.segmentation(figures, count.matrix, classes),
        )

    def evaluate(self, model, about, split):
        known = tuple(about["classes"])
        source = masked.load(self.dataset, self.data_dir or None, self.colours, known)
        part = self.judged(source, split)
        part = masked.relabelled(part, source.classes, about["classes"])
        shape = model.input_shape[1:]
        examples = masked.decode(part, len(about["classes"]), shape, self.resize)
        return self._figures(model, examples)[0], part.name

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
