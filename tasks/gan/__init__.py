"""Generative adversarial networks: a generator, and a critic that scores its images."""

from __future__ import annotations

import functools
from typing import ClassVar

from tasks.data import decoding
from tasks.engine import hardware, optimize, plans
from tasks.engine.flags import Between, flag, patience_flag
from tasks.engine.image_task import SplitTask
from tasks.engine.task import register
from tasks.gan import batches, evaluation, image_grid, networks, report, sampling, train_step
from tasks.gan import dataset as gan_dataset
from tasks.report.evaluation_report import EvaluationReport
from zoo import flops as count
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

loops = LazyModule("tasks.engine.custom_step")

BATCH_NORM_SAMPLES = 2048  # generated images to estimate the BatchNorm statistics from


@register
class Gan(SplitTask):
    """Trains a generator of images, and a critic that separates them from real images."""

    checkpoint_all: ClassVar = True
    min_steps_per_epoch: ClassVar = plans.MIN_STEPS_PER_EPOCH
    command: ClassVar = "zoo generate"
    exporter: ClassVar = LazyModule("tasks.gan.exporter")

    epochs: int = flag(20, "passes over the training split", low=1)
    batch_size: int = flag(64, "examples per step of the critic, over all replicas", low=1)
    model: str = flag("dcgan", "networks, loss and Adam settings", choices=tuple(networks.VARIANTS))
    width: int = flag(
        32, "channels of the largest feature maps of both networks", search=(32, 64, 128), low=1
    )
    latent_size: int = flag(100, "length of the latent vector", low=1)
    condition: str = flag(
        "none",
        "class-conditional networks, by projection or concatenation; none: unconditional",
        choices=("none", "projection", "concatenation"),
    )
    loss: str = flag(
        "auto", "adversarial loss; auto: the model's own", choices=("auto", *train_step.LOSSES)
    )
    critic_norm: str = flag(
        "auto",
        "normalization of the critic's layers; auto: the model's own",
        choices=("auto", *networks.NORMALIZATIONS),
        search=("batch", "spectral"),
    )
    gradient_penalty: float = flag(
        -1.0, "factor of WGAN-GP's gradient penalty, 0 for none; -1: the model's own", low=-1.0
    )
    critic_steps: int = flag(
        0, "steps of the critic per step of the generator; 0: the model's own", low=0
    )
    optimizer: str = flag("adam", "optimizer of both networks, by its name in Keras")
    learning_rate: float = flag(
        0.0, "learning rate of the generator; 0: the model's own", search=Between(5e-5, 1e-3)
    )
    critic_learning_rate: float = flag(
        0.0, "learning rate of the critic; 0: that of the generator", former="critic_rate"
    )
    beta_1: float = flag(-1.0, "decay of Adam's first moment; -1: model's own", low=-1, high=0.9999)
    beta_2: float = flag(-1.0, "decay of the second moment; -1: model's own", low=-1, high=0.9999)
    schedule: str = flag("constant", "learning rate schedule", choices=optimize.SCHEDULES)
    weight_decay: float = flag(
        0.0, "decoupled weight decay of kernels, times the learning rate", high=100.0
    )
    ema_decay: float = flag(
        0.999,
        "decay of the exponential moving average of the generator's weights; 0: none",
        high=0.999999,
        former="average",
    )
    patience: int = patience_flag("Fréchet distance")
    dataset: str = flag(
        "fashion_sample", "fashion_sample, shapes, a folder (of class folders or images), tfds:NAME"
    )
    test_split: str = flag("", "slice that generated images are compared with in the report")
    image_size: int = flag(0, "height and width; 0: those of the data, 64 at most", low=0)
    resize: str = flag(
        "crop", "how images of another size are resized", choices=("stretch", "crop", "pad")
    )
    channels: int = flag(0, "1 for gray, 3 for RGB; 0: those of the data", low=0)
    feature_network: str = flag(
        "resnet20.cifar10",
        "model for the features that are compared, such as inception_v3.imagenet",
        former="network",
    )
    feature_network_weights: str = flag(
        "", "weights file for the feature network, in place of its own", former="network_weights"
    )
    num_samples: int = flag(
        10_000, "generated images that a finished run is evaluated on", low=16, former="samples"
    )
    validation_samples: int = flag(2_000, "generated images for validation", low=16)
    grid_samples: int = flag(64, "generated images in a grid", low=8, former="shown")
    classifier: str = flag("", "run folder or .keras file of a classifier for generated images")

    def __post_init__(self):
        super().__post_init__()
        networks.check_variant(self.variant())
        if self.l1 or self.l2:
            raise UsageError("gan has no --l1 and no --l2; use --weight-decay")

    @property
    def curves(self):
        """The columns of the history to draw, and their titles."""
        distance = evaluation.distance_name(self.feature_network)
        return {distance: "Fréchet distance", **report.CURVES}

    @property
    def monitor(self):
        """The column that the best epoch is chosen by."""
        return (f"-val_{evaluation.distance_name(self.feature_network)}",)

    def variant(self):
        """Returns the `networks.Variant` of `--model`, changed by the flags."""
        return networks.variant_from_flags(self)

    def flops(self):
        with keras.StatelessScope(initialize_variables=False):
            model = self._build_networks(self._shape, len(self.source.classes))
        pair = networks.get_networks(model).values()
        return sum(count.count_params_and_flops(network)[1] for network in pair)

    def files(self):
        return (self.feature_network_weights,)

    def stages(self):
        rate = self.variant().learning_rate
        return plans.resolve_plan(
            "scratch", epochs=self.epochs, pretrained=False, rate=rate, optimizer=self.optimizer
        )

    def load(self):
        evaluation.check_feature_extractor(self.feature_network, self.feature_network_weights)
        source = self.source
        if self.condition != "none" and (source.multi_label or len(source.classes) < 2):
            raise UsageError(
                f"--condition {self.condition} needs one label per image and two classes or more, "
                f"which {source.name} does not have; use --condition none"
            )
        if self.classifier:
            evaluation.load_classifier(self.classifier, source)
        return gan_dataset.load(
            source,
            self.slices(),
            self._shape,
            self.resize,
            self.bits,
            feature_network=self.feature_network,
            feature_network_weights=self.feature_network_weights,
            batch_size=self.batch_size,
        )

    def build(self, data):
        return self._build_networks(data.image_shape, len(data.source.classes))

    def extra_state(self, data):
        return data.history

    def optimizers(self, model, steps):
        variant, stages = self.variant(), self.stages_with_passes(steps)
        total = steps * sum(stage.epochs * stage.passes for stage in stages)
        critic_rate = self.critic_learning_rate or variant.learning_rate
        schedules = {
            "generator": self.learning_rates(variant.learning_rate, total),
            "critic": self.learning_rates(critic_rate, total * variant.critic_steps),
        }
        return [networks.build_optimizer(model, self, schedules, variant.betas)]

    def training_model(self, model, data):
        variant = self.variant()
        step = train_step.make_train_step(
            variant.loss, variant.gradient_penalty, variant.critic_steps
        )
        training_model = loops.CustomStepModel(
            networks.get_networks(model), train_step.METRIC_NAMES, step
        )
        data.history.track(training_model.means)
        return training_model

    def compile(self, training_model, data, optimizer):
        training_model.compile(
            optimizer=optimizer, **hardware.compile_options(self, training_model)
        )

    def show(self, data, events):
        images = np.asarray(next(iter(self.training(data).epoch(0)))["image"])[: self.grid_samples]
        events.images("real images", image_grid.grid(images, report.GRID_COLUMNS)[None], 0)

    def training(self, data, *, augmented=True):
        steps = self.variant().critic_steps
        # The steps of the critic take equal parts of a batch. A split of fewer images than one
        # batch is a batch of its own.
        size = min(self.batch_size, len(data.train) // steps)
        if not size:
            raise UsageError(
                f"{len(data.train)} training images are too few for --critic-steps {steps}; "
                "enlarge --train-split"
            )
        return batches.GanBatches(
            data.train, size * steps, self.seed, self.latent_size, self.condition != "none"
        )

    def validate(self, model, data, events, step):
        generator, classes = networks.get_networks(model)["generator"], len(data.source.classes)
        latent, labels = report.fixed_latents(generator, self.grid_samples, classes, self.seed)
        pixels = sampling.generate(generator, latent, labels, batch_size=self.batch_size)
        grid, figures = image_grid.grid(pixels, report.GRID_COLUMNS), {}
        if data.validation:
            pixels, _ = self._generate(generator, data.validation, self.validation_samples)
            figures = evaluation.validation_metrics(
                self.feature_network, data.validation_features, data.features(pixels)
            )
        events.images("generated images", grid[None], step)
        data.history.write(figures, grid)
        return figures

    def recalibrate_batch_norm(self, model, data):
        generator, classes = networks.get_networks(model)["generator"], len(data.source.classes)
        sampling.recalibrate_batch_norm(
            generator, BATCH_NORM_SAMPLES, classes, seed=self.seed, batch_size=self.batch_size
        )

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.findings.bits,
            "model": self.model,
            "dataset": self.dataset,
            "classes": list(data.source.classes) if self.condition != "none" else [],
            "latent_size": self.latent_size,
            "resize": self.resize,
        }
        model_files.save(networks.get_networks(model)["generator"], path, about)

    def build_report(self, model, data):
        figures = self._metrics(networks.get_networks(model)["generator"], data)
        keras.utils.set_random_seed(self.seed)
        untrained = networks.get_networks(self.build(data))["generator"]
        figures |= report.baseline_distances(data, self, untrained)
        distance = evaluation.distance_name(self.feature_network)
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(self, data, figures),
            sections=[*report.sections(self, data, model), report.protocol(self, data)],
            warnings=[*data.history.warnings(distance, self.variant().loss), *data.warnings()],
            metric_warnings=report.distance_warnings(distance, figures),
        )

    def evaluate(self, model, about, split):
        source = self.source
        part = self.evaluation_split(source, split)
        shape = tuple(model.output_shape[1:])
        test = gan_dataset.check_split_size(decoding.decode(part, shape, self.resize))
        data = gan_dataset.GanData(
            *(source, test, None, test, shape),
            *(self.feature_network, self.feature_network_weights, self.batch_size),
        )
        return self._metrics(model, data), part.name

    @functools.cached_property
    def source(self):
        return batches.load(self.dataset, self.data_dir or None)

    @functools.cached_property
    def _shape(self):
        return gan_dataset.resolve_image_shape(
            self.source, self.image_size, self.channels, networks.check_image_size
        )

    def _build_networks(self, shape, num_classes):
        return networks.build(
            self.variant(),
            shape,
            latent_size=self.latent_size,
            num_classes=num_classes if self.condition != "none" else None,
            width=self.width,
            condition=self.condition,
        )

    def _generate(self, generator, examples, count):
        """Returns generated images and their labels, which are distributed as in `examples`."""
        return sampling.generate_like(
            generator, examples, count, seed=self.seed, batch_size=self.batch_size
        )

    def _metrics(self, generator, data):
        """Returns the metrics of images of a generator against the test split."""
        pixels, labels = self._generate(generator, data.test, self.num_samples)
        return evaluation.metrics_of_images(self, data, pixels, labels)
