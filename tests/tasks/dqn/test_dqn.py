"""DQN: TD targets against NumPy, training steps against gradient descent, runs and resume."""

from __future__ import annotations

import base64
import io
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tasks
import zoo
from tasks.dqn import agent_setup, gif, metrics, numpy_policy, train_step
from tasks.engine import resume, trainer
from tests.support import checks
from zoo import UsageError, model_files

TINY = {
    "epochs": 2,
    "epoch_steps": 96,
    "learning_starts": 60,
    "replay_size": 400,
    "batch_size": 16,
    "train_frequency": 4,
    "num_envs": 2,
    "target_update_frequency": 40,
    "loss": "huber",
    "n_step": 1,
    "validation_episodes": 3,
    "test_episodes": 5,
    "model_options": "{widths: [8]}",
    "precision": "float32",
}
PIXELS = {
    **TINY,
    "dataset": "catch",
    "environment_options": "{cell: 1, border: 0}",
    "model_options": "{hidden: 8}",
}
CASES = {
    "vector": TINY,
    "pixels": {
        **PIXELS,
        "epoch_steps": 48,
        "num_envs": 1,
        "train_frequency": 2,
        "priority_alpha": 0.6,
        "n_step": 3,
    },
}


def make_task(**flags):
    return tasks.get("dqn")(**{**TINY, **flags})


def set_up(task):
    """Returns data, model, training model and step indices of a task, as the trainer makes them."""
    keras.utils.set_random_seed(0)
    data = task.load()
    model = task.build(data)
    steps = task.training(data)
    [optimizer] = task.optimizers(model, steps.steps)
    training_model = task.training_model(model, data)
    task.compile(training_model, data, optimizer)
    return data, model, training_model, steps


def values(network):
    return [np.array(weight) for weight in network.variables]


# TD targets


def q_values(network, x):
    """Returns the Q-values of a vector network, computed by NumPy in float64."""
    x = np.asarray(x, np.float64)
    *hidden, last = [layer for layer in network.layers if layer.weights]
    for layer in hidden:
        x = np.maximum(x @ np.array(layer.kernel) + np.array(layer.bias), 0)
    return x @ np.array(last.kernel) + np.array(last.bias)


@pytest.mark.parametrize("double", [False, True])
def test_td_targets_match_loops_in_numpy(double):
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    online, target = (zoo.build("vector_dqn", num_classes=3, widths=(16, 8)) for _ in range(2))
    batch = {
        "nexts": random.normal(size=(50, 1, 4)).astype("float32"),
        "returns": random.normal(size=50).astype("float32"),
        "discounts": random.choice([0, 0.99, 0.99**3], 50).astype("float32"),
    }
    found = train_step.td_targets(
        online, target, {k: tf.constant(v) for k, v in batch.items()}, double
    )
    values, expected = q_values(target, batch["nexts"][:, 0]), []
    selecting = q_values(online, batch["nexts"][:, 0]) if double else values
    for row in range(50):
        best = max(range(3), key=lambda action: selecting[row, action])
        value = batch["returns"][row] + batch["discounts"][row] * values[row, best]
        expected.append(batch["returns"][row] if batch["discounts"][row] == 0 else value)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_double_dqn_targets_are_never_larger_and_sometimes_smaller():
    keras.utils.set_random_seed(0)
    online, target = (zoo.build("vector_dqn", num_classes=3, widths=(16, 8)) for _ in range(2))
    nexts = tf.random.stateless_normal((50, 1, 4), (0, 1))
    batch = {"nexts": nexts, "returns": tf.zeros(50), "discounts": tf.ones(50)}
    plain, double = (train_step.td_targets(online, target, batch, each) for each in (False, True))
    assert (plain >= double).numpy().all()
    assert (plain > double).numpy().any()


def test_losses_are_huber_and_half_the_squared_error():
    errors = np.array([-3.0, -1.0, -0.2, 0.0, 0.5, 2.0], "float32")
    huber = keras.losses.Huber(reduction="none")(errors[:, None], np.zeros((6, 1)))
    np.testing.assert_allclose(train_step.LOSSES["huber"](errors), huber, rtol=1e-6)
    np.testing.assert_allclose(train_step.LOSSES["mse"](errors), errors**2 / 2, rtol=1e-6)


