"""Replay buffer: fixed memory, a ring per environment, each observation stored once."""

from __future__ import annotations

from tasks.dqn.sum_tree import SumTree
from zoo.errors import UsageError
from zoo.lazy import np

# What follows a step. LAST: the last observation of an episode, where no action was taken.
CONTINUES, TERMINATED, TRUNCATED, LAST = range(4)
STORED_ARRAYS = ("observations", "actions", "rewards", "ends", "ages")  # one row per slot


class ReplayBuffer:
    """Rings of observations, each with the action taken there and its reward.

    A slot holds one observation; the next observation of the episode is in the next slot. The last
    observation of an episode, where no action was taken, has a slot too: so a truncated episode
    can be bootstrapped from it, and nothing is stored twice. Observations are stacked when a batch
    is read; at the beginning of an episode the first observation is repeated.

    Args:
        capacity: the number of slots over all rings.
        rings: the number of rings, one per environment.
        shape: shape of an observation.
        dtype: dtype of an observation.
        frame_stack: the number of stacked observations, the latest last.
        n_step: steps of n-step returns (Sutton, 1988; Hessel et al., 2017).
        gamma: discount factor.
        alpha: exponent of priorities (Schaul et al., 2015); 0 samples uniformly.

    Raises:
        UsageError: the rings are too short.
    """

    def __init__(
        self, capacity, rings, shape, dtype, *, frame_stack=1, n_step=1, gamma=0.99, alpha=0.0
    ):
        self.rings, self.size = rings, capacity // rings
        if self.size < frame_stack + n_step + 2:
            raise UsageError(
                f"a replay buffer of {capacity} for {rings} environments is too small for "
                f"{frame_stack} stacked observations and {n_step}-step returns; enlarge "
                "--replay-size"
            )
        self.frame_stack, self.n_step, self.gamma = frame_stack, n_step, gamma
        slots = self.size * rings
        self.observations = np.zeros((slots, *shape), dtype)
        self.actions = np.zeros(slots, np.int32)
        self.rewards = np.zeros(slots, np.float32)
        self.ends = np.zeros(slots, np.uint8)
        self.ages = np.zeros(slots, np.int32)  # steps since the episode began
        self.counts = [0] * rings  # observations written to each ring so far
        self.tree = SumTree(slots, alpha) if alpha else None

    def begin(self, ring, observation):
        """Stores the first observation of an episode."""
        self._push(ring, observation, 0)

    def add(self, ring, action, reward, terminated, truncated, observation):
        """Stores an action at the latest observation of a ring, and the next observation.

        If the episode is over, no action can be taken at the latter.
        """
        index = self._index(ring, self.counts[ring] - 1)
        end = TERMINATED if terminated else TRUNCATED if truncated else CONTINUES
        self.actions[index], self.rewards[index], self.ends[index] = action, reward, end
        if self.tree:
            self.tree.set_initial_priority(index)
        latest = self._push(ring, observation, self.ages[index] + 1)
        if end:
            self.ends[latest] = LAST

    def truncate(self, ring):
        """Truncates the current episode of a ring at its latest observation."""
        latest = self._index(ring, self.counts[ring] - 1)
        if self.ages[latest]:
            self.ends[self._index(ring, self.counts[ring] - 2)] = TRUNCATED
        self.ends[latest] = LAST

    def latest(self):
        """Returns the latest stacked observation of each ring, `(rings, frame_stack, ...)`."""
        rings = np.arange(self.rings)
        return self._stack_frames(rings, np.array(self.counts) - 1)

    def sample(self, count, random, beta=1.0):
        """Samples transitions, uniformly or by priority, with replacement.

        Args:
            count: the number of transitions.
            random: a `np.random.Generator`.
            beta: exponent of the importance sampling weights, in [0, 1].

        Returns:
            The indices of the slots, and a dict of `observations` `(count, frame_stack, ...)`,
            `actions` `(count,)`, `returns` (the discounted sum of n rewards), `discounts` (of the
            value of `nexts`; 0 if the episode terminated), `nexts` `(count, frame_stack, ...)` and
            `weights`, the importance sampling weights, of which the largest is 1.
        """
        indices = np.empty(0, np.int64)
        while len(indices) < count:  # few candidates are invalid
            candidates = self._sample_indices(count - len(indices), random)
            indices = np.concatenate([indices, candidates[self._is_valid(candidates)]])
        ring, position = self._ring_and_position(indices)
        returns, discounts, nexts = self._n_step_returns(ring, position)
        batch = {
            "observations": self._stack_frames(ring, position),
            "actions": self.actions[indices],
            "returns": returns,
            "discounts": discounts,
            "nexts": self._stack_frames(ring, nexts),
            "weights": np.ones(count, np.float32),
        }
        if self.tree:
            batch["weights"] = self.tree.weights(indices, beta)
        return indices, batch

    def arrays(self):
        """Returns the state as arrays by name, without the empty slots of rings."""
        filled = [min(count, self.size) for count in self.counts]
        rows = np.concatenate([r * self.size + np.arange(n) for r, n in enumerate(filled)])
        arrays = {name: getattr(self, name)[rows] for name in STORED_ARRAYS}
        arrays["counts"] = np.array(self.counts, np.int64)
        return arrays | (self.tree.arrays() if self.tree else {})

    def restore(self, arrays):
        """Restores the state that `arrays` returned."""
        self.counts = arrays["counts"].tolist()
        filled = [min(count, self.size) for count in self.counts]
        rows = np.concatenate([r * self.size + np.arange(n) for r, n in enumerate(filled)])
        for name in STORED_ARRAYS:
            getattr(self, name)[rows] = arrays[name]
        if self.tree:
            self.tree.restore(arrays)

    def _push(self, ring, observation, age):
        index = self._index(ring, self.counts[ring])
        self.observations[index], self.ages[index], self.ends[index] = observation, age, CONTINUES
        if self.tree:
            self.tree.clear_priority(index)
        self.counts[ring] += 1
        return index

    def _index(self, ring, position):
        return ring * self.size + position % self.size

    def _ring_and_position(self, indices):
        """Returns the ring of each slot, and its position among all observations written to it."""
        if self.rings == 1:
            ring, count = 0, self.counts[0]
        else:
            ring = indices // self.size
            count = np.array(self.counts)[ring]
        slot = indices - ring * self.size
        return ring, count - 1 - (count - 1 - slot) % self.size

    def _sample_indices(self, count, random):
        if self.tree:
            return self.tree.sample_indices(count, random)
        if self.rings == 1:
            return random.integers(0, min(self.counts[0], self.size), count)
        filled = np.minimum(self.counts, self.size)
        ends = np.cumsum(filled)
        candidates = random.integers(0, ends[-1], count)
        ring = np.searchsorted(ends, candidates, side="right")
        return ring * self.size + candidates - (ends - filled)[ring]

    def _is_valid(self, indices):
        """Returns for which slots the stack before and the n steps after are in the buffer."""
        ring, position = self._ring_and_position(indices)
        count = self.counts[0] if self.rings == 1 else np.array(self.counts)[ring]
        valid = (self.ends[indices] != LAST) & (position < count - 1)
        if self.frame_stack > 1:
            behind = np.minimum(self.ages[indices], self.frame_stack - 1)
            valid &= position - behind >= count - self.size
        ended = self.ends[indices] != CONTINUES
        for step in range(1, self.n_step):
            valid &= ended | (position + step < count - 1)
            ended = ended | (self.ends[self._index(ring, position + step)] != CONTINUES)
        return valid

    def _n_step_returns(self, ring, position):
        """Returns n-step returns, discounts of the values that follow, and their positions."""
        here = self._index(ring, position)
        returns, end = self.rewards[here], self.ends[here]
        factor, length = np.full(len(here), self.gamma, np.float32), 1
        for step in range(1, self.n_step):
            continues = end == CONTINUES
            here = self._index(ring, position + np.where(continues, step, 0))
            returns = returns + np.where(continues, factor * self.rewards[here], 0)
            factor = np.where(continues, factor * np.float32(self.gamma), factor)
            length = length + continues
            end = np.where(continues, self.ends[here], end)
        discounts = np.where(end == TERMINATED, np.float32(0), factor)
        return returns, discounts, position + length

    def _stack_frames(self, ring, position):
        """Returns stacked observations `(positions, frame_stack, ...)`, the latest last."""
        here = self._index(ring, position)
        if self.frame_stack == 1:
            return self.observations[here][:, None]
        back = np.minimum(np.arange(self.frame_stack)[::-1], self.ages[here][:, None])
        rings = ring if self.rings == 1 else ring[:, None]
        return self.observations[self._index(rings, position[:, None] - back)]
