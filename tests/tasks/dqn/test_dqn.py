"""DQN: targets against slow NumPy, steps against what they should change, runs that are killed."""

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
    "replay": 400,
    "batch_size": 16,
    "train_every": 4,
    "environments": 2,
    "target_every": 40,
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
    "pixels": {**PIXELS, "environments": 1, "train_every": 2, "priority": 0.6, "n_step": 3},
}


def made(**flags):
    return tasks.get("dqn")(**{**TINY, **flags})


def parts(task):
    """What the trainer makes of a task: data, the model of both networks, and what learns."""
    keras.utils.set_random_seed(0)
    data = task.load()
    model = task.build(data)
    stream = task.training(data)
    [optimizer] = task.optimizers(model, stream.steps)
    training_model = task.training_model(model, data)
    task.compile(training_model, data, optimizer)
    return data, model, training_model, stream


def values(network):
    return [np.array(weight) for weight in network.variables]


# The targets


def slow(network, x):
    """A vector network by NumPy, in float64."""
    x = np.asarray(x, np.float64)
    *hidden, last = [layer for layer in network.layers if layer.weights]
    for layer in hidden:
        x = np.maximum(x @ np.array(layer.kernel) + np.array(layer.bias), 0)
    return x @ np.array(last.kernel) + np.array(last.bias)


@pytest.mark.parametrize("double", [False, True])
def test_targets_are_those_of_a_slow_formula(double):
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    online, target = (zoo.build("vector_dqn", num_classes=3, widths=(16, 8)) for _ in range(2))
    batch = {
        "nexts": random.normal(size=(50, 1, 4)).astype("float32"),
        "returns": random.normal(size=50).astype("float32"),
        "discounts": random.choice([0, 0.99, 0.99**3], 50).astype("float32"),
    }
    got = train_step.td_targets(
        online, target, {k: tf.constant(v) for k, v in batch.items()}, double
    )
    there, wanted = slow(target, batch["nexts"][:, 0]), []
    judged = slow(online, batch["nexts"][:, 0]) if double else there
    for row in range(50):
        best = max(range(3), key=lambda action: judged[row, action])
        value = batch["returns"][row] + batch["discounts"][row] * there[row, best]
        wanted.append(batch["returns"][row] if batch["discounts"][row] == 0 else value)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_double_and_plain_targets_differ():
    keras.utils.set_random_seed(0)
    online, target = (zoo.build("vector_dqn", num_classes=3, widths=(16, 8)) for _ in range(2))
    nexts = tf.random.stateless_normal((50, 1, 4), (0, 1))
    batch = {"nexts": nexts, "returns": tf.zeros(50), "discounts": tf.ones(50)}
    plain, double = (train_step.td_targets(online, target, batch, each) for each in (False, True))
    assert (plain >= double).numpy().all()
    assert (plain > double).numpy().any()


def test_the_losses_are_huber_and_half_squares():
    errors = np.array([-3.0, -1.0, -0.2, 0.0, 0.5, 2.0], "float32")
    huber = keras.losses.Huber(reduction="none")(errors[:, None], np.zeros((6, 1)))
    np.testing.assert_allclose(train_step.LOSSES["huber"](errors), huber, rtol=1e-6)
    np.testing.assert_allclose(train_step.LOSSES["mse"](errors), errors**2 / 2, rtol=1e-6)


