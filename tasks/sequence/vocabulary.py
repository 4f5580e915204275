"""The characters of a text as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from zoo.lazy import np
from zoo.parts.sequences import PADDING_TOKEN

UNKNOWN = 1  # the token of characters that do not occur in the training part
FIRST = 2  # of the characters


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Tokens of characters: `PADDING_TOKEN`, `UNKNOWN`, then one for each of `characters`."""

    characters: tuple[str, ...]

    @classmethod
    def of(cls, texts):
        """Returns the vocabulary of some texts, in the order of code points."""
        return cls(tuple(sorted(set().union(*texts))))

    def __len__(self):
        return FIRST + len(self.characters)

    @cached_property
    def _tokens(self):
        return {character: token for token, character in enumerate(self.characters, FIRST)}

    def encode(self, text):
        """Returns the tokens of a text, int32 `(characters,)`."""
        return np.array([self._tokens.get(each, UNKNOWN) for each in text], "int32")

    def decode(self, tokens):
        """Returns the text of tokens; padding is left out, the unknown character is U+FFFD."""
        signs = ("", "\N{REPLACEMENT CHARACTER}", *self.characters)
        return "".join(signs[token] for token in tokens if token != PADDING_TOKEN)

    def count_unknown(self, text):
        """Returns the number of characters of a text that have no token of their own."""
        return sum(character not in self._tokens for character in text)
