"""Captioning: say in a sentence what an image shows."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tasks.captioning import (
    batches,
    checkpoint_vocabulary,
    evaluation,
    report,
    train_model,
    vocabulary,
)
from tasks.captioning import dataset as captioning_dataset
from tasks.data import geometry
from tasks.engine import backbones, hardware, plans
from tasks.engine.flags import flag, patience_flag
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report.evaluation_report import EvaluationReport
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import np

NUM_LOGGED_IMAGES = 8
# The rate of plans is for classifiers. Words were learned sooner at twice that, and no worse.
LEARNING_RATE_MULTIPLIER = 2


@register
class Captioning(BackboneTask):
    """Teaches a model of the zoo to say what an image shows."""

    kind: ClassVar = "captioner"
    compilable: ClassVar = False  # its decoder's loop has no end that XLA knows
    curves: ClassVar = {
        "loss": "Loss",
        "accuracy": "Accuracy of words",
        "bleu4": "BLEU-4",
        "cider": "CIDEr-D",
    }
    monitor: ClassVar = ("val_cider", "-val_loss")

    epochs: int = flag(24, "passes over the training split", low=1)
    batch_size: int = flag(32, "images per step, over all replicas", low=1)
    clip_norm: float = flag(1.0, "longest gradient, all weights together; 0 for any", low=0.0)
    model: str = flag("show_attend_tell", "name of a zoo model; see `zoo list --kind captioner`")
    dataset: str = flag(
        "shapes", "shapes, or a file or folder of captions: Flickr's text, CSV, or COCO's JSON"
    )
    image_size: int = flag(64, "height and width of the images; 0 for the model's own", low=0)
    patience: int = patience_flag("val_cider")
    augment: str = flag(
        "none",
        "random changes of training images; all but none make left and right untrue",
        choices=tuple(geometry.LEVELS),
        search=tuple(geometry.LEVELS),
    )
    captions: int = flag(5, "sentences of each image that are learned at a time", low=1)
    least_count: int = flag(5, "how often a word must be there to be known", low=1)
    longest: int = flag(50, "words of a sentence; what is longer is cut", low=1)
    vocabulary: str = flag("", "a run's folder or model file, whose words are taken")
    scheduled_sampling: float = flag(
        0.0, "share of words in place of which the model's own are given, in the end", high=1.0
    )
    beam: int = flag(3, "sentences that are followed while one is searched for", low=1)
    # Chosen on the validation split of `shapes`: with 0.7 sentences are longer, and oftener wrong.
    length_penalty: float = flag(
        0.2, "0: short sentences are preferred; 1: the mean of a word decides", high=100.0
    )

    def load(self):
        if self.num_classes:
            raise UsageError("captions have words, not classes; leave --num-classes out")
        shape = self.shape()
        source = captioning_dataset.load(self.dataset)
        data = captioning_dataset.data(
            source,
            self.slices(),
            shape,
            self.resize,
            bits=self.image_bits,
            words=checkpoint_vocabulary.from_checkpoint(self.vocabulary),
            min_count=self.least_count,
            longest=self.longest,
            include_unseen=not self.test_split,  # who names what to judge on gets that alone
        )
        checkpoint_vocabulary.check(self.weights, data.words)
        return data

    def stages(self):
        found = super().stages()
        if self.learning_rate or self.plan not in ("auto", *plans.PRESETS):
            return found
        return tuple(
            dataclasses.replace(stage, rate=LEARNING_RATE_MULTIPLIER * stage.rate)
            for stage in found
        )

    def build(self, data):
        return self.network(data.image_shape, len(data.words), length=data.length)

    def training_model(self, model, data):
        sentences = min(self.captions, data.train.labels.shape[1])
        return train_model.build_train_model(
            model, sentences, scheduled_sampling=bool(self.scheduled_sampling)
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
        end, images = max(1, self.epochs - 1), len(data.train)
        stages = self.stages_with_passes(images // min(self.batch_size, images))
        passes = [stage.passes for stage in stages for _ in range(stage.epochs)]
        shares = [
            self.scheduled_sampling * epoch / end
            for epoch, count in enumerate(passes)
            for _ in range(count)
        ]
        return batches.training_batches(
            data.train,
            batch_size=self.batch_size,
            sentences=self.captions,
            seed=self.seed,
            augment=self.augment if augmented else "none",
            sampling=shares if self.scheduled_sampling else (),
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        known = evaluation.teacher_forcing_metrics(
            model, data.validation, batch_size=self.batch_size
        )
        predictions, _ = self._generate(model, data.validation, data)
        self._log_captions(
            data.validation.pixels, [[each] for each in predictions], events, "validation", step
        )
        return {**known, **evaluation.caption_metrics(data.validation, predictions)}

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.seen.bits,
            "model": self.model,
            "options": backbones.architecture_options(self),
            "vocabulary": list(data.words.words),
            "length": data.length,
            "resize": self.resize,
            "beam": self.beam,
            "length_penalty": self.length_penalty,
        }
        model_files.save(model, path, about)

    def build_report(self, model, data):
        figures, predictions, log_probabilities = self._compute_metrics(model, data.test, data)
        if data.unseen:
            found, _, _ = self._compute_metrics(model, data.unseen, data)
            figures |= {f"unseen_{name}": value for name, value in found.items()}
        chosen = report.select_examples(data.test, predictions)
        shown = (data.test.pixels[chosen], [predictions[index] for index in chosen])
        attention_maps = evaluation.attention_maps(model, *shown, data.words)
        return EvaluationReport(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=report.lead(
                self.model,
                self.data_name,
                figures,
                num_test=len(data.test),
                num_train=len(data.train),
                copies=len(data.copies),
            ),
            sections=report.sections(
                data.test,
                predictions,
                log_probabilities,
                chosen,
                attention_maps,
                vocabulary.detokenize,
            ),
            warnings=[*checkpoint_vocabulary.notes(data), *data.warnings()],
            metric_warnings=report.captioning_warnings(predictions),
        )

    def evaluate(self, model, about, split):
        words = checkpoint_vocabulary.from_metadata(about, "the run")
        part = self.evaluation_split(captioning_dataset.load(self.dataset), split)
        shape = tuple(model.input["image"].shape[1:])
        examples = captioning_dataset.examples(part, words, about["length"], shape, self.resize)
        data = captioning_dataset.Data(None, None, None, examples, shape, words, about["length"])
        return self._compute_metrics(model, examples, data)[0], part.name

    def _log_captions(self, pixels, sentences, events, what, step):
        """Writes images with sentences to TensorBoard."""
        some = np.arange(min(NUM_LOGGED_IMAGES, len(pixels)))
        lines = [list(map(vocabulary.detokenize, own)) for own in sentences[: len(some)]]
        events.images(
            f"{what} images and captions", report.caption_images(pixels[some], lines), step
        )

    def _generate(self, model, examples, data, *, beam=0):
        return evaluation.generate_captions(
            model,
            examples,
            data.words,
            length=data.length,
            batch_size=self.batch_size,
            width=beam or self.beam,
            penalty=self.length_penalty,
        )

    def _compute_metrics(self, model, examples, data):
        """Returns the figures of a model on some examples, what it says of them, and how surely."""
        options = {"length": data.length, "batch_size": self.batch_size, "seed": self.seed}
        predictions, log_probabilities = self._generate(model, examples, data)
        greedy, _ = self._generate(model, examples, data, beam=1)
        plain = evaluation.caption_metrics(examples, greedy)
        figures = {
            **evaluation.caption_metrics(examples, predictions, seed=self.seed),
            **{f"greedy_{name}": plain[name] for name in ("bleu4", "cider")},
            **evaluation.teacher_forcing_metrics(model, examples, batch_size=self.batch_size),
            **evaluation.claim_metrics(model, examples, data.words, **options),
        }
        return figures, predictions, log_probabilities
