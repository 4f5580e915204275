"""What an agent has seen, in fixed memory: a ring for each environment, every frame once."""

from __future__ import annotations

from tasks.dqn.sum_tree import SumTree
from zoo.errors import UsageError
from zoo.lazy import np

CONTINUES, TERMINATED, TRUNCATED, LAST = range(4)  # what comes after a place; LAST: no action there
STORED_ARRAYS = (
    "observations",
    "actions",
    "rewards",
    "ends",
    "ages",
)  # arrays with a row for each place


class ReplayBuffer:
    """Rings of observations, each with the action taken there and what came of it.

    A place holds one observation. The next one is in the next place, also the last one of an
    episode, where nothing was done any more: so an episode that was cut short can be bootstrapped
    from how it was left, and nothing is stored twice. Frames are put together when they are read,
    and what an episode lacks at its beginning is its first frame.

    Args:
        capacity: places in all rings together.
        rings: how many; one for each environment.
        shape: of an observation.
        dtype: of an observation.
        frames: observations that are seen together, the latest last.
        steps: rewards that are summed before the rest is estimated (n-step returns: Sutton, 1988;
            Hessel et al., 2017).
        discount: of what is a step later.
        exponent: of priorities (Schaul et al., 2015); 0 draws evenly.

    Raises:
        UsageError: the rings would be too short.
    """

    def __init__(
        self, capacity, rings, shape, dtype, *, frames=1, steps=1, discount=0.99, exponent=0.0
    ):
        self.rings, self.size = rings, capacity // rings
        if self.size < frames + steps + 2:
            raise UsageError(
                f"a replay of {capacity} for {rings} environments is too short for {frames} "
                f"frames and {steps} steps; enlarge --replay"
            )
        self.frames, self.steps, self.discount = frames, steps, discount
        indices = self.size * rings
        self.observations = np.zeros((indices, *shape), dtype)
        self.actions = np.zeros(indices, np.int32)
        self.rewards = np.zeros(indices, np.float32)
        self.ends = np.zeros(indices, np.uint8)
        self.ages = np.zeros(indices, np.int32)  # steps since the episode began
        self.counts = [0] * rings  # observations ever written into each ring
        self.tree = SumTree(indices, exponent) if exponent else None

    def begin(self, ring, observation):
        """Writes the first observation of an episode."""
        self._push(ring, observation, 0)

    def add(self, ring, action, reward, terminated, truncated, observation):
        """Writes what was done at the latest place of a ring, and the observation that followed.

        Where the episode is over nothing can be done at the place of that observation.
        """
        index = self._index(ring, self.counts[ring] - 1)
        over = TERMINATED if terminated else TRUNCATED if truncated else CONTINUES
        self.actions[index], self.rewards[index], self.ends[index] = action, reward, over
        if self.tree:
            self.tree.set_initial_priority(index)
        latest = self._push(ring, observation, self.ages[index] + 1)
        if over:
            self.ends[latest] = LAST

    def truncate(self, ring):
        """Ends a ring's episode at its latest observation, as if by a limit."""
        latest = self._index(ring, self.counts[ring] - 1)
        if self.ages[latest]:
            self.ends[self._index(ring, self.counts[ring] - 2)] = TRUNCATED
        self.ends[latest] = LAST

    def latest(self):
        """Returns what each environment shows, `(rings, frames, ...)`."""
        rings = np.arange(self.rings)
        return self._stack_frames(rings, np.array(self.counts) - 1)

    def sample(self, count, random, correction=1.0):
        """Draws transitions, evenly or by priority, with replacement.

        Args:
            count: how many.
            random: a `np.random.Generator`.
            correction: the exponent beta by which weights make up for priorities, in [0, 1].

        Returns:
            The places, and a dict of `observations` `(count, frames, ...)`, `actions`, `returns`
            (the discounted sum of rewards of some steps), `discounts` (of the value of `nexts`; 0
            where the episode terminated), `nexts` `(count, frames, ...)` and `weights`, of which
            the largest is 1.
        """
        indices = np.empty(0, np.int64)
        while len(indices) < count:  # few are drawn in vain
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
            batch["weights"] = self.tree.weights(indices, correction)
        return indices, batch

    def arrays(self):
        """Returns what it holds, as arrays by name; of rings that are not full, what is written."""
        filled = [min(count, self.size) for count in self.counts]
        rows = np.concatenate([r * self.size + np.arange(n) for r, n in enumerate(filled)])
        found = {name: getattr(self, name)[rows] for name in STORED_ARRAYS}
        found["counts"] = np.array(self.counts, np.int64)
        return found | (self.tree.arrays() if self.tree else {})

    def restore(self, arrays):
        """Takes back what `arrays` returned."""
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
        """Returns the ring of each place, and its position among all ever written there."""
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
        """Tells of which places all that is asked for is there: frames before and steps after."""
        ring, position = self._ring_and_position(indices)
        count = self.counts[0] if self.rings == 1 else np.array(self.counts)[ring]
        valid = (self.ends[indices] != LAST) & (position < count - 1)
        if self.frames > 1:
            behind = np.minimum(self.ages[indices], self.frames - 1)
            valid &= position - behind >= count - self.size
        over = self.ends[indices] != CONTINUES
        for step in range(1, self.steps):
            valid &= over | (position + step < count - 1)
            over = over | (self.ends[self._index(ring, position + step)] != CONTINUES)
        return valid

    def _n_step_returns(self, ring, position):
        """Returns the sums of rewards, the discounts of what follows them, and where that is."""
        here = self._index(ring, position)
        returns, end = self.rewards[here], self.ends[here]
        factor, length = np.full(len(here), self.discount, np.float32), 1
        for step in range(1, self.steps):
            continues = end == CONTINUES
            here = self._index(ring, position + np.where(continues, step, 0))
            returns = returns + np.where(continues, factor * self.rewards[here], 0)
            factor = np.where(continues, factor * np.float32(self.discount), factor)
            length = length + continues
            end = np.where(continues, self.ends[here], end)
        discounts = np.where(end == TERMINATED, np.float32(0), factor)
        return returns, discounts, position + length

    def _stack_frames(self, ring, position):
        """Returns the frames seen at some positions, `(places, frames, ...)`, the latest last."""
        here = self._index(ring, position)
        if self.frames == 1:
            return self.observations[here][:, None]
        back = np.minimum(np.arange(self.frames)[::-1], self.ages[here][:, None])
        rings = ring if self.rings == 1 else ring[:, None]
        return self.observations[self._index(rings, position[:, None] - back)]
