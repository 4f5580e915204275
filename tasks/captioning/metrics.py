"""Metrics of captions: BLEU, ROUGE-L and CIDEr-D, as in the COCO caption evaluation.

A caption is a string of words joined by spaces, in lower case and without punctuation. Every image
has one predicted caption and one or more references.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tasks.report import confidence_intervals
from tasks.report.evaluation_report import deduplicated_metric
from zoo.lazy import np

METRIC_NAMES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
MAX_NGRAM = 4  # words of the longest n-grams
ROUGE_BETA = 1.2  # weight of recall relative to precision
CIDER_SIGMA = 6.0  # of the Gaussian length penalty, in words
CIDER_SCALE = 10.0


def compute_metrics(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Returns all metrics of captions by name.

    Args:
        captions: one per image.
        references: one or more per image.
    """
    words = split(captions, references)
    means = (float(np.mean(metric(*words))) for metric in (rouge_l, cider))
    return dict(zip(METRIC_NAMES, [*bleu(*words), *means], strict=True))


def metrics_with_intervals(captions, references, *, seed: int) -> dict[str, float]:
    """Returns `compute_metrics`, and for BLEU-4 and CIDEr-D the ends of 95% bootstrap intervals
    over images."""
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


def deduplicated_cider(captions, references, copies) -> dict[str, float]:
    """Returns `deduplicated_cider`: CIDEr-D without near duplicates of training images.

    Args:
        captions, references: as in `compute_metrics`.
        copies: the indices of the near duplicates; without any, the dict is empty.
    """

    def measure(kept):
        return compute_metrics([captions[i] for i in kept], [references[i] for i in kept])["cider"]

    return deduplicated_metric("cider", len(captions), copies, measure)


def split(captions, references):
    """Returns captions and references as lists of words."""
    candidates = [caption.split() for caption in captions]
    return candidates, [[reference.split() for reference in own] for own in references]


def bleu(captions, references) -> list[float]:
    """Returns BLEU-1 to BLEU-4 of all captions together (Papineni et al., 2002).

    Counts are not smoothed. The brevity penalty uses the closest length of the references of an
    image, the shorter of two that are equally close.

    Args:
        captions: lists of words, one per image.
        references: for each image lists of words.
    """
    statistics = [_bleu_statistics(*pair) for pair in zip(captions, references, strict=True)]
    return _bleu_scores(np.sum(statistics, axis=0)).tolist()


def rouge_l(captions, references):
    """Returns the ROUGE-L of each caption, float64 `(captions,)` (Lin, 2004).

    As in the COCO evaluation, precision and recall of the longest common subsequence are each the
    best over all references, possibly of two different ones.
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

    Document frequencies are counted in the references of these images, so values of different
    sets of images are not comparable, and that of a single image has no meaning.
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
    """Returns the counts of BLEU for a caption: matching n-grams and all n-grams, for each n, then
    the length of the caption and that of its closest reference."""
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
    """Returns BLEU-1 to BLEU-4 of summed counts, `(..., counts)` to `(..., 4)`."""
    statistics = np.asarray(statistics, "float64")
    matches, totals = statistics[..., :MAX_NGRAM], statistics[..., MAX_NGRAM : 2 * MAX_NGRAM]
    candidates, reference_length = statistics[..., -2], statistics[..., -1]
    with np.errstate(divide="ignore"):  # no match: the logarithm of 0
        logs = np.log(matches / np.maximum(totals, 1))
    means = np.cumsum(logs, axis=-1) / np.arange(1, MAX_NGRAM + 1)
    brevity_penalty = np.exp(np.minimum(0, 1 - reference_length / np.maximum(candidates, 1)))
    return np.where(candidates > 0, brevity_penalty, 0)[..., None] * np.exp(means)


def _cider_similarity(candidate, reference, length_difference):
    """Returns the mean over n of the clipped cosine similarity of n-grams, penalized by length.

    Args:
        candidate, reference: dicts from n-grams to their TF-IDF weights.
        length_difference: in words.
    """
    products, norms = np.zeros(MAX_NGRAM), np.zeros((2, MAX_NGRAM))
    for row, vector in zip(norms, (candidate, reference), strict=True):
        for ngram, weight in vector.items():
            row[len(ngram) - 1] += weight**2
    for ngram, weight in candidate.items():
        reference_weight = reference.get(ngram, 0.0)
        products[len(ngram) - 1] += min(weight, reference_weight) * reference_weight
    sizes = np.sqrt(norms.prod(axis=0))
    cosines = np.divide(products, sizes, where=sizes > 0, out=np.zeros(MAX_NGRAM))
    return float(cosines.mean()) * math.exp(-(length_difference**2) / (2 * CIDER_SIGMA**2))


def _ngrams(words):
    """Returns the counts of all n-grams, for n from 1 to `MAX_NGRAM`."""
    return Counter(
        tuple(words[start : start + size])
        for size in range(1, MAX_NGRAM + 1)
        for start in range(len(words) - size + 1)
    )


def _lcs_length(one, two):
    """Returns the length of the longest common subsequence."""
    row = [0] * (len(two) + 1)
    for word in one:
        diagonal = 0
        for column, other in enumerate(two, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
