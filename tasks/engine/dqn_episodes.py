"""Episodes that an agent is judged by: each with a seed of its own, played side by side."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import env_pictures
from tasks.data.environments import Environments
from tasks.engine import dqn_learning
from zoo.lazy import np, tf

MOST_STEPS = 27_000  # of an episode: half an hour at 15 actions a second, as in Mnih et al., 2015
AT_ONCE = 100  # episodes that are played side by side


@dataclass(frozen=True)
class Played:
    """What came of some episodes.

    Attributes:
        returns: the sum of rewards of each, not discounted.
        lengths: the steps of each.
        pictures: of the first episode, uint8 `(height, width, 3)`; empty where none were wanted.
        cut: how many were still going on after `MOST_STEPS`.
    """

    returns: list[float]
    lengths: list[int]
    pictures: list
    cut: int = 0


def policy(network):
    """Returns a compiled function from frames `(batch, frames, ...)` to the best actions."""
    return tf.function(lambda frames: dqn_learning.best_actions(network, frames))


def play(choose, facts, seeds, *, frames=1, epsilon=0.0, pictures=0):
    """Plays an episode for each seed.

    Args:
        choose: what `policy` returned.
        facts: of the environment, `environments.Facts`.
        seeds: whole numbers.
        frames: observations that the agent sees together.
        epsilon: chance of a random action.
        pictures: how many of the first episode to draw, at most.
    """
    parts = [seeds[start : start + AT_ONCE] for start in range(0, len(seeds), AT_ONCE)]
    drawn = [pictures, *[0] * (len(parts) - 1)]
    played = [
        _side_by_side(choose, facts, part, frames, epsilon, most)
        for part, most in zip(parts, drawn, strict=True)
    ]
    return Played(
        [value for each in played for value in each.returns],
        [length for each in played for length in each.lengths],
        played[0].pictures,
        sum(each.cut for each in played),
    )


def _side_by_side(choose, facts, seeds, frames, epsilon, most):
    environments = Environments(facts, len(seeds))
    artist = env_pictures.Artist(facts, most)
    random = np.random.default_rng(seeds)
    first = [environments.reset(index, seed) for index, seed in enumerate(seeds)]
    seen = np.stack([np.asarray(each, facts.dtype) for each in first])
    seen = np.repeat(seen[:, None], frames, axis=1)
    returns, lengths, going = [0.0] * len(seeds), [0] * len(seeds), set(range(len(seeds)))
    artist.draw(environments.made[0], seen[0, -1])
    for _ in range(MOST_STEPS):
        actions = choose(tf.constant(seen)).numpy().tolist()
        if epsilon:
            drawn = random.integers(facts.actions, size=len(seeds))
            actions = np.where(random.random(len(seeds)) < epsilon, drawn, actions).tolist()
        for index in sorted(going):
            after, reward, terminated, truncated = environments.step(index, actions[index])
            seen[index] = np.roll(seen[index], -1, axis=0)
            seen[index, -1] = after
            returns[index] += float(reward)
            lengths[index] += 1
            if index == 0:
                artist.draw(environments.made[0], seen[0, -1])
            if terminated or truncated:
                going.remove(index)
        if not going:
            break
    environments.close()
    return Played(returns, lengths, artist.pictures, len(going))
