"""The setup of a DQN run: environment, network, actors and their replay buffers."""

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

DEFAULT_FRAME_STACK = {True: 4, False: 1}  # of images (as in Mnih et al., 2015), and of vectors
MIN_IMAGE_SIDE = 36  # of an image, in pixels, for the network of that paper
TRAIN_SPLIT = "train"


@dataclass(frozen=True, eq=False)
class AgentSetup:
    """The environment of a run, with the actors and their state.

    Attributes:
        env_spec: the `environments.EnvSpec`.
        model: name of the network.
        frame_stack: the number of stacked observations that it takes.
        config: the `ActorConfig` of each actor.
        actors: one per replica, of which those of this process are used.
        policies: compiled policies by the id of their network.
    """

    env_spec: EnvSpec
    model: str
    frame_stack: int
    config: ActorConfig
    actors: list[Actor]
    policies: dict = field(default_factory=dict)

    @classmethod
    def from_task(cls, task, env_spec, replicas):
        """Returns the setup that the flags of a `Dqn` describe."""
        frame_stack = task.frame_stack or DEFAULT_FRAME_STACK[env_spec.image]
        if task.learning_starts // task.num_envs < task.n_step:
            raise UsageError(
                f"--learning-starts {task.learning_starts} gives no transition for --num-envs "
                f"{task.num_envs} and --n-step {task.n_step}; use "
                f"{task.num_envs * task.n_step} or more"
            )
        model = task.model or _default_model(env_spec)
        _check_model(model, env_spec)
        config = ActorConfig(
            random_steps=-(-task.learning_starts // replicas),
            total_steps=task.epochs * task.epoch_steps // replicas,
            exploration_fraction=task.exploration_fraction,
            final_epsilon=task.final_epsilon,
            batch_size=task.batch_size // replicas,
            target_update_frequency=max(1, task.target_update_frequency // replicas),
            beta=task.priority_beta,
            clip_rewards=task.clip_rewards == "on",
        )
        count = task.num_envs // replicas
        actors = []
        for number in range(replicas):
            replay = ReplayBuffer(
                task.replay_size // replicas,
                max(1, count),
                env_spec.shape,
                env_spec.dtype,
                frame_stack=frame_stack,
                n_step=task.n_step,
                gamma=task.gamma,
                alpha=task.priority_alpha,
            )
            seed = (task.seed, _split_seed(TRAIN_SPLIT), number)
            actors.append(Actor(Environments(env_spec, max(1, count)), replay, config, seed))
        return cls(env_spec, model, frame_stack, config, actors)

    @property
    def replicas(self):
        """The number of actors."""
        return len(self.actors)

    @property
    def input_shape(self):
        """The input shape of the network, with stacked observations on the last axis."""
        return (*self.env_spec.shape[:-1], self.env_spec.shape[-1] * self.frame_stack)

    def policy(self, network):
        """Returns the compiled policy of a network, which is cached."""
        if id(network) not in self.policies:
            self.policies[id(network)] = network, evaluation.policy(network)
        return self.policies[id(network)][1]

    def steps_taken(self):
        """Returns the environment steps so far, over all actors; each has taken as many."""
        return self.replicas * self.actors[strategies.local_replicas(self.replicas)[0]].steps

    def warnings(self, results):
        """Returns warnings about the validity of the metrics of some episodes."""
        if not results.num_truncated:
            return []
        return [
            f"{results.num_truncated} of {len(results.returns)} episodes were truncated after "
            f"{evaluation.MAX_EPISODE_STEPS:,} steps"
        ]

    def arrays(self):
        """Returns the state of the actors of this process as a dict of arrays by name."""
        return {
            f"{number}/{key}": array
            for number in strategies.local_replicas(self.replicas)
            for key, array in self.actors[number].arrays().items()
        }

    def restore(self, arrays):
        """Restores the state that `arrays` returned; prints a note if episodes must start anew."""
        if not self.actors[0].environments.resumable:
            callbacks.print_status(
                f"the state of {self.env_spec.name} cannot be saved; its episodes start anew"
            )
        for number, actor in enumerate(self.actors):
            prefix = f"{number}/"
            actor.restore(
                {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            )


@dataclass(frozen=True)
class StepIndices:
    """A dataset of step indices: the training step itself gets its batches from the actors.

    Attributes:
        steps: training steps per epoch.
        size: environment steps per training step, over all environments.
        replicas: the number of replicas.
    """

    steps: int
    size: int
    replicas: int

    def epoch(self, number, start=0):
        """Returns the step indices of an epoch, one per replica; their values are unused."""
        first, last = start * self.replicas, self.steps * self.replicas
        return tf.data.Dataset.range(first, last).batch(self.replicas, drop_remainder=True)


def episode_seeds(seed, split, count):
    """Returns the seeds of the first episodes of a split, which depend on the seed of the run."""
    sequences = [np.random.SeedSequence((seed, _split_seed(split), n)) for n in range(count)]
    return [int(each.generate_state(1)[0]) for each in sequences]


def _split_seed(split):
    return zlib.crc32(split.encode())


def _default_model(env_spec):
    """Returns the name of the default network for the observations of an environment."""
    if not env_spec.image:
        return "vector_dqn"
    return "nature_dqn" if min(env_spec.shape[:2]) >= MIN_IMAGE_SIDE else "minatar_dqn"


def _check_model(model, env_spec):
    spec = zoo.spec(model)
    if spec.kind != "agent":
        raise UsageError(
            f"--model {model} is a {spec.kind}, not an agent; see zoo list --kind agent"
        )
    if len(spec.input_shape) != len(env_spec.shape):
        kind = "images" if env_spec.image else "vectors"
        raise UsageError(
            f"--model {model} does not take the observations of {env_spec.name}, which are {kind}; "
            f"try {_default_model(env_spec)}"
        )