def test_stacked_observations_are_merged_on_the_last_axis():
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 6, 3)).astype("uint8")
    merged = train_step.merge_frames(tf.constant(frames)).numpy()
    np.testing.assert_array_equal(merged, np.concatenate(np.moveaxis(frames, 1, 0), axis=-1))
    vectors = frames[:, :, 0, 0].astype("float32")
    merged = train_step.merge_frames(tf.constant(vectors)).numpy()
    np.testing.assert_array_equal(merged, vectors.reshape(2, -1))


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("widths", [(16,), (16, 8)])
def test_numpy_policy_matches_the_network(widths, dueling):
    keras.utils.set_random_seed(0)
    network = zoo.build(
        "vector_dqn", input_shape=(8,), num_classes=12, widths=widths, dueling=dueling
    )
    frames = np.random.default_rng(0).normal(size=(500, 2, 4)).astype("float32")
    expected = train_step.greedy_actions(network, tf.constant(frames)).numpy()
    assert len(set(expected.tolist())) > 4
    found = numpy_policy.policy(network)(frames, *values(network))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("minatar_dqn", {}),
        ("vector_dqn", {"widths": (512, 512)}),
        ("vector_dqn", {"dtype": "mixed_bfloat16"}),
    ],
)
def test_numpy_policy_is_none_for_other_networks(name, options):
    keras.config.set_dtype_policy(options.pop("dtype", "float32"))
    assert numpy_policy.policy(zoo.build(name, **options)) is None


def test_numpy_policy_acts_like_the_graph(monkeypatch):
    def train():
        task = make_task(learning_starts=20, exploration_fraction=0.1)
        data, _, training_model, steps = set_up(task)
        training_model.fit(steps.epoch(0), verbose=0, shuffle=False)
        return data.actors[0].arrays()

    with_numpy = train()
    monkeypatch.setattr(numpy_policy, "policy", lambda network: None)
    with_graph = train()
    assert list(with_numpy) == list(with_graph)
    checks.assert_same(with_numpy.values(), with_graph.values())


# Training step


def test_a_training_step_acts_stores_and_takes_a_gradient_step():
    """The new weights are those of gradient descent on the sampled batch."""
    task = make_task(optimizer="sgd", learning_rate=0.01, schedule="constant", clip_norm=0.0)
    data, model, training_model, steps = set_up(task)
    online, target = (model.get_layer(name) for name in ("online", "target"))
    [actor] = data.actors
    actor.observe()
    assert actor.steps == 60
    before, batches, sample = values(online), [], actor.batch

    def batch():
        batches.append(sample())
        return batches[-1]

    actor.batch = batch
    training_model.steps_per_execution = 1
    training_model.fit(steps.epoch(0).take(1), verbose=0, shuffle=False)
    assert actor.steps == 64
    [(_, sampled, update_target)] = batches
    assert not update_target
    after = values(online)
    for variable, value in zip(online.variables, before, strict=True):
        variable.assign(value)
    targets = train_step.td_targets(online, target, sampled, True)
    with tf.GradientTape() as tape:
        chosen = tf.gather(online(sampled["observations"][:, 0]), sampled["actions"], batch_dims=1)
        loss = tf.reduce_mean(keras.losses.huber(targets[:, None], chosen[:, None]))
    for gradient, old, new in zip(
        tape.gradient(loss, online.trainable_variables), before, after, strict=True
    ):
        np.testing.assert_allclose(new, old - 0.01 * gradient.numpy(), rtol=1e-5, atol=1e-6)


def test_wrong_environment_options_name_their_flag():
    task = make_task(environment_options="[1")
    with pytest.raises(UsageError, match="--environment-options takes YAML"):
        task.load()


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_the_target_network_is_updated_when_due(tau):
    data, model, training_model, steps = set_up(make_task(tau=tau, target_update_frequency=8))
    online, target = (model.get_layer(name) for name in ("online", "target"))
    data.actors[0].observe()
    data.actors[0].steps = 64  # the next training step ends at 68, the one after it at 72
    data.actors[0].target_updates = 8
    before = values(target)
    training_model.steps_per_execution = 1
    for due in (False, True):
        training_model.fit(steps.epoch(0).take(1), verbose=0, shuffle=False)
        for old, new, updated in zip(before, values(online), values(target), strict=True):
            expected = old + tau * (new - old) if due else old
            np.testing.assert_allclose(updated, expected, rtol=1e-6, atol=1e-7)


def test_epsilon_falls_linearly_as_scheduled():
    task = make_task(
        num_envs=1, train_frequency=1, epochs=10, epoch_steps=100, exploration_fraction=0.5
    )
    [actor] = task.load().actors
    actor.observe()
    explored = []
    for step in range(1_000):
        actor.steps = 60 + step
        actor._draw_exploration()
        explored.append(actor.explores[0])
    shares = np.array(explored).reshape(10, 100).mean(1)
    expected = np.maximum(0.05, 1 - 0.95 * (np.arange(10) + 0.5) / 5)
    assert (np.abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / 100)).all()


