"""Deep Q-networks (DQN): value-based reinforcement learning in Gymnasium environments."""

from __future__ import annotations

import re
from typing import ClassVar

import zoo
from tasks.data import builder_options
from tasks.distributed import strategies
from tasks.dqn import environments, evaluation, gif, metrics
from tasks.dqn.agent_setup import AgentSetup, StepIndices, episode_seeds
from tasks.engine import hardware, plans, regularizers
from tasks.engine.flags import flag, flag_of, patience_flag
from tasks.engine.task import Task, register
from tasks.report.evaluation_report import EvaluationReport
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule

learning = LazyModule("tasks.dqn.train_step")
loops = LazyModule("tasks.engine.custom_step")

ON_OFF = ("on", "off")
EPISODE_SPLITS = ("validation", "test")  # sets of episodes with seeds of their own
MAX_RECORDED_FRAMES = 500  # of the episode in the report
NUM_LOGGED_FRAMES = 12  # of the episode in TensorBoard
_SLICE = re.compile(r"(\w+)(?:\[:(\d+)\])?")


@register
class Dqn(Task):
    """Trains a Q-network of the zoo by acting in environments (Mnih et al., 2015)."""

    kind: ClassVar = "agent"
    command: ClassVar = "zoo evaluate"
    exporter: ClassVar = LazyModule("tasks.dqn.exporter")
    compilable: ClassVar = False  # XLA cannot call environments, which are Python
    checkpoint_all: ClassVar = True  # also the target network, which changes but is not trained
    curves: ClassVar = {
        "mean_return": "Return per episode",
        "loss": "Loss",
        "mean_value": "Q-value of the actions taken",
    }
    monitor: ClassVar = ("val_mean_return", "val_min_return", "epoch")  # of equal ones the latest

    dataset: str = flag("CartPole-v1", "environment: catch, breakout or a name of Gymnasium's")
    environment_options: str = flag(
        "", "keyword arguments of the environment as YAML, such as '{cell: 1, border: 0}'"
    )
    model: str = flag("", "model of `zoo list --kind agent`; default: one for the observations")
    model_options: str = flag("", "builder options as YAML, such as '{widths: [64, 64]}'")
    weights: str = flag("", "weights file to start from")
    epochs: int = flag(20, "epochs, each followed by validation and a checkpoint", low=1)
    epoch_steps: int = flag(4_950, "environment steps per epoch, over all environments", low=1)
    batch_size: int = flag(64, "transitions per update, over all replicas", low=1)
    optimizer: str = flag("adam", "optimizer, as in other tasks: adam, rmsprop, ...")
    weight_decay: float = flag(
        0.0, "decoupled weight decay of kernels, times the learning rate", high=100.0
    )
    clip_norm: float = flag_of(Task, "clip_norm", 10.0)
    patience: int = patience_flag("val_mean_return")
    num_envs: int = flag(
        1, "parallel environments, over all replicas", low=1, former="environments"
    )
    frame_stack: int = flag(
        0, "stacked observations; 0: 4 for images, 1 for vectors", low=0, former="frames"
    )
    replay_size: int = flag(
        10_000, "capacity of the replay buffer, in observations", low=1, former="replay"
    )
    learning_starts: int = flag(1_000, "steps with random actions before training", low=1)
    train_frequency: int = flag(
        2, "environment steps per update, over all environments", low=1, former="train_every"
    )
    target_update_frequency: int = flag(
        200, "environment steps per update of the target network", low=1, former="target_every"
    )
    tau: float = flag(1.0, "rate of the target network's update; 1: copy the online one", high=1.0)
    gamma: float = flag(0.99, "discount factor", high=1.0, former="discount")
    final_epsilon: float = flag(
        0.05, "probability of a random action after exploration", high=1.0, former="epsilon"
    )
    exploration_fraction: float = flag(
        0.1, "fraction of the run in which epsilon falls from 1", high=1.0, former="exploration"
    )
    loss: str = flag("mse", "loss of the TD error", choices=("huber", "mse"))
    double: str = flag("on", "double DQN (van Hasselt et al., 2015)", choices=ON_OFF)
    dueling: str = flag("off", "dueling network (Wang et al., 2015)", choices=ON_OFF)
    n_step: int = flag(3, "steps of n-step returns (Hessel et al., 2017)", low=1)
    priority_alpha: float = flag(
        0.0,
        "alpha of prioritized replay (Schaul et al., 2015), such as 0.6; 0: uniform sampling",
        high=10.0,
        former="priority",
    )
    priority_beta: float = flag(
        0.4, "initial beta of prioritized replay, annealed to 1", high=1.0, former="correction"
    )
    clip_rewards: str = flag("off", "train on the sign of rewards", choices=ON_OFF)
    validation_episodes: int = flag(20, "episodes after each epoch, to choose the best", low=1)
    test_episodes: int = flag(100, "episodes at the end, for the report", low=1)
    test_epsilon: float = flag(0.0, "epsilon in validation and test episodes", high=1.0)

    def flops(self):
        return zoo.spec(self.model).flops or 0 if self.model else 0

    def stages(self):
        return plans.resolve_plan(
            "scratch",
            epochs=self.epochs,
            pretrained=False,
            rate=self.learning_rate,
            optimizer=self.optimizer,
        )

    def optimizers(self, model, steps):
        [stage] = self.stages()
        updates = steps * self.epochs * self._steps_per_update(self._replicas())[1]
        optimizer = self.make_optimizer(self.learning_rates(stage.rate, updates))
        optimizer.build(model.get_layer("online").trainable_variables)
        return [optimizer]

    def load(self):
        env_spec = environments.env_spec(
            self.dataset,
            builder_options.parse_options(self.environment_options, "--environment-options"),
        )
        return AgentSetup.from_task(self, env_spec, self._replicas())

    def extra_state(self, data):
        return data

    def build(self, data):
        model = zoo.build(
            data.model,
            input_shape=data.input_shape,
            num_classes=data.env_spec.actions,
            weights=self.weights or None,
            **{
                "dueling": self.dueling == "on",
                **builder_options.parse_model_options(self.model_options),
            },
        )
        pair = learning.with_target_network(model)
        regularizers.add_kernel_regularization(pair.get_layer("online"), self.l1, self.l2)
        return pair

    def training_model(self, model, data):
        networks = {name: model.get_layer(name) for name in ("online", "target")}
        networks["target"].trainable = False
        env_steps, updates = self._steps_per_update(self._replicas())
        config = learning.TrainStepConfig(
            env_steps=env_steps,
            updates=updates,
            double=self.double == "on",
            loss=self.loss,
            tau=self.tau,
            prioritized=self.priority_alpha > 0,
        )
        return loops.CustomStepModel(
            networks, learning.METRIC_NAMES, learning.build_train_step(data.actors, config)
        )

    def compile(self, training_model, data, optimizer):
        training_model.compile(
            optimizer=optimizer, **hardware.compile_options(self, training_model)
        )

    def training(self, data, *, augmented=True):
        env_steps, _ = self._steps_per_update(data.replicas)
        steps = env_steps * self.num_envs
        return StepIndices(max(1, self.epoch_steps // steps), steps, data.replicas)

    def validate(self, model, data, events, step):
        results = self._run_episodes(
            model.get_layer("online"), data, "validation", max_frames=MAX_RECORDED_FRAMES
        )
        if results.frames:
            events.images("episode", gif.sample_frames(results.frames, NUM_LOGGED_FRAMES), step)
        return metrics.compute_metrics(results.returns, results.lengths, seed=self.seed)

    def finish(self, model, data):
        return model.get_layer("online")

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "model": data.model,
            "environment": self.dataset,
            "environment_options": data.env_spec.options,
            "frames": data.frame_stack,
            "actions": data.env_spec.actions,
        }
        model_files.save(model, path, about)

    def build_report(self, model, data):
        results = self._run_episodes(model, data, "test", max_frames=MAX_RECORDED_FRAMES)
        figures = metrics.compute_metrics(results.returns, results.lengths, seed=self.seed)
        random_returns = self._run_episodes(model, data, "test", epsilon=1.0).returns
        figures["random_return"] = sum(random_returns) / len(random_returns)
        sections = [("Returns", metrics.return_histogram(results.returns))]
        if results.frames:
            caption = f"The first test episode, with a return of {results.returns[0]:.4g}."
            sections.append(("Episode", gif.gif_figure(results.frames, caption)))
        return EvaluationReport(
            figures=figures,
            title=f"{data.model} in {self.dataset}",
            lead=(
                f"The mean return of {data.model} over {self.test_episodes} test episodes is "
                f"{figures['mean_return']:.4g}. The policy is that of the epoch with the highest "
                f"mean return over {self.validation_episodes} validation episodes, after "
                f"{data.steps_taken():,} environment steps."
            ),
            sections=sections,
            warnings=data.warnings(results),
            metric_warnings=metrics.return_warnings(figures),
        )

    def evaluate(self, model, about, split):
        match = _SLICE.fullmatch(split or f"test[:{self.test_episodes}]")
        if not match or match[1] not in EPISODE_SPLITS or match[2] == "0":
            raise UsageError(
                f"--split {split!r} is not a set of episodes; use validation, test, or a slice "
                "such as test[:200]"
            )
        name, count = match[1], int(match[2] or getattr(self, f"{match[1]}_episodes"))
        env_spec = environments.env_spec(
            self.dataset,
            builder_options.parse_options(self.environment_options, "--environment-options"),
        )
        data = AgentSetup.from_task(self, env_spec, 1)
        if model.input_shape[1:] != data.input_shape or model.output_shape[-1] != env_spec.actions:
            raise UsageError(
                f"the agent takes observations of {model.input_shape[1:]} and has "
                f"{model.output_shape[-1]} actions; {self.dataset} has {data.input_shape} and "
                f"{env_spec.actions}"
            )
        results = self._run_episodes(model, data, name, count=count)
        figures = metrics.compute_metrics(results.returns, results.lengths, seed=self.seed)
        return figures, f"{name}[:{count}]"

    def _run_episodes(self, network, data, split, *, count=0, max_frames=0, epsilon=None):
        """Runs the first episodes of a split with the policy of a network, and random actions with
        a probability of `epsilon`, by default that of the flag."""
        count = count or getattr(self, f"{split}_episodes")
        return evaluation.run_episodes(
            data.policy(network),
            data.env_spec,
            episode_seeds(self.seed, split, count),
            frame_stack=data.frame_stack,
            epsilon=self.test_epsilon if epsilon is None else epsilon,
            max_frames=max_frames,
        )

    def _replicas(self):
        return strategies.create_strategy(self.strategy).num_replicas_in_sync

    def _steps_per_update(self, replicas):
        """Returns the steps per environment and the updates of one training step."""
        count, frequency = self.num_envs, self.train_frequency
        if count % replicas or self.batch_size % replicas:
            raise UsageError(
                f"--num-envs {count} and --batch-size {self.batch_size} must be multiples of the "
                f"number of replicas, {replicas}"
            )
        if self.batch_size > self.replay_size:
            raise UsageError(
                f"--batch-size {self.batch_size} is more than --replay-size {self.replay_size}; "
                "reduce the former or enlarge --replay-size"
            )
        if max(count, frequency) % min(count, frequency):
            raise UsageError(
                f"of --num-envs {count} and --train-frequency {frequency} one must be a multiple "
                "of the other"
            )
        return max(1, frequency // count), max(1, count // frequency)
