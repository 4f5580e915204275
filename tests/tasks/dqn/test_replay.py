"""Replay against lists of episodes, and the tree of priorities against `numpy.random.choice`."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from tasks.dqn.replay import ReplayBuffer
from tasks.dqn.sum_tree import PRIORITY_EPSILON, SumTree
from zoo.errors import UsageError

DISCOUNT = 0.9


class Lists:
    """What a replay should know, told by episodes: each observation is a number of its own."""

    def __init__(self, rings, size, frames, steps):
        self.size, self.frames, self.steps = size, frames, steps
        self.written = [[] for _ in range(rings)]  # numbers in the order of writing
        self.episodes = [[] for _ in range(rings)]  # lists of [seen, actions, rewards, end]

    def transitions(self, ring):
        """What may be drawn: number of the observation to all that follows from it."""
        window = set(self.written[ring][-self.size :])
        found = {}
        for seen, actions, rewards, end in self.episodes[ring]:
            for t in range(len(actions)):
                last = min(t + self.steps, len(actions))
                stack = [seen[max(0, t - back)] for back in reversed(range(self.frames))]
                there = set(stack) <= window
                if not there or (last < t + self.steps and end is None):
                    continue
                total = sum(DISCOUNT**k * rewards[t + k] for k in range(last - t))
                terminated = end == "terminated" and last == len(actions)
                follows = [seen[max(0, last - back)] for back in reversed(range(self.frames))]
                found[seen[t]] = (
                    stack,
                    actions[t],
                    total,
                    0.0 if terminated else DISCOUNT ** (last - t),
                    follows,
                )
        return found


def played(replay, lists, turns, seed=0):
    """Plays at random in all rings, writing the same into both."""
    random, number = np.random.default_rng(seed), 0
    rings = range(len(lists.written))

    def begin(ring):
        nonlocal number
        number += 1
        replay.begin(ring, [number])
        lists.written[ring].append(number)
        lists.episodes[ring].append([[number], [], [], None])

    for ring in rings:
        begin(ring)
    for _ in range(turns):
        for ring in rings:
            if len(rings) > 1 and random.random() < 0.3:
                continue  # rings fill at different speeds
            number += 1
            chance = random.random()
            end = "terminated" if chance < 0.15 else "truncated" if chance < 0.3 else None
            action, reward = int(random.integers(5)), float(random.integers(-3, 4))
            replay.add(ring, action, reward, end == "terminated", end == "truncated", [number])
            episode = lists.episodes[ring][-1]
            episode[0].append(number)
            episode[1].append(action)
            episode[2].append(reward)
            episode[3] = end
            lists.written[ring].append(number)
            if end:
                begin(ring)


def rows(batch):
    parts = (batch[name] for name in ("observations", "actions", "returns", "discounts", "nexts"))
    return list(zip(*parts, strict=True))


CASES = [  # rings, places in a ring, frames, steps, turns
    (1, 50, 1, 1, 20),
    (1, 30, 1, 1, 200),
    (1, 30, 3, 1, 200),
    (1, 30, 1, 4, 200),
    (3, 25, 4, 3, 200),
    (2, 40, 2, 2, 15),
]


@pytest.mark.parametrize("exponent", [0.0, 0.6])
@pytest.mark.parametrize(("rings", "size", "frames", "steps", "turns"), CASES)
def test_what_is_drawn_is_what_happened(rings, size, frames, steps, turns, exponent):
    replay = ReplayBuffer(
        rings * size,
        rings,
        (1,),
        "float32",
        frames=frames,
        steps=steps,
        discount=DISCOUNT,
        exponent=exponent,
    )
    lists = Lists(rings, size, frames, steps)
    played(replay, lists, turns)
    known = {}
    for ring in range(rings):
        known |= lists.transitions(ring)
    _, batch = replay.sample(4_000, np.random.default_rng(1))
    drawn = collections.Counter()
    for seen, action, total, discount, follows in rows(batch):
        stack, *facts, wanted = known[int(seen[-1, 0])]
        assert seen[:, 0].tolist() == stack
        assert (action, discount) == (facts[0], pytest.approx(facts[2], rel=1e-6))
        assert total == pytest.approx(facts[1], rel=1e-6, abs=1e-5)
        if discount:
            assert follows[:, 0].tolist() == wanted
        drawn[stack[-1]] += 1
    assert set(drawn) == set(known)
    if not exponent:
        mean = 4_000 / len(known)
        assert max(abs(count - mean) for count in drawn.values()) < 5 * mean**0.5


def test_the_latest_frames_are_those_of_the_episode():
    replay = ReplayBuffer(40, 2, (1,), "float32", frames=3)
    replay.begin(0, [1])
    replay.begin(1, [2])
    assert replay.latest()[:, :, 0].tolist() == [[1, 1, 1], [2, 2, 2]]
    replay.add(0, 0, 0.0, False, False, [3])
    replay.add(1, 0, 0.0, True, False, [4])
    replay.begin(1, [5])
    assert replay.latest()[:, :, 0].tolist() == [[1, 1, 3], [5, 5, 5]]


def test_memory_is_fixed_and_frames_are_kept_once():
    replay = ReplayBuffer(1_000, 1, (8, 8, 1), "uint8", frames=4)
    before = replay.observations.nbytes
    replay.begin(0, np.zeros((8, 8, 1)))
    for _ in range(3_000):
        replay.add(0, 1, 0.0, False, False, np.full((8, 8, 1), 7))
    assert replay.observations.nbytes == before == 1_000 * 64
    assert replay.sample(5, np.random.default_rng(0))[1]["nexts"].dtype == np.uint8


def test_an_episode_that_is_cut_is_bootstrapped_from_where_it_was_left():
    replay = ReplayBuffer(40, 1, (1,), "float32", discount=DISCOUNT)
    replay.begin(0, [1])
    replay.add(0, 2, 5.0, False, False, [2])
    replay.truncate(0)
    replay.begin(0, [10])
    replay.add(0, 3, 7.0, False, False, [11])
    _, batch = replay.sample(100, np.random.default_rng(0))
    found = {tuple(map(float, (row[0][0, 0], row[2], row[3], row[4][0, 0]))) for row in rows(batch)}
    discount = float(np.float32(DISCOUNT))
    assert found == {(1.0, 5.0, discount, 2.0), (10.0, 7.0, discount, 11.0)}


@pytest.mark.parametrize("exponent", [0.0, 0.6])
def test_a_replay_comes_back_as_it_was(exponent):
    def made():
        return ReplayBuffer(60, 2, (1,), "float32", frames=2, steps=2, exponent=exponent)

    replay, lists = made(), Lists(2, 30, 2, 2)
    played(replay, lists, 25)
    places, _ = replay.sample(20, np.random.default_rng(5))
    if exponent:
        replay.tree.update(places, np.linspace(-3, 3, 20))
    other = made()
    other.restore({name: array.copy() for name, array in replay.arrays().items()})
    for one, two in ((replay, other), (other, replay)):
        played(one, Lists(2, 30, 2, 2), 7, seed=3)
        played(two, Lists(2, 30, 2, 2), 7, seed=3)
        a, b = (each.sample(64, np.random.default_rng(2)) for each in (one, two))
        assert (a[0] == b[0]).all()
        for name, part in a[1].items():
            np.testing.assert_array_equal(part, b[1][name])


def test_a_replay_that_is_too_short_is_refused():
    with pytest.raises(UsageError, match="a replay of 8 for 2 environments is too short"):
        ReplayBuffer(8, 2, (1,), "float32", frames=4)


# Priorities


def test_places_are_drawn_as_choice_draws_them():
    errors = np.array([0.0, 1.0, -2.0, 0.5, 4.0, 0.1, 3.0])
    tree = SumTree(7, 0.7)
    tree.update(np.arange(7), errors)
    chances = (np.abs(errors) + PRIORITY_EPSILON) ** 0.7
    chances /= chances.sum()
    count = 40_000
    drawn = np.bincount(tree.sample_indices(count, np.random.default_rng(0)), minlength=7)
    choice = np.random.default_rng(1).choice(7, count, p=chances)
    spread = np.sqrt(count * chances * (1 - chances)) + 1
    assert (np.abs(drawn - count * chances) < 4 * spread).all()
    assert (np.abs(drawn - np.bincount(choice, minlength=7)) < 6 * spread).all()
    weights = tree.weights(np.array([1, 4]), 0.5)
    slow = (7 * chances[[1, 4]]) ** -0.5
    np.testing.assert_allclose(weights, slow / slow.max(), rtol=1e-6)


def test_sums_are_sums_after_any_update():
    random, tree = np.random.default_rng(0), SumTree(100, 1.0)
    for _ in range(50):
        tree.set_initial_priority(int(random.integers(100)))
        places = random.integers(0, 100, 17)
        tree.update(places, random.normal(size=100)[places])
        tree.clear_priority(int(random.integers(100)))
    leaves = tree.sums[tree.leaves :]
    assert tree.total == pytest.approx(leaves.sum(), rel=1e-12)
    assert (leaves[100:] == 0).all()
    gone = np.flatnonzero(leaves[:100] == 0)
    assert not np.isin(tree.sample_indices(5_000, random), gone).any()


def test_a_new_place_has_the_largest_priority_so_far():
    tree = SumTree(4, 1.0)
    tree.update(np.array([0]), np.array([8.0]))
    tree.set_initial_priority(2)
    assert tree.sums[tree.leaves + 2] == tree.sums[tree.leaves]
