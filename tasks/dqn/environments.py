"""Environments that an agent acts in: Gymnasium's, and two games of ours, in any number."""

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
IMPORT_MODULES_VARIABLE = (
    "ZOO_IMPORT_MODULES"  # modules to import, with commas between; set by --import-module
)


@dataclass(frozen=True)
class EnvSpec:
    """What is known of an environment before anybody acts in it.

    Attributes:
        name: what the user calls it.
        options: of its maker.
        shape: of an observation: `(height, width, channels)` of an image, `(numbers,)` else.
        actions: how many there are.
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
        """Of observations: whole numbers in [0, 255], or numbers of any size."""
        return "uint8" if self.image else "float32"


def env_spec(name, options=None):
    """Returns the `Facts` of an environment.

    Args:
        name: `catch`, `breakout`, or what Gymnasium calls it, such as `CartPole-v1`.
        options: of its maker, a dict.

    Raises:
        UsageError: there is none of that name, or an agent of ours could not act in it.
    """
    env = make(name, options or {})
    try:
        actions, seen = env.action_space, env.observation_space
        if type(actions).__name__ != "Discrete":
            raise UsageError(
                f"{name} takes actions of {_describe_space(actions)}; dqn chooses among a number "
                "of "
                "actions (Discrete), such as those of CartPole-v1"
            )
        return EnvSpec(name, options or {}, _observation_shape(name, seen), int(actions.n))
    finally:
        env.close()


def make(name, options, **more):
    """Returns one environment, as Gymnasium makes it; raises `UsageError` if there is none.

    Atari's are prepared as in Mnih et al., 2015: grey, 84 x 84, four frames an action.
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
        # The checker looks at each step for faults of the environment, which takes a fifth of it.
        env = gymnasium.make(registered, disable_env_checker=True, **options, **more)
    except (errors.UnregisteredEnv, errors.DeprecatedEnv, ModuleNotFoundError) as error:
        known = [*BUILT_IN, *(each for each in gymnasium.registry if "/" not in each)]
        raise unknown_name_error("environment", name, known) from error
    # What a maker refuses it refuses in its own way.
    except (errors.Error, TypeError, ImportError, ValueError, LookupError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"the environment {name} cannot be made: {reason}") from error
    return gymnasium.wrappers.AtariPreprocessing(env) if atari else env


class Environments:
    """Some environments of one kind, each of which is told when to begin a new episode.

    Nothing begins by itself, so that the last observation of an episode is never lost, as it
    would be where Gymnasium's vector environments begin the next one (`AutoresetMode`).

    Args:
        env_spec: the `Facts`.
        count: how many.
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
        """Begins an episode with a seed; returns the first observation."""
        observation, _ = self.envs[index].reset(seed=seed)
        return self._view(observation) if self._view else observation

    def step(self, index, action):
        """Acts; returns the observation, the reward, and whether the episode was ended by what
        happened (terminated), or by a limit that has nothing to do with it (truncated)."""
        observation, reward, terminated, truncated, _ = self.envs[index].step(action)
        if self._view:
            observation = self._view(observation)
        return observation, reward, terminated, truncated

    def arrays(self):
        """Returns the state of all, if they are `resumable`, as arrays by name."""
        states = [env_state.get_state(env) for env in self.envs] if self.resumable else []
        return {
            f"{n}/{key}": value for n, state in enumerate(states) for key, value in state.items()
        }

    def restore(self, arrays):
        """Gives all the state that `arrays` returned; tells whether there was one."""
        for number, env in enumerate(self.envs if self.resumable else ()):
            known = ("state", "random", "steps")
            env_state.set_state(env, {key: arrays[f"{number}/{key}"] for key in known})
        return self.resumable

    def close(self):
        """Closes all."""
        for env in self.envs:
            env.close()


def _register_games():
    """Loads Gymnasium, and registers the games of ours."""
    try:
        from tasks.dqn import games  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "gymnasium":
            raise
        raise UsageError(
            "environments need Gymnasium: pip install 'keras-zoo[rl]' (or gymnasium)"
        ) from error


def _import_modules(name):
    """Imports the modules that a person, and no recipe, has named.

    Raises:
        UsageError: one cannot be found, or `module:NAME` names one that is not among them: that
            may come from a recipe, and importing a module runs it.
    """
    named = [
        word.strip()
        for word in os.environ.get(IMPORT_MODULES_VARIABLE, "").split(",")
        if word.strip()
    ]
    module, colon, _ = name.partition(":")
    if colon and module not in named:
        raise UsageError(
            f"the environment {name} imports the Python module {module!r}, and so runs it; if you "
            f"trust it, add --import-module {module} (or set {IMPORT_MODULES_VARIABLE}={module})"
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
    """Returns the shape of an observation as an agent is given it."""
    shape, kind = space.shape, getattr(space, "dtype", None)
    if type(space).__name__ == "Box" and len(shape) == 1:
        return shape
    if type(space).__name__ == "Box" and len(shape) in (2, 3) and kind in (np.uint8, np.bool_):
        return (*shape[:2], shape[2] if len(shape) == 3 else 1)
    raise UsageError(
        f"{name} shows {_describe_space(space)}; dqn sees images (a Box of uint8, height by width "
        "by "
        "channels) and vectors (a Box of one axis): wrap the environment so that it gives these"
    )


def _describe_space(space):
    """Says what a space is: `Box (3,) of float32`."""
    shape = f" {space.shape}" if space.shape else ""
    return f"{type(space).__name__}{shape} of {space.dtype}" if space.dtype else f"{space}"


def _image_converter(space):
    """Returns what makes an observation an image of uint8 with channels."""
    factor = 255 if space.dtype == np.bool_ or space.high.max() == 1 else 1
    grey = len(space.shape) == 2

    def view(observation):
        image = np.asarray(observation)
        image = image[:, :, None] if grey else image
        return image * np.uint8(factor) if factor > 1 else image

    return view
