"""An agent's side of the world: environments, what was seen in them, and chance."""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass

from zoo.lazy import np

RETURN_WINDOW = 100  # episodes that the return of training is the mean of


@dataclass(frozen=True)
class ActorConfig:
    """How a player explores, and what it hands out to learn from.

    Attributes:
        random_steps: steps in all environments before learning begins, all at random.
        total_steps: steps after those.
        exploration: share of them in which the chance of a random action falls in a straight
            line, from 1.
        epsilon: the chance of a random action from then on.
        batch_size: transitions in a batch.
        target_every: steps from one copy of the target network to the next.
        correction: beta of prioritised replay at the beginning; it rises to 1.
        clip_rewards: whether only the sign of a reward counts, as in Mnih et al., 2015.
    """

    random_steps: int
    total_steps: int
    exploration: float
    epsilon: float
    batch_size: int
    target_every: int
    correction: float = 0.4
    clip_rewards: bool = False


class Actor:
    """Acts in some environments, and remembers; all that is random follows from one seed.

    Args:
        environments: `environments.Environments`.
        replay: a `replay.ReplayBuffer` with a ring for each.
        config: the `Rules`.
        seed: a tuple of whole numbers.
    """

    def __init__(self, environments, replay, config, seed):
        self.environments, self.replay, self.config, self.seed = environments, replay, config, seed
        self.random = np.random.default_rng(seed)
        count = len(environments)
        self.steps = self.target_updates = 0
        self.episodes = [0] * count  # begun
        self.returns = [0.0] * count  # of the episodes that go on
        self.recent_returns = collections.deque(maxlen=RETURN_WINDOW)
        self.mean_return = 0.0
        self.explores, self.random_actions = [True] * count, [0] * count  # what comes next

    def observe(self):
        """Returns what is seen now, `(environments, frames, ...)`, and whether it must be judged.

        Where all actions to come are random anyway, no network need be asked. At first, the
        random steps are taken.
        """
        if not self.steps:
            self._take_random_steps()
        return self.replay.latest(), not all(self.explores)

    def act(self, best):
        """Takes a step in each environment, with the best actions or others; returns as `look`."""
        best = best.tolist()
        for ring, random in enumerate(self.explores):
            self._step(ring, self.random_actions[ring] if random else best[ring])
        self._draw_exploration()
        return self.replay.latest(), not all(self.explores)

    def play(self, env_steps, select_actions):
        """Takes some steps in each environment.

        Args:
            env_steps: how many.
            select_actions: a function from what is seen to the best actions, an array.
        """
        frames, needs_network = self.observe()
        for _ in range(env_steps):
            frames, needs_network = self.act(
                select_actions(frames) if needs_network else np.array(self.random_actions)
            )

    def batch(self):
        """Returns places and transitions of a batch, as `Replay.sample` does, and whether the
        target network should be renewed after it."""
        config = self.config
        beta = config.correction + (1 - config.correction) * min(1.0, self.progress())
        indices, batch = self.replay.sample(config.batch_size, self.random, beta)
        due = self.steps // config.target_every
        update_target, self.target_updates = due > self.target_updates, due
        return indices, batch, update_target

    def progress(self):
        """Returns the share of the steps after the random ones that is over."""
        return (self.steps - self.config.random_steps) / max(1, self.config.total_steps)

    def arrays(self):
        """Returns all that it knows, as arrays by name."""
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
        """Takes back what `arrays` returned.

        Environments whose state is not known begin new episodes.
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
        """Begins, and takes the random steps."""
        for ring in range(len(self.environments)):
            self._begin(ring)
        actions = self.environments.env_spec.actions
        while self.steps < self.config.random_steps:
            for ring in range(len(self.environments)):
                self._step(ring, int(self.random.integers(actions)))
        self.target_updates = self.steps // self.config.target_every
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
        """Draws which environments explore in the next step, and what they do then."""
        config = self.config
        decay = self.progress() / config.exploration if config.exploration else 1.0
        epsilon = max(config.epsilon, 1 - (1 - config.epsilon) * decay)
        for ring in range(len(self.environments)):
            self.explores[ring] = self.random.random() < epsilon
            if self.explores[ring]:
                self.random_actions[ring] = int(
                    self.random.integers(self.environments.env_spec.actions)
                )


def _strip_prefix(prefix, arrays):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
