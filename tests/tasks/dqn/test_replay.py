"""Replay buffer against lists of episodes; sum tree against `numpy.random.choice`."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from tasks.dqn.replay import ReplayBuffer
from tasks.dqn.sum_tree import PRIORITY_EPSILON, SumTree
from zoo.errors import UsageError

GAMMA = 0.9


class Episodes:
    """A reference replay buffer of lists of episodes. Each observation is a unique number."""

    def __init__(self, rings, size, frame_stack, n_step):
        self.size, self.frame_stack, self.n_step = size, frame_stack, n_step
        self.written = [[] for _ in range(rings)]  # numbers in the order of writing
        self.episodes = [[] for _ in range(rings)]  # lists of [seen, actions, rewards, end]

    def transitions(self, ring):
        """Returns the transitions that may be sampled, by the number of their observation."""
        window = set(self.written[ring][-self.size :])
        found = {}
        for seen, actions, rewards, end in self.episodes[ring]:
            for t in range(len(actions)):
                last = min(t + self.n_step, len(actions))
                stack = [seen[max(0, t - back)] for back in reversed(range(self.frame_stack))]
                complete = set(stack) <= window
                if not complete or (last < t + self.n_step and end is None):
                    continue
                total = sum(GAMMA**k * rewards[t + k] for k in range(last - t))
                terminated = end == "terminated" and last == len(actions)
                follows = [seen[max(0, last - back)] for back in reversed(range(self.frame_stack))]
                found[seen[t]] = (
                    stack,
                    actions[t],
                    total,
                    0.0 if terminated else GAMMA ** (last - t),
                    follows,
                )
        return found


def play(replay, episode_lists, turns, seed=0):
    """Takes random steps in all rings, and stores the same in both buffers."""
    random, number = np.random.default_rng(seed), 0
    rings = range(len(episode_lists.written))

    def begin(ring):
        nonlocal number
        number += 1
        replay.begin(ring, [number])
        episode_lists.written[ring].append(number)
        episode_lists.episodes[ring].append([[number], [], [], None])

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
            episode = episode_lists.episodes[ring][-1]
            episode[0].append(number)
            episode[1].append(action)
            episode[2].append(reward)
            episode[3] = end
            episode_lists.written[ring].append(number)
            if end:
                begin(ring)


def rows(batch):
    parts = (batch[name] for name in ("observations", "actions", "returns", "discounts", "nexts"))
    return list(zip(*parts, strict=True))


CASES = [  # rings, slots per ring, stacked observations, n_step, turns
    (1, 50, 1, 1, 20),
    (1, 30, 1, 1, 200),
    (1, 30, 3, 1, 200),
    (1, 30, 1, 4, 200),
    (3, 25, 4, 3, 200),
    (2, 40, 2, 2, 15),
]


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize(("rings", "size", "frame_stack", "n_step", "turns"), CASES)
def test_sampled_transitions_match_the_episodes(rings, size, frame_stack, n_step, turns, alpha):
    replay = ReplayBuffer(
        rings * size,
        rings,
        (1,),
        "float32",
        frame_stack=frame_stack,
        n_step=n_step,
        gamma=GAMMA,
        alpha=alpha,
    )
    reference = Episodes(rings, size, frame_stack, n_step)
    play(replay, reference, turns)
    transitions = {}
    for ring in range(rings):
        transitions |= reference.transitions(ring)
    _, batch = replay.sample(4_000, np.random.default_rng(1))
    sampled = collections.Counter()
    for seen, action, total, discount, nexts in rows(batch):
        stack, *expected, expected_nexts = transitions[int(seen[-1, 0])]
        assert seen[:, 0].tolist() == stack
        assert (action, discount) == (expected[0], pytest.approx(expected[2], rel=1e-6))
        assert total == pytest.approx(expected[1], rel=1e-6, abs=1e-5)
        if discount:
            assert nexts[:, 0].tolist() == expected_nexts
        sampled[stack[-1]] += 1
    assert set(sampled) == set(transitions)
    if not alpha:
        mean = 4_000 / len(transitions)
        assert max(abs(count - mean) for count in sampled.values()) < 5 * mean**0.5


def test_latest_observations_are_stacked_within_the_episode():
    replay = ReplayBuffer(40, 2, (1,), "float32", frame_stack=3)
    replay.begin(0, [1])
    replay.begin(1, [2])
    assert replay.latest()[:, :, 0].tolist() == [[1, 1, 1], [2, 2, 2]]
    replay.add(0, 0, 0.0, False, False, [3])
    replay.add(1, 0, 0.0, True, False, [4])
    replay.begin(1, [5])
    assert replay.latest()[:, :, 0].tolist() == [[1, 1, 3], [5, 5, 5]]


def test_memory_is_fixed_and_observations_are_stored_once():
    replay = ReplayBuffer(1_000, 1, (8, 8, 1), "uint8", frame_stack=4)
    before = replay.observations.nbytes
    replay.begin(0, np.zeros((8, 8, 1)))
    for _ in range(3_000):
        replay.add(0, 1, 0.0, False, False, np.full((8, 8, 1), 7))
    assert replay.observations.nbytes == before == 1_000 * 64
    assert replay.sample(5, np.random.default_rng(0))[1]["nexts"].dtype == np.uint8


def test_a_truncated_episode_is_bootstrapped_from_its_last_observation():
    replay = ReplayBuffer(40, 1, (1,), "float32", gamma=GAMMA)
    replay.begin(0, [1])
    replay.add(0, 2, 5.0, False, False, [2])
    replay.truncate(0)
    replay.begin(0, [10])
    replay.add(0, 3, 7.0, False, False, [11])
    _, batch = replay.sample(100, np.random.default_rng(0))
    found = {tuple(map(float, (row[0][0, 0], row[2], row[3], row[4][0, 0]))) for row in rows(batch)}
    discount = float(np.float32(GAMMA))
    assert found == {(1.0, 5.0, discount, 2.0), (10.0, 7.0, discount, 11.0)}


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_restored_state_continues_identically(alpha):
    def make():
        return ReplayBuffer(60, 2, (1,), "float32", frame_stack=2, n_step=2, alpha=alpha)

    replay = make()
    play(replay, Episodes(2, 30, 2, 2), 25)
    indices, _ = replay.sample(20, np.random.default_rng(5))
    if alpha:
        replay.tree.update(indices, np.linspace(-3, 3, 20))
    other = make()
    other.restore({name: array.copy() for name, array in replay.arrays().items()})
    for _ in range(2):
        for each in (replay, other):
            play(each, Episodes(2, 30, 2, 2), 7, seed=3)
        a, b = (each.sample(64, np.random.default_rng(2)) for each in (replay, other))
        assert (a[0] == b[0]).all()
        for name, part in a[1].items():
            np.testing.assert_array_equal(part, b[1][name])


def test_a_capacity_that_is_too_small_is_refused():
    with pytest.raises(UsageError, match="a replay buffer of 8 for 2 environments is too small"):
        ReplayBuffer(8, 2, (1,), "float32", frame_stack=4)


# Priorities


def test_sum_tree_samples_like_numpy_choice():
    errors = np.array([0.0, 1.0, -2.0, 0.5, 4.0, 0.1, 3.0])
    tree = SumTree(7, 0.7)
    tree.update(np.arange(7), errors)
    probabilities = (np.abs(errors) + PRIORITY_EPSILON) ** 0.7
    probabilities /= probabilities.sum()
    count = 40_000
    sampled = np.bincount(tree.sample_indices(count, np.random.default_rng(0)), minlength=7)
    choice = np.random.default_rng(1).choice(7, count, p=probabilities)
    std = np.sqrt(count * probabilities * (1 - probabilities)) + 1
    assert (np.abs(sampled - count * probabilities) < 4 * std).all()
    assert (np.abs(sampled - np.bincount(choice, minlength=7)) < 6 * std).all()
    weights = tree.weights(np.array([1, 4]), 0.5)
    expected = (7 * probabilities[[1, 4]]) ** -0.5
    np.testing.assert_allclose(weights, expected / expected.max(), rtol=1e-6)


def test_sums_are_consistent_after_any_update():
    random, tree = np.random.default_rng(0), SumTree(100, 1.0)
    for _ in range(50):
        tree.set_initial_priority(int(random.integers(100)))
        indices = random.integers(0, 100, 17)
        tree.update(indices, random.normal(size=100)[indices])
        tree.clear_priority(int(random.integers(100)))
    leaves = tree.sums[tree.leaves :]
    assert tree.total == pytest.approx(leaves.sum(), rel=1e-12)
    assert (leaves[100:] == 0).all()
    cleared = np.flatnonzero(leaves[:100] == 0)
    assert not np.isin(tree.sample_indices(5_000, random), cleared).any()


def test_a_new_slot_has_the_largest_priority_so_far():
    tree = SumTree(4, 1.0)
    tree.update(np.array([0]), np.array([8.0]))
    tree.set_initial_priority(2)
    assert tree.sums[tree.leaves + 2] == tree.sums[tree.leaves]
