"""Flags of data and model that image tasks share, and what follows from them."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import ClassVar

import zoo
from tasks.data import (
    builder_options,
    data_fingerprint,
    image_stats,
    memory_limits,
    sources,
    splits,
    value_range,
)
from tasks.data.dataset import short_name
from tasks.engine import backbones, plans, regularizers
from tasks.engine.flags import flag
from tasks.engine.task import Task
from zoo.catalog import RANDOM
from zoo.errors import UsageError
from zoo.weights import digests


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitTask(Task):
    """A task that trains on slices of a data set."""

    dataset: str = flag("shapes", "the data set")
    data_dir: str = flag("", "the folder of TFDS data sets")
    train_split: str = flag("", "training slice, such as train[:4000]")
    validation_split: str = flag(
        "", "validation slice, which selects the best epoch; none for no validation"
    )
    test_split: str = flag("", "test slice, on which the report is based")
    group_by: str = flag("", "regex in paths, or a column; images of a group stay in one split")
    image_bits: int = flag(0, "used bits of 16-bit images; 12 is --scale 0..4095; 0: see --scale")
    scale: str = flag(
        "auto",
        "values of 16-bit and float images that become 0 and 255: auto (from the images), dtype, "
        "LOW..HIGH, percentile",
    )

    def __post_init__(self):
        super().__post_init__()
        value_range.check_flags(self.image_bits, self.scale)

    @property
    def data_name(self):
        """The name of the data set in a report."""
        return short_name(self.dataset)

    @functools.cached_property
    def source(self):
        """The `dataset.Source` of the data set."""
        return sources.load(self.dataset, self.data_dir or None)

    def recipe_fields(self):
        digest = " ".join(digests.sha256(path) for path in self.files() if os.path.isfile(path))
        stages = [dataclasses.asdict(stage) for stage in self.stages()]
        return {**super().recipe_fields(), "weights_sha256": digest, "stages": stages}

    def files(self):
        """Returns the values of flags that may name weights files."""
        return ()

    def slices(self):
        """Returns the slices and `group_by`, as `splits.train_val_test_split` takes them."""
        return self.train_split, self.validation_split, self.test_split, self.group_by

    def data_fingerprint(self, data):
        return self.source_fingerprint(data.source)

    def source_fingerprint(self, source):
        """Returns the `data_fingerprint` of a source."""
        parts = splits.train_val_test_split(source, *self.slices())
        return data_fingerprint.dataset_fingerprint(
            source, dict(zip(splits.ROLES, parts, strict=True))
        )

    def evaluation_split(self, source, split):
        """Returns the `Split` of a source for a slice; `""` is the test split of the task."""
        part = (
            splits.select(source, split)
            if split
            else splits.train_val_test_split(source, *self.slices())[-1]
        )
        return image_stats.inspect_splits([part], self.bits)[0][0]

    @property
    def bits(self):
        """The values of images of more than 8 bits, as `image_stats.inspect_splits` takes them."""
        return self.image_bits or value_range.parse_scale(self.scale)

    def with_bits(self, bits):
        """Returns the task with the values that a model file states."""
        return dataclasses.replace(self, **value_range.bits_flags(bits))

    def resolved(self, data):
        return {} if self.bits else value_range.resolved_flag(data.findings.bits)

    def notes(self, data):
        return data.notes()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTask(SplitTask):
    """A task that trains a model of the zoo on images.

    Attributes:
        kind: The kind of models it can train, such as `classifier`.
    """

    kind: ClassVar[str]

    model: str = flag("", "name of a zoo model; see `zoo list`")
    weights: str = flag("", "initial weights file, instead of the pretrained weights; or random")
    model_options: str = flag("", "builder options as YAML, such as '{widths: [32, 64]}'")
    image_size: int = flag(0, "height and width of the images; 0: the default of the model", low=0)
    resize: str = flag(
        "stretch",
        "how images, with boxes and masks, are resized",
        choices=("stretch", "crop", "pad"),
        search=("stretch", "crop"),
    )
    channels: int = flag(
        0, "image channels: 1 for gray, 3 for RGB; 0: the default of the model", low=0
    )
    num_classes: int = flag(0, "expected number of classes; 0: that of the data", low=0)
    plan: str = flag(
        "auto", f"fine-tuning plan: {', '.join(plans.PRESETS)}; or YAML, or a YAML file"
    )
    batch_norm: str = flag(
        "auto",
        "policy for pretrained BatchNorm statistics; auto: frozen",
        choices=("auto", *plans.BATCH_NORM_POLICIES),
    )

    def __post_init__(self):
        object.__setattr__(self, "plan", plans.plan_text(self.plan))
        super().__post_init__()

    def flops(self):
        spec = self.spec()
        height, width, _ = spec.input_shape
        return (spec.flops or 0) * (self.image_size**2 / (height * width) if self.image_size else 1)

    def build(self, data):
        names = list(data.source.classes)
        return self.network(data.image_shape, len(names), classes=names)

    def network(self, image_shape, num_classes, **options):
        """Returns the model that the flags name, built with further options."""
        spec = zoo.spec(self.model)
        if spec.kind == "classifier" and self.image_size > max(spec.input_shape[:2]):
            outline = functools.partial(self._built, image_shape, num_classes, RANDOM, options)
            memory_limits.check_weights(outline, image_shape)
        model = self._built(image_shape, num_classes, self.weights or None, options)
        regularizers.add_kernel_regularization(model, self.l1, self.l2)
        return model

    def _built(self, image_shape, num_classes, weights, options):
        given = self.options()
        if conflicting := sorted(given.keys() & options.keys()):
            raise UsageError(f"--model-options cannot set {conflicting[0]}: the data do")
        return zoo.build(
            self.model,
            input_shape=image_shape,
            num_classes=num_classes,
            weights=weights,
            **options,
            **given,
        )

    def files(self):
        return (self.weights,)

    def options(self):
        """Returns the options of the model's builder."""
        return builder_options.parse_model_options(self.model_options)

    def spec(self):
        """Returns the spec of the model; raises `UsageError` if it is of another kind."""
        spec = zoo.spec(self.model)
        if spec.kind != self.kind:
            raise UsageError(
                f"{self.model} is a {spec.kind}; {self.name} needs a {self.kind}: "
                f"see zoo list --kind {self.kind}"
            )
        return spec

    def shape(self):
        """Returns the image shape `(height, width, channels)` of the model.

        Raises:
            UsageError: The model is of another kind, or the images are too small for it.
        """
        spec = self.spec()
        height, width, channels = spec.input_shape
        size = (self.image_size or height, self.image_size or width)
        shape = spec.validate_input_shape((*size, self.channels or channels))
        memory_limits.check_images(shape, self.batch_size)
        return shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneTask(ImageTask):
    """A task that trains a model with a backbone of the zoo.

    Attributes:
        scratch_learning_rate: The peak learning rate for random weights.
    """

    scratch_learning_rate: ClassVar[float] = plans.LEARNING_RATES["scratch"]
    min_steps_per_epoch: ClassVar[int] = plans.MIN_STEPS_PER_EPOCH

    weights: str = flag("", "initial weights file; or random, for the backbone too")
    backbone: str = flag("", "name of the backbone, for models that take any; empty: their default")
    backbone_weights: str = flag(
        "", "weights file of the backbone, instead of those of its tag; or random"
    )

    def stages(self):
        return backbones.plan_stages(self, scratch=self.scratch_learning_rate)

    def files(self):
        return (*super().files(), self.backbone_weights)

    def options(self):
        return backbones.model_builder_options(self)