def test_frames_stand_behind_each_other():
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 6, 3)).astype("uint8")
    joined = train_step.merge_frames(tf.constant(frames)).numpy()
    np.testing.assert_array_equal(joined, np.concatenate(np.moveaxis(frames, 1, 0), axis=-1))
    vectors = frames[:, :, 0, 0].astype("float32")
    joined = train_step.merge_frames(tf.constant(vectors)).numpy()
    np.testing.assert_array_equal(joined, vectors.reshape(2, -1))


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("widths", [(16,), (16, 8)])
def test_numpy_chooses_what_the_network_does(widths, dueling):
    keras.utils.set_random_seed(0)
    network = zoo.build(
        "vector_dqn", input_shape=(8,), num_classes=12, widths=widths, dueling=dueling
    )
    frames = np.random.default_rng(0).normal(size=(500, 2, 4)).astype("float32")
    wanted = train_step.greedy_actions(network, tf.constant(frames)).numpy()
    assert len(set(wanted.tolist())) > 4
    chosen = numpy_policy.policy(network)(frames, *values(network))
    np.testing.assert_array_equal(chosen, wanted)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("minatar_dqn", {}),
        ("vector_dqn", {"widths": (512, 512)}),
        ("vector_dqn", {"dtype": "mixed_bfloat16"}),
    ],
)
def test_numpy_is_not_asked_for_other_networks(name, options):
    keras.config.set_dtype_policy(options.pop("dtype", "float32"))
    assert numpy_policy.policy(zoo.build(name, **options)) is None


def test_numpy_acts_as_the_graph_does(monkeypatch):
    def done():
        data, _, training_model, stream = parts(made(learning_starts=20, exploration=0.1))
        training_model.fit(stream.epoch(0), verbose=0, shuffle=False)
        return data.actors[0].arrays()

    quick = done()
    monkeypatch.setattr(numpy_policy, "policy", lambda network: None)
    slow = done()
    assert list(quick) == list(slow)
    checks.assert_same(quick.values(), slow.values())


# A step


def test_a_step_acts_learns_and_remembers():
    """Gradient descent by hand gives what the step gave."""
    task = made(optimizer="sgd", learning_rate=0.01, schedule="constant", clip_norm=0.0)
    data, model, training_model, stream = parts(task)
    online, target = (model.get_layer(name) for name in ("online", "target"))
    [actor] = data.actors
    actor.observe()
    assert actor.steps == 60
    before, batches, draw = values(online), [], actor.batch

    def batch():
        batches.append(draw())
        return batches[-1]

    actor.batch = batch
    training_model.steps_per_execution = 1
    training_model.fit(stream.epoch(0).take(1), verbose=0, shuffle=False)
    assert actor.steps == 64
    [(_, drawn, update_target)] = batches
    assert not update_target
    after = values(online)
    for variable, value in zip(online.variables, before, strict=True):
        variable.assign(value)
    wanted = train_step.td_targets(online, target, drawn, True)
    with tf.GradientTape() as tape:
        chosen = tf.gather(online(drawn["observations"][:, 0]), drawn["actions"], batch_dims=1)
        loss = tf.reduce_mean(keras.losses.huber(wanted[:, None], chosen[:, None]))
    for gradient, old, new in zip(
        tape.gradient(loss, online.trainable_variables), before, after, strict=True
    ):
        np.testing.assert_allclose(new, old - 0.01 * gradient.numpy(), rtol=1e-5, atol=1e-6)


def test_wrong_options_blame_their_own_flag():
    task = made(environment_options="[1")
    with pytest.raises(UsageError, match="--environment-options takes YAML"):
        task.load()


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_the_target_network_follows_when_it_is_due(tau):
    data, model, training_model, stream = parts(made(tau=tau, target_every=8))
    online, target = (model.get_layer(name) for name in ("online", "target"))
    data.actors[0].observe()
    data.actors[0].steps = 64  # the next step ends at 68, the one after it at 72
    data.actors[0].target_updates = 8
    before = values(target)
    training_model.steps_per_execution = 1
    for due in (False, True):
        training_model.fit(stream.epoch(0).take(1), verbose=0, shuffle=False)
        for old, new, follows in zip(before, values(online), values(target), strict=True):
            wanted = old + tau * (new - old) if due else old
            np.testing.assert_allclose(follows, wanted, rtol=1e-6, atol=1e-7)


