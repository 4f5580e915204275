"""Whose words a captioner knows: those of its data, or of another run."""

from __future__ import annotations

from pathlib import Path

from tasks.captioning import dataset
from tasks.captioning.vocabulary import Vocabulary
from tasks.engine import resume
from zoo import model_files
from zoo.catalog import RANDOM
from zoo.errors import UsageError

MAX_UNKNOWN_RATE = 0.02  # share of words from which it is said that they are unknown


def from_checkpoint(target):
    """Returns the vocabulary of a run's folder or model file, or `None` for `""`.

    Raises:
        UsageError: there is no such run, or it knows no words.
    """
    return from_metadata(model_files.read_metadata(_model_file(target)), target) if target else None


def from_metadata(about, target):
    """Returns the vocabulary in the facts of a saved model.

    Raises:
        UsageError: there is none in it.
    """
    if "vocabulary" not in about:
        raise UsageError(f"{target} knows no words: it was taught {about.get('task', 'elsewhere')}")
    return Vocabulary(tuple(about["vocabulary"]))


def check(weights, words):
    """Refuses weights of a captioner that knows other words, or the same in another order.

    Args:
        weights: what `--weights` names.
        words: the `Vocabulary` of the data.
    """
    if weights in ("", RANDOM) or Path(weights).suffix != ".keras":
        return
    saved_words = model_files.read_metadata(weights).get("vocabulary")
    if saved_words is not None and tuple(saved_words) != words.words:
        raise UsageError(
            f"{weights} has a vocabulary of {len(saved_words)} words, from another run, and the "
            "data "
            f"have one of {len(words)}; to go on with its own, give --vocabulary {weights}"
        )


def notes(data):
    """Returns a line where many words of the data are unknown.

    Args:
        data: `dataset.Data`.
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
