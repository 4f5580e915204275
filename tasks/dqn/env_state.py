"""What an environment knows in the middle of an episode, as plain arrays.

Only of environments that are known here: nothing is pickled, so nothing that is read can run.
"""

from __future__ import annotations

import json

from zoo.lazy import np

# where classes are whose `state` is all, besides random numbers: their names
SUPPORTED_ENVIRONMENTS = {
    "gymnasium.envs.classic_control.cartpole": ("CartPoleEnv",),
    "gymnasium.envs.classic_control.mountain_car": ("MountainCarEnv",),
    "gymnasium.envs.classic_control.acrobot": ("AcrobotEnv",),
    "tasks.dqn.games": ("Catch", "Breakout"),
}
STATELESS_WRAPPERS = (
    "OrderEnforcing",
    "PassiveEnvChecker",
)  # wrappers that know nothing of an episode
TIME_LIMIT_WRAPPER = "TimeLimit"  # one that knows how old it is


def is_supported(env):
    """Tells whether `read` knows all of an environment's state."""
    inner = type(env.unwrapped)
    wrappers = {type(each).__name__ for each in _wrappers(env)}
    return inner.__name__ in SUPPORTED_ENVIRONMENTS.get(inner.__module__, ()) and wrappers <= {
        TIME_LIMIT_WRAPPER,
        *STATELESS_WRAPPERS,
    }


def get_state(env):
    """Returns the state of a known environment, in an episode, as arrays by name."""
    generator = json.dumps(env.unwrapped.np_random.bit_generator.state)
    return {
        "state": np.array(env.unwrapped.state),
        "random": np.frombuffer(generator.encode(), np.uint8),
        "steps": np.array([each._elapsed_steps for each in _time_limits(env)], np.int64),
    }


def set_state(env, arrays):
    """Gives a known environment the state that `read` returned."""
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