def test_as_many_actions_are_random_as_the_schedule_says():
    task = made(environments=1, train_every=1, epochs=10, epoch_steps=100, exploration=0.5)
    [actor] = task.load().actors
    actor.observe()
    explored = []
    for step in range(1_000):
        actor.steps = 60 + step
        actor._draw_exploration()
        explored.append(actor.explores[0])
    shares = np.array(explored).reshape(10, 100).mean(1)
    wanted = np.maximum(0.05, 1 - 0.95 * (np.arange(10) + 0.5) / 5)
    assert (np.abs(shares - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / 100)).all()


def test_an_episode_that_a_limit_ends_is_bootstrapped_and_one_that_fails_is_not():
    task = made(environment_options="{max_episode_steps: 12}", learning_starts=300)
    [actor] = task.load().actors
    actor.observe()
    _, batch, _ = actor.batch()
    ends = actor.replay.ends[: actor.replay.counts[0]]
    assert {1, 2} <= set(ends.tolist())  # terminated, truncated
    drawn = actor.replay.sample(5_000, np.random.default_rng(0))
    failed = actor.replay.ends[drawn[0]] == 1
    assert (drawn[1]["discounts"][failed] == 0).all()
    np.testing.assert_allclose(drawn[1]["discounts"][~failed], 0.99, rtol=1e-6)
    assert batch["observations"].shape == (16, 1, 4)


def test_rewards_may_be_clipped_for_learning_alone():
    task = made(**{**PIXELS, "clip_rewards": "on", "learning_starts": 100})
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
    """The folder of a run on a vector, and its record."""
    out = tmp_path_factory.mktemp("dqn") / "run"
    return out, trainer.train(made(), out)


def test_the_report_has_returns_and_a_film(run):
    out, record = run
    figures = record["figures"]
    assert figures["min_return"] <= figures["mean_return_low"] <= figures["mean_return"]
    assert figures["mean_return"] <= figures["mean_return_high"] <= figures["max_return"]
    page = (out / "report.html").read_text()
    [film] = re.findall(r"data:image/gif;base64,([^\"]+)", page)
    picture = Image.open(io.BytesIO(base64.b64decode(film)))
    assert picture.n_frames > 3
    assert "Episodes by their return, 5 in all." in page
    assert "other episodes" in page
    assert f"{60 + 96 * resume.RunState(out).best} steps were taken to learn it" in page


def test_a_saved_agent_acts_by_itself(run):
    model, about = model_files.load(run[0] / "model.keras")
    assert about["environment"] == "CartPole-v1"
    assert about["task"] == "dqn"
    figures, name = made().evaluate(model, about, "")
    recorded = run[1]["figures"]
    assert name == "test[:5]"
    assert figures == {key: recorded[key] for key in figures}
    figures, name = made().evaluate(model, about, "validation[:2]")
    assert name == "validation[:2]"
    for split in ("train", "test[2:]", "test[:0]"):
        with pytest.raises(UsageError, match="names no episodes; there is validation and test"):
            made().evaluate(model, about, split)
    with pytest.raises(UsageError, match=r"sees \(4,\) and has 2 actions; Acrobot-v1 shows \(6,\)"):
        made(dataset="Acrobot-v1").evaluate(model, about, "")


def test_episodes_of_training_choosing_and_judging_have_seeds_of_their_own():
    found = [agent_setup.episode_seeds(0, split, 50) for split in ("validation", "test")]
    found.append(agent_setup.episode_seeds(1, "test", 50))
    assert len({seed for part in found for seed in part}) == 150


@pytest.mark.parametrize("case", CASES)
def test_killed_in_the_middle_a_run_ends_as_if_it_had_not_been(case, tmp_path, monkeypatch):
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


def test_an_environment_that_cannot_be_kept_begins_new_episodes(capsys):
    [actor] = made().load().actors
    actor.observe()
    arrays = {key: np.copy(array) for key, array in actor.arrays().items()}
    setting = made().load()
    [other] = setting.actors
    other.environments.resumable = False
    setting.restore({f"0/{key}": array for key, array in arrays.items()})
    assert "begin anew" in capsys.readouterr().err
    assert other.episodes == [count + 1 for count in actor.episodes]
    latest = [other.replay._index(ring, other.replay.counts[ring] - 1) for ring in range(2)]
    assert (other.replay.ages[latest] == 0).all()
    _, batch = other.replay.sample(500, np.random.default_rng(0))
    assert np.isfinite(batch["nexts"]).all()


