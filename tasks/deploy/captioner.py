"""A captioner with all that is needed to use it: it says what is in an image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from tasks.data import vocabulary
from tasks.data.vocabulary import Vocabulary
from tasks.deploy.answerer import Answerer, colour
from tasks.engine import caption_answers, vocabularies, workers
from tasks.report import attention
from zoo.errors import UsageError
from zoo.files import replacing
from zoo.lazy import LazyModule, keras, np

Image = LazyModule("PIL.Image")
beam = LazyModule("tasks.engine.beam")
batches = LazyModule("tasks.data.batches")


@dataclass(frozen=True)
class Captioner(Answerer):
    """A model that says what is in an image.

    Keras itself computes: other runtimes do not search for sentences.

    Attributes:
        model: a captioner.
        words: that it knows.
        length: words of a sentence at most.
        name: of the model, for people.
        resize: how an image is brought to the model's size.
        width: sentences that are followed while one is searched for.
        penalty: the power of the length that a sentence's chance is divided by.
    """

    model: keras.Model = field(repr=False)
    words: Vocabulary = field(repr=False)
    length: int
    name: str
    resize: str = "stretch"
    width: int = 3
    penalty: float = 0.2

    columns: ClassVar = ("path", "sentence", "probability", "picture", "error")
    explains: ClassVar = True
    keras_only: ClassVar = True

    @property
    def image_shape(self):
        """`(height, width, channels)` of the images that the model takes."""
        return tuple(self.model.input["image"].shape[1:])

    @property
    def protocol(self):
        """How an image is prepared, and a sentence found, in words."""
        height, width, channels = self.image_shape
        how = f"{self.resize} to {height} x {width}, bilinear with antialiasing, {colour(channels)}"
        return f"{how}; beam of {self.width}, length penalty {self.penalty:g}"

    def prepared(self, photos, start):
        """Returns what asks Keras, one thread at a time, for full batches."""
        options = {"width": self.width, "length": self.length, "penalty": self.penalty}
        speaker = batches.without_xla(beam.speaker(self.model, **options))
        size = len(photos)

        def answer(images):
            rest = np.repeat(images[-1:], max(0, size - len(images)), axis=0)
            found = speaker.predict_on_batch(np.concatenate([images, rest]))
            return {name: np.asarray(x)[: len(images), 0] for name, x in found.items()}

        return workers.one_at_a_time(answer)

    def answers(self, photos, run, wanted):
        """Returns for each image its `sentence`, the `probability` of it, and the drawing."""
        found = run(np.stack([photo.pixels for photo in photos]))
        said = [self.words.sentence(row) for row in found["words"]]
        answers = [
            {"sentence": vocabulary.written(sentence), "probability": math.exp(chance)}
            for sentence, chance in zip(said, found["log_probability"].tolist(), strict=True)
        ]
        if wanted.explain and wanted.pictures:
            for photo, sentence, answer in zip(photos, said, answers, strict=True):
                self._explain(photo, sentence, answer, wanted.pictures)
        return answers

    def lines(self, answer):
        """Returns the sentence behind its probability, and a line for what was drawn."""
        drawn = [f"picture: {answer['picture']}"] if answer.get("picture") else []
        said = answer["sentence"] or "(nothing)"
        return [f"{100 * answer['probability']:6.2g}%  {said}", *drawn]

    def cells(self, answer):
        """Returns the sentence, its probability, and what was drawn."""
        chance = f"{answer['probability']:.6g}"
        return [(answer["sentence"], chance, answer.get("picture") or "")]

    def _explain(self, photo, said, answer, folder):
        """Draws where the model looked at each word, if it looks anywhere."""
        looks = said and caption_answers.looks(self.model, photo.pixels[None], [said], self.words)
        if not looks:
            return
        path = folder / f"{photo.stem}-attention.png"
        with replacing(path) as partial:
            picture = attention.strip(photo.pixels, said.split(), looks[0])
            Image.fromarray(picture).save(partial, "PNG")
        answer["picture"] = str(path)


def of_file(path, model, about):
    """Returns the captioner of a file: its model and what it tells about itself.

    Raises:
        UsageError: it is no captioner, or knows no words.
    """
    if not (isinstance(model.input, dict) and {"image", "words"} <= set(model.input)):
        raise UsageError(f"{path} is no captioner: it takes {model.input_shape}")
    words = vocabularies.told(about, path)
    if model.output_shape[-1] != len(words):
        raise UsageError(
            f"{path} tells {model.output_shape[-1]} words apart, but names {len(words)}"
        )
    return Captioner(
        model,
        words,
        int(about["length"]),
        str(path),
        about.get("resize", "stretch"),
        int(about.get("beam", 1)),
        float(about.get("length_penalty", 0.0)),
    )
