"""The layout of a scene: its objects and their positions in units, before rendering."""

from __future__ import annotations

import dataclasses

from tasks.data.shapes.distance_fields import SHAPES, UNITS, distance_field
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np

VERSION = 1
SPLITS = {"train": 2048, "validation": 256, "test": 256, "unseen": 256}  # scenes in each
STREAMS = ("layout", "sentences", "paint")  # independent streams of random words

COLOURS = {
    "red": (212, 44, 48),
    "orange": (243, 134, 28),
    "yellow": (246, 216, 54),
    "green": (44, 158, 72),
    "blue": (42, 90, 208),
    "purple": (148, 62, 182),
}
SIZES = {"small": (9, 11), "medium": (15, 18), "large": (25, 28)}  # range of the radius
UNSEEN = {  # shape: the color that it has only as the main object in the split "unseen"
    "circle": "purple",
    "square": "orange",
    "triangle": "green",
    "star": "red",
    "cross": "yellow",
    "ring": "blue",
}
SEEN_PAIRS = tuple((shape, c) for shape in SHAPES for c in COLOURS if c != UNSEEN[shape])

MAX_OBJECTS = 4  # objects in a scene
OCCLUSION_ODDS = (5, 9)  # odds that an object which is not the foremost is occluded
OCCLUSION_RANGE = (1 / 16, 1 / 2)  # of the fraction of an object that others occlude
MAX_MAIN_OCCLUSION = 0.3  # of the main object, so that it has the most visible pixels
MIN_GAP = 2  # units between an object that is not occluded and all in front of it
MIN_CENTRE_DISTANCE = 12  # units between two centers, horizontally or vertically
MAX_TURN = 13  # of `SceneObject.turn`, 44 degrees
MAX_TRIES = 40  # to place one object, before all are placed again


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One object of a scene; lengths are in units, 128 to the side of the image.

    Attributes:
        shape: A key of `SHAPES`.
        color: A key of `COLOURS`.
        size: A key of `SIZES`.
        radius: An integer in the range of its size.
        turn: 32 times the tangent of half the clockwise rotation angle.
        center: `(x, y)`; x grows to the right, y downwards.
        hidden: The fraction of its pixels occluded by objects in front of it, 0 to 0.5.
        hidden_by: Indices of the objects of the scene that occlude a sixteenth of it or more.
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
        """The index of its shape in `SHAPES`."""
        return list(SHAPES).index(self.shape)


def layout(split, index, *, seed=0):
    """Returns the objects of a scene, a tuple of `SceneObject` from back to front, and its label.

    Raises:
        UsageError: There is no such split, or the index or the seed is negative.
    """
    randint = make_randint(random_words(split, index, seed, "layout"))
    sampled = _sample_objects(randint, split)
    return _place_objects(randint, sampled), sampled[0].label


def labels(split, *, seed=0):
    """Returns the labels of a whole split, int64 `(scenes,)`, without placing objects.

    Raises:
        UsageError: There is no such split, or the seed is negative.
    """
    random_words(split, 0, seed, "layout")  # raises before the table below is read
    generators = (
        make_randint(random_words(split, index, seed, "layout")) for index in range(SPLITS[split])
    )
    return np.array([_sample_objects(randint, split)[0].label for randint in generators], "int64")


def main_object(objects):
    """Returns the main object: the one of the largest size."""
    return max(objects, key=lambda obj: obj.radius)


def random_words(split, index, seed, purpose):
    """Returns a function that generates random 64-bit words for a scene, one or `n` at a time.

    NumPy guarantees that the words of PCG64 never change, but not its distributions.
    """
    if split not in SPLITS:
        raise unknown_name_error("split of shapes", split, list(SPLITS))
    if index < 0 or seed < 0:
        raise UsageError(f"shapes has no scene {index} of seed {seed}; both start at 0")
    words = [VERSION, seed, list(SPLITS).index(split), index, STREAMS.index(purpose)]
    return np.random.default_rng(words).bit_generator.random_raw


def make_randint(words):
    """Returns a function of `n` that returns a random integer from 0 to n - 1."""
    return lambda n: (words() >> 32) * n >> 32


def _sample_objects(randint, split):
    """Samples the objects of a scene without positions, the main object first."""
    count = 1 + randint(MAX_OBJECTS)
    pairs = list(UNSEEN.items()) if split == "unseen" else SEEN_PAIRS
    pairs = [pairs[randint(len(pairs))]]
    while len(pairs) < count:
        pair = SEEN_PAIRS[randint(len(SEEN_PAIRS))]
        if pair not in pairs:  # so that "the red star" is unique
            pairs.append(pair)
    rank = randint(3) if count == 1 else (1, 2, 2)[randint(3)]
    ranks = [rank] + [randint(rank) for _ in pairs[1:]]
    objects = []
    for (shape, colour), rank in zip(pairs, ranks, strict=True):
        size, (low, high) = list(SIZES.items())[rank]
        radius, turn = low + randint(high - low + 1), randint(2 * MAX_TURN + 1) - MAX_TURN
        objects.append(SceneObject(shape, colour, size, radius, turn))
    return objects


def _place_objects(randint, sampled):
    """Places objects in a random order of depth; returns them from back to front."""
    objects = list(sampled)
    for last in range(len(objects) - 1, 0, -1):
        other = randint(last + 1)
        objects[last], objects[other] = objects[other], objects[last]
    occluded = [
        index > 0 and randint(OCCLUSION_ODDS[1]) < OCCLUSION_ODDS[0]
        for index in range(len(objects))
    ]
    placed = None
    while placed is None:
        placed = _try_to_place(randint, objects, occluded)
    last = len(placed) - 1
    return tuple(
        dataclasses.replace(obj, hidden_by=tuple(last - front for front in obj.hidden_by))
        for obj in reversed(placed)
    )


def _try_to_place(randint, objects, occluded):
    """Places objects from front to back, so that none changes the occlusion of those before.

    Returns:
        The objects with positions, `hidden_by` counting from the front; or `None` after
        `MAX_TRIES` failed attempts for an object.
    """
    main, placed, fronts = main_object(objects), [], []
    for obj, behind in zip(objects, occluded, strict=True):
        distance = distance_field(obj)[1]
        shape, padded_shape, reach = distance < 0, distance < MIN_GAP, len(distance) // 2
        area = int(shape.sum())
        max_occlusion = MAX_MAIN_OCCLUSION if obj is main else OCCLUSION_RANGE[1]
        for _ in range(MAX_TRIES):
            x, y = (reach + randint(UNITS - 2 * reach + 1) for _ in "xy")
            if any(
                max(abs(x - p.centre[0]), abs(y - p.centre[1])) < MIN_CENTRE_DISTANCE
                for p in placed
            ):
                continue
            window = (slice(y - reach, y + reach), slice(x - reach, x + reach))
            taken = np.logical_or.reduce([np.zeros_like(shape), *(f[window] for f in fronts)])
            num_hidden = int((taken & shape).sum())
            share = num_hidden / area
            if behind and OCCLUSION_RANGE[0] <= share <= max_occlusion:
                break
            if not behind and not (taken & padded_shape).any():
                break
        else:
            return None
        overlaps = (int((front[window] & shape).sum()) for front in fronts)
        by = tuple(i for i, overlap in enumerate(overlaps) if overlap / area >= OCCLUSION_RANGE[0])
        placement = {"centre": (x, y), "hidden": share, "hidden_by": by}
        placed.append(dataclasses.replace(obj, **placement))
        fronts.append(np.zeros((UNITS, UNITS), bool))
        fronts[-1][window] = shape
    return placed
