"""Saves and restores the state of an environment within an episode, as plain arrays.

Only known environments are supported: nothing is pickled, so that no file can run code.
"""

from __future__ import annotations

import json

from zoo.lazy import np

# Environments whose `state`, with their random generator, is all their state: classes by module.
SUPPORTED_ENVIRONMENTS = {
    "gymnasium.envs.classic_control.cartpole": ("CartPoleEnv",),
    "gymnasium.envs.classic_control.mountain_car": ("MountainCarEnv",),
    "gymnasium.envs.classic_control.acrobot": ("AcrobotEnv",),
    "tasks.dqn.games": ("Catch", "Breakout"),
}
STATELESS_WRAPPERS = ("OrderEnforcing", "PassiveEnvChecker")
TIME_LIMIT_WRAPPER = "TimeLimit"  # its state is the number of elapsed steps


def is_supported(env):
    """Returns whether `get_state` returns all of an environment's state."""
    inner = type(env.unwrapped)
    wrappers = {type(each).__name__ for each in _wrappers(env)}
    return inner.__name__ in SUPPORTED_ENVIRONMENTS.get(inner.__module__, ()) and wrappers <= {
        TIME_LIMIT_WRAPPER,
        *STATELESS_WRAPPERS,
    }


def get_state(env):
    """Returns the state of a supported environment as a dict of arrays by name."""
    generator = json.dumps(env.unwrapped.np_random.bit_generator.state)
    return {
        "state": np.array(env.unwrapped.state),
        "random": np.frombuffer(generator.encode(), np.uint8),
        "steps": np.array([each._elapsed_steps for each in _time_limits(env)], np.int64),
    }


def set_state(env, arrays):
    """Sets the state of a supported environment to one that `get_state` returned."""
    env.reset(seed=0)
    env.unwrapped.state = np.array(arrays["state"])
    env.unwrapped.np_random.bit_generator.state = json.loads(arrays["random"].tobytes())
    for time_limit, steps in zip(_time_limits(env), arrays["steps"], strict=True):
        time_limit._elapsed_steps = int(steps)


def _wrappers(env):
    while env is not env.unwrapped:
        yield env
        env = env.env


def _time_limits(env):
    return [each for each in _wrappers(env) if type(each).__name__ == TIME_LIMIT_WRAPPER]
