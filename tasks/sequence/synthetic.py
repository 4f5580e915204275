"""Sequences that need no file: a text that comes with Python, and generated ones."""

from __future__ import annotations

import importlib

from zoo.errors import UsageError
from zoo.lazy import np

NUM_CHARACTERS = 200_000  # of the text
NUM_SEQUENCES = 2_000  # of those with labels
WAVES = ("sine", "square", "triangle", "sawtooth")
NOISE = 0.3  # standard deviation, where the amplitude of a wave is from 0.5 to 2
MARKS, DISTRACTORS = "XY", "abcd"
ORDERS = ("XX", "XY", "YX", "YY")
MACKEY_GLASS_STEPS, DELAY, STEPS_PER_UNIT = 4_000, 17, 10


def python_docs():
    """Returns the beginning of the language reference that `help()` of Python shows, as text.

    Raises:
        UsageError: This Python was installed without it.
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise UsageError(
            "this Python has no language reference (pydoc_data); pass a text: --dataset FILE.txt"
        ) from error
    return "\n\n".join(topics[name] for name in sorted(topics))[:NUM_CHARACTERS]


def mackey_glass():
    """Returns a chaotic series, float64 `(steps, 1)` (Mackey & Glass, 1977, equation 4b).

    It solves `x' = 0.2 x(t - 17) / (1 + x(t - 17)**10) - 0.1 x` by the method of Euler with 10
    steps per unit of time; one value is kept per unit, without the first 100.
    """
    delay = DELAY * STEPS_PER_UNIT
    x = [1.2] * (delay + 1)
    for _ in range((MACKEY_GLASS_STEPS + 100) * STEPS_PER_UNIT):
        late = x[-1 - delay]
        x.append(x[-1] + (0.2 * late / (1 + late**10) - 0.1 * x[-1]) / STEPS_PER_UNIT)
    return np.array(x[::STEPS_PER_UNIT][-MACKEY_GLASS_STEPS:])[:, None]


def waves(length):
    """Returns noisy periodic waves of different length, and their shape as the label.

    Args:
        length: The largest number of steps; the smallest is half of it.

    Returns:
        A list of float64 `(steps, 1)`, and indices into `WAVES`, int64 `(sequences,)`. A wave has
        2 to 6 periods, any phase and an amplitude from 0.5 to 2.
    """
    random = np.random.default_rng(0)
    labels = np.arange(NUM_SEQUENCES) % len(WAVES)
    shapes = (
        lambda t: np.sin(2 * np.pi * t),
        lambda t: np.sign(np.sin(2 * np.pi * t)),
        lambda t: 4 * np.abs(t % 1 - 0.5) - 1,
        lambda t: 2 * (t % 1) - 1,
    )
    sequences = []
    for label in labels:
        steps = int(random.integers(length // 2, length + 1))
        periods, phase, amplitude = random.uniform((2, 0, 0.5), (6, 1, 2))
        wave = amplitude * shapes[label](phase + periods * np.arange(steps) / steps)
        sequences.append((wave + random.normal(0, NOISE, steps))[:, None])
    return sequences, labels


def temporal_order(length):
    """Returns texts whose class is the order of two marks among distractors.

    Hochreiter & Schmidhuber, 1997, experiment 6a, with the positions of Pascanu et al., 2013,
    section 4.1: the first mark is in the second tenth of the text, the second mark in the fifth
    tenth, and all other characters are random.

    Args:
        length: The number of characters, at least 10.

    Returns:
        A list of texts, and indices into `ORDERS`, int64 `(texts,)`.

    Raises:
        UsageError: The length is less than 10.
    """
    if length < 10:
        raise UsageError(f"temporal_order needs --length 10 or more, not {length}")
    random = np.random.default_rng(0)
    labels = np.arange(NUM_SEQUENCES) % len(ORDERS)
    texts = []
    for label in labels:
        characters = random.choice([*DISTRACTORS], length)
        for mark, tenth in zip(ORDERS[label], (1, 4), strict=True):
            characters[random.integers(tenth * length // 10, (tenth + 1) * length // 10)] = mark
        texts.append("".join(characters))
    return texts, labels
