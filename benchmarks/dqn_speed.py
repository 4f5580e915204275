"""Compares steps per second with a single-file PyTorch DQN: benchmarks/dqn_speed.py --torch DIR

The PyTorch agent does what CleanRL's `dqn.py` does (Huang et al., 2022, https://github.com/vwxyzjn/cleanrl,
MIT licence), reimplemented with its settings: CartPole-v1 in a `SyncVectorEnv` of one with
`RecordEpisodeStatistics`, a 4-120-84-2 network, a buffer of 10,000, an update of 128 transitions
every 10 steps with Adam at 2.5e-4, the target network copied every 500 steps, and an epsilon that
falls from 1 to 0.05. Logging is left out; the replay buffer is NumPy arrays. With `--threads 1`
PyTorch uses one thread, which is faster than its default for such a small network.

Ours is the task `dqn` with the same settings, as `fit` runs it. Both alternate in one process, each
continuing where it stopped. A figure is the median of the rounds without the first, which compiles.
Without `--torch` (a folder with PyTorch, from `pip install --target`), or if PyTorch cannot be
imported, ours runs alone.

Measured on 2 cores of an AMD EPYC, TensorFlow 2.21, Keras 3.15.1, PyTorch 2.13, `--threads 1`:

    zoo       6,064 steps/s  best    8,267
    torch     4,931 steps/s  best    5,815
    zoo / torch 1.35, 1.03 to 1.59
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gymnasium
import keras
import numpy as np

import tasks

ENVIRONMENT, TOTAL, FIRST, FINAL, EXPLORATION = "CartPole-v1", 500_000, 10_000, 0.05, 0.5
SIZE, BATCH, EVERY, TARGET, RATE, DISCOUNT = 10_000, 128, 10, 500, 2.5e-4, 0.99
WIDTHS = (120, 84)
# Of the run, before timing begins: after that, most actions are the network's.
WARMUP_FRACTION = 0.6


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", default="", help="folder that PyTorch is installed in")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch; 0 for its default")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=9_600, help="steps of a round")
    parser.add_argument(
        "--share", type=float, default=WARMUP_FRACTION, help="of the run that is over"
    )
    args = parser.parse_args()
    loops = {"zoo": Zoo(args.share)}
    if args.torch:
        sys.path.insert(0, args.torch)
    sys.modules["triton"] = None  # optional for PyTorch; it crashes if TensorFlow is imported
    try:
        loops["torch"] = Torch(args.threads, args.share)
    except ModuleNotFoundError:
        print("PyTorch is not there: pip install --target DIR torch, and --torch DIR")
    rates = {name: [] for name in loops}
    for number in range(args.rounds + 1):
        for name, loop in loops.items():
            started = time.perf_counter()
            loop.run(args.steps)
            if number:
                rates[name].append(args.steps / (time.perf_counter() - started))
    for name, found in rates.items():
        print(f"{name:<6} {statistics.median(found):>8,.0f} steps/s  best {max(found):>8,.0f}")
    if len(rates) == 2:
        ratios = [a / b for a, b in zip(rates["zoo"], rates["torch"], strict=True)]
        print(
            f"zoo / torch {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        )


class Zoo:
    """The task `dqn`, as the trainer runs it."""

    def __init__(self, share):
        task = tasks.get("dqn")(
            dataset=ENVIRONMENT,
            epochs=TOTAL // 10_000,
            epoch_steps=10_000,
            learning_starts=FIRST,
            replay_size=SIZE,
            batch_size=BATCH,
            train_frequency=EVERY,
            target_update_frequency=TARGET,
            learning_rate=RATE,
            schedule="constant",
            gamma=DISCOUNT,
            final_epsilon=FINAL,
            exploration_fraction=EXPLORATION,
            loss="mse",
            double="off",
            clip_norm=0.0,
        )
        keras.utils.set_random_seed(0)
        data = task.load()
        model = task.build(data)
        self.pipeline = task.training(data)
        [optimizer] = task.optimizers(model, self.pipeline.steps)
        self.training_model = task.training_model(model, data)
        task.compile(self.training_model, data, optimizer)
        self.training_model.steps_per_execution = 32
        [actor] = data.actors
        actor.observe()
        actor.steps += int(share * TOTAL)

    def run(self, steps):
        """Takes some steps."""
        batches = self.pipeline.epoch(0).repeat().take(steps // self.pipeline.size)
        self.training_model.fit(batches, shuffle=False, verbose=0)


class Torch:
    """The loop of CleanRL, in its order."""

    def __init__(self, threads, share):
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.torch = torch
        random.seed(1)
        self.envs = gymnasium.vector.SyncVectorEnv([_environment])
        shape = self.envs.single_observation_space.shape
        self.network, self.target = self._network(), self._network()
        self.target.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE)
        self.seen, self.after = (np.zeros((SIZE, *shape), np.float32) for _ in range(2))
        self.actions, self.rewards = np.zeros((SIZE, 1), np.int64), np.zeros(SIZE, np.float32)
        self.over = np.zeros(SIZE, np.float32)
        self.step, self.written, self.ended = int(share * TOTAL), 0, [False]
        self.observations, _ = self.envs.reset(seed=1)

    def run(self, steps):
        """Takes some steps."""
        for _ in range(steps):
            self._act()
            if self.written > FIRST or self.written == SIZE:
                if self.step % EVERY == 0:
                    self._learn()
                if self.step % TARGET == 0:
                    pairs = zip(self.target.parameters(), self.network.parameters(), strict=True)
                    for old, new in pairs:
                        old.data.copy_(1.0 * new.data + 0.0 * old.data)
            self.step += 1

    def _act(self):
        slope = (FINAL - 1) / (EXPLORATION * TOTAL)
        if random.random() < max(slope * self.step + 1, FINAL):
            actions = np.array([self.envs.single_action_space.sample()])
        else:
            values = self.network(self.torch.Tensor(self.observations))
            actions = self.torch.argmax(values, dim=1).cpu().numpy()
        after, rewards, terminated, truncated, _ = self.envs.step(actions)
        if not self.ended[0]:  # after the end of an episode one step only begins the next
            index = self.written % SIZE
            self.seen[index], self.after[index] = self.observations[0], after[0]
            self.actions[index], self.rewards[index] = actions[0], rewards[0]
            self.over[index] = terminated[0]
            self.written += 1
        self.ended = terminated | truncated
        self.observations = after

    def _learn(self):
        torch = self.torch
        indices = np.random.randint(0, min(self.written, SIZE), BATCH)
        seen, actions, rewards, over, after = (
            torch.as_tensor(part[indices])
            for part in (self.seen, self.actions, self.rewards, self.over, self.after)
        )
        with torch.no_grad():
            best, _ = self.target(after).max(dim=1)
            wanted = rewards + DISCOUNT * best * (1 - over)
        values = self.network(seen).gather(1, actions).squeeze()
        loss = torch.nn.functional.mse_loss(wanted, values)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _network(self):
        layers, ends = [], [self.envs.single_observation_space.shape[0], *WIDTHS]
        for before, width in zip(ends, WIDTHS, strict=False):
            layers += [self.torch.nn.Linear(before, width), self.torch.nn.ReLU()]
        last = self.torch.nn.Linear(ends[-1], int(self.envs.single_action_space.n))
        return self.torch.nn.Sequential(*layers, last)


def _environment():
    return gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(ENVIRONMENT))


if __name__ == "__main__":
    main()
