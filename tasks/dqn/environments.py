"""Gymnasium environments, and two small games, for DQN agents."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

from tasks.dqn import env_state
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, np

gymnasium = LazyModule("gymnasium")

BUILT_IN = {"catch": "zoo/Catch-v0", "breakout": "zoo/Breakout-v0"}
ATARI_PREFIX = "ALE/"
IMPORT_MODULES_VARIABLE = "ZOO_IMPORT_MODULES"  # comma-separated; set by --import-module


@dataclass(frozen=True)
class EnvSpec:
    """The specification of an environment.

    Attributes:
        name: its name on the command line.
        options: keyword arguments of its constructor.
        shape: shape of an observation: `(height, width, channels)` of an image, `(size,)` of a
            vector.
        actions: the number of discrete actions.
    """

    name: str
    options: dict
    shape: tuple[int, ...]
    actions: int

    @property
    def image(self):
        """Whether an observation is an image."""
        return len(self.shape) == 3

    @property
    def dtype(self):
        """The dtype of observations: uint8 in [0, 255] of images, float32 of vectors."""
        return "uint8" if self.image else "float32"


def env_spec(name, options=None):
    """Returns the `EnvSpec` of an environment.

    Args:
        name: `catch`, `breakout`, or a name of Gymnasium's, such as `CartPole-v1`.
        options: keyword arguments of its constructor, a dict.

    Raises:
        UsageError: there is no such environment, or DQN does not support its spaces.
    """
    env = make(name, options or {})
    try:
        actions, observations = env.action_space, env.observation_space
        if type(actions).__name__ != "Discrete":
            raise UsageError(
                f"{name} has actions of {_describe_space(actions)}; dqn needs Discrete actions, as "
                "CartPole-v1 has"
            )
        return EnvSpec(name, options or {}, _observation_shape(name, observations), int(actions.n))
    finally:
        env.close()


def make(name, options, **more):
    """Makes an environment with Gymnasium.

    Atari environments are preprocessed as in Mnih et al., 2015: gray, 84 x 84, four frames per
    action.

    Args:
        name, options: as for `env_spec`.
        **more: further keyword arguments of `gymnasium.make`.

    Raises:
        UsageError: there is no such environment, or its constructor fails.
    """
    _register_games()
    _import_modules(name)
    registered = BUILT_IN.get(name, name)
    atari = name.startswith(ATARI_PREFIX)
    if atari:
        _load_atari(name)
        more = {"frameskip": 1, **more}
    errors = gymnasium.error
    try:
        # The environment checker validates each step, which takes a fifth of its time.
        env = gymnasium.make(registered, disable_env_checker=True, **options, **more)
    except (errors.UnregisteredEnv, errors.DeprecatedEnv, ModuleNotFoundError) as error:
        known = [*BUILT_IN, *(each for each in gymnasium.registry if "/" not in each)]
        raise unknown_name_error("environment", name, known) from error
    # Constructors raise errors of any kind for wrong options.
    except (errors.Error, TypeError, ImportError, ValueError, LookupError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"the environment {name} cannot be created: {reason}") from error
    return gymnasium.wrappers.AtariPreprocessing(env) if atari else env


class Environments:
    """Several environments of one kind, which are reset explicitly.

    They do not reset themselves, so that the last observation of an episode is never lost, unlike
    with Gymnasium's vector environments that start the next episode (`AutoresetMode`).

    Args:
        env_spec: the `EnvSpec`.
        count: the number of environments.
    """

    def __init__(self, env_spec, count):
        self.env_spec = env_spec
        self.envs = [make(env_spec.name, env_spec.options) for _ in range(count)]
        self.resumable = all(map(env_state.is_supported, self.envs))
        space = self.envs[0].observation_space
        self._view = _image_converter(space) if env_spec.image else None

    def __len__(self):
        return len(self.envs)

    def reset(self, index, seed):
        """Starts an episode with a seed; returns the first observation."""
        observation, _ = self.envs[index].reset(seed=seed)
        return self._view(observation) if self._view else observation

    def step(self, index, action):
        """Takes an action in one environment.

        Returns:
            The observation, the reward, whether the episode has terminated (reached a final state),
            and whether it was truncated (by a limit outside of the task).
        """
        observation, reward, terminated, truncated, _ = self.envs[index].step(action)
        if self._view:
            observation = self._view(observation)
        return observation, reward, terminated, truncated

    def arrays(self):
        """Returns the state of all environments as arrays by name; empty unless `resumable`."""
        states = [env_state.get_state(env) for env in self.envs] if self.resumable else []
        return {
            f"{n}/{key}": value for n, state in enumerate(states) for key, value in state.items()
        }

    def restore(self, arrays):
        """Restores the state that `arrays` returned; returns whether it could."""
        for number, env in enumerate(self.envs if self.resumable else ()):
            keys = ("state", "random", "steps")
            env_state.set_state(env, {key: arrays[f"{number}/{key}"] for key in keys})
        return self.resumable

    def close(self):
        """Closes all environments."""
        for env in self.envs:
            env.close()


def _register_games():
    """Imports Gymnasium and registers the games."""
    try:
        from tasks.dqn import games  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "gymnasium":
            raise
        raise UsageError(
            "environments need Gymnasium: pip install 'keras-zoo[rl]' (or gymnasium)"
        ) from error


def _import_modules(name):
    """Imports the modules of `--import-module`, which may register environments.

    Importing a module runs it. A recipe may come from anywhere, so that `module:NAME` in it is not
    enough: the user must name the module too.

    Raises:
        UsageError: a module cannot be found, or `module:NAME` names one that the user did not.
    """
    named = [
        word.strip()
        for word in os.environ.get(IMPORT_MODULES_VARIABLE, "").split(",")
        if word.strip()
    ]
    module, colon, _ = name.partition(":")
    if colon and module not in named:
        raise UsageError(
            f"the environment {name} would run the Python module {module!r}; if you trust it, "
            f"add --import-module {module} (or set {IMPORT_MODULES_VARIABLE}={module})"
        )
    for each in named:
        try:
            importlib.import_module(each)
        except (ModuleNotFoundError, TypeError) as error:  # TypeError of a relative name
            raise UsageError(
                f"--import-module {each}: {error}; install it, or put its folder on PYTHONPATH"
            ) from error


def _load_atari(name):
    try:
        import ale_py
        import cv2  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{name} needs Atari's emulator: pip install ale-py opencv-python-headless"
        ) from error
    gymnasium.register_envs(ale_py)


def _observation_shape(name, space):
    """Returns the shape of an observation as the network gets it."""
    shape, kind = space.shape, getattr(space, "dtype", None)
    if type(space).__name__ == "Box" and len(shape) == 1:
        return shape
    if type(space).__name__ == "Box" and len(shape) in (2, 3) and kind in (np.uint8, np.bool_):
        return (*shape[:2], shape[2] if len(shape) == 3 else 1)
    raise UsageError(
        f"{name} has observations of {_describe_space(space)}; dqn takes images (a Box of uint8, "
        "height by width by channels) and vectors (a Box of one axis); wrap the environment"
    )


def _describe_space(space):
    """Returns a description of a space, such as `Box (3,) of float32`."""
    shape = f" {space.shape}" if space.shape else ""
    return f"{type(space).__name__}{shape} of {space.dtype}" if space.dtype else f"{space}"


def _image_converter(space):
    """Returns a function from an observation to a uint8 image with channels."""
    factor = 255 if space.dtype == np.bool_ or space.high.max() == 1 else 1
    grey = len(space.shape) == 2

    def view(observation):
        image = np.asarray(observation)
        image = image[:, :, None] if grey else image
        return image * np.uint8(factor) if factor > 1 else image

    return view
