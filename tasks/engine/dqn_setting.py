"""What a run of DQN knows: the environment, who acts in it, and what was seen."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import zoo
from tasks.data.environments import Environments, Facts
from tasks.engine import distribute, dqn_episodes, record
from tasks.engine.dqn_player import Player, Rules
from tasks.engine.replay import Replay
from zoo.errors import UsageError
from zoo.lazy import np, tf

FRAMES = {True: 4, False: 1}  # seen together: of images as in Mnih et al., 2015, of vectors
SMALL = 36  # an image with shorter sides is too small for the network of that paper
TRAINING = "train"


@dataclass(frozen=True, eq=False)
class Setting:
    """The environment of a run, its players and what they remember.

    Attributes:
        facts: of the environment.
        model: name of the network.
        frames: observations that it sees together.
        rules: of each player.
        players: one for each replica, of which those of this process act.
    """

    facts: Facts
    model: str
    frames: int
    rules: Rules
    players: list[Player]
    policies: dict = field(default_factory=dict)

    @classmethod
    def of(cls, task, facts, replicas):
        """Returns the setting that a `Dqn` describes."""
        frames = task.frames or FRAMES[facts.image]
        if task.learning_starts // task.environments < task.n_step:
            raise UsageError(
                f"--learning-starts {task.learning_starts} leaves nothing to learn from; there are "
                f"{task.environments} environments, and --n-step {task.n_step}"
            )
        model = task.model or _fitting(facts)
        _check(model, facts)
        rules = Rules(
            random_steps=-(-task.learning_starts // replicas),
            total_steps=task.epochs * task.epoch_steps // replicas,
            exploration=task.exploration,
            epsilon=task.epsilon,
            batch_size=task.batch_size // replicas,
            target_every=max(1, task.target_every // replicas),
            correction=task.correction,
            clip_rewards=task.clip_rewards == "on",
        )
        count = task.environments // replicas
        players = []
        for number in range(replicas):
            replay = Replay(
                task.replay // replicas,
                max(1, count),
                facts.shape,
                facts.dtype,
                frames=frames,
                steps=task.n_step,
                discount=task.discount,
                exponent=task.priority,
            )
            seed = (task.seed, _number(TRAINING), number)
            players.append(Player(Environments(facts, max(1, count)), replay, rules, seed))
        return cls(facts, model, frames, rules, players)

    @property
    def replicas(self):
        """How many players there are."""
        return len(self.players)

    @property
    def input_shape(self):
        """Of what the network sees, frames on the last axis."""
        return (*self.facts.shape[:-1], self.facts.shape[-1] * self.frames)

    def policy(self, network):
        """Returns the compiled policy of a network, made once."""
        if id(network) not in self.policies:
            self.policies[id(network)] = network, dqn_episodes.policy(network)
        return self.policies[id(network)][1]

    def experience(self):
        """Returns the steps taken so far, of all players: each has taken as many."""
        return self.replicas * self.players[distribute.own(self.replicas)[0]].steps

    def warnings(self, played):
        """Returns what a reader should know before believing the figures of some episodes."""
        if not played.cut:
            return []
        return [
            f"{played.cut} of {len(played.returns)} episodes were cut off after "
            f"{dqn_episodes.MOST_STEPS:,} steps"
        ]

    def arrays(self):
        """Returns what the players of this process know, as arrays by name."""
        return {
            f"{number}/{key}": array
            for number in distribute.own(self.replicas)
            for key, array in self.players[number].arrays().items()
        }

    def restore(self, arrays):
        """Takes back what `arrays` returned, and says so where episodes cannot go on."""
        if not self.players[0].environments.resumable:
            record.say(f"the state of {self.facts.name} cannot be kept: its episodes begin anew")
        for number, player in enumerate(self.players):
            mine = f"{number}/"
            player.restore(
                {k.removeprefix(mine): v for k, v in arrays.items() if k.startswith(mine)}
            )


@dataclass(frozen=True)
class Turns:
    """The steps of every epoch, each of which asks the players for what it needs.

    Attributes:
        steps: in an epoch.
        size: steps in the environments that one of them takes.
        replicas: how many take it together.
    """

    steps: int
    size: int
    replicas: int

    def epoch(self, number, start=0):
        """Returns numbers that count the steps, one for each replica; nobody needs them."""
        first, last = start * self.replicas, self.steps * self.replicas
        return tf.data.Dataset.range(first, last).batch(self.replicas, drop_remainder=True)


def seeds(seed, split, count):
    """Returns the seeds of the first episodes of a split: other ones for each seed of a run."""
    known = [np.random.SeedSequence((seed, _number(split), n)) for n in range(count)]
    return [int(each.generate_state(1)[0]) for each in known]


def _number(split):
    return zlib.crc32(split.encode())


def _fitting(facts):
    """Returns the name of the network that suits an environment."""
    if not facts.image:
        return "vector_dqn"
    return "nature_dqn" if min(facts.shape[:2]) >= SMALL else "minatar_dqn"


def _check(model, facts):
    spec = zoo.spec(model)
    if spec.kind != "agent":
        raise UsageError(f"{model} is a {spec.kind}; dqn needs an agent: see zoo list --kind agent")
    if len(spec.input_shape) != len(facts.shape):
        kind = "images" if facts.image else "vectors"
        raise UsageError(
            f"{facts.name} shows {kind}, which {model} does not see; try {_fitting(facts)}"
        )
