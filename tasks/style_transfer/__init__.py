"""Style transfer: the content of one image in the style of another."""

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
    flag_checks,
    gatys,
    loss_targets,
    perceptual_losses,
    report,
    style_images,
    train_model,
)
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

IMAGE_FILE = "picture.png"  # in the run's folder
# Defaults by whether the model is gatys, and not a feed-forward network.
DEFAULT_STYLE_WEIGHTS = {True: 30.0, False: 5.0}
DEFAULT_STEPS = {True: 30, False: 200}  # per epoch
DEFAULT_LEARNING_RATES = {gatys.LBFGS: 1.0, "gatys": 4.0, "network": 1e-3}
MAX_EVALUATION_IMAGES = 16  # images of a split, the first ones, to compute the losses on
NUM_REPORT_IMAGES = 4  # of these, in the report


@register
class StyleTransfer(SplitTask):
    """Optimizes one image (Gatys), or trains a feed-forward network for a style (Johnson)."""

    predictor: ClassVar = LazyModule("tasks.style_transfer.predictor")
    exporter: ClassVar = LazyModule("tasks.style_transfer.exporter")
    curves: ClassVar = {
        "loss": "Loss",
        "style_loss": "Style loss",
        "content_loss": "Content loss",
        "variation": "Total variation",
    }

    epochs: int = flag(10, "epochs of --steps steps; each ends with a checkpoint", low=1)
    steps: int = flag(0, "steps per epoch; 0: 30 for gatys, 200 for a network", low=0)
    batch_size: int = flag(4, "patches per step, over all replicas; gatys has one image", low=1)
    model: str = flag(
        "gatys", "gatys, which optimizes one image, or a network of `zoo list --kind stylizer`"
    )
    weights: str = flag("", "weights file of a network to start from, or random")
    model_options: str = flag("", "builder options as YAML, such as '{width: 16}'")
    content: str = flag("hills", "content image: a file, or synthetic: hills, mosaic, waves")
    style: str = flag("mosaic", "style image, as --content; several, with commas, are blended")
    style_weights: str = flag(
        "", "weights of several style images, such as 0.7,0.3; default: equal"
    )
    content_weight: float = flag(1.0, "weight of the content loss", low=0.0)
    style_weight: float = flag(
        0.0, "weight of the style loss; 0: 30 for gatys, 5 for a network", low=0.0
    )
    total_variation_weight: float = flag(
        1.0, "weight of the total variation loss", low=0.0, former="variation_weight"
    )
    backbone: str = flag("resnet20.cifar10", "feature extractor, such as vgg16.imagenet")
    backbone_weights: str = flag("", "weights file for it, in place of its tag's; or random")
    content_layers: str = flag(
        "", "its layers or stages for the content loss, with commas; default: the paper's, for VGG"
    )
    style_layers: str = flag("", "its layers or stages for the style loss, likewise")
    pooling: str = flag(
        "max",
        "average: replaces its max pooling by average pooling",
        choices=feature_extractor.POOLINGS,
    )
    init: str = flag(
        "content", "initial image of gatys", choices=gatys.INITIAL_IMAGES, former="start"
    )
    preserve_colors: str = flag(
        "none",
        "colors of the content; luminance: transfers luminance only; match: color histogram "
        "matching of the style beforehand (gatys)",
        choices=style_images.COLOUR_MODES,
        former="keep_colours",
    )
    image_size: int = flag(
        256, "longer side of the image; for networks: side of the training images", low=0
    )
    style_size: int = flag(0, "longer side of the style image; 0: that of --image-size", low=0)
    style_crop: float = flag(
        0.03,
        "fraction to crop from each edge of style images, as scans often have a border",
        high=0.49,
        former="style_rim",
    )
    patch_size: int = flag(128, "side of the random crops that a network is trained on", low=1)
    dataset: str = flag("shapes", "training images of a network: a folder, or a data set")
    optimizer: str = flag("auto", "lbfgs (gatys only), adam or another; auto: these two")
    weight_decay: float = flag(0.0, "decoupled weight decay of kernels", high=100.0)

    def __post_init__(self):
        super().__post_init__()
        if self.single_image and self.strategy == "auto":  # one image has no batch to distribute
            object.__setattr__(self, "strategy", "one")
        flag_checks.check(self)

    @property
    def single_image(self):
        """Whether an image is optimized, instead of a network."""
        return self.model == gatys.NAME

    @property
    def optimizer_name(self):
        """The name of the optimizer."""
        default = gatys.LBFGS if self.single_image else "adam"
        return default if self.optimizer == "auto" else self.optimizer

    @property
    def loss_weights(self):
        """The weights of the losses, in the order of `perceptual_losses.LOSS_NAMES`."""
        style = self.style_weight or DEFAULT_STYLE_WEIGHTS[self.single_image]
        return self.content_weight, style, self.total_variation_weight

    def flops(self):
        side = self.image_size if self.single_image else self.patch_size
        extractor = zoo.spec(self.backbone)
        network_flops = 0 if self.single_image else zoo.spec(self.model).flops
        relative_size = (side or 256) ** 2 / math.prod(extractor.input_shape[:2])
        return (extractor.flops or 0) * relative_size + (network_flops or 0) * (side / 256) ** 2

    def files(self):
        return self.weights, self.backbone_weights

    def stages(self):
        lbfgs = self.optimizer_name == gatys.LBFGS
        kind = gatys.LBFGS if lbfgs else "gatys" if self.single_image else "network"
        default = DEFAULT_LEARNING_RATES[kind]
        return plans.resolve_plan(
            "scratch",
            epochs=self.epochs,
            pretrained=False,
            rate=self.learning_rate or (default if lbfgs else 0.0),
            optimizer="adam" if lbfgs else self.optimizer_name,
            scratch=default,
        )

    def optimizers(self, model, steps):
        if self.optimizer_name == gatys.LBFGS:
            return [gatys.optimizer(model, self.stages()[0].rate)]
        task = dataclasses.replace(self, optimizer=self.optimizer_name)
        return Task.optimizers(task, model, steps)

    def load(self):
        side = max(self.image_size, self.patch_size, self.style_size)
        memory_limits.check_images((side, side, 3), 1)
        content = style_images.read(self.content, self.image_size)
        targets = loss_targets.from_task(self, content)
        if self.single_image:
            return train_model.StyleTransferData(content, targets)
        # Patches are random crops: a batch may have more of them than there are images.
        memory_limits.check_images((*[self.patch_size] * 2, 3), self.batch_size, limit=None)
        source = batches.load(self.dataset, self.data_dir or None)
        data = data_splits.load(source, self.slices(), self._image_shape(), "crop", self.bits)
        return train_model.StyleTransferData(content, targets, data, data.train, data.validation)

    def data_fingerprint(self, data):
        return train_model.source_fingerprint(self, data)

    def build(self, data):
        if self.single_image:
            return gatys.build(data.content, self.init, self.seed)
        model = zoo.build(
            self.model,
            input_shape=(None, None, 3),
            weights=self.weights or None,
            **builder_options.parse_options(self.model_options),
        )
        regularizers.add_kernel_regularization(model, self.l1, self.l2)
        return model

    def training_model(self, model, data):
        training_model = train_model.build_training_model(model, data.loss_targets)
        lbfgs = self.optimizer_name == gatys.LBFGS
        return gatys.lbfgs_loop(training_model) if lbfgs else training_model

    def compile(self, training_model, data, optimizer):
        lbfgs = self.optimizer_name == gatys.LBFGS
        compile_function = gatys.compile_loop if lbfgs else train_model.compile_training_model
        compile_function(
            training_model,
            optimizer,
            self.loss_weights,
            **hardware.compile_options(self, training_model),
        )

    def training(self, data, *, augmented=True):
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
        return self._losses(model, data.loss_targets, images) if len(images) else {}

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.findings.bits,
            "model": self.model,
            "options": builder_options.parse_options(self.model_options),
            "style": self.style,
            "size": self.image_size,
            "keep_colours": self.preserve_colors,
        }
        model_files.save(model, path, about)
        style_images.write(self._stylize(model, data.content), path.with_name(IMAGE_FILE))

    def build_report(self, model, data):
        targets = data.loss_targets
        images = data.content[None] if self.single_image else _evaluation_images(data.patches.test)
        losses = self._losses(model, targets, images)
        before = train_model.unstylized_losses(targets, images, self.loss_weights)
        shown = [data.content, *([] if self.single_image else images[:NUM_REPORT_IMAGES])]
        pairs = [(image, self._stylize(model, image)) for image in shown]
        num_test = 0 if self.single_image else len(images)
        return EvaluationReport(
            figures={**losses, "style_loss_before": before["style_loss"]},
            title=style_images.title(self.content, self.style),
            lead=report.lead(self.model, losses, before, num_test=num_test),
            sections=report.sections(targets.styles, targets.style_weights, pairs, losses, before),
            warnings=[] if self.single_image else data.patches.warnings(),
            metric_warnings=report.style_warnings(losses, before),
        )

    def evaluate(self, model, about, split):
        if self.single_image:
            raise UsageError("a run of gatys has one image only, evaluated in its report")
        part = self.evaluation_split(batches.load(self.dataset, self.data_dir or None), split)
        images = _evaluation_images(decoding.decode(part, self._image_shape(), "crop"))
        return self._losses(model, loss_targets.from_task(self, None), images), part.name

    def _losses(self, model, targets, images):
        return train_model.evaluate_losses(model, targets, images, self.loss_weights)

    def _stylize(self, model, image):
        """Returns an image in the style of a model, both uint8 `(height, width, 3)`."""
        stylized = (
            gatys.optimized_image(model) if self.single_image else train_model.stylize(model, image)
        )
        if self.preserve_colors == "luminance":
            return style_images.restore_colours(stylized, image)
        return stylized

    def _image_shape(self):
        side = self.image_size or 2 * self.patch_size
        return side, side, 3


def _evaluation_images(examples):
    """Returns the first images of a split as an array; an empty one for `None`."""
    if not examples:
        return np.empty((0,))
    return np.asarray(examples.pixels[np.arange(min(len(examples), MAX_EVALUATION_IMAGES))])
