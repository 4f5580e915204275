"""Captioning: say in a sentence what an image shows."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tasks.data import caption_stream, captioned, geometry, vocabulary
from tasks.engine import (
    backbones,
    caption_answers,
    caption_learner,
    hardware,
    plans,
    vocabularies,
)
from tasks.engine.evaluation import Verdict
from tasks.engine.flags import flag, patience
from tasks.engine.image_task import BackboneTask
from tasks.engine.task import register
from tasks.report import attention, baselines
from zoo import files
from zoo.errors import UsageError
from zoo.lazy import np

SHOWN_EXAMPLES = 8
# The rate of plans is for classifiers. Words were learned sooner at twice that, and no worse.
FASTER = 2


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
    goals: ClassVar = ("val_cider", "-val_loss")

    epochs: int = flag(24, "passes over the training split", low=1)
    batch_size: int = flag(32, "images per step, over all replicas", low=1)
    clip_norm: float = flag(1.0, "longest gradient, all weights together; 0 for any", low=0.0)
    model: str = flag("show_attend_tell", "name of a zoo model; see `zoo list --kind captioner`")
    dataset: str = flag(
        "shapes", "shapes, or a file or folder of captions: Flickr's text, CSV, or COCO's JSON"
    )
    image_size: int = flag(64, "height and width of the images; 0 for the model's own", low=0)
    patience: int = patience("val_cider")
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
        source = captioned.load(self.dataset)
        data = captioned.data(
            source,
            self.slices(),
            shape,
            self.resize,
            bits=self.image_bits,
            words=vocabularies.given(self.vocabulary),
            least=self.least_count,
            longest=self.longest,
            further=not self.test_split,  # who names what to judge on gets that alone
        )
        vocabularies.check(self.weights, data.words)
        return data

    def stages(self):
        found = super().stages()
        if self.learning_rate or self.plan not in ("auto", *plans.PRESETS):
            return found
        return tuple(dataclasses.replace(stage, rate=FASTER * stage.rate) for stage in found)

    def build(self, data):
        return self.network(data.image_shape, len(data.words), length=data.length)

    def learner(self, model, data):
        sentences = min(self.captions, data.train.labels.shape[1])
        return caption_learner.learner(model, sentences, sampled=bool(self.scheduled_sampling))

    def compile(self, learner, data, optimizer):
        caption_learner.compile_loss(learner, optimizer, **hardware.compiling(self, learner))

    def show(self, data, events):
        self._show(data.train.pixels, data.train.sentences, events, "training", 0)

    def versions(self, data):
        return [(data.train, "")] if self.augment == "none" else []

    def training(self, data, *, changed=True):
        end, images = max(1, self.epochs - 1), len(data.train)
        stages = self.filled(images // min(self.batch_size, images))
        passes = [stage.passes for stage in stages for _ in range(stage.epochs)]
        shares = [
            self.scheduled_sampling * epoch / end
            for epoch, count in enumerate(passes)
            for _ in range(count)
        ]
        return caption_stream.training(
            data.train,
            batch_size=self.batch_size,
            sentences=self.captions,
            seed=self.seed,
            augment=self.augment if changed else "none",
            sampling=shares if self.scheduled_sampling else (),
        )

    def validate(self, model, data, events, step):
        if not data.validation:
            return {}
        known = caption_answers.loss(model, data.validation, batch_size=self.batch_size)
        said, _ = self._said(model, data.validation, data)
        self._show(data.validation.pixels, [[each] for each in said], events, "validation", step)
        return {**known, **caption_answers.figures(data.validation, said)}

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "image_bits": data.seen.bits,
            "model": self.model,
            "options": backbones.architecture(self),
            "vocabulary": list(data.words.words),
            "length": data.length,
            "resize": self.resize,
            "beam": self.beam,
            "length_penalty": self.length_penalty,
        }
        files.save(model, path, about)

    def judge(self, model, data):
        figures, said, chances = self._figures(model, data.test, data)
        if data.unseen:
            found, _, _ = self._figures(model, data.unseen, data)
            figures |= {f"unseen_{name}": value for name, value in found.items()}
        chosen = attention.chosen(data.test, said)
        shown = (data.test.pixels[chosen], [said[index] for index in chosen])
        looked = caption_answers.looks(model, *shown, data.words)
        return Verdict(
            figures=figures,
            title=f"{self.model} on {self.data_name}",
            lead=attention.lead(
                self.model,
                self.data_name,
                figures,
                tested=len(data.test),
                taught=len(data.train),
                copies=len(data.copies),
            ),
            sections=attention.sections(
                data.test, said, chances, chosen, looked, vocabulary.written
            ),
            warnings=[*vocabularies.notes(data), *data.warnings()],
            doubts=baselines.captioning(said),
        )

    def evaluate(self, model, about, split):
        words = vocabularies.told(about, "the run")
        part = self.judged(captioned.load(self.dataset), split)
        shape = tuple(model.input["image"].shape[1:])
        examples = captioned.examples(part, words, about["length"], shape, self.resize)
        data = captioned.Data(None, None, None, examples, shape, words, about["length"])
        return self._figures(model, examples, data)[0], part.name

    def _show(self, pixels, sentences, events, what, step):
        """Writes images with sentences to TensorBoard."""
        some = np.arange(min(SHOWN_EXAMPLES, len(pixels)))
        lines = [list(map(vocabulary.written, own)) for own in sentences[: len(some)]]
        events.images(f"{what} images and captions", attention.told(pixels[some], lines), step)

    def _said(self, model, examples, data, *, beam=0):
        return caption_answers.say(
            model,
            examples,
            data.words,
            length=data.length,
            batch_size=self.batch_size,
            width=beam or self.beam,
            penalty=self.length_penalty,
        )

    def _figures(self, model, examples, data):
        """Returns the figures of a model on some examples, what it says of them, and how surely."""
        options = {"length": data.length, "batch_size": self.batch_size, "seed": self.seed}
        said, chances = self._said(model, examples, data)
        greedy, _ = self._said(model, examples, data, beam=1)
        plain = caption_answers.figures(examples, greedy)
        figures = {
            **caption_answers.figures(examples, said, seed=self.seed),
            **{f"greedy_{name}": plain[name] for name in ("bleu4", "cider")},
            **caption_answers.loss(model, examples, batch_size=self.batch_size),
            **caption_answers.truths(model, examples, data.words, **options),
        }
        return figures, said, chances
