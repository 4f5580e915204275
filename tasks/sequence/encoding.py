"""What the training part determines: the vocabulary, the scale of channels, the classes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tasks.sequence.vocabulary import Vocabulary
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.parts.sequences import PADDING_TOKEN, PADDING_VALUE

NEXT, LABEL = "next", "label"
MAX_VALUE = 1e15  # its square, as in variances, is far from the largest float32


@dataclass(frozen=True, eq=False)
class Encoding:
    """How sequences become the inputs of a model, and what its outputs mean.

    Attributes:
        objective: `NEXT` for an output per step, the next one; `LABEL` for one per sequence.
        length: Steps of a window.
        vocabulary: The `Vocabulary` of texts, or `None`.
        channels: The names of the channels of series; empty for texts.
        mean, std: Of each channel in the training part; `None` for texts. `std` is 1 where a
            channel is constant.
        naive_error: The mean absolute difference of successive steps of each channel in the
            training part, the scale of `mase`; `None` for texts and labeled sequences.
        classes: The class names; empty without labels.
    """

    objective: str
    length: int
    vocabulary: Vocabulary | None = None
    channels: tuple[str, ...] = ()
    mean: list[float] | None = None
    std: list[float] | None = None
    naive_error: list[float] | None = None
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, source, sequences, length):
        """Returns the encoding of a `sources.Source` whose training part is `sequences`."""
        options = {"classes": source.classes, "channels": source.channels}
        objective = LABEL if source.classes else NEXT
        if source.is_text:
            return cls(objective, length, Vocabulary.of(sequences), **options)
        steps = np.concatenate(sequences)
        std = steps.std(axis=0)
        if objective == NEXT:
            options["naive_error"] = np.abs(np.diff(steps, axis=0)).mean(axis=0).tolist()
        options |= {"mean": steps.mean(axis=0).tolist(), "std": np.where(std > 0, std, 1).tolist()}
        return cls(objective, length, **options)

    @classmethod
    def from_metadata(cls, about):
        """Returns the encoding that `metadata` describes, from the metadata of a model file."""
        found = {field.name: about[field.name] for field in dataclasses.fields(cls)}
        characters = found["vocabulary"]
        found["vocabulary"] = Vocabulary(tuple(characters)) if characters else None
        return cls(**found | {name: tuple(found[name]) for name in ("channels", "classes")})

    def metadata(self):
        """Returns the encoding as JSON types, for the metadata of a model file."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**found, "vocabulary": [*self.vocabulary.characters] if self.vocabulary else []}

    @property
    def num_outputs(self):
        """The number of outputs of the model, per step or per sequence."""
        if self.objective == LABEL:
            return len(self.classes)
        return len(self.vocabulary or self.channels)

    def steps(self, sequence):
        """Returns a text or series as `(steps, channels)`: int32 tokens, or float32 values.

        Raises:
            UsageError: A value is too large for its square to be a float32.
        """
        if self.vocabulary:
            return self.vocabulary.encode(sequence)[:, None]
        if (largest := np.abs(sequence).max(initial=0)) > MAX_VALUE:
            raise UsageError(
                f"a value of the series is {largest:.3g}; expected at most {MAX_VALUE:g}, divide "
                "the column by a power of ten"
            )
        return np.asarray(sequence, "float32")

    def padded(self, sequences):
        """Returns texts or series as an array `(sequences, steps, channels)`, padded at the end."""
        arrays = [self.steps(sequence) for sequence in sequences]
        longest = max(map(len, arrays))
        padding = PADDING_TOKEN if self.vocabulary else PADDING_VALUE
        return np.stack(
            [np.pad(x, ((0, longest - len(x)), (0, 0)), constant_values=padding) for x in arrays]
        )

    def check_source(self, source, name):
        """Raises `UsageError` if the model cannot be evaluated on a `sources.Source`."""
        if source.is_text != bool(self.vocabulary):
            expected = "text" if self.vocabulary else "series"
            raise UsageError(f"the model was trained on {expected}; {name} is not")
        if bool(source.classes) != (self.objective == LABEL):
            wanted = "labels" if self.objective == LABEL else "one sequence without labels"
            raise UsageError(f"the model needs {wanted}; {name} has {len(source.classes)} classes")
        if source.channels != self.channels:
            raise UsageError(
                f"the model has the channels {', '.join(self.channels)}; {name} has "
                f"{', '.join(source.channels)}"
            )
        if unknown := [each for each in source.classes if each not in self.classes]:
            raise UsageError(
                f"{name} has the class {unknown[0]!r}; the model has {', '.join(self.classes)}"
            )
