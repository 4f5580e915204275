"""A captioner with all that is needed to use it: it says what is in an image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from tasks.captioning import checkpoint_vocabulary, evaluation, report, vocabulary
from tasks.captioning.vocabulary import Vocabulary
from tasks.inference import threads
from tasks.inference.predictor import Predictor, describe_channels
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

Image = LazyModule("PIL.Image")
beam_search = LazyModule("tasks.captioning.beam_search")
batches = LazyModule("tasks.data.batches")


@dataclass(frozen=True)
class CaptioningPredictor(Predictor):
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
    has_explanations: ClassVar = True
    keras_only: ClassVar = True

    @property
    def image_shape(self):
        """`(height, width, channels)` of the images that the model takes."""
        return tuple(self.model.input["image"].shape[1:])

    @property
    def protocol(self):
        """How an image is prepared, and a sentence found, in words."""
        height, width, channels = self.image_shape
        how = (
            f"{self.resize} to {height} x {width}, bilinear with antialiasing, "
            f"{describe_channels(channels)}"
        )
        return f"{how}; beam of {self.width}, length penalty {self.penalty:g}"

    def prepare(self, images, start):
        """Returns what asks Keras, one thread at a time, for full batches."""
        options = {"width": self.width, "length": self.length, "penalty": self.penalty}
        caption_generator = batches.without_xla(
            beam_search.caption_generator(self.model, **options)
        )
        size = len(images)

        def answer(images):
            rest = np.repeat(images[-1:], max(0, size - len(images)), axis=0)
            found = caption_generator.predict_on_batch(np.concatenate([images, rest]))
            return {name: np.asarray(x)[: len(images), 0] for name, x in found.items()}

        return threads.with_lock(answer)

    def predict(self, images, run, options):
        """Returns for each image its `sentence`, the `probability` of it, and the drawing."""
        found = run(np.stack([image.pixels for image in images]))
        generated = [self.words.sentence(row) for row in found["words"]]
        predictions = [
            {"sentence": vocabulary.detokenize(sentence), "probability": math.exp(chance)}
            for sentence, chance in zip(generated, found["log_probability"].tolist(), strict=True)
        ]
        if options.explain and options.drawings_dir:
            for image, sentence, prediction in zip(images, generated, predictions, strict=True):
                self._explain(image, sentence, prediction, options.drawings_dir)
        return predictions

    def text_lines(self, prediction):
        """Returns the sentence behind its probability, and a line for what was drawn."""
        drawn = [f"picture: {prediction['picture']}"] if prediction.get("picture") else []
        generated = prediction["sentence"] or "(nothing)"
        return [f"{100 * prediction['probability']:6.2g}%  {generated}", *drawn]

    def csv_rows(self, prediction):
        """Returns the sentence, its probability, and what was drawn."""
        chance = f"{prediction['probability']:.6g}"
        return [(prediction["sentence"], chance, prediction.get("picture") or "")]

    def _explain(self, image, generated, prediction, folder):
        """Draws where the model looked at each word, if it looks anywhere."""
        attention_maps = generated and evaluation.attention_maps(
            self.model, image.pixels[None], [generated], self.words
        )
        if not attention_maps:
            return
        path = folder / f"{image.stem}-attention.png"
        with atomic_write(path) as partial:
            picture = report.attention_grid(image.pixels, generated.split(), attention_maps[0])
            Image.fromarray(picture).save(partial, "PNG")
        prediction["picture"] = str(path)


def from_file(path, model, about):
    """Returns the captioner of a file: its model and what it tells about itself.

    Raises:
        UsageError: it is no captioner, or knows no words.
    """
    if not (isinstance(model.input, dict) and {"image", "words"} <= set(model.input)):
        raise UsageError(f"{path} is no captioner: it takes {model.input_shape}")
    words = checkpoint_vocabulary.from_metadata(about, path)
    if model.output_shape[-1] != len(words):
        raise UsageError(
            f"{path} tells {model.output_shape[-1]} words apart, but names {len(words)}"
        )
    return CaptioningPredictor(
        model,
        words,
        int(about["length"]),
        str(path),
        about.get("resize", "stretch"),
        int(about.get("beam", 1)),
        float(about.get("length_penalty", 0.0)),
    )