def test_truncated_episodes_are_bootstrapped_and_terminated_ones_are_not():
    task = make_task(environment_options="{max_episode_steps: 12}", learning_starts=300)
    [actor] = task.load().actors
    actor.observe()
    _, batch, _ = actor.batch()
    ends = actor.replay.ends[: actor.replay.counts[0]]
    assert {1, 2} <= set(ends.tolist())  # terminated, truncated
    indices, sampled = actor.replay.sample(5_000, np.random.default_rng(0))
    terminated = actor.replay.ends[indices] == 1
    assert (sampled["discounts"][terminated] == 0).all()
    np.testing.assert_allclose(sampled["discounts"][~terminated], 0.99, rtol=1e-6)
    assert batch["observations"].shape == (16, 1, 4)


def test_rewards_are_clipped_for_training_but_not_in_returns():
    task = make_task(**{**PIXELS, "clip_rewards": "on", "learning_starts": 100})
    [actor] = task.load().actors
    actor.environments.step = lambda *args, step=actor.environments.step: (
        lambda o, r, *ends: (o, 7 * r, *ends)
    )(*step(*args))
    actor.observe()
    assert set(np.unique(actor.replay.rewards)) <= {-1.0, 0.0, 1.0}
    assert set(actor.recent_returns) <= {-7.0, 7.0}


# Runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder and the record of a run with vector observations."""
    out = tmp_path_factory.mktemp("dqn") / "run"
    return out, trainer.train(make_task(), out)


@pytest.mark.xdist_group("dqn")
def test_report_has_returns_and_a_gif_of_an_episode(run):
    out, record = run
    figures = record["figures"]
    assert figures["min_return"] <= figures["mean_return_low"] <= figures["mean_return"]
    assert figures["mean_return"] <= figures["mean_return_high"] <= figures["max_return"]
    page = (out / "report.html").read_text()
    [gif_data] = re.findall(r"data:image/gif;base64,([^\"]+)", page)
    picture = Image.open(io.BytesIO(base64.b64decode(gif_data)))
    assert picture.n_frames > 3
    assert "Histogram of the returns of 5 episodes." in page
    assert "over 3 validation episodes" in page
    assert f"after {60 + 96 * resume.RunState(out).best} environment steps" in page


@pytest.mark.xdist_group("dqn")
def test_a_saved_agent_is_evaluated_on_splits_of_episodes(run):
    model, about = model_files.load(run[0] / "model.keras")
    assert about["environment"] == "CartPole-v1"
    assert about["task"] == "dqn"
    figures, name = make_task().evaluate(model, about, "")
    recorded = run[1]["figures"]
    assert name == "test[:5]"
    assert figures == {key: recorded[key] for key in figures}
    figures, name = make_task().evaluate(model, about, "validation[:2]")
    assert name == "validation[:2]"
    for split in ("train", "test[2:]", "test[:0]"):
        with pytest.raises(
            UsageError, match="is not a set of episodes; use validation, test, or a slice"
        ):
            make_task().evaluate(model, about, split)
    with pytest.raises(UsageError, match=r"of \(4,\) and has 2 actions; Acrobot-v1 has \(6,\)"):
        make_task(dataset="Acrobot-v1").evaluate(model, about, "")


def test_splits_and_runs_have_different_episode_seeds():
    found = [agent_setup.episode_seeds(0, split, 50) for split in ("validation", "test")]
    found.append(agent_setup.episode_seeds(1, "test", 50))
    assert len({seed for part in found for seed in part}) == 150


