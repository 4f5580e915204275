"""What a scene holds and where: drawn first, in units, before any pixel is painted."""

from __future__ import annotations

import dataclasses

from tasks.data.shapes.distance_fields import SHAPES, UNITS, distance_field
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np

VERSION = 1
SPLITS = {"train": 2048, "validation": 256, "test": 256, "unseen": 256}  # scenes in each
STREAMS = ("layout", "sentences", "paint")  # of random words, one for each purpose

COLOURS = {
    "red": (212, 44, 48),
    "orange": (243, 134, 28),
    "yellow": (246, 216, 54),
    "green": (44, 158, 72),
    "blue": (42, 90, 208),
    "purple": (148, 62, 182),
}
SIZES = {"small": (9, 11), "medium": (15, 18), "large": (25, 28)}  # least and greatest radius
UNSEEN = {  # shape: the colour that it has nowhere but on the main object of split "unseen"
    "circle": "purple",
    "square": "orange",
    "triangle": "green",
    "star": "red",
    "cross": "yellow",
    "ring": "blue",
}
SEEN_PAIRS = tuple((shape, c) for shape in SHAPES for c in COLOURS if c != UNSEEN[shape])

MAX_OBJECTS = 4  # objects in a scene
OCCLUSION_ODDS = (5, 9)  # odds that an object which is not the foremost goes behind another
OCCLUSION_RANGE = (1 / 16, 1 / 2)  # least and greatest share of an object that others may hide
MAX_MAIN_OCCLUSION = 0.3  # greatest share of the main object: so it shows more than any other
MIN_GAP = 2  # units free between an object that is not hidden and all in front of it
MIN_CENTRE_DISTANCE = 12  # units between two centres, across or down
MAX_TURN = 13  # greatest `Thing.turn`, 44 degrees
MAX_TRIES = 40  # to place one object, before all are placed anew


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One object of a scene; lengths are in units, 128 to the side of the picture.

    Attributes:
        shape: key of `SHAPES`.
        colour: key of `COLOURS`.
        size: key of `SIZES`.
        radius: within the range of its size.
        turn: 32 times the tangent of half the angle, clockwise, by which it is turned.
        centre: `(x, y)`; x grows to the right, y downwards.
        hidden: share of its pixels that objects in front of it cover, 0 to 0.5.
        hidden_by: positions, in the scene's objects, of those that cover a sixteenth of it or more.
    """

    shape: str
    colour: str
    size: str
    radius: int
    turn: int
    centre: tuple[int, int] = (0, 0)
    hidden: float = 0.0
    hidden_by: tuple[int, ...] = ()

    @property
    def label(self):
        """Position of its shape in `SHAPES`."""
        return list(SHAPES).index(self.shape)


def layout(split, index, *, seed=0):
    """Returns a scene's objects, a tuple of `Thing` from back to front, and its label.

    Raises:
        UsageError: there is no such split, or the index or the seed is negative.
    """
    roll = make_randint(random_words(split, index, seed, "layout"))
    sampled = _sample_objects(roll, split)
    return _place_objects(roll, sampled), sampled[0].label


def labels(split, *, seed=0):
    """Returns the labels of a whole split, int64 `(scenes,)`, without placing an object.

    Raises:
        UsageError: there is no such split, or the seed is negative.
    """
    random_words(split, 0, seed, "layout")  # refuses before the table below is read
    dice = (
        make_randint(random_words(split, index, seed, "layout")) for index in range(SPLITS[split])
    )
    return np.array([_sample_objects(roll, split)[0].label for roll in dice], "int64")


def main_object(objects):
    """Returns the one object whose size no other has or exceeds."""
    return max(objects, key=lambda thing: thing.radius)


def random_words(split, index, seed, purpose):
    """Returns the function that gives a scene's random words of 64 bits, all or `n` at a time.

    NumPy promises that the words of PCG64 never change; it does not for distributions of them.
    """
    if split not in SPLITS:
        raise unknown_name_error("split of shapes", split, list(SPLITS))
    if index < 0 or seed < 0:
        raise UsageError(f"shapes has no scene {index} of seed {seed}; both start at 0")
    words = [VERSION, seed, list(SPLITS).index(split), index, STREAMS.index(purpose)]
    return np.random.default_rng(words).bit_generator.random_raw


def make_randint(words):
    """Returns a function of `n` that rolls an integer from 0 to n - 1."""
    return lambda n: (words() >> 32) * n >> 32


def _sample_objects(roll, split):
    """Chooses what is in the scene: things without a place, the main one first."""
    count = 1 + roll(MAX_OBJECTS)
    pairs = list(UNSEEN.items()) if split == "unseen" else SEEN_PAIRS
    pairs = [pairs[roll(len(pairs))]]
    while len(pairs) < count:
        pair = SEEN_PAIRS[roll(len(SEEN_PAIRS))]
        if pair not in pairs:  # so that "the red star" is one of a kind
            pairs.append(pair)
    rank = roll(3) if count == 1 else (1, 2, 2)[roll(3)]
    ranks = [rank] + [roll(rank) for _ in pairs[1:]]
    objects = []
    for (shape, colour), rank in zip(pairs, ranks, strict=True):
        size, (low, high) = list(SIZES.items())[rank]
        radius, turn = low + roll(high - low + 1), roll(2 * MAX_TURN + 1) - MAX_TURN
        objects.append(SceneObject(shape, colour, size, radius, turn))
    return objects


def _place_objects(roll, sampled):
    """Places a cast in a random order of depth; returns it from back to front."""
    objects = list(sampled)
    for last in range(len(objects) - 1, 0, -1):
        other = roll(last + 1)
        objects[last], objects[other] = objects[other], objects[last]
    occluded = [
        index > 0 and roll(OCCLUSION_ODDS[1]) < OCCLUSION_ODDS[0] for index in range(len(objects))
    ]
    placed = None
    while placed is None:
        placed = _try_to_place(roll, objects, occluded)
    last = len(placed) - 1
    return tuple(
        dataclasses.replace(thing, hidden_by=tuple(last - front for front in thing.hidden_by))
        for thing in reversed(placed)
    )


def _try_to_place(roll, objects, occluded):
    """Places things from front to back, so that none changes what came before; or gives up.

    Returns:
        The things with places, `hidden_by` counting from the front; or `None`.
    """
    main, placed, fronts = main_object(objects), [], []
    for thing, behind in zip(objects, occluded, strict=True):
        distance = distance_field(thing)[1]
        shape, padded_shape, reach = distance < 0, distance < MIN_GAP, len(distance) // 2
        area, most = int(shape.sum()), MAX_MAIN_OCCLUSION if thing is main else OCCLUSION_RANGE[1]
        for _ in range(MAX_TRIES):
            x, y = (reach + roll(UNITS - 2 * reach + 1) for _ in "xy")
            if any(
                max(abs(x - p.centre[0]), abs(y - p.centre[1])) < MIN_CENTRE_DISTANCE
                for p in placed
            ):
                continue
            window = (slice(y - reach, y + reach), slice(x - reach, x + reach))
            taken = np.logical_or.reduce([np.zeros_like(shape), *(f[window] for f in fronts)])
            num_hidden = int((taken & shape).sum())
            share = num_hidden / area
            if OCCLUSION_RANGE[0] <= share <= most if behind else not (taken & padded_shape).any():
                break
        else:
            return None
        overlaps = (int((front[window] & shape).sum()) for front in fronts)
        by = tuple(i for i, overlap in enumerate(overlaps) if overlap / area >= OCCLUSION_RANGE[0])
        place = {"centre": (x, y), "hidden": share, "hidden_by": by}
        placed.append(dataclasses.replace(thing, **place))
        fronts.append(np.zeros((UNITS, UNITS), bool))
        fronts[-1][window] = shape
    return placed
