"""What an environment knows in the middle of an episode, as plain arrays.

Only of environments that are known here: nothing is pickled, so nothing that is read can run.
"""

from __future__ import annotations

import json

from zoo.lazy import np

KNOWN = {  # where classes are whose `state` is all, besides random numbers: their names
    "gymnasium.envs.classic_control.cartpole": ("CartPoleEnv",),
    "gymnasium.envs.classic_control.mountain_car": ("MountainCarEnv",),
    "gymnasium.envs.classic_control.acrobot": ("AcrobotEnv",),
    "tasks.data.env_games": ("Catch", "Breakout"),
}
STATELESS = ("OrderEnforcing", "PassiveEnvChecker")  # wrappers that know nothing of an episode
CLOCK = "TimeLimit"  # one that knows how old it is


def known(env):
    """Tells whether `read` knows all of an environment's state."""
    inner = type(env.unwrapped)
    wrappers = {type(each).__name__ for each in _wrappers(env)}
    return inner.__name__ in KNOWN.get(inner.__module__, ()) and wrappers <= {CLOCK, *STATELESS}


def read(env):
    """Returns the state of a known environment, in an episode, as arrays by name."""
    generator = json.dumps(env.unwrapped.np_random.bit_generator.state)
    return {
        "state": np.array(env.unwrapped.state),
        "random": np.frombuffer(generator.encode(), np.uint8),
        "steps": np.array([each._elapsed_steps for each in _clocks(env)], np.int64),
    }


def write(env, arrays):
    """Gives a known environment the state that `read` returned."""
    env.reset(seed=0)
    env.unwrapped.state = np.array(arrays["state"])
    env.unwrapped.np_random.bit_generator.state = json.loads(arrays["random"].tobytes())
    for clock, steps in zip(_clocks(env), arrays["steps"], strict=True):
        clock._elapsed_steps = int(steps)


def _wrappers(env):
    while env is not env.unwrapped:
        yield env
        env = env.env


def _clocks(env):
    return [each for each in _wrappers(env) if type(each).__name__ == CLOCK]
