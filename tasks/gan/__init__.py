"""GAN: paint images that a critic cannot tell from those of a data set."""

from __future__ import annotations

import dataclasses
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

BATCH_NORM_SAMPLES = 2048  # painted images that the statistics of normalisation are estimated from


@register
class Gan(SplitTask):
    """Teaches a generator to paint, and a critic to tell what it paints from real images."""

    checkpoint_all: ClassVar = True
    command: ClassVar = "zoo generate"

    epochs: int = flag(20, "passes over the training split", low=1)
    batch_size: int = flag(64, "examples per step of the critic, over all replicas", low=1)
    model: str = flag("dcgan", "what the players are", choices=tuple(networks.VARIANTS))
    width: int = flag(32, "channels of the networks' largest maps", search=(32, 64, 128), low=1)
    latent_size: int = flag(100, "random numbers that an image is painted from", low=1)
    condition: str = flag(
        "none",
        "how both players are told the class: projection, concatenation, or none",
        choices=("none", "projection", "concatenation"),
    )
    loss: str = flag(
        "auto",
        "what the players want; auto: the model's own",
        choices=("auto", *train_step.LOSSES),
    )
    critic_norm: str = flag(
        "auto",
        "of the critic's layers, such as spectral; auto: the model's own",
        choices=("auto", *networks.NORMALIZATIONS),
        search=("batch", "spectral"),
    )
    gradient_penalty: float = flag(
        -1.0, "factor of WGAN-GP's penalty, 0 for none; -1: the model's own", low=-1.0
    )
    critic_steps: int = flag(
        0, "of the critic for each of the generator; 0: the model's own", low=0
    )
    optimizer: str = flag("adam", "of both players, by its name among Keras's")
    learning_rate: float = flag(
        0.0, "of the generator; 0: the model's own", search=Between(5e-5, 1e-3)
    )
    critic_rate: float = flag(0.0, "of the critic; 0: the generator's")
    beta_1: float = flag(-1.0, "decay of Adam's first moment; -1: model's own", low=-1, high=0.9999)
    beta_2: float = flag(-1.0, "decay of the second one; -1: model's own", low=-1, high=0.9999)
    schedule: str = flag("constant", "how the rates change", choices=optimize.SCHEDULES)
    weight_decay: float = flag(0.0, "decoupled decay of kernels, times the rate", high=100.0)
    ema_decay: float = flag(
        0.999,
        "decay of the running average of the generator's weights; 0: none",
        high=0.999999,
        former="average",
    )
    patience: int = patience_flag("Frechet distance")
    dataset: str = flag(
        "fashion_sample", "fashion_sample, shapes, a folder (of class folders or images), tfds:NAME"
    )
    test_split: str = flag("", "slice that painted images are compared with in the report")
    image_size: int = flag(0, "height and width; 0: the data's own, 64 at most", low=0)
    resize: str = flag(
        "crop", "how images of another size get there", choices=("stretch", "crop", "pad")
    )
    channels: int = flag(0, "1 for grey, 3 for RGB; 0: the data's own", low=0)
    network: str = flag(
        "resnet20.cifar10",
        "zoo name whose features are compared, such as inception_v3.imagenet",
    )
    network_weights: str = flag("", "file in place of that network's own weights")
    samples: int = flag(10_000, "painted images that a finished run is judged by", low=16)
    validation_samples: int = flag(2_000, "painted images after each epoch", low=16)
    shown: int = flag(64, "painted images in a grid", low=8)
    classifier: str = flag("", "a run's folder or a .keras file that names painted images")

    def __post_init__(self):
        super().__post_init__()
        networks.check_variant(self.kind())
        if self.l1 or self.l2:
            raise UsageError("--l1 and --l2 are not for players; take --weight-decay")

    @property
    def curves(self):
        """The columns of the history to draw, and their titles."""
        return {evaluation.distance_name(self.network): "Frechet distance", **report.CURVES}

    @property
    def monitor(self):
        """The column that the best epoch is chosen by."""
        return (f"-val_{evaluation.distance_name(self.network)}",)

    def kind(self):
        """Returns what the players are, a `networks.Variant`, with what the flags say of it."""
        own = networks.VARIANTS[self.model]
        betas = zip((self.beta_1, self.beta_2), own.betas, strict=True)
        return dataclasses.replace(
            own,
            normalization=own.normalization if self.critic_norm == "auto" else self.critic_norm,
            loss=own.loss if self.loss == "auto" else self.loss,
            gradient_penalty=own.gradient_penalty
            if self.gradient_penalty < 0
            else self.gradient_penalty,
            critic_steps=self.critic_steps or own.critic_steps,
            rate=self.learning_rate or own.rate,
            betas=tuple(known if asked < 0 else asked for asked, known in betas),
        )

    def flops(self):
        with keras.StatelessScope(initialize_variables=False):
            model = self._build_networks(self._shape, len(self._source.classes))
        return sum(
            count.count_params_and_flops(player)[1]
            for player in networks.get_networks(model).values()
        )

    def files(self):
        return (self.network_weights,)

    def stages(self):
        rate = self.kind().rate
        return plans.resolve_plan(
            "scratch", epochs=self.epochs, pretrained=False, rate=rate, optimizer=self.optimizer
        )

    def load(self):
        evaluation.check_feature_extractor(self.network, self.network_weights)
        source = self._source
        if self.condition != "none" and (source.multi_label or len(source.classes) < 2):
            raise UsageError(
                f"--condition {self.condition} needs images of one class each, and two classes or "
                f"more; {source.name} has others"
            )
        if self.classifier:
            evaluation.load_classifier(self.classifier, source.classes)
        return gan_dataset.load(
            source,
            self.slices(),
            self._shape,
            self.resize,
            self.image_bits,
            network=self.network,
            weights=self.network_weights,
            batch_size=self.batch_size,
        )

    def build(self, data):
        return self._build_networks(data.image_shape, len(data.source.classes))

    def extra_state(self, data):
        return data.history

    def optimizers(self, model, steps):
        kind, total = self.kind(), steps * self.epochs
        critic_total = total * kind.critic_steps
        rates = {
            "generator": self.learning_rates(kind.rate, total),
            "critic": self.learning_rates(self.critic_rate or kind.rate, critic_total),
        }
        return [networks.build_optimizer(model, self, rates, kind.betas)]

    def training_model(self, model, data):
        kind = self.kind()
        step = train_step.make_train_step(kind.loss, kind.gradient_penalty, kind.critic_steps)
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
        batch = next(iter(self.training(data).epoch(0)))
        images = np.asarray(batch["image"])[: self.shown]
        events.images("real images", image_grid.grid(images, report.GRID_COLUMNS)[None], 0)

    def training(self, data, *, changed=True):
        steps = self.kind().critic_steps
        # Each of a step's batches is whole; so is one of a split that holds no more.
        size = min(self.batch_size, len(data.train) // steps)
        if not size:
            raise UsageError(
                f"{len(data.train)} images are too few for {steps} steps of the critic"
            )
        labelled = self.condition != "none"
        return batches.GanBatches(data.train, size * steps, self.seed, self.latent_size, labelled)

    def validate(self, model, data, events, step):
        generator, classes = networks.get_networks(model)["generator"], len(data.source.classes)
        figures = {}
        latent, labels = report.fixed_latents(generator, self.shown, classes, self.seed)
        pixels = sampling.generate(generator, latent, labels, batch_size=self.batch_size)
        grid = image_grid.grid(pixels, report.GRID_COLUMNS)
        if data.validation:
            pixels, _ = self._generate(generator, data.validation, self.validation_samples)
            seen = data.features(pixels)
            figures = evaluation.validation_metrics(self.network, data.validation_features, seen)
        events.images("painted images", grid[None], step)
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
        generator = networks.get_networks(model)["generator"]
        pixels, labels = self._generate(generator, data.test, self.samples)
        figures = self._figures(pixels, labels, data.test, data)
        keras.utils.set_random_seed(self.seed)
        untrained = networks.get_networks(self.build(data))["generator"]
        figures |= report.baseline_distances(data, self, untrained)
        distance = evaluation.distance_name(self.network)
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(self, data, figures),
            sections=[*report.sections(self, data, model), report.protocol(self, data)],
            warnings=[*data.history.warnings(distance, self.kind().loss), *data.warnings()],
        )

    def evaluate(self, model, about, split):
        source = self._source
        part = self.judged(source, split)
        shape = tuple(model.output_shape[1:])
        test = gan_dataset.check_split_size(decoding.decode(part, shape, self.resize))
        data = gan_dataset.GanData(
            source, test, None, test, shape, self.network, self.network_weights, self.batch_size
        )
        pixels, labels = self._generate(model, test, self.samples)
        return self._figures(pixels, labels, test, data), part.name

    @functools.cached_property
    def _source(self):
        return batches.load(self.dataset, self.data_dir or None)

    @functools.cached_property
    def _shape(self):
        return gan_dataset.resolve_image_shape(
            self._source, self.image_size, self.channels, networks.check_image_size
        )

    def _build_networks(self, shape, num_classes):
        return networks.build(
            self.kind(),
            shape,
            latent_size=self.latent_size,
            num_classes=num_classes if self.condition != "none" else None,
            width=self.width,
            condition=self.condition,
        )

    def _generate(self, generator, examples, count):
        """Returns painted images, and their classes: as frequent as those of some examples."""
        latent = sampling.sample_latents(count, sampling.latent_size(generator), self.seed)
        labels = None
        if sampling.is_conditional(generator):
            random = np.random.default_rng([self.seed, sampling.LATENT_STREAM, count])
            labels = examples.labels[random.integers(0, len(examples), count)].astype("int32")
        painted = sampling.generate(generator, latent, labels, batch_size=self.batch_size)
        return painted, labels

    def _figures(self, pixels, labels, test, data):
        """Returns the figures of painted images and their classes, against a test split."""
        seen = data.features(pixels)
        figures = evaluation.metrics_with_intervals(
            self.network, data.test_features, seen, seed=self.seed
        )
        if self.classifier:
            build_report = evaluation.load_classifier(self.classifier, data.source.classes)
            predictions = [
                build_report.probabilities(x, self.batch_size) for x in (pixels, test.pixels)
            ]
            figures |= evaluation.classifier_metrics(
                *predictions, test.labels, labels, seed=self.seed
            )
        return {**figures, "painted_images": len(pixels), "real_images": len(test)}
