"""Sentences as words, and words as numbers.

A sentence is read as the evaluation of COCO's captions reads one, in effect: in lower case, without
punctuation, with `'s` and `n't` as words of their own. Different is what the Penn Treebank's
tokeniser knows by heart, such as that the point of `u.s.` belongs to it.

Chinese and Japanese are written without spaces: there each character is a word, as is usual where
captions in Chinese are measured. An emoji is a word, with its colour of skin and what is joined
to it; a flag, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from zoo.errors import UsageError
from zoo.lazy import np

SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unknown>")
PAD, START, END, UNKNOWN = range(len(SPECIAL_TOKENS))

# Han ideographs with their repetition marks, hiragana, katakana, also of half width.
_CJK = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_EMOJI = "[\u2600-\u27bf\u2b50\u2b55\U0001f300-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]*"
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
_LETTERS = rf"[^\W_{_CJK}]+"
_WORD = re.compile(
    rf"[{_CJK}]|{_EMOJI}(?:\u200d{_EMOJI})*|{_FLAG}|{_LETTERS}(?:[-'./&]{_LETTERS})*"
)
_SPACE_BETWEEN_CJK = re.compile(rf"(?<=[{_CJK}]) (?=[{_CJK}])")
_CLITIC = re.compile(r"(.+?)(n't|'(?:s|re|ve|ll|d|m))")
_QUOTES = str.maketrans("\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}", "''")


def tokenize(sentence: str) -> list[str]:
    """Returns the words of a sentence."""
    found = []
    for word in _WORD.findall(sentence.lower().translate(_QUOTES)):
        clitic = _CLITIC.fullmatch(word)
        found += clitic.groups() if clitic else [word]
    return found


def detokenize(sentence: str) -> str:
    """Returns a sentence of words with a space between as people write it: Chinese and Japanese
    without spaces."""
    return _SPACE_BETWEEN_CJK.sub("", sentence)


@dataclass(frozen=True)
class Vocabulary:
    """Words, each of which has its place as a number.

    Attributes:
        words: `MARKS` first.

    Raises:
        UsageError: the first words are others, or one is there twice.
    """

    words: tuple[str, ...]

    def __post_init__(self):
        if tuple(self.words[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS or len(set(self.words)) < len(
            self.words
        ):
            raise UsageError(
                f"a vocabulary begins with {' '.join(SPECIAL_TOKENS)} and has no word twice"
            )

    def __len__(self):
        return len(self.words)

    @cached_property
    def _word_ids(self):
        return {word: word_id for word_id, word in enumerate(self.words)}

    def word_ids(self, sentence: str) -> list[int]:
        """Returns the numbers of a sentence's words, `UNKNOWN` for those that are not here."""
        return [self._word_ids.get(word, UNKNOWN) for word in tokenize(sentence)]

    def rows(self, sentences: Sequence[str], max_sentences: int, length: int):
        """Returns sentences as int32 `(most, length + 1)`, `START` first, padded with `PAD`.

        Args:
            sentences: the first `max_sentences` of them are taken.
            max_sentences: rows; those that are too many are all `PAD`.
            length: words of a sentence, `END` among them; what is longer loses its end, and `END`.
        """
        found = np.full((max_sentences, length + 1), PAD, "int32")
        for row, sentence in zip(found, sentences, strict=False):
            word_ids = [START, *self.word_ids(sentence), END][: length + 1]
            row[: len(word_ids)] = word_ids
        return found

    def sentence(self, word_ids: Iterable[int]) -> str:
        """Returns the words that numbers stand for, up to the first `END`, without other marks.

        There is a space between any two, as measures take them; `written` is for people.
        """
        found = []
        for word_id in word_ids:
            if word_id == END:
                break
            if word_id >= len(SPECIAL_TOKENS) or word_id == UNKNOWN:
                found.append(self.words[word_id])
        return " ".join(found)


def build(sentences: Iterable[str], min_count: int = 1) -> Vocabulary:
    """Returns the vocabulary of some sentences: the frequent words first, equals by the alphabet.

    Args:
        sentences: to learn from.
        min_count: how often a word must be there; what is rarer is unknown.

    Raises:
        UsageError: no word is so frequent.
    """
    counts = Counter(word for sentence in sentences for word in tokenize(sentence))
    frequent_words = sorted(
        (word for word in counts if counts[word] >= min_count), key=lambda w: (-counts[w], w)
    )
    if not frequent_words:
        raise UsageError(
            f"none of the {len(counts)} words of the captions is there {min_count} times; lower "
            "--least-count"
        )
    return Vocabulary((*SPECIAL_TOKENS, *frequent_words))
