"""Baselines of the next character: unigram and bigram models."""

from __future__ import annotations

from zoo.lazy import np

PSEUDO_COUNTS = 1.0  # of the shorter n-gram's prediction, for those that training lacks


class CharacterNGrams:
    """Unigram and bigram models with additive smoothing.

    The probability of a token is `(count + 1) / (total + size)`. After a token it is `(pairs +
    unigram) / (count + 1)`: the unigram counts as one more observation (MacKay & Bauman Peto,
    1995, with alpha = 1).

    Args:
        tokens: int `(steps,)`, the training part.
        size: The number of tokens in the vocabulary.
    """

    def __init__(self, tokens, size):
        self.size = size
        tokens = np.asarray(tokens, "int64")
        self.unigram = np.bincount(tokens, minlength=size) + PSEUDO_COUNTS
        self.unigram /= self.unigram.sum()
        self.first = np.bincount(tokens[:-1], minlength=size)
        self.pairs, self.counts = np.unique(tokens[:-1] * size + tokens[1:], return_counts=True)

    def unigram_entropy(self, targets):
        """Returns `-log(probability)` of tokens in nats, without what precedes them."""
        return -np.log(self.unigram[targets])

    def bigram_entropy(self, before, targets):
        """Returns `-log(probability)` of tokens in nats, given the token before each."""
        pairs = np.asarray(before, "int64") * self.size + targets
        indices = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
        counts = np.where(self.pairs[indices] == pairs, self.counts[indices], 0)
        smoothed = counts + PSEUDO_COUNTS * self.unigram[targets]
        return -np.log(smoothed / (self.first[before] + PSEUDO_COUNTS))
