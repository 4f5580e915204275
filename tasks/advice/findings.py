"""Findings of checks, and the exception for a check that cannot run."""

from __future__ import annotations

import math
from dataclasses import dataclass

WRONG, LOOK = "wrong", "look"  # severities: a fault; something that may be intended

MIN_STANDARD_ERRORS = 4.0  # of a significant difference of accuracies
MIN_ACCURACY_GAIN = 0.03  # smaller differences of accuracies are ignored
MAX_NAMED = 3  # examples in a message


@dataclass(frozen=True)
class Finding:
    """One finding of a check.

    Attributes:
        name: name of the fault, such as `channel order`.
        severity: `wrong`, or `look` if it may be intended.
        what: what was found, with numbers.
        do: how to fix it.
        names: all files or pairs that `what` counts, of which it lists a few.
    """

    name: str
    severity: str
    what: str
    do: str
    names: tuple[str, ...] = ()


class CheckSkipped(Exception):
    """Raised by a check that cannot run; the message is the reason."""


def significantly_better(right, other):
    """Returns whether predictions are significantly more accurate than others on the same images.

    McNemar's test on the images that exactly one of both predicts correctly.

    Args:
        right: bool `(images,)`, whether each prediction is correct.
        other: bool `(images,)`, the same of the predictions to compare with.
    """
    won, lost = int((right & ~other).sum()), int((other & ~right).sum())
    gain = (won - lost) / max(1, len(right))
    return gain >= MIN_ACCURACY_GAIN and won - lost > MIN_STANDARD_ERRORS * math.sqrt(won + lost)


def join_names(names):
    """Returns the first `MAX_NAMED` names as part of a sentence."""
    names = [str(name) for name in names]
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def format_count(number, noun):
    """Returns a number with its noun, such as `1 image` or `2,000 images`."""
    return f"{number:,} {noun}" + "s" * (number != 1)
