"""Sum tree for proportional prioritized replay (Schaul et al., 2015, appendix B.2.1)."""

from __future__ import annotations

from zoo.lazy import np

PRIORITY_EPSILON = 1e-6  # added to absolute errors, so that each transition can be sampled again


class SumTree:
    """Priorities of slots, as the leaves of a binary tree of sums.

    Args:
        slots: the number of slots.
        alpha: exponent of absolute TD errors.
    """

    def __init__(self, slots, alpha):
        self.depth = max(1, (slots - 1).bit_length())
        self.leaves, self.alpha = 1 << self.depth, alpha
        self.sums = np.zeros(2 * self.leaves)  # the root is at 1, children of i at 2i and 2i + 1
        self.max_priority = 1.0

    @property
    def total(self):
        """The sum of all priorities."""
        return self.sums[1]

    def set_initial_priority(self, index):
        """Gives a new slot the largest priority so far, so that it is soon sampled once."""
        self._set_priority(index, self.max_priority)

    def clear_priority(self, index):
        """Sets the priority of a slot to 0, so that it is never sampled."""
        if self.sums[self.leaves + index]:
            self._set_priority(index, 0.0)

    def update(self, indices, errors):
        """Sets the priorities of slots from their TD errors, which may be negative."""
        priorities = (np.abs(errors) + PRIORITY_EPSILON).astype(np.float64) ** self.alpha
        self.max_priority = max(self.max_priority, float(priorities.max()))
        nodes = self.leaves + np.asarray(indices)
        self.sums[nodes] = priorities
        for _ in range(self.depth):
            nodes = nodes >> 1
            # Duplicate nodes are harmless: each gets the same sum.
            self.sums[nodes] = self.sums[2 * nodes] + self.sums[2 * nodes + 1]

    def sample_indices(self, count, random):
        """Samples slots in proportion to priorities, stratified into `count` equal ranges."""
        remaining = (np.arange(count) + random.random(count)) / count * self.total
        nodes = np.ones(count, np.int64)
        for _ in range(self.depth):
            nodes = 2 * nodes
            first = self.sums[nodes]
            # Rounding errors must not lead into a subtree whose sum is 0.
            go_right = (remaining >= first) & (self.sums[nodes + 1] > 0)
            remaining = np.where(go_right, remaining - first, remaining)
            nodes = nodes + go_right
        return nodes - self.leaves

    def weights(self, indices, beta):
        """Returns importance sampling weights `probability ** -beta`, scaled to a maximum of 1."""
        priorities = self.sums[self.leaves + indices]
        return ((priorities / priorities.min()) ** -beta).astype(np.float32)

    def arrays(self):
        """Returns the state as arrays by name."""
        return {"priorities": self.sums[self.leaves :].copy(), "most": np.array(self.max_priority)}

    def restore(self, arrays):
        """Restores the state that `arrays` returned; the sums are computed from the leaves."""
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
