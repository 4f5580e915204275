"""Whose words a captioner knows: those of its data, or of another run."""

from __future__ import annotations

from pathlib import Path

from tasks.data import captioned
from tasks.data.vocabulary import Vocabulary
from tasks.engine import resume
from zoo import files
from zoo.catalog import RANDOM
from zoo.errors import UsageError

MANY_UNKNOWN = 0.02  # share of words from which it is said that they are unknown


def given(target):
    """Returns the vocabulary of a run's folder or model file, or `None` for `""`.

    Raises:
        UsageError: there is no such run, or it knows no words.
    """
    return told(files.facts(_file(target)), target) if target else None


def told(about, target):
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
    about = files.facts(weights)
    known = about.get("vocabulary")
    if known is not None and tuple(known) != words.words:
        raise UsageError(
            f"{weights} has a vocabulary of {len(known)} words, from another run, and the data "
            f"have one of {len(words)}; to go on with its own, give --vocabulary {weights}"
        )


def notes(data):
    """Returns a line where many words of the data are unknown.

    Args:
        data: `captioned.Data`.
    """
    shares = {part.name: captioned.unknown(part) for part in data.parts}
    return [
        f"{share:.1%} of the words of {name} are not in the vocabulary of {len(data.words)} words"
        for name, share in shares.items()
        if share > MANY_UNKNOWN
    ]


def _file(target):
    path = Path(target)
    return resume.model_in(path) if path.is_dir() else path
