"""How good captions are: BLEU, ROUGE-L and CIDEr-D, as the evaluation of COCO's captions has them.

A caption is a sentence of words with a space between, in lower case and without punctuation. Every
image has one caption and one or more references, sentences of people.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tasks.report import confidence_intervals
from zoo.lazy import np

METRIC_NAMES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
MAX_NGRAM = 4  # words in a row that are looked up
ROUGE_BETA = 1.2  # how much more recall counts than precision
CIDER_SIGMA = 6.0  # words by which a caption may differ in length from a reference
CIDER_SCALE = 10.0


def compute_metrics(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Returns all measures of captions by name.

    Args:
        captions: one for each image.
        references: of each image one or more.
    """
    candidates, reference_words = split(captions, references)
    scores = [
        *bleu(candidates, reference_words),
        float(np.mean(rouge_l(candidates, reference_words))),
    ]
    return dict(
        zip(
            METRIC_NAMES, [*scores, float(np.mean(cider(candidates, reference_words)))], strict=True
        )
    )


def metrics_with_intervals(captions, references, *, seed: int) -> dict[str, float]:
    """Returns `figures`, and of BLEU-4 and CIDEr-D the ends of their intervals over images."""
    candidates, reference_words = split(captions, references)
    statistics = np.stack(
        [_bleu_statistics(*pair) for pair in zip(candidates, reference_words, strict=True)]
    )
    ends = {
        "bleu4": confidence_intervals.bootstrap_interval(
            lambda times: _bleu_scores(times @ statistics)[..., -1],
            len(statistics),
            seed=seed,
            bounds=confidence_intervals.UNIT_BOUNDS,
        ),
        "cider": confidence_intervals.mean_interval(
            cider(candidates, reference_words), seed=seed, bounds=(0, CIDER_SCALE)
        ),
    }
    found = {}
    for name, value in compute_metrics(captions, references).items():
        found |= (
            confidence_intervals.with_interval(name, value, ends[name])
            if name in ends
            else {name: value}
        )
    return found


def split(captions, references):
    """Returns captions and references as lists of words."""
    candidates = [caption.split() for caption in captions]
    return candidates, [[reference.split() for reference in own] for own in references]


def bleu(captions, references) -> list[float]:
    """Returns BLEU-1 to BLEU-4 of all captions together (Papineni et al., 2002).

    No count is smoothed. Of the lengths of an image's references the closest counts, of two that
    are equally close the shorter.

    Args:
        captions: lists of words, one for each image.
        references: of each image lists of words.
    """
    statistics = [_bleu_statistics(*pair) for pair in zip(captions, references, strict=True)]
    return _bleu_scores(np.sum(statistics, axis=0)).tolist()


def rouge_l(captions, references):
    """Returns the ROUGE-L of each caption, float64 `(captions,)` (Lin, 2004).

    Precision and recall of the longest common subsequence are each the best of all references,
    which may be two, as in the evaluation of COCO.
    """
    found = []
    for words, reference_words in zip(captions, references, strict=True):
        lcs_lengths = [(_lcs_length(words, each), len(each)) for each in reference_words]
        precision = max(same for same, _ in lcs_lengths) / max(1, len(words))
        recall = max(same / max(1, length) for same, length in lcs_lengths)
        weight = ROUGE_BETA**2
        total = recall + weight * precision
        found.append((1 + weight) * precision * recall / total if total else 0.0)
    return np.array(found)


def cider(captions, references):
    """Returns the CIDEr-D of each caption, float64 `(captions,)`, 0 to 10 (Vedantam et al., 2015).

    How rare words are is counted in the references of these images: figures of different sets of
    images, or of one image alone, are not to be compared.
    """
    document_frequency = Counter()
    for reference_words in references:
        document_frequency.update({ngram for each in reference_words for ngram in _ngrams(each)})
    images = math.log(max(1, len(references)))
    idf = {ngram: images - math.log(max(1, count)) for ngram, count in document_frequency.items()}

    def vector(words):
        counts = _ngrams(words)
        return {ngram: count * idf.get(ngram, images) for ngram, count in counts.items()}

    found = []
    for words, reference_words in zip(captions, references, strict=True):
        candidate_vector = vector(words)
        scores = [
            _cider_similarity(candidate_vector, vector(each), len(words) - len(each))
            for each in reference_words
        ]
        found.append(CIDER_SCALE * sum(scores) / len(scores))
    return np.array(found)


def _bleu_statistics(words, reference_words):
    """Returns what BLEU counts of a caption: by length of gram those that are right and those that
    are there, then the caption's own length and that of its closest reference."""
    matches, totals = np.zeros(MAX_NGRAM, "int64"), np.zeros(MAX_NGRAM, "int64")
    max_counts = Counter()
    for each in reference_words:
        max_counts |= _ngrams(each)
    for ngram, count in _ngrams(words).items():
        totals[len(ngram) - 1] += count
        matches[len(ngram) - 1] += min(count, max_counts[ngram])
    reference_length = min((abs(len(each) - len(words)), len(each)) for each in reference_words)[1]
    return np.array([*matches, *totals, len(words), reference_length])


def _bleu_scores(statistics):
    """Returns BLEU-1 to BLEU-4 of sums of tallies, `(..., tally)` to `(..., 4)`."""
    statistics = np.asarray(statistics, "float64")
    matches, totals = statistics[..., :MAX_NGRAM], statistics[..., MAX_NGRAM : 2 * MAX_NGRAM]
    candidates, reference_length = statistics[..., -2], statistics[..., -1]
    with np.errstate(divide="ignore"):  # nothing right at all is a logarithm of 0
        logs = np.log(matches / np.maximum(totals, 1))
    means = np.cumsum(logs, axis=-1) / np.arange(1, MAX_NGRAM + 1)
    brevity_penalty = np.exp(np.minimum(0, 1 - reference_length / np.maximum(candidates, 1)))
    return np.where(candidates > 0, brevity_penalty, 0)[..., None] * np.exp(means)


def _cider_similarity(candidates, reference_words, length_difference):
    """Returns the mean over lengths of grams of their clipped cosine, less for another length."""
    products, norms = np.zeros(MAX_NGRAM), np.zeros((2, MAX_NGRAM))
    for row, vector in zip(norms, (candidates, reference_words), strict=True):
        for ngram, weight in vector.items():
            row[len(ngram) - 1] += weight**2
    for ngram, weight in candidates.items():
        products[len(ngram) - 1] += min(
            weight, reference_words.get(ngram, 0.0)
        ) * reference_words.get(ngram, 0.0)
    sizes = np.sqrt(norms.prod(axis=0))
    cosines = np.divide(products, sizes, where=sizes > 0, out=np.zeros(MAX_NGRAM))
    return float(cosines.mean()) * math.exp(-(length_difference**2) / (2 * CIDER_SIGMA**2))


def _ngrams(words):
    """Returns how often each row of one to `LONGEST` words is there."""
    return Counter(
        tuple(words[start : start + size])
        for size in range(1, MAX_NGRAM + 1)
        for start in range(len(words) - size + 1)
    )


def _lcs_length(one, two):
    """Returns the length of the longest common subsequence."""
    row = [0] * (len(two) + 1)
    for word in one:
        before = 0  # of the row above, to the left
        for place, other in enumerate(two, start=1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return row[-1]
