"""What a run of DQN knows: the environment, who acts in it, and what was seen."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import zoo
from tasks.distributed import strategies
from tasks.dqn import evaluation
from tasks.dqn.actor import Actor, ActorConfig
from tasks.dqn.environments import Environments, EnvSpec
from tasks.dqn.replay import ReplayBuffer
from tasks.engine import callbacks
from zoo.errors import UsageError
from zoo.lazy import np, tf

DEFAULT_FRAMES = {True: 4, False: 1}  # seen together: of images as in Mnih et al., 2015, of vectors
MIN_IMAGE_SIDE = 36  # an image with shorter sides is too small for the network of that paper
TRAIN_SPLIT = "train"


@dataclass(frozen=True, eq=False)
class AgentSetup:
    """The environment of a run, its players and what they remember.

    Attributes:
        facts: of the environment.
        model: name of the network.
        frames: observations that it sees together.
        rules: of each player.
        players: one for each replica, of which those of this process act.
    """

    env_spec: EnvSpec
    model: str
    frames: int
    config: ActorConfig
    actors: list[Actor]
    policies: dict = field(default_factory=dict)

    @classmethod
    def from_task(cls, task, env_spec, replicas):
        """Returns the setting that a `Dqn` describes."""
        frames = task.frames or DEFAULT_FRAMES[env_spec.image]
        if task.learning_starts // task.environments < task.n_step:
            raise UsageError(
                f"--learning-starts {task.learning_starts} leaves nothing to learn from; there are "
                f"{task.environments} environments, and --n-step {task.n_step}"
            )
        model = task.model or _default_model(env_spec)
        _check_model(model, env_spec)
        config = ActorConfig(
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
        actors = []
        for number in range(replicas):
            replay = ReplayBuffer(
                task.replay // replicas,
                max(1, count),
                env_spec.shape,
                env_spec.dtype,
                frames=frames,
                steps=task.n_step,
                discount=task.discount,
                exponent=task.priority,
            )
            seed = (task.seed, _split_seed(TRAIN_SPLIT), number)
            actors.append(Actor(Environments(env_spec, max(1, count)), replay, config, seed))
        return cls(env_spec, model, frames, config, actors)

    @property
    def replicas(self):
        """How many players there are."""
        return len(self.actors)

    @property
    def input_shape(self):
        """Of what the network sees, frames on the last axis."""
        return (*self.env_spec.shape[:-1], self.env_spec.shape[-1] * self.frames)

    def policy(self, network):
        """Returns the compiled policy of a network, made once."""
        if id(network) not in self.policies:
            self.policies[id(network)] = network, evaluation.policy(network)
        return self.policies[id(network)][1]

    def steps_taken(self):
        """Returns the steps taken so far, of all players: each has taken as many."""
        return self.replicas * self.actors[strategies.local_replicas(self.replicas)[0]].steps

    def warnings(self, results):
        """Returns what a reader should know before believing the figures of some episodes."""
        if not results.num_truncated:
            return []
        return [
            f"{results.num_truncated} of {len(results.returns)} episodes were cut off after "
            f"{evaluation.MAX_EPISODE_STEPS:,} steps"
        ]

    def arrays(self):
        """Returns what the players of this process know, as arrays by name."""
        return {
            f"{number}/{key}": array
            for number in strategies.local_replicas(self.replicas)
            for key, array in self.actors[number].arrays().items()
        }

    def restore(self, arrays):
        """Takes back what `arrays` returned, and says so where episodes cannot go on."""
        if not self.actors[0].environments.resumable:
            callbacks.print_status(
                f"the state of {self.env_spec.name} cannot be kept: its episodes begin anew"
            )
        for number, actor in enumerate(self.actors):
            prefix = f"{number}/"
            actor.restore(
                {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            )


@dataclass(frozen=True)
class StepIndices:
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


def episode_seeds(seed, split, count):
    """Returns the seeds of the first episodes of a split: other ones for each seed of a run."""
    known = [np.random.SeedSequence((seed, _split_seed(split), n)) for n in range(count)]
    return [int(each.generate_state(1)[0]) for each in known]


def _split_seed(split):
    return zlib.crc32(split.encode())


def _default_model(env_spec):
    """Returns the name of the network that suits an environment."""
    if not env_spec.image:
        return "vector_dqn"
    return "nature_dqn" if min(env_spec.shape[:2]) >= MIN_IMAGE_SIDE else "minatar_dqn"


def _check_model(model, env_spec):
    spec = zoo.spec(model)
    if spec.kind != "agent":
        raise UsageError(f"{model} is a {spec.kind}; dqn needs an agent: see zoo list --kind agent")
    if len(spec.input_shape) != len(env_spec.shape):
        kind = "images" if env_spec.image else "vectors"
        raise UsageError(
            f"{env_spec.name} shows {kind}, which {model} does not see; try "
            f"{_default_model(env_spec)}"
        )
