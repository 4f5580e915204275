"""What a check finds, and how it says that it could not look."""

from __future__ import annotations

import math
from dataclasses import dataclass

WRONG, LOOK = "wrong", "look"  # a fault; something that is worth a look and may be meant so

MIN_STANDARD_ERRORS = 4.0  # standard errors from which a difference of accuracies is no chance
MIN_ACCURACY_GAIN = 0.03  # least difference of accuracies to speak of
MAX_NAMED = 3  # most examples in a message


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        name: of the fault, such as `channel order`.
        severity: `wrong`, or `look` where it may be meant so.
        what: what was found, with numbers.
        do: what to do about it.
        names: all that `what` counts, of which it names a few; empty where it counts nothing.
    """

    name: str
    severity: str
    what: str
    do: str
    names: tuple[str, ...] = ()


class CheckSkipped(Exception):
    """A check has nothing to go by; the message says what it lacks."""


def significantly_better(right, other):
    """Tells whether one way of answering beats another on the same questions.

    McNemar's test: of the questions that only one way answers rightly, by how many standard
    errors does the share of each differ from a half?

    Args:
        right: bool `(questions,)`, of the way that may be better.
        other: likewise.
    """
    won, lost = int((right & ~other).sum()), int((other & ~right).sum())
    gain = (won - lost) / max(1, len(right))
    return gain >= MIN_ACCURACY_GAIN and won - lost > MIN_STANDARD_ERRORS * math.sqrt(won + lost)


def join_names(names):
    """Returns names as part of a sentence, the first `NAMED` of them."""
    names = [str(name) for name in names]
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def format_count(number, noun):
    """Returns a number with its noun, such as `1 image` or `2,000 images`."""
    return f"{number:,} {noun}" + "s" * (number != 1)