def test_two_replicas_act_and_learn_in_step(tmp_path, two_devices):
    flags = {"strategy": "mirrored", "environments": 4, "learning_rate": 0.01}
    record = trainer.train(made(**flags), tmp_path / "r")
    again = trainer.train(made(**flags), tmp_path / "again")
    assert record["figures"]["mean_return"] == again["figures"]["mean_return"]
    checks.assert_same(*(checks.weights(tmp_path / name) for name in ("r", "again")))
    with pytest.raises(UsageError, match="must be multiples of the 2 replicas"):
        trainer.train(made(**{**flags, "environments": 1}), tmp_path / "odd")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"environments": 3, "train_every": 4}, "one must be a multiple of the other"),
        ({"model": "lenet5"}, "lenet5 is a classifier; dqn needs an agent"),
        ({"model": "nature_dqn"}, "CartPole-v1 shows vectors, which nature_dqn does not see; try"),
        ({"dataset": "catch", "model": "vector_dqn"}, "catch shows images, .*; try nature_dqn"),
        ({"dataset": "Pendulum-v1"}, "takes actions of Box"),
        ({"replay": 5}, "enlarge --replay"),
        ({"learning_starts": 1, "n_step": 5}, "--learning-starts 1 leaves nothing to learn from"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(flags, words):
    with pytest.raises(UsageError, match=words):
        parts(made(**flags))


# Pictures


def test_a_film_is_no_longer_than_it_must_be():
    pictures = [np.full((8, 12, 3), shade % 256, np.uint8) for shade in range(500)]
    film = Image.open(io.BytesIO(gif.gif(pictures)))
    assert film.size == (12, 8)
    assert 100 < film.n_frames <= 200
    assert gif.sample_frames(pictures, 4).shape == (4, 8, 12, 3)
    assert gif.sample_frames(pictures, 4)[:, 0, 0, 0].tolist() == [0, 166, 77, 243]
    assert gif.sample_frames(pictures[:2], 4).shape == (2, 8, 12, 3)


def test_bands_lie_between_the_least_and_the_largest():
    histories = [
        [{"r": str(v)} for v in run] for run in ([0, 10, 20], [10, 20, 30], [5, 30, 10, 9])
    ]
    figure = metrics.learning_curves(histories, "r", "Return", steps_per_epoch=100)
    assert "the mean of 3 runs" in figure
    [band] = re.findall(r'class="band" d="M([^"]+)Z"', figure)
    heights = [float(point.split()[1]) for point in band.split("L")]
    assert len(heights) == 6
    high, low = heights[:3], heights[:2:-1]
    assert all(a < b for a, b in zip(high, low, strict=True))  # downwards is more
    one = metrics.learning_curves(histories[:1], "r", "Return")
    assert "epoch" in one


def test_a_spread_counts_every_episode():
    figure = metrics.return_histogram([500.0] * 90 + [100.0] * 10)
    counted = [int(found) for found in re.findall(r">(\d+) of 100 episodes", figure)]
    assert sorted(counted) == [10, 90]
    assert "episodes" in metrics.return_histogram([3.0] * 5)


@pytest.mark.slow
def test_catch_is_learned_from_pixels(tmp_path):
    task = tasks.get("dqn")(
        dataset="catch", environment_options="{cell: 1, border: 0}", epochs=5, epoch_steps=3_000
    )
    assert trainer.train(task, tmp_path / "run")["figures"]["mean_return"] > 0.9


def test_returns_that_are_all_alike_have_no_interval():
    found = metrics.compute_metrics([9.0, 9.0], [9, 9], seed=0)
    assert found["mean_return"] == 9
    assert "mean_return_low" not in found
    assert metrics.compute_metrics([9.0, 11.0], [9, 11], seed=0)["mean_return_low"] == 9
