"""Captions of a scene: five sentences, one of each form."""

from __future__ import annotations

from tasks.data.shapes.distance_fields import UNITS
from tasks.data.shapes.scene_layout import MIN_CENTRE_DISTANCE, main_object

NUMBERS = ("one", "two", "three", "four")
CENTRE_RADIUS = 8  # units from the center of the image that still are "in the middle"


def sentences(objects, randint):
    """Returns the five sentences: count, largest, size, place, list.

    Args:
        objects: The objects, as `scene_layout.layout` returns them.
        randint: A function of `n` that returns a random integer below `n`, as
            `scene_layout.make_randint` returns it.
    """
    main = main_object(objects)
    rest = sorted((obj for obj in objects if obj is not main), key=lambda t: t.centre)
    listed = " and ".join(f"a {obj.size} {_noun_phrase(obj)}" for obj in rest)
    any_one = objects[randint(len(objects))]
    return (
        _count_sentence(objects, randint),
        f"the {_noun_phrase(main)} is the {'largest' if rest else 'only'} shape",
        f"the {_noun_phrase(any_one)} is {any_one.size}",
        _relation_sentence(objects, randint) if rest else _position_sentence(main, randint),
        f"a {main.size} {_noun_phrase(main)}" + (f" with {listed}" if rest else ""),
    )


def _noun_phrase(obj):
    return f"{obj.colour} {obj.shape}"


def _count_sentence(objects, randint):
    """Returns the number of all objects, or of those that share an attribute with one of them."""
    obj = objects[randint(len(objects))]
    attribute = (None, "shape", "colour", "size")[randint(4)]
    if attribute is None:
        count, noun = len(objects), "shape"
    else:
        value = getattr(obj, attribute)
        count = sum(getattr(other, attribute) == value for other in objects)
        noun = value if attribute == "shape" else f"{value} shape"
    if count == 1:
        return f"there is one {noun}"
    return f"there are {NUMBERS[count - 1]} {noun}{'es' if noun.endswith('s') else 's'}"


def _position_sentence(obj, randint):
    """Returns the position of the only object in the image."""
    x, y = obj.centre[0] - UNITS // 2, obj.centre[1] - UNITS // 2
    words = {"on the left": -x, "on the right": x, "at the top": -y, "at the bottom": y}
    true = [word for word, by in words.items() if by >= CENTRE_RADIUS] or ["in the middle"]
    return f"the {_noun_phrase(obj)} is {true[randint(len(true))]}"


def _relation_sentence(objects, randint):
    """Returns the position of one object relative to another, by centers or by occlusion."""
    first = randint(len(objects))
    second = (first + 1 + randint(len(objects) - 1)) % len(objects)
    one, other = objects[first], objects[second]
    x, y = one.centre[0] - other.centre[0], one.centre[1] - other.centre[1]
    words = {"left of": -x, "right of": x, "above": -y, "below": y}
    true = [word for word, by in words.items() if by >= MIN_CENTRE_DISTANCE]
    true += ["behind"] * (second in one.hidden_by) + ["in front of"] * (first in other.hidden_by)
    return f"the {_noun_phrase(one)} is {true[randint(len(true))]} the {_noun_phrase(other)}"
