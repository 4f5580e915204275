"""Sentences that are true of a scene: five forms, each said once of every picture."""

from __future__ import annotations

from tasks.data.shapes.distance_fields import UNITS
from tasks.data.shapes.scene_layout import MIN_CENTRE_DISTANCE, main_object

NUMBERS = ("one", "two", "three", "four")
CENTRE_RADIUS = 8  # units from the middle of the picture that still are "in the middle"


def sentences(objects, roll):
    """Returns the five sentences: count, largest, size, place, list.

    Args:
        objects: what `scene_layout.layout` returned.
        roll: what `scene_layout.make_randint` returned.
    """
    main = main_object(objects)
    rest = sorted((thing for thing in objects if thing is not main), key=lambda t: t.centre)
    listed = " and ".join(f"a {thing.size} {_noun_phrase(thing)}" for thing in rest)
    any_one = objects[roll(len(objects))]
    return (
        _count_sentence(objects, roll),
        f"the {_noun_phrase(main)} is the {'largest' if rest else 'only'} shape",
        f"the {_noun_phrase(any_one)} is {any_one.size}",
        _relation_sentence(objects, roll) if rest else _position_sentence(main, roll),
        f"a {main.size} {_noun_phrase(main)}" + (f" with {listed}" if rest else ""),
    )


def _noun_phrase(thing):
    return f"{thing.colour} {thing.shape}"


def _count_sentence(objects, roll):
    """How many there are: of all, or of those that share an attribute with one of them."""
    thing = objects[roll(len(objects))]
    attribute = (None, "shape", "colour", "size")[roll(4)]
    if attribute is None:
        count, noun = len(objects), "shape"
    else:
        value = getattr(thing, attribute)
        count = sum(getattr(other, attribute) == value for other in objects)
        noun = value if attribute == "shape" else f"{value} shape"
    if count == 1:
        return f"there is one {noun}"
    return f"there are {NUMBERS[count - 1]} {noun}{'es' if noun.endswith('s') else 's'}"


def _position_sentence(thing, roll):
    """Where the only object is in the picture."""
    x, y = thing.centre[0] - UNITS // 2, thing.centre[1] - UNITS // 2
    words = {"on the left": -x, "on the right": x, "at the top": -y, "at the bottom": y}
    true = [word for word, by in words.items() if by >= CENTRE_RADIUS] or ["in the middle"]
    return f"the {_noun_phrase(thing)} is {true[roll(len(true))]}"


def _relation_sentence(objects, roll):
    """Where one object is, seen from another: by their centres, or by which hides which."""
    first = roll(len(objects))
    second = (first + 1 + roll(len(objects) - 1)) % len(objects)
    one, other = objects[first], objects[second]
    x, y = one.centre[0] - other.centre[0], one.centre[1] - other.centre[1]
    words = {"left of": -x, "right of": x, "above": -y, "below": y}
    true = [word for word, by in words.items() if by >= MIN_CENTRE_DISTANCE]
    true += ["behind"] * (second in one.hidden_by) + ["in front of"] * (first in other.hidden_by)
    return f"the {_noun_phrase(one)} is {true[roll(len(true))]} the {_noun_phrase(other)}"
