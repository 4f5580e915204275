"""A run that is killed after any step, with several steps per call, ends with the same weights."""

from __future__ import annotations

import signal

import keras
import pytest

import tasks
from tasks.engine import hardware, trainer
from tests.support import checks
from tests.support.tiny_tasks import TINY

pytestmark = pytest.mark.shared_fixtures("whole")
SIGNALS = (signal.SIGINT, signal.SIGKILL)
AT_ONCE = 2  # steps per call; epochs have an odd number of steps
SMALL = {
    "classification": {"batch_size": 16, "train_split": "train[:80]"},
    "lenet5": {"batch_size": 16, "train_split": "train[:80]"},
    "segmentation": {"batch_size": 4, "train_split": "train[:12]"},
    "detection": {"batch_size": 4, "train_split": "train[:12]"},
    "captioning": {"batch_size": 4, "train_split": "train[:12]"},
    "gan": {"batch_size": 16, "train_split": "train[:48]"},
    "style_transfer": {"steps": 3},
    "gatys": {
        "model": "gatys",
        "backbone": "lenet5",
        "backbone_weights": "random",
        "image_size": 32,
        "steps": 3,
        "init": "noise",
        "precision": "float32",
    },
    "dqn": {"epoch_steps": 20, "learning_starts": 20},
    "sequence": {"stride": 80},
}
ALIAS = {"lenet5": "classification", "gatys": "style_transfer"}
TENSORFLOW = ("gan", "dqn")
TIMED = ("seconds", "images_per_second")


def small(case, **flags):
    """A task of an odd number of steps per epoch and a checkpoint after every call."""
    name = ALIAS.get(case, case)
    own = {"model": "mlp", "augment": "none"} if case == "classification" else {}
    flags = {"epochs": 2, "checkpoint_steps": 1, **SMALL[case], **own, **flags}
    return tasks.get(name)(**({} if case == "gatys" else TINY[name]) | flags)


def rows(out):
    return [{k: v for k, v in row.items() if k not in TIMED} for row in checks.history(out)]


@pytest.fixture
def several_steps(monkeypatch):
    """Lets each call of a train function do `AT_ONCE` steps, in every task."""
    monkeypatch.setattr(hardware, "steps_per_execution", lambda flops: AT_ONCE)
    monkeypatch.setattr("tasks.gan.frechet.SUBSETS", 5)


def calls_per_epoch(task):
    """Returns the calls in an epoch, the last of which is short."""
    steps = task.training(task.load()).steps
    steps *= task.stages_with_passes(steps)[0].passes
    assert steps % AT_ONCE
    return -(-steps // AT_ONCE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns a function that trains a case once, uninterrupted; it returns the run folder."""
    done = {}

    def run(case):
        if case not in done:
            done[case] = tmp_path_factory.mktemp(case) / "run"
            trainer.train(small(case), done[case])
        return done[case]

    return run


def assert_ends_the_same(killed, expected, out, steps, by):
    """Asserts that a run that is killed after numbers of calls ends like the run `expected`."""
    checks.kill(killed, out, *steps, by=by)
    trainer.train(killed, out)
    assert rows(out) == rows(expected)
    checks.assert_same_checkpoint(out, expected)
    if killed.name != "style_transfer" or not killed.single_image:
        checks.assert_same(*(checks.weights(each) for each in (out, expected)))


CASES = [pytest.param(case, marks=pytest.mark.xdist_group(f"kill_{case}")) for case in SMALL]


@pytest.mark.parametrize(
    "by",
    [SIGNALS[0], pytest.param(SIGNALS[1], marks=pytest.mark.check)],
    ids=lambda each: each.name,
)
def test_the_last_call_of_an_epoch_ends_at_its_last_step(by, whole, tmp_path, several_steps):
    killed = small("classification")
    calls = calls_per_epoch(killed)
    assert_ends_the_same(killed, whole("classification"), tmp_path / "cut", [calls], by)


@pytest.mark.slow
@pytest.mark.parametrize("by", SIGNALS, ids=lambda each: each.name)
@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_killed_after_every_call_ends_with_the_same_weights(
    case, by, whole, tmp_path, several_steps
):
    killed = small(case)
    if case in TENSORFLOW and keras.backend.backend() != "tensorflow":
        pytest.skip("it trains on TensorFlow only")
    first = [1] * calls_per_epoch(killed)
    # What SIGINT stops is saved; after SIGKILL the last call of an epoch is repeated.
    later = first if by == signal.SIGINT else [2, *first[1:]]
    steps = first + later * (killed.epochs - 1)
    assert_ends_the_same(killed, whole(case), tmp_path / "cut", steps, by)
