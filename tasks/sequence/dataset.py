"""Splits of sequences, and the windows or labeled sequences that a model is trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from tasks.sequence.encoding import Encoding
from zoo.errors import UsageError
from zoo.lazy import np

ROLES = ("train", "validation", "test")
MIN_WINDOWS = 1_024  # of the training part, if the stride is not passed
MAX_RATIO = 1e5  # of mean and standard deviation; float32 has 7 digits


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one sequence, with the next step as the target of each step.

    Attributes:
        name: The name of the split.
        steps: `(steps, channels)`: int32 tokens in one channel, or float32 values.
        length: Steps of a window.
        stride: Steps from the start of a window to that of the next.
    """

    name: str
    steps: np.ndarray = field(repr=False)
    length: int
    stride: int

    def __len__(self):
        """The number of windows, each of which may start up to `stride - 1` steps later."""
        return max(0, (len(self.steps) - self.length) // self.stride)

    def read(self, starts):
        """Returns inputs and targets `(windows, length, channels)` from steps `starts`."""
        indices = np.asarray(starts)[:, None] + np.arange(self.length)
        return self.steps[indices], self.steps[indices + 1]


@dataclass(frozen=True, eq=False)
class LabelledSequences:
    """Sequences with one label each, padded to the length of the longest.

    Attributes:
        name: The name of the split.
        inputs: `(sequences, steps, channels)`.
        labels: int64 `(sequences,)`.
    """

    name: str
    inputs: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __len__(self):
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class SequenceData:
    """What a sequence model is trained and evaluated on.

    Attributes:
        encoding: The `Encoding` of the training part.
        train, validation, test: `Windows` or `LabelledSequences`; `validation` may be `None`.
        notes: Lines to print before training.
    """

    encoding: Encoding
    train: object
    validation: object
    test: object
    notes: tuple[str, ...] = ()

    def fingerprint(self):
        """Returns the digests of the splits, as `data_fingerprint.dataset_fingerprint` does."""
        parts = {role: getattr(self, role) for role in ROLES}
        return {
            "classes": [*self.encoding.classes],
            "splits": {role: _digest(part) for role, part in parts.items() if part},
        }


def prepare(source, *, length, stride, validation, test):
    """Splits a source and encodes it.

    Args:
        source: A `sources.Source`.
        length, stride: Steps of a window, and between the starts of training windows; 0: fewer than
            `length` if there would be less than `MIN_WINDOWS`. Without labels only.
        validation, test: Fractions of the data.

    Returns:
        A `SequenceData`.

    Raises:
        UsageError: There are too few steps, or too few sequences of a class.
    """
    parts = split(source, length=length, stride=stride, validation=validation, test=test)
    encoding = Encoding.of(source, [each for each, _ in parts["train"]], length)
    made, notes = {"validation": None}, [*source.notes, *_coarse_channels(encoding)]
    for role, pairs in parts.items():
        made[role] = encode(role, pairs, encoding)
        notes += unknown_characters(role, pairs, encoding)
    if isinstance(made["train"], Windows):
        steps = made["train"].steps
        auto = max(1, min(length, (len(steps) - length) // MIN_WINDOWS))
        made["train"] = Windows("train", steps, length, stride or auto)
    return SequenceData(encoding, **made, notes=tuple(notes))


def split(source, *, length, stride, validation, test):
    """Splits a source.

    A sequence without labels is split in time order: the validation part comes after that for
    training, and the test part last. Sequences with labels are split by class: in time order where
    they are windows of one recording, else at random, the same in each run.

    Args:
        source, length, stride, validation, test: As in `prepare`.

    Returns:
        Lists of pairs of a sequence and its label, or `None`, by role.

    Raises:
        UsageError: There are too few steps, or too few sequences of a class.
    """
    if source.classes:
        return _split_by_class(source, validation, test)
    [sequence], found, start = source.sequences, {}, 0
    steps = len(sequence)
    ends = [steps - round(steps * (validation + test)), steps - round(steps * test), steps]
    for role, end in zip(ROLES, ends, strict=True):
        needed = length + ((stride or 1) if role == "train" else max(1, length // 2))
        if role == "validation" and not validation:
            continue
        if end - start < needed:
            raise UsageError(
                f"the {role} split has {end - start:,} of {steps:,} steps, expected {needed:,} or "
                "more for a window; use a smaller --length or other fractions"
            )
        found[role] = [(sequence[start:end], None)]
        start = end
    return found


def encode(name, pairs, encoding):
    """Returns pairs of a sequence and its label as `Windows` or `LabelledSequences`.

    The windows are those of an evaluation: each starts in the middle of the last.
    """
    if encoding.classes:
        sequences, labels = zip(*pairs, strict=True)
        return LabelledSequences(name, encoding.padded(sequences), np.array(labels, "int64"))
    length = encoding.length
    return Windows(name, encoding.steps(pairs[0][0]), length, max(1, length // 2))


def unknown_characters(name, pairs, encoding):
    """Returns a note about characters that the training part lacks, a list of at most one."""
    texts = [text for text, _ in pairs] if encoding.vocabulary else []
    count = sum(encoding.vocabulary.count_unknown(text) for text in texts)
    if not count:
        return []
    verb = "character of the {} split does" if count == 1 else "characters of the {} split do"
    scored = "" if encoding.classes else ", and are not scored"
    return [f"{count:,} {verb.format(name)} not occur in that for training{scored}"]


def _coarse_channels(encoding):
    """Returns notes about channels whose differences are lost in float32."""
    if encoding.vocabulary:
        return []
    return [
        f"channel {name!r} has the mean {mean:g} and the standard deviation {std:g}: float32 has "
        "too few digits for it; subtract an offset"
        for name, mean, std in zip(encoding.channels, encoding.mean, encoding.std, strict=True)
        if abs(mean) > MAX_RATIO * std
    ]


def _split_by_class(source, validation, test):
    """Returns lists of pairs of a sequence and its label, by role."""
    found = {role: [] for role in (ROLES if validation else ("train", "test"))}
    if len(source.classes) < 2:
        raise UsageError(f"labels need two classes or more; found {source.classes[0]!r} only")
    random = np.random.default_rng(0)
    for label, name in enumerate(source.classes):
        own = np.flatnonzero(source.labels == label)
        if len(own) < len(found):
            raise UsageError(
                f"class {name!r} has {len(own)} sequences; expected {len(found)} or more, one for "
                "each split"
            )
        own = own if source.in_time_order else random.permutation(own)
        sizes = {"validation": validation, "test": test}
        counts = [max(1, round(len(own) * sizes[role])) for role in found if role in sizes]
        ends = np.cumsum([len(own) - sum(counts), *counts]).tolist()
        for role, start, end in zip(found, [0, *ends], ends, strict=False):
            found[role] += [(source.sequences[i], label) for i in own[start:end]]
    return found


def _digest(part):
    arrays = [part.steps] if isinstance(part, Windows) else [part.inputs, part.labels]
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(repr((str(array.dtype), array.shape)).encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return f"{len(arrays[0])} examples, digest {hasher.hexdigest()[:16]}"
