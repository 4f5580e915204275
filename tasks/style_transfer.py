"""Style transfer: paint the content of one picture in the style of another."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import zoo
from tasks.data import decoding, labelled, style_patches, style_pictures
from tasks.engine import (
    gatys,
    hardware,
    losses,
    memory,
    options,
    plans,
    style_learner,
    style_losses,
    style_network,
)
from tasks.engine.evaluation import Verdict
from tasks.engine.flags import flag
from tasks.engine.image_task import SplitTask
from tasks.engine.task import Task, register
from tasks.report import styles
from zoo import files
from zoo.errors import UsageError, unknown
from zoo.lazy import np

KIND = "painter"
PICTURE = "picture.png"  # in the run's folder
STYLE_WEIGHTS = {True: 30.0, False: 5.0}  # of gatys, of a painter, where the flag does not say
STEPS = {True: 30, False: 200}  # of an epoch, likewise
RATES = {gatys.LBFGS: 1.0, "gatys": 4.0, "painter": 1e-3}
MOST_JUDGED = 16  # pictures of a split, the first ones, whose losses are figures
SHOWN_PICTURES = 4  # of these, in the report


@register
class StyleTransfer(SplitTask):
    """Paints a picture in a style: by changing it step by step, or by a network that learns to."""

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
    pooling: str = flag("max", "average: in place of its maxima", choices=style_network.POOLINGS)
    start: str = flag("content", "what gatys begins with", choices=gatys.STARTS)
    keep_colours: str = flag(
        "none",
        "the content's: luminance alone is painted; or match: the style gets them first (gatys)",
        choices=style_pictures.COLOURS,
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
        if self.alone and self.strategy == "auto":  # one picture cannot be shared out
            object.__setattr__(self, "strategy", "one")
        self._check()
        style_pictures.shares(self.style_weights, len(style_pictures.names(self.style)))

    @property
    def alone(self):
        """Whether one picture learns, and no painter."""
        return self.model == gatys.NAME

    @property
    def method(self):
        """The optimiser's name."""
        own = gatys.LBFGS if self.alone else "adam"
        return own if self.optimizer == "auto" else self.optimizer

    @property
    def factors(self):
        """The weights of the losses, in their order."""
        style = self.style_weight or STYLE_WEIGHTS[self.alone]
        return self.content_weight, style, self.variation_weight

    def flops(self):
        side = self.image_size if self.alone else self.patch_size
        looking, own = zoo.spec(self.backbone), 0 if self.alone else zoo.spec(self.model).flops
        height, width, _ = looking.input_shape
        seen = (looking.flops or 0) * (side or 256) ** 2 / (height * width)
        return seen + (own or 0) * (side / 256) ** 2

    def files(self):
        return self.weights, self.backbone_weights

    def stages(self):
        first = self.method == gatys.LBFGS
        own = RATES[gatys.LBFGS if first else "gatys" if self.alone else "painter"]
        return plans.resolve(
            "scratch",
            epochs=self.epochs,
            pretrained=False,
            rate=self.learning_rate or (own if first else 0.0),
            optimizer="adam" if first else self.method,
            scratch=own,
        )

    def optimizers(self, model, steps):
        if self.method == gatys.LBFGS:
            return [gatys.optimizer(model, self.stages()[0].rate)]
        return Task.optimizers(dataclasses.replace(self, optimizer=self.method), model, steps)

    def load(self):
        for side in (self.image_size, self.patch_size, self.style_size):
            memory.check_images((side, side, 3), 1)
        content = style_pictures.read(self.content, self.image_size)
        aims = self._aims(content)
        if self.alone:
            return style_learner.Pictures(content, aims)
        source = style_patches.load(self.dataset, self.data_dir or None)
        data = labelled.load(source, self.slices(), self._square(), "crop", self.image_bits)
        return style_learner.Pictures(content, aims, data, data.train, data.validation)

    def data_identity(self, data):
        return style_learner.identity(self, data)

    def build(self, data):
        if self.alone:
            return gatys.build(data.content, self.start, self.seed)
        model = zoo.build(
            self.model,
            input_shape=(None, None, 3),
            weights=self.weights or None,
            **options.parsed(self.model_options),
        )
        losses.penalise(model, self.l1, self.l2)
        return model

    def learner(self, model, data):
        learner = style_learner.learner(model, data.aims)
        return gatys.looped(learner) if self.method == gatys.LBFGS else learner

    def compile(self, learner, data, optimizer):
        first = self.method == gatys.LBFGS
        compiled = gatys.compile_loop if first else style_learner.compile_learner
        compiled(learner, optimizer, self.factors, **hardware.compiling(self, learner))

    def training(self, data, *, changed=True):
        steps = self.steps or STEPS[self.alone]
        if self.alone:
            return gatys.Sittings(data.content, steps)
        return style_patches.Patches(
            data.train,
            size=self.batch_size,
            steps=steps,
            side=self.patch_size,
            seed=self.seed,
            columns=len(style_losses.NAMES),
        )

    def validate(self, model, data, events, step):
        events.images("picture", self._painted(model, data.content)[None], step)
        images = data.content[None] if self.alone else _some(data.validation)
        return self._figures(model, data.aims, images) if len(images) else {}

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.seen.bits,
            "model": self.model,
            "options": options.parsed(self.model_options),
            "style": self.style,
            "size": self.image_size,
            "keep_colours": self.keep_colours,
        }
        files.save(model, path, about)
        style_pictures.write(self._painted(model, data.content), path.with_name(PICTURE))

    def judge(self, model, data):
        images = data.content[None] if self.alone else _some(data.patches.test)
        figures = self._figures(model, data.aims, images)
        before = style_learner.unpainted(data.aims, images, self.factors)
        shown = [data.content, *([] if self.alone else images[:SHOWN_PICTURES])]
        pairs = [(image, self._painted(model, image)) for image in shown]
        return Verdict(
            figures={**figures, "style_loss_before": before["style_loss"]},
            title=style_pictures.title(self.content, self.style),
            lead=styles.lead(self.model, figures, before, tested=0 if self.alone else len(images)),
            sections=styles.sections(data.aims.styles, data.aims.shares, pairs, figures, before),
            warnings=[] if self.alone else data.patches.warnings(),
        )

    def evaluate(self, model, about, split):
        if self.alone:
            raise UsageError("a run of gatys is one picture, which its own report judges")
        source = style_patches.load(self.dataset, self.data_dir or None)
        part = self.judged(source, split)
        images = _some(decoding.decode(part, self._square(), "crop"))
        return self._figures(model, self._aims(None), images), part.name

    def _aims(self, content):
        """Returns what pictures shall be like."""
        names = style_pictures.names(self.style)
        size = self.style_size or self.image_size
        luminance = self.keep_colours == "luminance"
        found = [style_pictures.read(name, size, self.style_rim) for name in names]
        if luminance:
            found = [style_pictures.grey(style) for style in found]
        if self.alone and self.keep_colours != "none":
            tuned = style_pictures.brightened if luminance else style_pictures.matched
            found = [tuned(style, content) for style in found]
        return style_learner.Aims(
            style_network.Eye(
                self.backbone,
                self.backbone_weights or None,
                self.pooling,
                style_pictures.names(self.content_layers) if self.content_layers else (),
                style_pictures.names(self.style_layers) if self.style_layers else (),
                style_network.GATYS if self.alone else style_network.JOHNSON,
            ),
            found,
            style_pictures.shares(self.style_weights, len(names)),
            content if self.alone else None,
            grey=luminance,
            margin=gatys.margin([content, *found]) if self.alone else 0,
        )

    def _figures(self, model, aims, images):
        return style_learner.measure(model, aims, images, self.factors)

    def _painted(self, model, image):
        """Returns what a model makes of an image, uint8 `(height, width, 3)`."""
        found = gatys.picture(model) if self.alone else style_learner.painted(model, image)
        keep = self.keep_colours == "luminance"
        return style_pictures.recoloured(found, image) if keep else found

    def _square(self):
        side = self.image_size or 2 * self.patch_size
        return side, side, 3

    def _check(self):
        """Refuses flags that do not go together."""
        if not self.alone:
            if self.model not in zoo.names():
                raise unknown("model", self.model, [gatys.NAME, *zoo.names(kind=KIND)])
            spec = zoo.spec(self.model)
            if spec.kind != KIND:
                raise UsageError(
                    f"{self.model} is a {spec.kind}; style_transfer takes gatys or a {KIND}: see "
                    f"zoo list --kind {KIND}"
                )
        lbfgs = self.method == gatys.LBFGS
        wrong = {
            "--strategy mirrored has nothing to share out: gatys paints one picture": self.alone
            and self.strategy == "mirrored",
            "--optimizer lbfgs is for gatys; a painter, whose batches differ, takes adam": lbfgs
            and not self.alone,
            "--optimizer lbfgs has no --average, --accumulate and --clip-norm": lbfgs
            and (self.average or self.accumulate > 1 or self.clip_norm),
            "--keep-colours match is for the one picture of gatys; a painter takes luminance": not (
                self.alone
            )
            and self.keep_colours == "match",
            f"--patch-size {self.patch_size} is larger than --image-size": not self.alone
            and 0 < self.image_size < self.patch_size,
        }
        for text, is_wrong in wrong.items():
            if is_wrong:
                raise UsageError(text)


def _some(examples):
    """Returns the pictures of a split that are judged, the first ones; none of `None`."""
    if not examples:
        return np.empty((0,))
    return np.asarray(examples.pixels[np.arange(min(len(examples), MOST_JUDGED))])
