"""An agent's side of the world: environments, what was seen in them, and chance."""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass

from zoo.lazy import np

RECENT = 100  # episodes that the return of training is the mean of


@dataclass(frozen=True)
class Rules:
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


class Player:
    """Acts in some environments, and remembers; all that is random follows from one seed.

    Args:
        environments: `environments.Environments`.
        replay: a `replay.Replay` with a ring for each.
        rules: the `Rules`.
        seed: a tuple of whole numbers.
    """

    def __init__(self, environments, replay, rules, seed):
        self.environments, self.replay, self.rules, self.seed = environments, replay, rules, seed
        self.random = np.random.default_rng(seed)
        count = len(environments)
        self.steps = self.copied = 0
        self.episodes = [0] * count  # begun
        self.returns = [0.0] * count  # of the episodes that go on
        self.recent = collections.deque(maxlen=RECENT)
        self.mean_return = 0.0
        self.explores, self.drawn = [True] * count, [0] * count  # what comes next

    def look(self):
        """Returns what is seen now, `(environments, frames, ...)`, and whether it must be judged.

        Where all actions to come are random anyway, no network need be asked. At first, the
        random steps are taken.
        """
        if not self.steps:
            self._prepare()
        return self.replay.latest(), not all(self.explores)

    def act(self, best):
        """Takes a step in each environment, with the best actions or others; returns as `look`."""
        best = best.tolist()
        for ring, random in enumerate(self.explores):
            self._step(ring, self.drawn[ring] if random else best[ring])
        self._draw()
        return self.replay.latest(), not all(self.explores)

    def play(self, turns, choose):
        """Takes some steps in each environment.

        Args:
            turns: how many.
            choose: a function from what is seen to the best actions, an array.
        """
        frames, asked = self.look()
        for _ in range(turns):
            frames, asked = self.act(choose(frames) if asked else np.array(self.drawn))

    def batch(self):
        """Returns places and transitions of a batch, as `Replay.sample` does, and whether the
        target network should be renewed after it."""
        rules = self.rules
        beta = rules.correction + (1 - rules.correction) * min(1.0, self.share())
        places, batch = self.replay.sample(rules.batch_size, self.random, beta)
        due = self.steps // rules.target_every
        renew, self.copied = due > self.copied, due
        return places, batch, renew

    def share(self):
        """Returns the share of the steps after the random ones that is over."""
        return (self.steps - self.rules.random_steps) / max(1, self.rules.total_steps)

    def arrays(self):
        """Returns all that it knows, as arrays by name."""
        parts = {"replay": self.replay.arrays(), "environment": self.environments.arrays()}
        named = {f"{p}/{key}": value for p, part in parts.items() for key, value in part.items()}
        random = json.dumps(self.random.bit_generator.state).encode()
        return named | {
            "random": np.frombuffer(random, np.uint8),
            "steps": np.array([self.steps, self.copied], np.int64),
            "episodes": np.array(self.episodes, np.int64),
            "returns": np.array(self.returns),
            "recent": np.array(self.recent, np.float64),
            "mean_return": np.array(self.mean_return),
            "next": np.array([self.explores, self.drawn], np.int64),
        }

    def restore(self, arrays):
        """Takes back what `arrays` returned.

        Environments whose state is not known begin new episodes.
        """
        self.steps, self.copied = arrays["steps"].tolist()
        self.random.bit_generator.state = json.loads(arrays["random"].tobytes())
        self.episodes, self.returns = arrays["episodes"].tolist(), arrays["returns"].tolist()
        self.recent.extend(arrays["recent"].tolist())
        self.mean_return = float(arrays["mean_return"])
        explores, self.drawn = arrays["next"].tolist()
        self.explores = [bool(each) for each in explores]
        self.replay.restore(_under("replay/", arrays))
        if not self.environments.restore(_under("environment/", arrays)) and self.steps:
            for ring in range(len(self.environments)):
                self.replay.cut(ring)
                self._begin(ring)

    def _prepare(self):
        """Begins, and takes the random steps."""
        for ring in range(len(self.environments)):
            self._begin(ring)
        actions = self.environments.facts.actions
        while self.steps < self.rules.random_steps:
            for ring in range(len(self.environments)):
                self._step(ring, int(self.random.integers(actions)))
        self.copied = self.steps // self.rules.target_every
        self._draw()

    def _begin(self, ring):
        self.episodes[ring] += 1
        self.returns[ring] = 0.0
        seed = np.random.SeedSequence((*self.seed, ring, self.episodes[ring])).generate_state(1)
        self.replay.begin(ring, self.environments.reset(ring, int(seed[0])))

    def _step(self, ring, action):
        seen, reward, terminated, truncated = self.environments.step(ring, action)
        self.steps += 1
        self.returns[ring] += reward
        learned = np.sign(reward) if self.rules.clip_rewards else reward
        self.replay.add(ring, action, learned, terminated, truncated, seen)
        if terminated or truncated:
            self.recent.append(self.returns[ring])
            self.mean_return = sum(self.recent) / len(self.recent)
            self._begin(ring)

    def _draw(self):
        """Draws which environments explore in the next step, and what they do then."""
        rules = self.rules
        fallen = self.share() / rules.exploration if rules.exploration else 1.0
        epsilon = max(rules.epsilon, 1 - (1 - rules.epsilon) * fallen)
        for ring in range(len(self.environments)):
            self.explores[ring] = self.random.random() < epsilon
            if self.explores[ring]:
                self.drawn[ring] = int(self.random.integers(self.environments.facts.actions))


def _under(prefix, arrays):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
