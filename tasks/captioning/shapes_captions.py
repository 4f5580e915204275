"""The captions of `shapes`, and the verification of generated captions.

A caption is parsed by the grammar of `docs/shapes.md`. The objects that it mentions are matched
one to one with those of the scene so that as many attributes as possible are correct; then each
claim is verified by itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from tasks.data import shapes
from tasks.data.dataset import Source, Split, object_array
from zoo.lazy import np

CLAIM_KINDS = ("colour", "shape", "size", "relation", "number", "rank")
NUMBER_WORDS = ("one", "two", "three", "four")
MIN_SEPARATION = 12  # units from which an object is left of, right of, above or below another
MIN_OFFSET = 8  # units from the center of the image, from which an object is not in the middle

_COLOUR, _SHAPE, _SIZE = map("|".join, (shapes.COLOURS, shapes.SHAPES, shapes.SIZES))
_NAME = f"({_COLOUR}) ({_SHAPE})"
_RELATION = "left of|right of|above|below|in front of|behind"
_POSITION = "on the left|on the right|at the top|at the bottom|in the middle"
_OBJECT = f"({_SIZE}) {_NAME}"


def load():
    """Returns the `Source` of `shapes` with captions; images are drawn on first access."""
    parts = {
        name: Split(
            name, shapes.Scenes(name), object_array([CaptionedScene(name, i) for i in range(count)])
        )
        for name, count in shapes.SPLITS.items()
    }
    return Source("shapes", (), parts)


class CaptionedScene:
    """The captions of a scene, and its objects, computed on first access.

    Args:
        split, index: of the scene.
    """

    def __init__(self, split, index):
        self.split, self.index = split, index

    name = property(lambda self: f"scene {self.index} of {self.split}")
    sentences = property(lambda self: shapes.describe(self.split, self.index))
    facts = property(lambda self: shapes.layout(self.split, self.index)[0])


def check_claims(sentence: str, objects: Sequence) -> list[tuple[str, bool]] | None:
    """Verifies the claims of a sentence.

    Args:
        sentence: any words, in lower case.
        objects: of the scene, `shapes.SceneObject` from back to front.

    Returns:
        `(kind, is_correct)` of each claim, the kind being one of `CLAIM_KINDS`: `relation` is that
        of two objects, the position of a single object, or the left-to-right order of a list;
        `rank` that an object is the largest or the only one. `None` for a sentence that does not
        follow the grammar.
    """
    for pattern, read in _CLAIM_PARSERS.items():
        if match := re.fullmatch(pattern, sentence):
            return read(objects, *match.groups())
    return None


def claim_accuracy(sentences: Sequence[str], scenes: Sequence[Sequence]) -> dict[str, float]:
    """Returns the accuracy of claims by kind, and that of whole sentences.

    Args:
        sentences: generated captions.
        scenes: the objects of the scene of each.

    Returns:
        `KIND_accuracy` for each kind of which there is a claim; `sentence_accuracy`, the share of
        sentences that follow the grammar and whose claims are all correct.
    """
    found = [check_claims(*pair) for pair in zip(sentences, scenes, strict=True)]
    every = [claim for found_claims in found if found_claims for claim in found_claims]
    names = [kind for kind in CLAIM_KINDS if any(kind == other for other, _ in every)]
    shares = {
        f"{name}_accuracy": float(np.mean([correct for kind, correct in every if kind == name]))
        for name in names
    }
    all_correct = [
        found_claims is not None and all(correct for _, correct in found_claims)
        for found_claims in found
    ]
    return {**shares, "sentence_accuracy": float(np.mean(all_correct))}


def _match_mentions(mentions, objects):
    """Returns the object that each mention is matched with, and the claims of its attributes.

    Args:
        mentions: dicts of attributes.
        objects: of the scene. Mentions beyond their number are matched with `None`.
    """
    candidates = [*objects, *[None] * max(0, len(mentions) - len(objects))]

    def correct(mention, match):
        return [match is not None and getattr(match, k) == v for k, v in mention.items()]

    def num_correct(order):
        return sum(sum(correct(*pair)) for pair in zip(mentions, order, strict=True))

    best = max(itertools.permutations(candidates, len(mentions)), key=num_correct)
    found_claims = [
        claim
        for mention, match in zip(mentions, best, strict=True)
        for claim in zip(mention, correct(mention, match), strict=True)
    ]
    return best, found_claims


def _mention(colour, shape):
    return {"colour": colour, "shape": shape}


def _count(objects, verb, number, size, colour, noun):
    stated = {"size": size, "colour": colour, "shape": noun if noun in shapes.SHAPES else None}
    count = sum(all(v in (None, getattr(t, k)) for k, v in stated.items()) for t in objects)
    plural = number != "one"
    return [("number", (verb == "are") == plural and count == NUMBER_WORDS.index(number) + 1)]


def _rank(objects, colour, shape, word):
    (match,), found_claims = _match_mentions([_mention(colour, shape)], objects)
    alone = len(objects) == 1
    correct = match is shapes.main_object(objects) and (word == "only") == alone
    return [*found_claims, ("rank", correct)]


def _size(objects, colour, shape, size):
    (match,), found_claims = _match_mentions([_mention(colour, shape)], objects)
    return [*found_claims, ("size", match.size == size)]


def _relation(objects, colour, shape, relation, other_colour, other_shape):
    names = [_mention(colour, shape), _mention(other_colour, other_shape)]
    (one, two), found_claims = _match_mentions(names, objects)
    if one is None or two is None:
        return [*found_claims, ("relation", False)]
    x, y = one.centre[0] - two.centre[0], one.centre[1] - two.centre[1]
    correct = {
        "left of": -x >= MIN_SEPARATION,
        "right of": x >= MIN_SEPARATION,
        "above": -y >= MIN_SEPARATION,
        "below": y >= MIN_SEPARATION,
        "behind": objects.index(two) in one.hidden_by,
        "in front of": objects.index(one) in two.hidden_by,
    }
    return [*found_claims, ("relation", correct[relation])]


def _position(objects, colour, shape, position):
    (match,), found_claims = _match_mentions([_mention(colour, shape)], objects)
    x, y = match.centre[0] - shapes.UNITS // 2, match.centre[1] - shapes.UNITS // 2
    offset = {"on the left": -x, "on the right": x, "at the top": -y, "at the bottom": y}
    if position == "in the middle":
        correct = max(offset.values()) < MIN_OFFSET
    else:
        correct = offset[position] >= MIN_OFFSET
    return [*found_claims, ("relation", len(objects) == 1 and correct)]


def _list(objects, *words):
    rows = re.findall(_OBJECT, " ".join(word for word in words if word))
    mentions = [{"size": size, **_mention(*name)} for size, *name in rows]
    matches, found_claims = _match_mentions(mentions, objects)
    found_claims.append(("number", len(mentions) == len(objects)))
    if len(mentions) > 1:
        xs = [match.centre[0] if match else np.inf for match in matches[1:]]
        correct = None not in matches and matches[0] is shapes.main_object(objects)
        found_claims.append(("relation", correct and xs == sorted(xs)))
    return found_claims


_NOUN_PHRASE = f"(?:({_SIZE}) )?(?:({_COLOUR}) )?(shape|{_SHAPE})(?:e?s)?"
_CLAIM_PARSERS = {
    rf"there (is|are) ({'|'.join(NUMBER_WORDS)}) {_NOUN_PHRASE}": _count,
    rf"the {_NAME} is the (largest|only) shape": _rank,
    rf"the {_NAME} is ({_SIZE})": _size,
    rf"the {_NAME} is ({_RELATION}) the {_NAME}": _relation,
    rf"the {_NAME} is ({_POSITION})": _position,
    rf"(a (?:{_SIZE}) (?:{_COLOUR}) (?:{_SHAPE}))( with a .+)?": lambda objects, one, rest: (
        _list(objects, one, rest) if _is_list(rest) else None
    ),
}


def _is_list(rest):
    item = f"a (?:{_SIZE}) (?:{_COLOUR}) (?:{_SHAPE})"
    return not rest or bool(re.fullmatch(f" with {item}(?: and {item})*", rest))
