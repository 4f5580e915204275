"""The predictor of sequence models: what follows a text or a series, or its class."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tasks.data.class_folders import iter_files
from tasks.data.image_io import UnreadableImage
from tasks.inference.predictor import Predictor
from tasks.report.cross_entropy import shift_logits
from tasks.sequence import generation, sources
from tasks.sequence.encoding import LABEL, Encoding
from zoo.errors import UsageError
from zoo.lazy import keras, np

NUM_CHARACTERS = 200  # of a continuation, unless another number is passed


@dataclass(frozen=True, eq=False)
class InputSequence:
    """A text or series as the input of a model.

    Attributes:
        steps: float32 `(steps, channels)`.
    """

    steps: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class SequencePredictor(Predictor):
    """A sequence model with its encoding.

    Attributes:
        model: A `keras.Model`.
        encoding: The `Encoding` of its training data.
        name: The display name of the model.
    """

    model: keras.Model = field(repr=False)
    encoding: Encoding = field(repr=False)
    name: str

    noun: ClassVar = "sequence"
    keras_only: ClassVar = True
    resize: ClassVar = ""
    image_shape: ClassVar = (None,)  # each sequence has a length of its own

    @property
    def protocol(self):
        """A description of the input and the output."""
        data = "text" if self.encoding.vocabulary else ", ".join(self.encoding.channels)
        output = "class" if self.encoding.objective == LABEL else "next steps"
        return f"{output} of {data}, windows of {self.encoding.length} steps"

    @property
    def columns(self):
        """The columns of the CSV output."""
        if self.encoding.objective == LABEL:
            return ("path", "rank", "class", "probability", "error")
        if self.encoding.vocabulary:
            return ("path", "continuation", "error")
        return ("path", "step", *self.encoding.channels, "error")

    def find_inputs(self, words):
        """Returns the inputs that words name, as the function `find_inputs`."""
        return find_inputs(words, self.encoding.metadata())

    def read(self, path, stem):
        """Returns the `InputSequence` of a file or, given a `str`, of that text."""
        sequence, channels = path, ()
        if isinstance(path, Path):
            columns = ",".join(self.encoding.channels)
            numbered = sources.is_numbered(self.encoding.channels)
            try:
                sequence, channels = sources.read(
                    path,
                    text=bool(self.encoding.vocabulary),
                    columns="" if numbered else columns,
                )
            except (OSError, UsageError) as error:
                raise UnreadableImage(str(path), str(error)) from error
        if channels != self.encoding.channels:
            raise UnreadableImage(
                str(path),
                f"{len(channels)} channels; the model has {len(self.encoding.channels)}",
            )
        if not len(sequence):
            raise UnreadableImage(str(path), "empty; expected one step or more")
        return InputSequence(self.encoding.steps(sequence).astype("float32"))

    def prepare(self, images, start):
        """Returns the function of the model; no other runtime can run it."""
        return generation.predict_function(self.model, 1)

    def predict(self, images, run, options):
        """Returns one dict per sequence, with `classes`, `continuation` or `forecast`."""
        predict = self._classes if self.encoding.objective == LABEL else self._continuation
        return [predict(each.steps, run, options) for each in images]

    def text_lines(self, prediction):
        """Returns the classes, the continued text or the values as lines."""
        if "classes" in prediction:
            return [f"{x['probability']:6.1%}  {x['name']}" for x in prediction["classes"]]
        if "continuation" in prediction:
            return prediction["continuation"].split("\n")
        return ["  ".join(f"{x:.6g}" for x in row) for row in prediction["forecast"]]

    def csv_rows(self, prediction):
        """Returns a row per class, one of the continued text, or one per forecast step."""
        if "classes" in prediction:
            return [
                (rank, each["name"], f"{each['probability']:.6g}")
                for rank, each in enumerate(prediction["classes"], 1)
            ]
        if "continuation" in prediction:
            return [(prediction["continuation"],)]
        return [
            (step, *(f"{x:.9g}" for x in row)) for step, row in enumerate(prediction["forecast"], 1)
        ]

    def _classes(self, steps, run, options):
        logits = shift_logits(run(steps[None]))[0]
        probabilities = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-probabilities, kind="stable")[: options.top]
        classes = self.encoding.classes
        return {
            "classes": [{"name": classes[i], "probability": float(probabilities[i])} for i in order]
        }

    def _continuation(self, steps, run, options):
        length = self.encoding.length
        if not self.encoding.vocabulary:
            count = options.steps or length
            [forecast] = generation.continue_series(run, [steps], count, length=length)
            return {"forecast": forecast.astype("float64").tolist()}
        [tokens] = generation.continue_tokens(
            run,
            [steps[:, 0]],
            options.steps or NUM_CHARACTERS,
            length=length,
            temperatures=[options.temperature],
            seed=options.seed,
        )
        return {"continuation": self.encoding.vocabulary.decode(tokens)}


def find_inputs(words, about):
    """Returns paths of files and, for a model of text, words that are no files as texts.

    Args:
        words: Paths of files or folders, patterns, or texts.
        about: The metadata of the model.

    Returns:
        A list of `Path` and `str`.

    Raises:
        UsageError: A path or pattern names no file.
    """
    text = bool(about["vocabulary"])
    suffixes = (sources.TEXT_SUFFIX,) if text else (*sources.TABLE_SUFFIXES, ".npy")
    found = []
    for word in map(str, words):
        path = Path(word)
        if os.path.isdir(word):
            own = sorted(x for x in iter_files(path) if x.suffix.lower() in suffixes)
        elif os.path.exists(word):
            own = [path]
        elif text and path.suffix.lower() not in suffixes:
            own = [word] if word else []
        else:
            own = sorted(map(Path, glob.glob(word, recursive=True)))
        if not own:
            raise UsageError(f"no file {word!r}; expected {', '.join(suffixes)}")
        found += own
    return found


def from_file(path, model, about):
    """Returns the predictor of a saved sequence model.

    Args:
        path: The path of the file.
        model: The `keras.Model` of the file.
        about: The metadata of the file.
    """
    return SequencePredictor(model, Encoding.from_metadata(about), str(path))
