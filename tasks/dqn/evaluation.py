"""Episodes that an agent is judged by: each with a seed of its own, played side by side."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.dqn import render, train_step
from tasks.dqn.environments import Environments
from zoo.lazy import np, tf

MAX_EPISODE_STEPS = (
    27_000  # of an episode: half an hour at 15 actions a second, as in Mnih et al., 2015
)
MAX_PARALLEL_EPISODES = 100  # episodes that are played side by side


@dataclass(frozen=True)
class EpisodeResults:
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
    num_truncated: int = 0


def policy(network):
    """Returns a compiled function from frames `(batch, frames, ...)` to the best actions."""
    return tf.function(lambda frames: train_step.greedy_actions(network, frames))


def run_episodes(select_actions, env_spec, seeds, *, frames=1, epsilon=0.0, pictures=0):
    """Plays an episode for each seed.

    Args:
        select_actions: what `policy` returned.
        env_spec: of the environment, `environments.EnvSpec`.
        seeds: whole numbers.
        frames: observations that the agent sees together.
        epsilon: chance of a random action.
        pictures: how many of the first episode to draw, at most.
    """
    parts = [
        seeds[start : start + MAX_PARALLEL_EPISODES]
        for start in range(0, len(seeds), MAX_PARALLEL_EPISODES)
    ]
    drawn = [pictures, *[0] * (len(parts) - 1)]
    results = [
        _run_parallel(select_actions, env_spec, part, frames, epsilon, max_pictures)
        for part, max_pictures in zip(parts, drawn, strict=True)
    ]
    return EpisodeResults(
        [value for each in results for value in each.returns],
        [length for each in results for length in each.lengths],
        results[0].pictures,
        sum(each.num_truncated for each in results),
    )


def _run_parallel(select_actions, env_spec, seeds, frames, epsilon, max_pictures):
    environments = Environments(env_spec, len(seeds))
    renderer = render.EpisodeRenderer(env_spec, max_pictures)
    random = np.random.default_rng(seeds)
    first = [environments.reset(index, seed) for index, seed in enumerate(seeds)]
    seen = np.stack([np.asarray(each, env_spec.dtype) for each in first])
    seen = np.repeat(seen[:, None], frames, axis=1)
    returns, lengths, active = [0.0] * len(seeds), [0] * len(seeds), set(range(len(seeds)))
    renderer.draw(environments.envs[0], seen[0, -1])
    for _ in range(MAX_EPISODE_STEPS):
        actions = select_actions(tf.constant(seen)).numpy().tolist()
        if epsilon:
            drawn = random.integers(env_spec.actions, size=len(seeds))
            actions = np.where(random.random(len(seeds)) < epsilon, drawn, actions).tolist()
        for index in sorted(active):
            after, reward, terminated, truncated = environments.step(index, actions[index])
            seen[index] = np.roll(seen[index], -1, axis=0)
            seen[index, -1] = after
            returns[index] += float(reward)
            lengths[index] += 1
            if index == 0:
                renderer.draw(environments.envs[0], seen[0, -1])
            if terminated or truncated:
                active.remove(index)
        if not active:
            break
    environments.close()
    return EpisodeResults(returns, lengths, renderer.pictures, len(active))
