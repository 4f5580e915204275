"""How good captions are: BLEU, ROUGE-L and CIDEr-D, as the evaluation of COCO's captions has them.

A caption is a sentence of words with a space between, in lower case and without punctuation. Every
image has one caption and one or more references, sentences of people.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tasks.report import intervals
from zoo.lazy import np

NAMES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
LONGEST = 4  # words in a row that are looked up
ROUGE_BETA = 1.2  # how much more recall counts than precision
CIDER_SIGMA = 6.0  # words by which a caption may differ in length from a reference
CIDER_SCALE = 10.0


def figures(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns all measures of captions by name.

    Args:
        captions: one for each image.
        references: of each image one or more.
    """
    said, known = split(captions, references)
    scores = [*bleu(said, known), float(np.mean(rouge_l(said, known)))]
    return dict(zip(NAMES, [*scores, float(np.mean(cider(said, known)))], strict=True))


def judged(captions, references, *, seed: int) -> dict[str, float]:
    """Returns `figures`, and of BLEU-4 and CIDEr-D the ends of their intervals over images."""
    said, known = split(captions, references)
    tallies = np.stack([_tally(*pair) for pair in zip(said, known, strict=True)])
    ends = {
        "bleu4": intervals.bootstrap(
            lambda times: _bleu(times @ tallies)[..., -1],
            len(tallies),
            seed=seed,
            bounds=intervals.SHARES,
        ),
        "cider": intervals.mean(cider(said, known), seed=seed, bounds=(0, CIDER_SCALE)),
    }
    found = {}
    for name, value in figures(captions, references).items():
        found |= intervals.named(name, value, ends[name]) if name in ends else {name: value}
    return found


def split(captions, references):
    """Returns captions and references as lists of words."""
    said = [caption.split() for caption in captions]
    return said, [[reference.split() for reference in own] for own in references]


def bleu(captions, references) -> list[float]:
    """Returns BLEU-1 to BLEU-4 of all captions together (Papineni et al., 2002).

    No count is smoothed. Of the lengths of an image's references the closest counts, of two that
    are equally close the shorter.

    Args:
        captions: lists of words, one for each image.
        references: of each image lists of words.
    """
    tallies = [_tally(*pair) for pair in zip(captions, references, strict=True)]
    return _bleu(np.sum(tallies, axis=0)).tolist()


def rouge_l(captions, references):
    """Returns the ROUGE-L of each caption, float64 `(captions,)` (Lin, 2004).

    Precision and recall of the longest common subsequence are each the best of all references,
    which may be two, as in the evaluation of COCO.
    """
    found = []
    for words, known in zip(captions, references, strict=True):
        common = [(_common(words, each), len(each)) for each in known]
        precision = max(same for same, _ in common) / max(1, len(words))
        recall = max(same / max(1, length) for same, length in common)
        weight = ROUGE_BETA**2
        total = recall + weight * precision
        found.append((1 + weight) * precision * recall / total if total else 0.0)
    return np.array(found)


def cider(captions, references):
    """Returns the CIDEr-D of each caption, float64 `(captions,)`, 0 to 10 (Vedantam et al., 2015).

    How rare words are is counted in the references of these images: figures of different sets of
    images, or of one image alone, are not to be compared.
    """
    rarity = Counter()
    for known in references:
        rarity.update({gram for each in known for gram in _grams(each)})
    images = math.log(max(1, len(references)))
    idf = {gram: images - math.log(max(1, count)) for gram, count in rarity.items()}

    def vector(words):
        counts = _grams(words)
        return {gram: count * idf.get(gram, images) for gram, count in counts.items()}

    found = []
    for words, known in zip(captions, references, strict=True):
        mine = vector(words)
        scores = [_likeness(mine, vector(each), len(words) - len(each)) for each in known]
        found.append(CIDER_SCALE * sum(scores) / len(scores))
    return np.array(found)


def _tally(words, known):
    """Returns what BLEU counts of a caption: by length of gram those that are right and those that
    are there, then the caption's own length and that of its closest reference."""
    right, there = np.zeros(LONGEST, "int64"), np.zeros(LONGEST, "int64")
    most = Counter()
    for each in known:
        most |= _grams(each)
    for gram, count in _grams(words).items():
        there[len(gram) - 1] += count
        right[len(gram) - 1] += min(count, most[gram])
    wanted = min((abs(len(each) - len(words)), len(each)) for each in known)[1]
    return np.array([*right, *there, len(words), wanted])


def _bleu(tallies):
    """Returns BLEU-1 to BLEU-4 of sums of tallies, `(..., tally)` to `(..., 4)`."""
    tallies = np.asarray(tallies, "float64")
    right, there = tallies[..., :LONGEST], tallies[..., LONGEST : 2 * LONGEST]
    said, wanted = tallies[..., -2], tallies[..., -1]
    with np.errstate(divide="ignore"):  # nothing right at all is a logarithm of 0
        logs = np.log(right / np.maximum(there, 1))
    means = np.cumsum(logs, axis=-1) / np.arange(1, LONGEST + 1)
    short = np.exp(np.minimum(0, 1 - wanted / np.maximum(said, 1)))
    return np.where(said > 0, short, 0)[..., None] * np.exp(means)


def _likeness(said, known, longer):
    """Returns the mean over lengths of grams of their clipped cosine, less for another length."""
    products, norms = np.zeros(LONGEST), np.zeros((2, LONGEST))
    for row, vector in zip(norms, (said, known), strict=True):
        for gram, weight in vector.items():
            row[len(gram) - 1] += weight**2
    for gram, weight in said.items():
        products[len(gram) - 1] += min(weight, known.get(gram, 0.0)) * known.get(gram, 0.0)
    sizes = np.sqrt(norms.prod(axis=0))
    cosines = np.divide(products, sizes, where=sizes > 0, out=np.zeros(LONGEST))
    return float(cosines.mean()) * math.exp(-(longer**2) / (2 * CIDER_SIGMA**2))


def _grams(words):
    """Returns how often each row of one to `LONGEST` words is there."""
    return Counter(
        tuple(words[start : start + size])
        for size in range(1, LONGEST + 1)
        for start in range(len(words) - size + 1)
    )


def _common(one, two):
    """Returns the length of the longest common subsequence."""
    row = [0] * (len(two) + 1)
    for word in one:
        before = 0  # of the row above, to the left
        for place, other in enumerate(two, start=1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return row[-1]
