"""Captions of `shapes` are true, by an independent checker written from the page."""

import re

from tasks.data import shapes
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "shapes.md").read_text(encoding="utf-8")
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}


def find(objects, name):
    """Returns the only object with a color and a shape."""
    (thing,) = (t for t in objects if f"{t.colour} {t.shape}" == name)
    return thing


def is_count(objects, verb, number, kind):
    singular = kind if number == "one" else kind.removesuffix("es" if "crosses" in kind else "s")
    *adjective, noun = singular.split()
    assert (verb == "is") == (number == "one")
    return NUMBERS[number] == sum(
        noun in ("shape", t.shape) and all(a in (t.colour, t.size) for a in adjective)
        for t in objects
    )


def is_main(objects, name, rank):
    (largest,) = (t for t in objects if t.radius == max(o.radius for o in objects))
    return find(objects, name) is largest and (rank == "only") == (len(objects) == 1)


def is_related(objects, name, relation, other):
    one, two = find(objects, name), find(objects, other)
    (x0, y0), (x1, y1) = one.centre, two.centre
    if relation in ("in front of", "behind"):
        back, front = (one, two) if relation == "behind" else (two, one)
        return objects.index(front) in back.hidden_by
    far = {"left of": x1 - x0, "right of": x0 - x1, "above": y1 - y0, "below": y0 - y1}
    return far[relation] >= 12


def is_at(objects, name, position):
    (thing,) = objects
    x, y = thing.centre[0] - 64, thing.centre[1] - 64
    far = {"on the left": -x, "on the right": x, "at the top": -y, "at the bottom": y}
    holds = max(far.values()) < 8 if position == "in the middle" else far[position] >= 8
    return find(objects, name) is thing and holds


def is_list(objects, main, rest):
    words = [main, *(rest.removeprefix(" with a ").split(" and a ") if rest else [])]
    order = [find(objects, word.partition(" ")[2]) for word in words]
    across = [thing.centre[0] for thing in order[1:]]
    sizes = [thing.size for thing in order] == [word.split()[0] for word in words]
    largest = order[0].radius == max(t.radius for t in objects)
    return sizes and set(order) == set(objects) and across == sorted(across) and largest


NAME = f"((?:{'|'.join(shapes.COLOURS)}) (?:{'|'.join(shapes.SHAPES)}))"
RULES = {
    "count": (r"there (is|are) (one|two|three|four) (.+)", is_count),
    "largest": (rf"the {NAME} is the (largest|only) shape", is_main),
    "size": (rf"the {NAME} is (small|medium|large)", lambda o, n, size: find(o, n).size == size),
    "place": (
        rf"the {NAME} is (left of|right of|above|below|in front of|behind) the {NAME}",
        is_related,
    ),
    "position": (rf"the {NAME} is ((?:on|at|in) the \w+)", is_at),
    "list": (r"a (\w+ \w+ \w+)((?: with a .+)?)", is_list),
}


def test_sentences_are_true():
    vocabulary = set()
    for split in shapes.SPLITS:
        for index, objects in enumerate(shapes.Scenes(split, "objects")[:128]):
            place = "place" if len(objects) > 1 else "position"
            forms = ("count", "largest", "size", place, "list")
            for form, sentence in zip(forms, shapes.describe(split, index), strict=True):
                pattern, holds = RULES[form]
                match = re.fullmatch(pattern, sentence)
                assert match, sentence
                assert holds(objects, *match.groups()), (split, index, sentence)
                vocabulary |= set(sentence.split())
    assert len(vocabulary) == int(re.search(r"has (\d+) words", PAGE)[1])


def test_the_checker_detects_false_sentences():
    two = next(objects for objects in shapes.Scenes("train", "objects") if len(objects) == 2)
    left, right = sorted(two, key=lambda thing: thing.centre[0])
    names = f"{left.colour} {left.shape}", f"{right.colour} {right.shape}"
    assert not is_related(two, names[0], "right of", names[1])
    assert not is_count(two, "are", "three", "shapes")
    assert is_main(two, names[0], "largest") != is_main(two, names[1], "largest")
