"""Tokenization of captions, and the vocabulary.

Captions are tokenized in effect as by the COCO caption evaluation: in lower case, without
punctuation, with `'s` and `n't` as tokens of their own. Special cases of the Penn Treebank
tokenizer, such as the dots of `u.s.`, are not included.

Chinese and Japanese are written without spaces: each character is a token, as is usual in the
evaluation of Chinese captions. An emoji is a token, together with its skin tone and joined emoji;
a flag, too.
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

# Han ideographs with their repetition marks, hiragana, katakana, and half-width katakana.
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
    """Returns the tokens of a sentence."""
    found = []
    for word in _WORD.findall(sentence.lower().translate(_QUOTES)):
        clitic = _CLITIC.fullmatch(word)
        found += clitic.groups() if clitic else [word]
    return found


def detokenize(sentence: str) -> str:
    """Returns tokens joined by spaces as text for display: Chinese and Japanese without spaces."""
    return _SPACE_BETWEEN_CJK.sub("", sentence)


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of words; the index of a word is its number.

    Attributes:
        words: all words, `SPECIAL_TOKENS` first.

    Raises:
        UsageError: the words do not begin with `SPECIAL_TOKENS`, or one occurs twice.
    """

    words: tuple[str, ...]

    def __post_init__(self):
        first, unique = tuple(self.words[: len(SPECIAL_TOKENS)]), set(self.words)
        if first != SPECIAL_TOKENS or len(unique) < len(self.words):
            raise UsageError(
                f"a vocabulary must begin with {' '.join(SPECIAL_TOKENS)} and have no word twice"
            )

    def __len__(self):
        return len(self.words)

    @cached_property
    def _word_ids(self):
        return {word: word_id for word_id, word in enumerate(self.words)}

    def word_ids(self, sentence: str) -> list[int]:
        """Returns the indices of the words of a sentence, `UNKNOWN` for unknown words."""
        return [self._word_ids.get(word, UNKNOWN) for word in tokenize(sentence)]

    def rows(self, sentences: Sequence[str], max_sentences: int, length: int):
        """Returns sentences as int32 `(max_sentences, length + 1)`, from `START` on.

        Args:
            sentences: of which the first `max_sentences` are used.
            max_sentences: the number of rows; those without a sentence are `PAD`.
            length: the number of words, `END` included, to which sentences are padded with `PAD`
                or truncated, without `END`.
        """
        found = np.full((max_sentences, length + 1), PAD, "int32")
        for row, sentence in zip(found, sentences, strict=False):
            word_ids = [START, *self.word_ids(sentence), END][: length + 1]
            row[: len(word_ids)] = word_ids
        return found

    def sentence(self, word_ids: Iterable[int]) -> str:
        """Returns the words of indices up to the first `END`, joined by spaces.

        Special tokens but `UNKNOWN` are left out. Metrics take this format; `detokenize` converts
        it for display.
        """
        found = []
        for word_id in word_ids:
            if word_id == END:
                break
            if word_id >= len(SPECIAL_TOKENS) or word_id == UNKNOWN:
                found.append(self.words[word_id])
        return " ".join(found)


def build(sentences: Iterable[str], min_count: int = 1) -> Vocabulary:
    """Returns the vocabulary of some sentences, by falling frequency, ties in alphabetical order.

    Args:
        sentences: the training captions.
        min_count: the number of occurrences from which a word is included.

    Raises:
        UsageError: no word occurs that often.
    """
    counts = Counter(word for sentence in sentences for word in tokenize(sentence))
    frequent_words = sorted(
        (word for word in counts if counts[word] >= min_count), key=lambda w: (-counts[w], w)
    )
    if not frequent_words:
        raise UsageError(
            f"none of the {len(counts)} words of the captions occurs {min_count} times; lower "
            "--min-count"
        )
    return Vocabulary((*SPECIAL_TOKENS, *frequent_words))
