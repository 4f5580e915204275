"""Priorities that one can draw by: a tree of sums (Schaul et al., 2015, appendix B.2.1)."""

from __future__ import annotations

from zoo.lazy import np

PRIORITY_EPSILON = 1e-6  # added to an error, so that nothing is never seen again


class SumTree:
    """Priorities of places, summed in pairs up to the root, so that drawing is a walk down.

    Args:
        indices: how many.
        exponent: alpha: a priority is the error to this power.
    """

    def __init__(self, indices, exponent):
        self.depth = max(1, (indices - 1).bit_length())
        self.leaves, self.exponent = 1 << self.depth, exponent
        self.sums = np.zeros(2 * self.leaves)  # the root is at 1, children of i at 2i and 2i + 1
        self.max_priority = 1.0

    @property
    def total(self):
        """The sum of all priorities."""
        return self.sums[1]

    def set_initial_priority(self, index):
        """Gives a new place the largest priority so far: it should be seen once."""
        self._set_priority(index, self.max_priority)

    def clear_priority(self, index):
        """Takes a place's priority away."""
        if self.sums[self.leaves + index]:
            self._set_priority(index, 0.0)

    def update(self, indices, errors):
        """Gives places the priorities of their errors, which may be of any sign."""
        priorities = (np.abs(errors) + PRIORITY_EPSILON).astype(np.float64) ** self.exponent
        self.max_priority = max(self.max_priority, float(priorities.max()))
        nodes = self.leaves + np.asarray(indices)
        self.sums[nodes] = priorities
        for _ in range(self.depth):
            nodes = nodes >> 1
            # Of one node several times, each time the same is written.
            self.sums[nodes] = self.sums[2 * nodes] + self.sums[2 * nodes + 1]

    def sample_indices(self, count, random):
        """Draws places in proportion to priorities, one in each of `count` equal parts of them."""
        remaining = (np.arange(count) + random.random(count)) / count * self.total
        nodes = np.ones(count, np.int64)
        for _ in range(self.depth):
            nodes = 2 * nodes
            first = self.sums[nodes]
            # What rounding leaves over must not lead to where nothing is.
            go_right = (remaining >= first) & (self.sums[nodes + 1] > 0)
            remaining = np.where(go_right, remaining - first, remaining)
            nodes = nodes + go_right
        return nodes - self.leaves

    def weights(self, indices, correction):
        """Returns what makes up for unequal chances, `(chance ** -correction)`, at most 1."""
        chances = self.sums[self.leaves + indices]
        return ((chances / chances.min()) ** -correction).astype(np.float32)

    def arrays(self):
        """Returns what it holds, as arrays by name."""
        return {"priorities": self.sums[self.leaves :].copy(), "most": np.array(self.max_priority)}

    def restore(self, arrays):
        """Takes back what `arrays` returned: sums follow from what is summed."""
        self.max_priority = float(arrays["most"])
        self.sums[self.leaves :] = arrays["priorities"]
        for level in reversed(range(self.depth)):
            start, stop = 1 << level, 2 << level
            self.sums[start:stop] = self.sums[2 * start : 2 * stop].reshape(-1, 2).sum(1)

    def _set_priority(self, index, priority):
        node, sums = self.leaves + index, self.sums
        sums[node] = priority
        while node > 1:
            node >>= 1
            sums[node] = sums[2 * node] + sums[2 * node + 1]
