"""Evaluation of a policy on parallel episodes, each with a seed of its own."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.dqn import render, train_step
from tasks.dqn.environments import Environments
from zoo.lazy import np, tf

MAX_EPISODE_STEPS = 27_000  # half an hour at 15 actions per second, as in Mnih et al., 2015
MAX_PARALLEL_EPISODES = 100


@dataclass(frozen=True)
class EpisodeResults:
    """The results of episodes.

    Attributes:
        returns: the undiscounted sum of rewards per episode.
        lengths: the steps per episode.
        frames: rendered frames of the first episode, uint8 `(height, width, 3)`; may be empty.
        num_truncated: the number of episodes that `MAX_EPISODE_STEPS` ended.
    """

    returns: list[float]
    lengths: list[int]
    frames: list
    num_truncated: int = 0


def policy(network):
    """Returns a compiled function from stacked observations to greedy actions `(batch,)`."""
    return tf.function(lambda frames: train_step.greedy_actions(network, frames))


def run_episodes(select_actions, env_spec, seeds, *, frame_stack=1, epsilon=0.0, max_frames=0):
    """Runs an episode for each seed.

    Args:
        select_actions: a function of `policy`.
        env_spec: the `environments.EnvSpec`.
        seeds: integers.
        frame_stack: the number of stacked observations that the network takes.
        epsilon: probability of a random action.
        max_frames: frames of the first episode to render, at most.

    Returns:
        The `EpisodeResults`.
    """
    parts = [
        seeds[start : start + MAX_PARALLEL_EPISODES]
        for start in range(0, len(seeds), MAX_PARALLEL_EPISODES)
    ]
    frame_limits = [max_frames, *[0] * (len(parts) - 1)]
    results = [
        _run_parallel(select_actions, env_spec, part, frame_stack, epsilon, limit)
        for part, limit in zip(parts, frame_limits, strict=True)
    ]
    return EpisodeResults(
        [value for each in results for value in each.returns],
        [length for each in results for length in each.lengths],
        results[0].frames,
        sum(each.num_truncated for each in results),
    )


def _run_parallel(select_actions, env_spec, seeds, frame_stack, epsilon, max_frames):
    environments = Environments(env_spec, len(seeds))
    renderer = render.EpisodeRenderer(env_spec, max_frames)
    random = np.random.default_rng(seeds)
    first = [environments.reset(index, seed) for index, seed in enumerate(seeds)]
    stacks = np.stack([np.asarray(each, env_spec.dtype) for each in first])
    stacks = np.repeat(stacks[:, None], frame_stack, axis=1)
    returns, lengths, active = [0.0] * len(seeds), [0] * len(seeds), set(range(len(seeds)))
    renderer.draw(environments.envs[0], stacks[0, -1])
    for _ in range(MAX_EPISODE_STEPS):
        actions = select_actions(tf.constant(stacks)).numpy().tolist()
        if epsilon:
            random_actions = random.integers(env_spec.actions, size=len(seeds))
            actions = np.where(
                random.random(len(seeds)) < epsilon, random_actions, actions
            ).tolist()
        for index in sorted(active):
            observation, reward, terminated, truncated = environments.step(index, actions[index])
            stacks[index] = np.roll(stacks[index], -1, axis=0)
            stacks[index, -1] = observation
            returns[index] += float(reward)
            lengths[index] += 1
            if index == 0:
                renderer.draw(environments.envs[0], stacks[0, -1])
            if terminated or truncated:
                active.remove(index)
        if not active:
            break
    environments.close()
    return EpisodeResults(returns, lengths, renderer.frames, len(active))
