"""Image captioning: generates a sentence that describes an image."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

from tasks.captioning import (
    batches,
    checkpoint_vocabulary,
    dataset,
    evaluation,
    metrics,
    report,
    train_model,
    vocabulary,
)
from tasks.data import data_fingerprint, geometry
from tasks.engine import backbones, hardware, plans
from tasks.engine.flags import augment_flag, flag, flag_of, patience_flag
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report.evaluation_report import EvaluatedModel, Evaluation, EvaluationReport
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

NUM_LOGGED_IMAGES = 8
# The learning rates of plans are for classifiers. Captioners converge sooner at twice that.
LEARNING_RATE_MULTIPLIER = 2


@register
class Captioning(BackboneTask):
    """Trains a captioner of the zoo."""

    kind: ClassVar = "captioner"
    predictor: ClassVar = LazyModule("tasks.captioning.predictor")
    exporter: ClassVar = LazyModule("tasks.captioning.exporter")
    has_image_results: ClassVar = True
    compilable: ClassVar = False  # the loop of the decoder has no static length
    curves: ClassVar = {
        "loss": "Loss",
        "accuracy": "Accuracy of the next word",
        "bleu4": "BLEU-4",
        "cider": "CIDEr-D",
    }
    monitor: ClassVar = ("val_cider", "-val_loss")

    epochs: int = flag_of(BackboneTask, "epochs", 24)
    clip_norm: float = flag_of(BackboneTask, "clip_norm", 1.0)
    model: str = flag("show_attend_tell", "name of a zoo model; see `zoo list --kind captioner`")
    dataset: str = flag(
        "shapes", "shapes, or a caption file or folder: Flickr text, CSV, or COCO JSON"
    )
    image_size: int = flag_of(BackboneTask, "image_size", 64)
    patience: int = patience_flag("val_cider")
    augment: str = augment_flag(
        "none",
        "training images; all but none mirror them, so that left and right in captions become "
        "wrong",
        geometry.LEVELS,
    )
    captions_per_image: int = flag(5, "captions per image in a step", low=1, former="captions")
    min_count: int = flag(
        5, "minimum occurrences of a word in the vocabulary", low=1, former="least_count"
    )
    max_length: int = flag(
        50, "maximum words per caption; longer ones are truncated", low=1, former="longest"
    )
    vocabulary: str = flag("", "run folder or model file to take the vocabulary from")
    scheduled_sampling: float = flag(
        0.0, "final probability of feeding the model's own word in training", high=1.0
    )
    beam_width: int = flag(3, "beam width of the caption search; 1 is greedy", low=1, former="beam")
    # Chosen on the validation split of `shapes`: with 0.7 captions are longer, and oftener wrong.
    length_penalty: float = flag(
        0.2,
        "exponent of the length that log probabilities are divided by; 0 prefers short captions",
        high=100.0,
    )

    def load(self):
        if self.num_classes:
            raise UsageError("captioning has no classes; remove --num-classes")
        shape = self.shape()
        source = self.source
        data = dataset.prepare(
            source,
            self.slices(),
            shape,
            self.resize,
            bits=self.bits,
            words=checkpoint_vocabulary.from_checkpoint(self.vocabulary),
            min_count=self.min_count,
            max_length=self.max_length,
            include_unseen=not self.test_split,
        )
        checkpoint_vocabulary.check(self.weights, data.words)
        return data

    def stages(self):
        stages = super().stages()
        if self.learning_rate or self.plan not in ("auto", *plans.PRESETS):
            return stages
        return tuple(
            dataclasses.replace(stage, rate=LEARNING_RATE_MULTIPLIER * stage.rate)
            for stage in stages
        )

    def build(self, data):
        return self.network(data.image_shape, len(data.words), length=data.length)

    def training_model(self, model, data):
        num_captions = min(self.captions_per_image, data.train.labels.shape[1])
        return train_model.build_training_model(
            model, num_captions, scheduled_sampling=bool(self.scheduled_sampling)
        )

    def compile(self, training_model, data, optimizer):
        train_model.compile_loss(
            training_model, optimizer, **hardware.compile_options(self, training_model)
        )

    def show(self, data, events):
        self._log_captions(data.train.pixels, data.train.sentences, events, "training", 0)

    def versions(self, data):
        return [(data.train, "")] if self.augment == "none" else []

    def training(self, data, *, augmented=True):
        # The probability of scheduled sampling rises linearly, epoch by epoch.
        last, num_images = max(1, self.epochs - 1), len(data.train)
        stages = self.stages_with_passes(num_images // min(self.batch_size, num_images))
        passes = [stage.passes for stage in stages for _ in range(stage.epochs)]
        rates = [
            self.scheduled_sampling * epoch / last
            for epoch, count in enumerate(passes)
            for _ in range(count)
        ]
        return batches.training(
            data.train,
            batch_size=self.batch_size,
            captions_per_image=self.captions_per_image,
            seed=self.seed,
            augment=self.augment if augmented else "none",
            sampling=rates if self.scheduled_sampling else (),
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        figures = evaluation.teacher_forcing_metrics(
            model, data.validation, batch_size=self.batch_size
        )
        predictions, _ = self._generate(model, data.validation, data)
        self._log_captions(
            data.validation.pixels, [[each] for each in predictions], events, "validation", step
        )
        return {**figures, **evaluation.caption_metrics(data.validation, predictions)}

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.findings.bits,
            "model": self.model,
            "options": backbones.architecture_options(self),
            "vocabulary": list(data.words.words),
            "length": data.length,
            "resize": self.resize,
            "beam": self.beam_width,
            "length_penalty": self.length_penalty,
        }
        model_files.save(model, path, about)

    def build_report(self, model, data):
        figures, predictions, log_probabilities = self._compute_metrics(model, data.test, data)
        figures |= metrics.deduplicated_cider(predictions, data.test.sentences, data.copies)
        if data.unseen:
            unseen, _, _ = self._compute_metrics(model, data.unseen, data)
            figures |= {f"unseen_{name}": value for name, value in unseen.items()}
        chosen = report.select_examples(data.test, predictions)
        sentences = [predictions[index] for index in chosen]
        attention_maps = evaluation.attention_maps(
            model, data.test.pixels[chosen], sentences, data.words
        )
        evaluated = EvaluatedModel(
            self.model, self.data_name, len(data.test), len(data.train), len(data.copies)
        )
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(evaluated, figures),
            sections=report.sections(
                data.test,
                predictions,
                log_probabilities,
                chosen,
                attention_maps,
                vocabulary.detokenize,
            ),
            warnings=[*checkpoint_vocabulary.notes(data), *data.warnings()],
            metric_warnings=report.captioning_warnings(figures, predictions, data.test.sentences),
            image_results=report.image_results(data.test, predictions),
        )

    @functools.cached_property
    def source(self):
        return dataset.load(self.dataset)

    def evaluate(self, model, about, split):
        words = checkpoint_vocabulary.from_metadata(about, "the run")
        part = self.evaluation_split(self.source, split)
        shape, length = tuple(model.input["image"].shape[1:]), about["length"]
        examples = dataset.decode_captions(part, words, length, shape, self.resize)
        data = dataset.CaptionData(None, None, None, examples, shape, words, length)
        figures, predictions, _ = self._compute_metrics(model, examples, data)
        results = report.image_results(examples, predictions)
        return Evaluation(figures, part.name, results, data_fingerprint.split_digest(part))

    def _log_captions(self, pixels, sentences, events, split, step):
        """Writes images with captions to TensorBoard."""
        logged = np.arange(min(NUM_LOGGED_IMAGES, len(pixels)))
        lines = [list(map(vocabulary.detokenize, own)) for own in sentences[: len(logged)]]
        events.images(
            f"{split} images and captions", report.caption_images(pixels[logged], lines), step
        )

    def _generate(self, model, examples, data, *, beam_width=0):
        return evaluation.generate_captions(
            model,
            examples,
            data.words,
            length=data.length,
            batch_size=self.batch_size,
            width=beam_width or self.beam_width,
            penalty=self.length_penalty,
        )

    def _compute_metrics(self, model, examples, data):
        """Returns the metrics of a model on some examples, its captions, and their log
        probabilities."""
        options = {"length": data.length, "batch_size": self.batch_size, "seed": self.seed}
        predictions, log_probabilities = self._generate(model, examples, data)
        greedy, _ = self._generate(model, examples, data, beam_width=1)
        greedy_metrics = evaluation.caption_metrics(examples, greedy)
        figures = {
            **evaluation.caption_metrics(examples, predictions, seed=self.seed),
            **{f"greedy_{name}": greedy_metrics[name] for name in ("bleu4", "cider")},
            **evaluation.teacher_forcing_metrics(model, examples, batch_size=self.batch_size),
            **evaluation.claim_metrics(model, examples, data.words, **options),
        }
        return figures, predictions, log_probabilities
