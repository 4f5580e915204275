"""The actor: takes epsilon-greedy steps in environments and fills the replay buffer."""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass

from zoo.lazy import np

RETURN_WINDOW = 100  # latest training episodes, whose mean return is a metric


@dataclass(frozen=True)
class ActorConfig:
    """Exploration and batches of an `Actor`.

    Attributes:
        random_steps: steps with random actions before training, over all environments.
        total_steps: steps after those.
        exploration_fraction: fraction of `total_steps` in which epsilon falls linearly from 1.
        final_epsilon: probability of a random action from then on.
        batch_size: transitions per batch.
        target_update_frequency: steps from one update of the target network to the next.
        beta: initial beta of prioritized replay, annealed linearly to 1.
        clip_rewards: whether rewards are clipped to their sign, as in Mnih et al., 2015.
    """

    random_steps: int
    total_steps: int
    exploration_fraction: float
    final_epsilon: float
    batch_size: int
    target_update_frequency: int
    beta: float = 0.4
    clip_rewards: bool = False


class Actor:
    """Acts in environments and stores the transitions; a seed determines all that is random.

    Args:
        environments: an `environments.Environments`.
        replay: a `replay.ReplayBuffer` with a ring per environment.
        config: the `ActorConfig`.
        seed: a tuple of integers.
    """

    def __init__(self, environments, replay, config, seed):
        self.environments, self.replay, self.config, self.seed = environments, replay, config, seed
        self.random = np.random.default_rng(seed)
        count = len(environments)
        self.steps = self.target_updates = 0
        self.episodes = [0] * count  # started, per environment
        self.returns = [0.0] * count  # so far, of the current episodes
        self.recent_returns = collections.deque(maxlen=RETURN_WINDOW)
        self.mean_return = 0.0
        # Of the next step: which environments take a random action, and which one.
        self.explores, self.random_actions = [True] * count, [0] * count

    def observe(self):
        """Returns the current observations and whether greedy actions are needed.

        The first call takes the random steps. No greedy actions are needed if all environments
        take a random action next.

        Returns:
            Stacked observations `(environments, frame_stack, ...)`, and a bool.
        """
        if not self.steps:
            self._take_random_steps()
        return self.replay.latest(), not all(self.explores)

    def act(self, greedy_actions):
        """Takes an epsilon-greedy step in each environment; returns as `observe` does."""
        greedy_actions = greedy_actions.tolist()
        for ring, explores in enumerate(self.explores):
            self._step(ring, self.random_actions[ring] if explores else greedy_actions[ring])
        self._draw_exploration()
        return self.replay.latest(), not all(self.explores)

    def play(self, env_steps, select_actions):
        """Takes steps in each environment.

        Args:
            env_steps: the number of steps per environment.
            select_actions: a function from stacked observations to greedy actions, an array.
        """
        frames, needs_network = self.observe()
        for _ in range(env_steps):
            frames, needs_network = self.act(
                select_actions(frames) if needs_network else np.array(self.random_actions)
            )

    def batch(self):
        """Samples a batch.

        Returns:
            The indices and transitions of `ReplayBuffer.sample`, and whether the target network is
            due for an update after the batch.
        """
        config = self.config
        beta = config.beta + (1 - config.beta) * min(1.0, self.progress())
        indices, batch = self.replay.sample(config.batch_size, self.random, beta)
        due = self.steps // config.target_update_frequency
        update_target, self.target_updates = due > self.target_updates, due
        return indices, batch, update_target

    def progress(self):
        """Returns the fraction of `total_steps` that was taken."""
        return (self.steps - self.config.random_steps) / max(1, self.config.total_steps)

    def arrays(self):
        """Returns the state as a dict of arrays by name."""
        parts = {"replay": self.replay.arrays(), "environment": self.environments.arrays()}
        named = {f"{p}/{key}": value for p, part in parts.items() for key, value in part.items()}
        random = json.dumps(self.random.bit_generator.state).encode()
        return named | {
            "random": np.frombuffer(random, np.uint8),
            "steps": np.array([self.steps, self.target_updates], np.int64),
            "episodes": np.array(self.episodes, np.int64),
            "returns": np.array(self.returns),
            "recent": np.array(self.recent_returns, np.float64),
            "mean_return": np.array(self.mean_return),
            "next": np.array([self.explores, self.random_actions], np.int64),
        }

    def restore(self, arrays):
        """Restores the state that `arrays` returned.

        Environments whose state cannot be restored start new episodes.
        """
        self.steps, self.target_updates = arrays["steps"].tolist()
        self.random.bit_generator.state = json.loads(arrays["random"].tobytes())
        self.episodes, self.returns = arrays["episodes"].tolist(), arrays["returns"].tolist()
        self.recent_returns.extend(arrays["recent"].tolist())
        self.mean_return = float(arrays["mean_return"])
        explores, self.random_actions = arrays["next"].tolist()
        self.explores = [bool(each) for each in explores]
        self.replay.restore(_strip_prefix("replay/", arrays))
        if not self.environments.restore(_strip_prefix("environment/", arrays)) and self.steps:
            for ring in range(len(self.environments)):
                self.replay.truncate(ring)
                self._begin(ring)

    def _take_random_steps(self):
        """Starts the first episodes and takes the random steps."""
        for ring in range(len(self.environments)):
            self._begin(ring)
        actions = self.environments.env_spec.actions
        while self.steps < self.config.random_steps:
            for ring in range(len(self.environments)):
                self._step(ring, int(self.random.integers(actions)))
        self.target_updates = self.steps // self.config.target_update_frequency
        self._draw_exploration()

    def _begin(self, ring):
        self.episodes[ring] += 1
        self.returns[ring] = 0.0
        seed = np.random.SeedSequence((*self.seed, ring, self.episodes[ring])).generate_state(1)
        self.replay.begin(ring, self.environments.reset(ring, int(seed[0])))

    def _step(self, ring, action):
        observation, reward, terminated, truncated = self.environments.step(ring, action)
        self.steps += 1
        self.returns[ring] += reward
        clipped_reward = np.sign(reward) if self.config.clip_rewards else reward
        self.replay.add(ring, action, clipped_reward, terminated, truncated, observation)
        if terminated or truncated:
            self.recent_returns.append(self.returns[ring])
            self.mean_return = sum(self.recent_returns) / len(self.recent_returns)
            self._begin(ring)

    def _draw_exploration(self):
        """Draws which environments take a random action in the next step, and which action."""
        config = self.config
        decay = (
            self.progress() / config.exploration_fraction if config.exploration_fraction else 1.0
        )
        epsilon = max(config.final_epsilon, 1 - (1 - config.final_epsilon) * decay)
        for ring in range(len(self.environments)):
            self.explores[ring] = self.random.random() < epsilon
            if self.explores[ring]:
                self.random_actions[ring] = int(
                    self.random.integers(self.environments.env_spec.actions)
                )


def _strip_prefix(prefix, arrays):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
