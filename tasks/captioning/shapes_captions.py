"""The sentences of `shapes`: which there are, and whether one that a model says is true.

A sentence is read by the grammar of `docs/shapes.md`. Each thing that it names is taken for one of
the scene's, another one for each, so that as many attributes as can be are right; then every
claim is right or wrong by itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from tasks.data import shapes
from tasks.data.dataset import Source, Split, object_array
from zoo.lazy import np

CLAIM_KINDS = ("colour", "shape", "size", "relation", "number", "rank")  # of claims
NUMBER_WORDS = ("one", "two", "three", "four")
MIN_SEPARATION, MIN_OFFSET = (
    12,
    8,
)  # units from which one thing is beside another, or off the middle

_COLOUR, _SHAPE, _SIZE = map("|".join, (shapes.COLOURS, shapes.SHAPES, shapes.SIZES))
_NAME = f"({_COLOUR}) ({_SHAPE})"
_RELATION = "left of|right of|above|below|in front of|behind"
_POSITION = "on the left|on the right|at the top|at the bottom|in the middle"
_OBJECT = f"({_SIZE}) {_NAME}"


def load():
    """Returns the `Source` of `shapes` with its sentences; nothing is drawn yet."""
    parts = {
        name: Split(
            name, shapes.Scenes(name), object_array([CaptionedScene(name, i) for i in range(count)])
        )
        for name, count in shapes.SPLITS.items()
    }
    return Source("shapes", (), parts)


class CaptionedScene:
    """What is said of a scene, and what is true of it, looked up when asked for.

    Args:
        split, index: which.
    """

    def __init__(self, split, index):
        self.split, self.index = split, index

    name = property(lambda self: f"scene {self.index} of {self.split}")
    sentences = property(lambda self: shapes.describe(self.split, self.index))
    facts = property(lambda self: shapes.layout(self.split, self.index)[0])


def check_claims(sentence: str, things: Sequence) -> list[tuple[str, bool]] | None:
    """Tells which claims of a sentence are right.

    Args:
        sentence: any words, in lower case.
        things: of the scene, `shapes.Thing` from back to front.

    Returns:
        `(kind, right)` of each claim, where the kind is one of `KINDS`: `relation` of two things,
        of an only one and its place, and, of a list, of its order from left to right; `rank` of
        what is called the largest or the only one. `None` for what is no sentence of the grammar.
    """
    for pattern, read in _CLAIM_PARSERS.items():
        if match := re.fullmatch(pattern, sentence):
            return read(things, *match.groups())
    return None


def claim_accuracy(sentences: Sequence[str], scenes: Sequence[Sequence]) -> dict[str, float]:
    """Returns shares by name: of each kind of claim that is right, and of sentences that are.

    Args:
        sentences: what was said.
        scenes: the things of the scene of each.

    Returns:
        `KIND_accuracy` for each kind of which there is a claim; `sentence_accuracy`, of sentences
        of the grammar in which all is right.
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


def _match_mentions(mentions, things):
    """Returns the thing that each mention is taken for, and the claims in naming it so.

    Args:
        mentions: of each thing what is said of it, by attribute.
        things: of the scene. Mentions beyond their number are taken for none.
    """
    candidates = [*things, *[None] * max(0, len(mentions) - len(things))]

    def correct(mention, thing):
        return [thing is not None and getattr(thing, k) == v for k, v in mention.items()]

    def num_correct(order):
        return sum(sum(correct(*pair)) for pair in zip(mentions, order, strict=True))

    best = max(itertools.permutations(candidates, len(mentions)), key=num_correct)
    found_claims = [
        claim
        for mention, thing in zip(mentions, best, strict=True)
        for claim in zip(mention, correct(mention, thing), strict=True)
    ]
    return best, found_claims


def _mention(colour, shape):
    return {"colour": colour, "shape": shape}


def _count(things, verb, number, size, colour, noun):
    stated = {"size": size, "colour": colour, "shape": noun if noun in shapes.SHAPES else None}
    count = sum(all(v in (None, getattr(t, k)) for k, v in stated.items()) for t in things)
    plural = number != "one"
    return [("number", (verb == "are") == plural and count == NUMBER_WORDS.index(number) + 1)]


def _rank(things, colour, shape, word):
    (thing,), found_claims = _match_mentions([_mention(colour, shape)], things)
    alone = len(things) == 1
    correct = thing is shapes.main_object(things) and (word == "only") == alone
    return [*found_claims, ("rank", correct)]


def _size(things, colour, shape, size):
    (thing,), found_claims = _match_mentions([_mention(colour, shape)], things)
    return [*found_claims, ("size", thing.size == size)]


def _relation(things, colour, shape, way, other_colour, other_shape):
    names = [_mention(colour, shape), _mention(other_colour, other_shape)]
    (one, two), found_claims = _match_mentions(names, things)
    if one is None or two is None:
        return [*found_claims, ("relation", False)]
    x, y = one.centre[0] - two.centre[0], one.centre[1] - two.centre[1]
    correct = {
        "left of": -x >= MIN_SEPARATION,
        "right of": x >= MIN_SEPARATION,
        "above": -y >= MIN_SEPARATION,
        "below": y >= MIN_SEPARATION,
        "behind": things.index(two) in one.hidden_by,
        "in front of": things.index(one) in two.hidden_by,
    }
    return [*found_claims, ("relation", correct[way])]


def _position(things, colour, shape, spot):
    (thing,), found_claims = _match_mentions([_mention(colour, shape)], things)
    x, y = thing.centre[0] - shapes.UNITS // 2, thing.centre[1] - shapes.UNITS // 2
    far = {"on the left": -x, "on the right": x, "at the top": -y, "at the bottom": y}
    correct = max(far.values()) < MIN_OFFSET if spot == "in the middle" else far[spot] >= MIN_OFFSET
    return [*found_claims, ("relation", len(things) == 1 and correct)]


def _list(things, *words):
    rows = re.findall(_OBJECT, " ".join(word for word in words if word))
    mentions = [{"size": size, **_mention(*name)} for size, *name in rows]
    taken, found_claims = _match_mentions(mentions, things)
    found_claims.append(("number", len(mentions) == len(things)))
    if len(mentions) > 1:
        across = [thing.centre[0] if thing else np.inf for thing in taken[1:]]
        correct = None not in taken and taken[0] is shapes.main_object(things)
        found_claims.append(("relation", correct and across == sorted(across)))
    return found_claims


_NOUN_PHRASE = f"(?:({_SIZE}) )?(?:({_COLOUR}) )?(shape|{_SHAPE})(?:e?s)?"
_CLAIM_PARSERS = {
    rf"there (is|are) ({'|'.join(NUMBER_WORDS)}) {_NOUN_PHRASE}": _count,
    rf"the {_NAME} is the (largest|only) shape": _rank,
    rf"the {_NAME} is ({_SIZE})": _size,
    rf"the {_NAME} is ({_RELATION}) the {_NAME}": _relation,
    rf"the {_NAME} is ({_POSITION})": _position,
    rf"(a (?:{_SIZE}) (?:{_COLOUR}) (?:{_SHAPE}))( with a .+)?": lambda things, one, rest: (
        _list(things, one, rest) if _is_list(rest) else None
    ),
}


def _is_list(rest):
    item = f"a (?:{_SIZE}) (?:{_COLOUR}) (?:{_SHAPE})"
    return not rest or bool(re.fullmatch(f" with {item}(?: and {item})*", rest))
