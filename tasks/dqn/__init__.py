"""DQN: act so that what comes back in the end is most."""

from __future__ import annotations

import re
from typing import ClassVar

import zoo
from tasks.data import builder_options
from tasks.distributed import strategies
from tasks.dqn import environments, evaluation, gif, metrics
from tasks.dqn.agent_setup import AgentSetup, StepIndices, episode_seeds
from tasks.engine import hardware, plans, regularizers
from tasks.engine.flags import flag, patience_flag
from tasks.engine.task import Task, register
from tasks.report.evaluation_report import EvaluationReport
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule

learning = LazyModule("tasks.dqn.train_step")
loops = LazyModule("tasks.engine.custom_step")

ON_OFF = ("on", "off")
EPISODE_SPLITS = ("validation", "test")  # whose episodes have seeds of their own
MAX_RECORDED_FRAMES, NUM_LOGGED_FRAMES = 500, 12  # of an episode in the report, and in TensorBoard
_SLICE = re.compile(r"(\w+)(?:\[:(\d+)\])?")


@register
class Dqn(Task):
    """Teaches a network of the zoo which action is best, by acting (Mnih et al., 2015)."""

    kind: ClassVar = "agent"
    command: ClassVar = "zoo evaluate"
    compilable: ClassVar = False  # XLA cannot call what is outside of it, as an agent's world is
    checkpoint_all: ClassVar = True  # the target network learns nothing, and changes
    curves: ClassVar = {
        "mean_return": "Return of an episode",
        "loss": "Loss",
        "mean_value": "Value of the actions taken",
    }
    monitor: ClassVar = ("val_mean_return", "val_min_return", "epoch")  # the later has seen more

    dataset: str = flag("CartPole-v1", "environment: catch, breakout or a name of Gymnasium's")
    environment_options: str = flag("", "of its maker as YAML, such as '{cell: 1, border: 0}'")
    model: str = flag("", "name of a zoo model, see `zoo list --kind agent`; one that fits")
    model_options: str = flag("", "builder options as YAML, such as '{widths: [64, 64]}'")
    weights: str = flag("", "file to start from")
    epochs: int = flag(20, "how often the agent is validated, and a checkpoint follows", low=1)
    epoch_steps: int = flag(4_950, "steps in all environments in an epoch", low=1)
    batch_size: int = flag(64, "transitions in an update, over all replicas", low=1)
    optimizer: str = flag("adam", "as of other tasks: adam, rmsprop, ...")
    weight_decay: float = flag(0.0, "decoupled decay of kernels, times the rate", high=100.0)
    clip_norm: float = flag(10.0, "longest gradient, all weights together; 0 for any", low=0.0)
    patience: int = patience_flag("val_mean_return")
    environments: int = flag(1, "how many are acted in side by side, over all replicas", low=1)
    frames: int = flag(0, "observations seen together; 0: 4 images, 1 vector", low=0)
    replay: int = flag(10_000, "observations that are remembered", low=1)
    learning_starts: int = flag(1_000, "random steps before the first epoch", low=1)
    train_every: int = flag(2, "steps in all environments from update to update", low=1)
    target_every: int = flag(200, "steps from copy to copy of the target network", low=1)
    tau: float = flag(1.0, "share of the target network that is replaced then", high=1.0)
    discount: float = flag(0.99, "gamma: what a reward counts a step later", high=1.0)
    epsilon: float = flag(0.05, "chance of a random action after exploration", high=1.0)
    exploration: float = flag(0.1, "share of the run in which that chance falls from 1", high=1.0)
    loss: str = flag("mse", "of the difference to the target", choices=("huber", "mse"))
    double: str = flag("on", "double DQN (van Hasselt et al., 2015)", choices=ON_OFF)
    dueling: str = flag("off", "duelling network (Wang et al., 2015)", choices=ON_OFF)
    n_step: int = flag(3, "rewards before the value of what follows (Hessel et al., 2017)", low=1)
    priority: float = flag(
        0.0, "alpha of prioritised replay (Schaul et al., 2015), such as 0.6; 0: none", high=10.0
    )
    correction: float = flag(0.4, "beta of prioritised replay at first; it rises to 1", high=1.0)
    clip_rewards: str = flag("off", "learn from the sign of rewards alone", choices=ON_OFF)
    validation_episodes: int = flag(20, "played after an epoch; they choose the policy", low=1)
    test_episodes: int = flag(100, "played at the end; the report is about them", low=1)
    test_epsilon: float = flag(0.0, "chance of a random action in both", high=1.0)

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
        both = learning.with_target_network(model)
        regularizers.add_kernel_regularization(both.get_layer("online"), self.l1, self.l2)
        return both

    def training_model(self, model, data):
        networks = {name: model.get_layer(name) for name in ("online", "target")}
        networks["target"].trainable = False
        env_steps, updates = self._steps_per_update(self._replicas())
        method = learning.TrainStepConfig(
            env_steps=env_steps,
            updates=updates,
            double=self.double == "on",
            loss=self.loss,
            tau=self.tau,
            prioritised=self.priority > 0,
        )
        return loops.CustomStepModel(
            networks, learning.METRIC_NAMES, learning.build_train_step(data.actors, method)
        )

    def compile(self, training_model, data, optimizer):
        training_model.compile(
            optimizer=optimizer, **hardware.compile_options(self, training_model)
        )

    def training(self, data, *, changed=True):
        env_steps, _ = self._steps_per_update(data.replicas)
        steps = env_steps * self.environments
        return StepIndices(max(1, self.epoch_steps // steps), steps, data.replicas)

    def validate(self, model, data, events, step):
        results = self._run_episodes(
            model.get_layer("online"), data, "validation", pictures=MAX_RECORDED_FRAMES
        )
        if results.pictures:
            events.images(
                "an episode", gif.sample_frames(results.pictures, NUM_LOGGED_FRAMES), step
            )
        return metrics.compute_metrics(results.returns, results.lengths, seed=self.seed)

    def finish(self, model, data):
        return model.get_layer("online")

    def save(self, model, data, path):
        about = {
            "task": self.name,
            "model": data.model,
            "environment": self.dataset,
            "environment_options": data.env_spec.options,
            "frames": data.frames,
            "actions": data.env_spec.actions,
        }
        model_files.save(model, path, about)

    def build_report(self, model, data):
        results = self._run_episodes(model, data, "test", pictures=MAX_RECORDED_FRAMES)
        found = metrics.compute_metrics(results.returns, results.lengths, seed=self.seed)
        sections = [("Returns", metrics.return_histogram(results.returns))]
        if results.pictures:
            caption = f"The first of them, whose return is {results.returns[0]:.4g}."
            sections.append(("An episode", gif.gif_figure(results.pictures, caption)))
        return EvaluationReport(
            figures=found,
            title=f"{data.model} in {self.dataset}",
            lead=(
                f"Over {self.test_episodes} episodes with seeds of their own, {data.model} had a "
                f"return of {found['mean_return']:.4g} on average. It is the policy of the epoch "
                f"that did best in {self.validation_episodes} other episodes, and not always of "
                f"the last one; {data.steps_taken():,} steps were taken to learn it."
            ),
            sections=sections,
            warnings=data.warnings(results),
        )

    def evaluate(self, model, about, split):
        match = _SLICE.fullmatch(split or f"test[:{self.test_episodes}]")
        if not match or match[1] not in EPISODE_SPLITS or match[2] == "0":
            raise UsageError(
                f"{split!r} names no episodes; there is validation and test, and slices such as "
                "test[:200]"
            )
        name, count = match[1], int(match[2] or getattr(self, f"{match[1]}_episodes"))
        env_spec = environments.env_spec(
            self.dataset,
            builder_options.parse_options(self.environment_options, "--environment-options"),
        )
        data = AgentSetup.from_task(self, env_spec, 1)
        if model.input_shape[1:] != data.input_shape or model.output_shape[-1] != env_spec.actions:
            raise UsageError(
                f"the agent sees {model.input_shape[1:]} and has {model.output_shape[-1]} actions; "
                f"{self.dataset} shows {data.input_shape} and has {env_spec.actions}"
            )
        results = self._run_episodes(model, data, name, count=count)
        found = metrics.compute_metrics(results.returns, results.lengths, seed=self.seed)
        return found, f"{name}[:{count}]"

    def _run_episodes(self, network, data, split, *, count=0, pictures=0):
        """Plays the first episodes of a split by a network."""
        count = count or getattr(self, f"{split}_episodes")
        return evaluation.run_episodes(
            data.policy(network),
            data.env_spec,
            episode_seeds(self.seed, split, count),
            frames=data.frames,
            epsilon=self.test_epsilon,
            pictures=pictures,
        )

    def _replicas(self):
        return strategies.create_strategy(self.strategy).num_replicas_in_sync

    def _steps_per_update(self, replicas):
        """Returns how often each environment takes a step, and how many updates follow."""
        many, every = self.environments, self.train_every
        if many % replicas or self.batch_size % replicas:
            raise UsageError(
                f"--environments {many} and --batch-size {self.batch_size} must be multiples of "
                f"the {replicas} replicas"
            )
        if max(many, every) % min(many, every):
            raise UsageError(
                f"of --environments {many} and --train-every {every} one must be a multiple of "
                "the other"
            )
        return max(1, every // many), max(1, many // every)