@pytest.mark.parametrize("case", [pytest.param("vector", marks=pytest.mark.check), "pixels"])
@pytest.mark.check
def test_a_killed_run_resumes_bit_for_bit(case, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    task = tasks.get("dqn")(**{**CASES[case], "checkpoint_steps": 5})
    trainer.train(task, tmp_path / "whole")
    checks.kill(task, tmp_path / "cut", 13)
    assert resume.RunState(tmp_path / "cut").step == 10
    trainer.train(task, tmp_path / "cut")
    checks.assert_same(*(checks.weights(tmp_path / name) for name in ("whole", "cut")))
    rows = [
        [line.split(",")[:12] for line in (tmp_path / name / "history.csv").read_text().split()]
        for name in ("whole", "cut")
    ]
    header = rows[0][0]
    timed = {header.index(name) for name in ("seconds", "images_per_second") if name in header}
    for a, b in zip(*rows, strict=True):
        assert [x for n, x in enumerate(a) if n not in timed] == [
            x for n, x in enumerate(b) if n not in timed
        ]


def test_an_environment_without_saved_state_starts_new_episodes(capsys):
    [actor] = make_task().load().actors
    actor.observe()
    arrays = {key: np.copy(array) for key, array in actor.arrays().items()}
    setup = make_task().load()
    [other] = setup.actors
    other.environments.resumable = False
    setup.restore({f"0/{key}": array for key, array in arrays.items()})
    assert "episodes start anew" in capsys.readouterr().err
    assert other.episodes == [count + 1 for count in actor.episodes]
    latest = [other.replay._index(ring, other.replay.counts[ring] - 1) for ring in range(2)]
    assert (other.replay.ages[latest] == 0).all()
    _, batch = other.replay.sample(500, np.random.default_rng(0))
    assert np.isfinite(batch["nexts"]).all()


REPLICA_FLAGS = {"strategy": "mirrored", "num_envs": 4, "learning_rate": 0.01}


def test_two_replicas_share_environments_and_batches(two_devices):
    task = make_task(**REPLICA_FLAGS)
    data = task.load()
    assert [len(actor.environments) for actor in data.actors] == [2, 2]
    assert [actor.config.batch_size for actor in data.actors] == [8, 8]
    with pytest.raises(UsageError, match="must be multiples of the number of replicas, 2"):
        make_task(**{**REPLICA_FLAGS, "num_envs": 1}).training(data)


@pytest.mark.check
def test_training_on_two_replicas_is_deterministic(tmp_path, two_devices):
    first, second = (
        trainer.train(make_task(**REPLICA_FLAGS), tmp_path / name) for name in ("first", "second")
    )
    assert first["figures"]["mean_return"] == second["figures"]["mean_return"]
    checks.assert_same(*(checks.weights(tmp_path / name) for name in ("first", "second")))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_envs": 3, "train_frequency": 4}, "one must be a multiple of the other"),
        ({"model": "lenet5"}, "--model lenet5 is a classifier, not an agent"),
        (
            {"model": "nature_dqn"},
            "nature_dqn does not take the observations of CartPole-v1, which are vec",
        ),
        (
            {"dataset": "catch", "model": "vector_dqn"},
            "observations of catch, which are images; try nature_dqn",
        ),
        ({"dataset": "Pendulum-v1"}, "has actions of Box"),
        ({"replay_size": 5, "batch_size": 4}, "enlarge --replay-size"),
        ({"batch_size": 100_000, "replay_size": 400}, "--batch-size 100000 is more than --repl"),
        ({"learning_starts": 1, "n_step": 5}, "--learning-starts 1 gives no transition"),
    ],
)
def test_contradicting_flags_are_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        set_up(make_task(**flags))


# Figures


def test_gif_subsamples_long_episodes():
    frames = [np.full((8, 12, 3), shade % 256, np.uint8) for shade in range(500)]
    animation = Image.open(io.BytesIO(gif.gif(frames)))
    assert animation.size == (12, 8)
    assert 100 < animation.n_frames <= 200
    assert gif.sample_frames(frames, 4).shape == (4, 8, 12, 3)
    assert gif.sample_frames(frames, 4)[:, 0, 0, 0].tolist() == [0, 166, 77, 243]
    assert gif.sample_frames(frames[:2], 4).shape == (2, 8, 12, 3)


def test_learning_curves_have_a_band_from_minimum_to_maximum():
    histories = [
        [{"r": str(v)} for v in run] for run in ([0, 10, 20], [10, 20, 30], [5, 30, 10, 9])
    ]
    figure = metrics.learning_curves(histories, "r", "Return", steps_per_epoch=100)
    assert "mean of 3 runs" in figure
    [band] = re.findall(r'class="band" d="M([^"]+)Z"', figure)
    heights = [float(point.split()[1]) for point in band.split("L")]
    assert len(heights) == 6
    high, low = heights[:3], heights[:2:-1]
    assert all(a < b for a, b in zip(high, low, strict=True))  # y grows downwards
    one = metrics.learning_curves(histories[:1], "r", "Return")
    assert "epoch" in one


def test_return_histogram_counts_each_episode():
    figure = metrics.return_histogram([500.0] * 90 + [100.0] * 10)
    counts = [int(found) for found in re.findall(r">(\d+) of 100 episodes", figure)]
    assert sorted(counts) == [10, 90]
    assert "episodes" in metrics.return_histogram([3.0] * 5)


@pytest.mark.slow
def test_catch_is_solved_from_pixels(tmp_path):
    task = tasks.get("dqn")(
        dataset="catch", environment_options="{cell: 1, border: 0}", epochs=5, epoch_steps=3_000
    )
    assert trainer.train(task, tmp_path / "run")["figures"]["mean_return"] > 0.9


def test_equal_returns_have_no_interval():
    found = metrics.compute_metrics([9.0, 9.0], [9, 9], seed=0)
    assert found["mean_return"] == 9
    assert "mean_return_low" not in found
    assert metrics.compute_metrics([9.0, 11.0], [9, 11], seed=0)["mean_return_low"] == 9
