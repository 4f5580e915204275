"""Inference with a captioner: a caption, its probability, and attention maps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from tasks.captioning import checkpoint_vocabulary, evaluation, report, vocabulary
from tasks.captioning.vocabulary import Vocabulary
from tasks.inference import threads
from tasks.inference.exported_file import ExportedNetwork
from tasks.inference.predictor import Predictor, describe_channels
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

Image = LazyModule("PIL.Image")
beam_search = LazyModule("tasks.captioning.beam_search")
batches = LazyModule("tasks.data.batches")


@dataclass(frozen=True)
class CaptioningPredictor(Predictor):
    """A captioner with its vocabulary and preprocessing.

    It runs in Keras only: other runtimes have no beam search.

    Attributes:
        model: a captioner.
        words: its vocabulary.
        length: the maximum number of words per caption, `<end>` included.
        name: name of the model for messages.
        resize: how an image is resized to the model's input.
        width: the beam width.
        penalty: the length penalty, as in `beam_search.caption_generator`.
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
        entry = self.model.input
        return tuple((entry if self.is_exported else entry["image"]).shape[1:])

    @property
    def protocol(self):
        """The preprocessing of an image and the parameters of beam search, as text."""
        height, width, channels = self.image_shape
        how = (
            f"{self.resize} to {height} x {width}, bilinear with antialiasing, "
            f"{describe_channels(channels)}"
        )
        return f"{how}; beam of {self.width}, length penalty {self.penalty:g}"

    def prepare(self, images, start):
        """Returns the prediction function, which one thread at a time runs, on full batches."""
        if self.is_exported:
            return self.model
        options = {"width": self.width, "length": self.length, "penalty": self.penalty}
        caption_generator = batches.without_xla(
            beam_search.caption_generator(self.model, **options)
        )
        size = len(images)

        def generate(images):
            padding = np.repeat(images[-1:], max(0, size - len(images)), axis=0)
            found = caption_generator.predict_on_batch(np.concatenate([images, padding]))
            return {name: np.asarray(x)[: len(images), 0] for name, x in found.items()}

        return threads.with_lock(generate)

    def predict(self, images, run, options):
        """Returns for each image its `sentence`, the `probability` of it, and the picture."""
        found = run(np.stack([image.pixels for image in images]))
        sentences = [self.words.sentence(row) for row in found["words"]]
        log_probabilities = found["log_probability"].tolist()
        predictions = [
            {"sentence": vocabulary.detokenize(sentence), "probability": math.exp(log_p)}
            for sentence, log_p in zip(sentences, log_probabilities, strict=True)
        ]
        if options.explain and options.drawings_dir and not self.is_exported:
            for image, sentence, prediction in zip(images, sentences, predictions, strict=True):
                self._explain(image, sentence, prediction, options.drawings_dir)
        return predictions

    def text_lines(self, prediction):
        """Returns the probability and the sentence, and a line for the picture."""
        drawn = [f"picture: {prediction['picture']}"] if prediction.get("picture") else []
        sentence = prediction["sentence"] or "(nothing)"
        return [f"{100 * prediction['probability']:6.2g}%  {sentence}", *drawn]

    def csv_rows(self, prediction):
        """Returns the sentence, its probability, and the picture."""
        probability = f"{prediction['probability']:.6g}"
        return [(prediction["sentence"], probability, prediction.get("picture") or "")]

    def _explain(self, image, sentence, prediction, folder):
        """Draws the attention map of each word, if the model has attention."""
        attention_maps = sentence and evaluation.attention_maps(
            self.model, image.pixels[None], [sentence], self.words
        )
        if not attention_maps:
            return
        path = folder / f"{image.stem}-attention.png"
        with atomic_write(path) as partial:
            picture = report.attention_grid(image.pixels, sentence.split(), attention_maps[0])
            Image.fromarray(picture).save(partial, "PNG")
        prediction["picture"] = str(path)


def from_file(path, model, about):
    """Returns the predictor of a saved captioner.

    Args:
        path: of the file, for messages.
        model: the loaded model.
        about: the metadata saved with it.

    Raises:
        UsageError: the model is not a captioner, or has no vocabulary or another one.
    """
    if not (isinstance(model.input, dict) and {"image", "words"} <= set(model.input)):
        raise UsageError(f"{path} is not a captioner: its input is {model.input_shape}")
    words = checkpoint_vocabulary.from_metadata(about, path)
    if model.output_shape[-1] != len(words):
        raise UsageError(
            f"{path} has {model.output_shape[-1]} outputs, but a vocabulary of {len(words)} words"
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


def from_export(opened):
    """Returns the predictor of an exported captioner, which holds its beam search.

    Args:
        opened: its `exported_file.ExportedFile`.
    """
    about = opened.metadata

    def read(outputs):
        return {"words": outputs["tokens"], "log_probability": outputs["log_probability"]}

    return CaptioningPredictor(
        ExportedNetwork(opened, read),
        Vocabulary(tuple(about["vocabulary"])),
        int(opened.metadata["length"]),
        str(opened.path),
        about["resize"],
        int(about["beam_width"]),
        float(about["length_penalty"]),
    )
