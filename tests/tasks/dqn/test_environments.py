"""Environments: specifications, saved state, rendering, and the two games."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest

from tasks.dqn import environments, games, render
from zoo.errors import UsageError

SUPPORTED = ["catch", "breakout", "CartPole-v1", "MountainCar-v0", "Acrobot-v1"]


class AnySpaces(gymnasium.Env):
    """An environment with given spaces."""

    def __init__(self, space, actions=2):
        self.observation_space, self.action_space = space, gymnasium.spaces.Discrete(actions)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}


@pytest.fixture
def register():
    """Returns a function that registers an environment with a space of observations by a name."""
    names = []

    def register(space, **options):
        name = f"test/AnySpaces{len(names)}-v0"
        gymnasium.register(name, entry_point=lambda: AnySpaces(space), **options)
        names.append(name)
        return name

    yield register
    for name in names:
        gymnasium.registry.pop(name)


def test_specifications():
    assert environments.env_spec("CartPole-v1") == environments.EnvSpec("CartPole-v1", {}, (4,), 2)
    found = environments.env_spec("catch", {"cell": 1, "border": 0})
    assert (found.shape, found.actions, found.dtype, found.image) == ((10, 10, 1), 3, "uint8", True)
    assert environments.env_spec("breakout").shape == (42, 42, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pendulum-v1", r"Pendulum-v1 has actions of Box \(1,\) of float32; dqn needs Discrete"),
        (
            "FrozenLake-v1",
            "FrozenLake-v1 has observations of Discrete of int64; dqn takes images .* and vec",
        ),
        ("Blackjack-v1", "Blackjack-v1 has observations of Tuple"),
        ("CartPol-v1", "no environment named 'CartPol-v1'; did you mean CartPole-v1"),
        ("cach", "did you mean catch"),
        ("CartPole-v7", "no environment named 'CartPole-v7'; did you mean CartPole-v1"),
        ("nowhere:Thing-v0", "would run the Python module .nowhere."),
    ],
)
def test_unsupported_environments_are_refused(name, message):
    with pytest.raises(UsageError, match=message):
        environments.env_spec(name)


def test_float_images_and_wrong_options_are_refused(register):
    pixels = gymnasium.spaces.Box(0, 1, (8, 8, 3), np.float32)
    with pytest.raises(
        UsageError, match=r"has observations of Box \(8, 8, 3\) of float32; dqn takes images"
    ):
        environments.env_spec(register(pixels))
    with pytest.raises(UsageError, match=r"the environment catch cannot be created: .*'cells'"):
        environments.env_spec("catch", {"cells": 2})


def test_modules_are_imported_only_if_the_user_names_them(tmp_path, monkeypatch):
    (tmp_path / "registering.py").write_text("import tally")
    (tmp_path / "tally.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    name = "registering:CartPole-v1"
    with pytest.raises(UsageError, match="if you trust it, add --import-module register"):
        environments.env_spec(name)
    monkeypatch.setenv(environments.IMPORT_MODULES_VARIABLE, "os, json")
    with pytest.raises(UsageError, match="--import-module registering"):
        environments.env_spec(name)
    assert not {"registering", "tally"} & set(sys.modules)
    monkeypatch.setenv(environments.IMPORT_MODULES_VARIABLE, "registering")
    assert environments.env_spec(name).shape == (4,)
    assert environments.env_spec("CartPole-v1").shape == (4,)
    assert {"registering", "tally"} <= set(sys.modules)
    for wrong in ("no_such_module", ".relative"):
        monkeypatch.setenv(environments.IMPORT_MODULES_VARIABLE, wrong)
        with pytest.raises(UsageError, match=rf"--import-module {wrong}: .*PYTHONPATH"):
            environments.env_spec("CartPole-v1")


def test_missing_packages_are_named_with_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UsageError, match="needs Atari's emulator: pip install ale-py"):
        environments.env_spec("ALE/Pong-v5")
    monkeypatch.delitem(sys.modules, "tasks.dqn.games")
    monkeypatch.delattr("tasks.dqn.games", raising=False)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(UsageError, match=r"pip install 'keras-zoo\[rl\]'"):
        environments.env_spec("CartPole-v1")


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Box(0, 1, (6, 5, 4), np.bool_),
        gymnasium.spaces.Box(0, 1, (6, 5), np.uint8),
        gymnasium.spaces.Box(0, 255, (6, 5), np.uint8),
    ],
    ids=["bool", "0 and 1", "grey"],
)
def test_images_of_any_kind_are_converted_to_uint8(register, space):
    env_spec = environments.env_spec(register(space))
    assert env_spec.shape == (6, 5, space.shape[2] if len(space.shape) == 3 else 1)
    envs = environments.Environments(env_spec, 1)
    image = envs.reset(0, 1)
    assert (image.shape, image.dtype) == (env_spec.shape, np.uint8)
    if space.high.max() == 1:
        assert set(np.unique(image)) == {0, 255}


def test_termination_and_truncation_are_distinguished():
    env_spec = environments.env_spec("CartPole-v1", {"max_episode_steps": 3})
    envs = environments.Environments(env_spec, 2)
    for index in range(2):
        envs.reset(index, index)
    outcomes = [envs.step(0, 1)[2:] for _ in range(3)]
    assert outcomes == [(False, False), (False, False), (False, True)]
    full = environments.Environments(environments.env_spec("CartPole-v1"), 1)
    first, ended = full.reset(0, 3), False
    while not ended:
        last, _, ended, truncated = full.step(0, 1)
    assert not truncated
    assert abs(last[2]) > 0.2095 > abs(first[2])  # the observation in which the pole has fallen


@pytest.mark.parametrize("name", SUPPORTED)
def test_state_within_an_episode_is_restored(name):
    env_spec = environments.env_spec(name)
    one, other = (environments.Environments(env_spec, 2) for _ in range(2))
    assert one.resumable
    for index in range(2):
        one.reset(index, 10 + index)
    for _ in range(5):
        one.step(0, 1)
    assert other.restore({key: array.copy() for key, array in one.arrays().items()})
    for index in (0, 1):
        for step in range(12):
            outcomes = [each.step(index, step % env_spec.actions) for each in (one, other)]
            np.testing.assert_array_equal(outcomes[0][0], outcomes[1][0])
            assert outcomes[0][1:] == outcomes[1][1:]
            if any(outcomes[0][2:]):
                break
    random = [each.envs[0].unwrapped.np_random.integers(10**9) for each in (one, other)]
    assert random[0] == random[1]


def test_state_of_unknown_environments_is_not_saved(register):
    envs = environments.Environments(
        environments.env_spec(register(gymnasium.spaces.Box(-1, 1, (3,), np.float64))), 1
    )
    assert not envs.resumable
    assert envs.arrays() == {}
    assert not envs.restore({})


# The games


def test_catch_rewards_following_the_ball():
    env_spec = environments.env_spec("catch")
    game = environments.Environments(env_spec, 1)
    inner = game.envs[0].unwrapped
    for follows, expected in ((1, 1.0), (-1, -1.0)):
        for seed in range(20):
            game.reset(0, seed)
            ended, rewards = False, []
            while not ended:
                _, column, paddle = inner.state
                direction = np.sign(column - paddle) or (0 if follows > 0 else 1)
                _, reward, ended, _ = game.step(0, 1 + follows * int(direction))
                rewards.append(reward)
            assert rewards == [*[0.0] * (len(rewards) - 1), rewards[-1]]
            assert len(rewards) == games.BOARD_SIZE - 1
            if inner.state[1] not in (0, 9):
                assert rewards[-1] == expected


def test_observation_shows_the_state():
    game = games.Catch(cell=3, border=2)
    image, _ = game.reset(seed=0)
    _, column, paddle = game.state
    assert image.shape == (34, 34, 1)
    assert image.sum() == 255 * 9 * 2
    assert (image[2:5, 2 + 3 * column : 5 + 3 * column] == 255).all()
    assert (image[29:32, 2 + 3 * paddle : 5 + 3 * paddle] == 255).all()


def follow(state):
    """Returns the action that moves the paddle to where the ball will land."""
    y, x, down, right, paddle, _ = state[:6]
    if down > 0:
        for _ in range(9 - y - 1):
            right = -right if not 0 <= x + right < 10 else right
            x = min(max(x + right, 0), 9)
    return 1 + int(np.sign(x - paddle))


def test_breakout_removes_and_replaces_bricks():
    game = games.Breakout()
    game.reset(seed=1)
    total, left, steps = 0.0, 30, 0
    while total < 45 and steps < 3_000:
        before = game.state[6:].sum()
        image, reward, over, _, _ = game.step(follow(game.state))
        steps += 1
        assert image.shape == (42, 42, 1)
        after = game.state[6:].sum()
        assert after == before - reward or (after == 30 and before == 0)
        total, left = total + reward, after
        if over:
            break
    assert total >= 20, (total, left, steps)


def test_breakout_ends_when_the_paddle_misses():
    game = games.Breakout()
    game.reset(seed=1)
    for _ in range(100):
        _, _, over, _, _ = game.step(0)
        if over:
            return
    pytest.fail("a paddle in the corner never missed")


def test_only_images_and_carts_are_rendered():
    image = render.EpisodeRenderer(environments.env_spec("catch"), 1)
    image.draw(None, np.zeros((42, 42, 1), np.uint8))
    image.draw(None, np.zeros((42, 42, 1), np.uint8))
    assert [frame.shape for frame in image.frames] == [(168, 168, 3)]
    env_spec = environments.env_spec("CartPole-v1")
    cart = render.EpisodeRenderer(env_spec, 5)
    for angle in (-0.2, 0.2):
        cart.draw(environments.make("CartPole-v1", {}), np.array([0, 0, angle, 0]))
    left, right = (frame[:60].sum(axis=2) for frame in cart.frames)
    assert (left == right[:, ::-1]).mean() > 0.97
    assert (left != right).any()
    none = render.EpisodeRenderer(env_spec, 5)
    none.draw(environments.make("MountainCar-v0", {}), np.zeros(2))
    assert none.frames == []
