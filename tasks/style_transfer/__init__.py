"""Style transfer: paint the content of one picture in the style of another."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import zoo
from tasks.data import builder_options, data_splits, decoding, memory_limits
from tasks.engine import hardware, plans, regularizers
from tasks.engine.flags import flag
from tasks.engine.image_task import SplitTask
from tasks.engine.task import Task, register
from tasks.report.evaluation_report import EvaluationReport
from tasks.style_transfer import (
    batches,
    feature_extractor,
    gatys,
    perceptual_losses,
    report,
    style_images,
    train_model,
)
from zoo import model_files
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, np

KIND = "painter"
PICTURE_FILE = "picture.png"  # in the run's folder
DEFAULT_STYLE_WEIGHTS = {
    True: 30.0,
    False: 5.0,
}  # of gatys, of a painter, where the flag does not say
DEFAULT_STEPS = {True: 30, False: 200}  # of an epoch, likewise
DEFAULT_LEARNING_RATES = {gatys.LBFGS: 1.0, "gatys": 4.0, "painter": 1e-3}
MAX_EVALUATION_IMAGES = 16  # pictures of a split, the first ones, whose losses are figures
NUM_REPORT_IMAGES = 4  # of these, in the report


@register
class StyleTransfer(SplitTask):
    """Paints a picture in a style: by changing it step by step, or by a network that learns to."""

    predictor: ClassVar = LazyModule("tasks.style_transfer.predictor")
    curves: ClassVar = {
        "loss": "Loss",
        "style_loss": "Style",
        "content_loss": "Content",
        "variation": "Total variation",
    }

    epochs: int = flag(10, "parts of a run; each ends in a checkpoint", low=1)
    steps: int = flag(0, "of an epoch; 0 for 30 (gatys) or 200 (a painter)", low=0)
    batch_size: int = flag(4, "patches per step, over all replicas; gatys has one picture", low=1)
    model: str = flag("gatys", "gatys, which changes one picture; or of `zoo list --kind painter`")
    weights: str = flag("", "file of a painter to start from; or random")
    model_options: str = flag("", "builder options as YAML, such as '{width: 16}'")
    content: str = flag("hills", "the picture to paint: a file, or drawn: hills, mosaic, waves")
    style: str = flag("mosaic", "the picture to paint like; several, with commas, are blended")
    style_weights: str = flag("", "share of each of several styles, such as 0.7,0.3; equal ones")
    content_weight: float = flag(1.0, "of the content's loss", low=0.0)
    style_weight: float = flag(
        0.0, "of the style's loss; 0 for 30 (gatys) or 5 (a painter)", low=0.0
    )
    variation_weight: float = flag(1.0, "of the total variation", low=0.0)
    backbone: str = flag("resnet20.cifar10", "what looks at pictures, such as vgg16.imagenet")
    backbone_weights: str = flag("", "file for it, in place of its tag's; or random")
    content_layers: str = flag("", "layers or stages of it, with commas; the paper's, of VGG")
    style_layers: str = flag("", "likewise")
    pooling: str = flag(
        "max", "average: in place of its maxima", choices=feature_extractor.POOLINGS
    )
    start: str = flag("content", "what gatys begins with", choices=gatys.INITIAL_IMAGES)
    keep_colours: str = flag(
        "none",
        "the content's: luminance alone is painted; or match: the style gets them first (gatys)",
        choices=style_images.COLOUR_MODES,
    )
    image_size: int = flag(
        256, "longer side of the picture; of a painter, side of what patches are cut from", low=0
    )
    style_size: int = flag(0, "longer side of the style; 0 for --image-size", low=0)
    style_rim: float = flag(
        0.03, "share of each end of a style's sides to cut off: many a scan has a rim", high=0.49
    )
    patch_size: int = flag(128, "side of the patches that a painter learns from", low=1)
    dataset: str = flag("shapes", "pictures for a painter to learn from: a folder, or a data set")
    optimizer: str = flag("auto", "lbfgs (gatys alone), adam or another; auto is these two")
    weight_decay: float = flag(0.0, "decoupled decay of kernels", high=100.0)

    def __post_init__(self):
        super().__post_init__()
        if self.single_image and self.strategy == "auto":  # one picture cannot be shared out
            object.__setattr__(self, "strategy", "one")
        self._check()
        style_images.parse_style_weights(
            self.style_weights, len(style_images.parse_names(self.style))
        )

    @property
    def single_image(self):
        """Whether one picture learns, and no painter."""
        return self.model == gatys.NAME

    @property
    def optimizer_name(self):
        """The optimiser's name."""
        own = gatys.LBFGS if self.single_image else "adam"
        return own if self.optimizer == "auto" else self.optimizer

    @property
    def loss_weights(self):
        """The weights of the losses, in their order."""
        style = self.style_weight or DEFAULT_STYLE_WEIGHTS[self.single_image]
        return self.content_weight, style, self.variation_weight

    def flops(self):
        side = self.image_size if self.single_image else self.patch_size
        backbone_spec, own = (
            zoo.spec(self.backbone),
            0 if self.single_image else zoo.spec(self.model).flops,
        )
        seen = (
            (backbone_spec.flops or 0)
            * (side or 256) ** 2
            / math.prod(backbone_spec.input_shape[:2])
        )
        return seen + (own or 0) * (side / 256) ** 2

    def files(self):
        return self.weights, self.backbone_weights

    def stages(self):
        first = self.optimizer_name == gatys.LBFGS
        own = DEFAULT_LEARNING_RATES[
            gatys.LBFGS if first else "gatys" if self.single_image else "painter"
        ]
        return plans.resolve_plan(
            "scratch",
            epochs=self.epochs,
            pretrained=False,
            rate=self.learning_rate or (own if first else 0.0),
            optimizer="adam" if first else self.optimizer_name,
            scratch=own,
        )

    def optimizers(self, model, steps):
        if self.optimizer_name == gatys.LBFGS:
            return [gatys.optimizer(model, self.stages()[0].rate)]
        return Task.optimizers(
            dataclasses.replace(self, optimizer=self.optimizer_name), model, steps
        )

    def load(self):
        side = max(self.image_size, self.patch_size, self.style_size)
        memory_limits.check_images((side, side, 3), 1)
        content = style_images.read(self.content, self.image_size)
        loss_targets = self._loss_targets(content)
        if self.single_image:
            return train_model.StyleTransferData(content, loss_targets)
        source = batches.load(self.dataset, self.data_dir or None)
        data = data_splits.load(source, self.slices(), self._image_shape(), "crop", self.image_bits)
        return train_model.StyleTransferData(
            content, loss_targets, data, data.train, data.validation
        )

    def data_fingerprint(self, data):
        return train_model.source_fingerprint(self, data)

    def build(self, data):
        if self.single_image:
            return gatys.build(data.content, self.start, self.seed)
        model = zoo.build(
            self.model,
            input_shape=(None, None, 3),
            weights=self.weights or None,
            **builder_options.parse_options(self.model_options),
        )
        regularizers.add_kernel_regularization(model, self.l1, self.l2)
        return model

    def training_model(self, model, data):
        training_model = train_model.build_train_model(model, data.loss_targets)
        return (
            gatys.lbfgs_loop(training_model)
            if self.optimizer_name == gatys.LBFGS
            else training_model
        )

    def compile(self, training_model, data, optimizer):
        lbfgs = self.optimizer_name == gatys.LBFGS
        compile_function = gatys.compile_loop if lbfgs else train_model.compile_train_model
        compile_function(
            training_model,
            optimizer,
            self.loss_weights,
            **hardware.compile_options(self, training_model),
        )

    def training(self, data, *, changed=True):
        steps = self.steps or DEFAULT_STEPS[self.single_image]
        if self.single_image:
            return gatys.RepeatDataset(data.content, steps)
        return batches.PatchBatches(
            data.train,
            size=self.batch_size,
            steps=steps,
            side=self.patch_size,
            seed=self.seed,
            columns=len(perceptual_losses.LOSS_NAMES),
        )

    def validate(self, model, data, events, step):
        events.images("picture", self._stylize(model, data.content)[None], step)
        images = data.content[None] if self.single_image else _evaluation_images(data.validation)
        return self._figures(model, data.loss_targets, images) if len(images) else {}

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.findings.bits,
            "model": self.model,
            "options": builder_options.parse_options(self.model_options),
            "style": self.style,
            "size": self.image_size,
            "keep_colours": self.keep_colours,
        }
        model_files.save(model, path, about)
        style_images.write(self._stylize(model, data.content), path.with_name(PICTURE_FILE))

    def build_report(self, model, data):
        images = data.content[None] if self.single_image else _evaluation_images(data.patches.test)
        figures = self._figures(model, data.loss_targets, images)
        before = train_model.unstylized_losses(data.loss_targets, images, self.loss_weights)
        shown = [data.content, *([] if self.single_image else images[:NUM_REPORT_IMAGES])]
        pairs = [(image, self._stylize(model, image)) for image in shown]
        return EvaluationReport(
            figures={**figures, "style_loss_before": before["style_loss"]},
            title=style_images.title(self.content, self.style),
            lead=report.lead(
                self.model, figures, before, num_test=0 if self.single_image else len(images)
            ),
            sections=report.sections(
                data.loss_targets.styles, data.loss_targets.shares, pairs, figures, before
            ),
            warnings=[] if self.single_image else data.patches.warnings(),
        )

    def evaluate(self, model, about, split):
        if self.single_image:
            raise UsageError("a run of gatys is one picture, which its own report judges")
        part = self.judged(batches.load(self.dataset, self.data_dir or None), split)
        images = _evaluation_images(decoding.decode(part, self._image_shape(), "crop"))
        return self._figures(model, self._loss_targets(None), images), part.name

    def _loss_targets(self, content):
        """Returns what pictures shall be like."""
        names = style_images.parse_names(self.style)
        size = self.style_size or self.image_size
        luminance = self.keep_colours == "luminance"
        found = [style_images.read(name, size, self.style_rim) for name in names]
        if luminance:
            found = [style_images.to_grey(style) for style in found]
        if self.single_image and self.keep_colours != "none":
            adjust = style_images.match_luminance if luminance else style_images.match_colours
            found = [adjust(style, content) for style in found]
        return train_model.LossTargets(
            feature_extractor.FeatureExtractor(
                self.backbone,
                self.backbone_weights or None,
                self.pooling,
                style_images.parse_names(self.content_layers) if self.content_layers else (),
                style_images.parse_names(self.style_layers) if self.style_layers else (),
                feature_extractor.GATYS_LAYERS
                if self.single_image
                else feature_extractor.JOHNSON_LAYERS,
            ),
            found,
            style_images.parse_style_weights(self.style_weights, len(names)),
            content if self.single_image else None,
            grey=luminance,
            margin=gatys.padding([content, *found]) if self.single_image else 0,
        )

    def _figures(self, model, loss_targets, images):
        return train_model.evaluate_losses(model, loss_targets, images, self.loss_weights)

    def _stylize(self, model, image):
        """Returns what a model makes of an image, uint8 `(height, width, 3)`."""
        found = gatys.picture(model) if self.single_image else train_model.stylize(model, image)
        keep = self.keep_colours == "luminance"
        return style_images.restore_colours(found, image) if keep else found

    def _image_shape(self):
        side = self.image_size or 2 * self.patch_size
        return side, side, 3

    def _check(self):
        """Refuses flags that do not go together."""
        if not self.single_image:
            if self.model not in zoo.names():
                raise unknown_name_error("model", self.model, [gatys.NAME, *zoo.names(kind=KIND)])
            spec = zoo.spec(self.model)
            if spec.kind != KIND:
                raise UsageError(
                    f"{self.model} is a {spec.kind}; style_transfer takes gatys or a {KIND}: see "
                    f"zoo list --kind {KIND}"
                )
        lbfgs = self.optimizer_name == gatys.LBFGS
        wrong = {
            "--strategy mirrored is for fast_style; gatys optimizes one image": self.single_image
            and self.strategy == "mirrored",
            "--optimizer lbfgs is for gatys; a painter, whose batches differ, takes adam": lbfgs
            and not self.single_image,
            "--optimizer lbfgs: no --ema-decay, --gradient-accumulation-steps, --clip-norm": lbfgs
            and (self.ema_decay or self.gradient_accumulation_steps > 1 or self.clip_norm),
            "--keep-colours match is for the one picture of gatys; a painter takes luminance": not (
                self.single_image
            )
            and self.keep_colours == "match",
            f"--patch-size {self.patch_size} is larger than --image-size": not self.single_image
            and 0 < self.image_size < self.patch_size,
        }
        for text, is_wrong in wrong.items():
            if is_wrong:
                raise UsageError(text)


def _evaluation_images(examples):
    """Returns the pictures of a split that are judged, the first ones; none of `None`."""
    if not examples:
        return np.empty((0,))
    return np.asarray(examples.pixels[np.arange(min(len(examples), MAX_EVALUATION_IMAGES))])
