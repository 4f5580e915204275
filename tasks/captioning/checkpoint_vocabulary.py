"""The vocabulary of a saved captioner: reading it, and checking weights against it."""

from __future__ import annotations

from pathlib import Path

from tasks.captioning import dataset
from tasks.captioning.vocabulary import Vocabulary
from tasks.engine import resume
from zoo import model_files
from zoo.catalog import RANDOM
from zoo.errors import UsageError

MAX_UNKNOWN_RATE = 0.02  # share of unknown words above which there is a warning


def from_checkpoint(target):
    """Returns the vocabulary of a run's folder or model file, or `None` for `""`.

    Raises:
        UsageError: there is no such run, or it has no vocabulary.
    """
    return from_metadata(model_files.read_metadata(_model_file(target)), target) if target else None


def from_metadata(about, target):
    """Returns the vocabulary in the metadata of a saved model.

    Args:
        about: the metadata.
        target: the run or file, for messages.

    Raises:
        UsageError: the metadata have no vocabulary.
    """
    if "vocabulary" not in about:
        task = about.get("task", "unknown")
        raise UsageError(f"{target} has no vocabulary: it is a model of the task {task}")
    return Vocabulary(tuple(about["vocabulary"]))


def check(weights, words):
    """Checks that weights are of a captioner with the same vocabulary, in the same order.

    Args:
        weights: the value of `--weights`.
        words: the `Vocabulary` of the data.

    Raises:
        UsageError: the vocabularies differ.
    """
    if weights in ("", RANDOM) or Path(weights).suffix != ".keras":
        return
    saved_words = model_files.read_metadata(weights).get("vocabulary")
    if saved_words is not None and tuple(saved_words) != words.words:
        raise UsageError(
            f"{weights} has a vocabulary of {len(saved_words)} words, from another run, and the "
            f"data have one of {len(words)}; to use that of the weights, pass --vocabulary "
            f"{weights}"
        )


def notes(data):
    """Returns a warning for each split with many unknown words.

    Args:
        data: `dataset.CaptionData`.
    """
    shares = {part.name: dataset.unknown_word_rate(part) for part in data.parts}
    return [
        f"{share:.1%} of the words of {name} are not in the vocabulary of {len(data.words)} words"
        for name, share in shares.items()
        if share > MAX_UNKNOWN_RATE
    ]


def _model_file(target):
    path = Path(target)
    return resume.model_path(path) if path.is_dir() else path
