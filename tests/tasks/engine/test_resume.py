"""A run that is killed at any moment and resumed ends with the same weights, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import tasks
from tasks.engine import resume, trainer
from tests.support import checks

FLAGS = {
    "model": "convnet",
    "model_options": "{depths: [1, 1], widths: [4, 8], head: pool, hidden: [], conv_dropout: 0.3}",
    "train_split": "train[32:80]",
    "validation_split": "train[:32]",
    "test_split": "test[:32]",
    "epochs": 3,
    "plan": "full",
    "batch_norm": "frozen",
    "batch_size": 4,
    "precision": "float32",
    "checkpoint_steps": 1,
    "augment": "light",
    "ema_decay": 0.9,
}
PLANS = {
    "stages": "[{learn: head, epochs: 1, passes: 2}, {learn: stage1, epochs: 1, decay: 0.5}, "
    "{learn: all, epochs: 1, batch_norm: update}]",
    "recalibrated": "[{learn: all, epochs: 3, batch_norm: recalibrate}]",
}


def make_task(**flags):
    return tasks.get("classification")(**{**FLAGS, **flags})


def assert_same_end(one, other):
    checks.assert_same(checks.weights(one), checks.weights(other))
    for name in ("epoch", "loss", "accuracy", "val_loss", "learning_rate"):
        assert checks.column(one, name) == checks.column(other, name)


pytestmark = pytest.mark.shared_fixtures("whole")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
        trainer.train(make_task(), out / "run")
    return out / "run"


@pytest.mark.check
def test_the_plateau_schedule_is_resumed(tmp_path, monkeypatch):
    """The accuracy falls each epoch; the interruption is after the rate has dropped once."""
    make, seen = tasks.get("classification"), []
    monkeypatch.setattr(make, "validate", lambda *args: {"accuracy": 1.0 / args[-1]})
    flags = {"model": "mlp", "model_options": "{widths: [8]}", "plan": "scratch", "epochs": 5}
    flags |= {
        "schedule": "plateau",
        "decay_factor": 0.5,
        "plateau_patience": 1,
        "checkpoint_steps": 0,
    }
    trainer.train(make_task(**flags), tmp_path / "whole")
    rates = checks.column(tmp_path / "whole", "learning_rate")
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4])
    save = resume.RunState.save

    def stop(state, arrays, **options):
        save(state, arrays, **options)
        seen.append(state.epoch)
        if state.epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume.RunState, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(make_task(**flags), tmp_path / "cut")
    trainer.train(make_task(**flags), tmp_path / "cut")
    assert seen == [1, 2, 3]
    checks.assert_same(checks.weights(tmp_path / "whole"), checks.weights(tmp_path / "cut"))
    for name in ("epoch", "loss", "accuracy", "learning_rate"):
        whole, cut = (checks.column(tmp_path / run, name) for run in ("whole", "cut"))
        assert whole == cut


@pytest.fixture
def small_steps(monkeypatch):
    """Makes Keras call back after each step, so that a run can be killed after any of them."""
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)


@pytest.mark.check
@pytest.mark.parametrize("plan", ["stages", pytest.param("recalibrated", marks=pytest.mark.slow)])
def test_a_run_of_several_stages_that_is_killed_twice_ends_with_the_same_weights(
    plan, tmp_path, small_steps
):
    killed = make_task(plan=PLANS[plan])
    trainer.train(killed, tmp_path / "whole")
    checks.kill(killed, tmp_path / "cut", 7, 9)
    trainer.train(killed, tmp_path / "cut")
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.check  # as that of several stages
def test_a_run_that_is_killed_twice_ends_with_the_same_weights(whole, tmp_path, small_steps):
    checks.kill(make_task(), tmp_path / "cut", 7, 9)
    trainer.train(make_task(), tmp_path / "cut")
    assert_same_end(whole, tmp_path / "cut")


@pytest.mark.check
def test_a_run_killed_while_it_writes_a_checkpoint_resumes_from_the_one_before(
    whole, tmp_path, monkeypatch, small_steps
):
    savez, calls = np.savez, []

    def write_half_and_die(path, **arrays):
        savez(path, **arrays)
        calls.append(path)
        if len(calls) == 7:
            os.truncate(path, os.path.getsize(path) // 2)
            raise checks.Killed

    with monkeypatch.context() as patch:
        patch.setattr(resume.np, "savez", write_half_and_die)
        with pytest.raises(checks.Killed):
            trainer.train(make_task(), tmp_path / "cut")
    state = resume.RunState(tmp_path / "cut")
    assert (state.epoch, state.step) == (0, 6)
    trainer.train(make_task(), tmp_path / "cut")
    assert_same_end(whole, tmp_path / "cut")


@pytest.mark.check
def test_a_run_killed_before_the_state_names_the_new_checkpoint_resumes_from_the_one_before(
    whole, tmp_path, monkeypatch, small_steps
):
    write_text = resume.write_text

    def die_at_the_end_of_epoch_two(path, text):
        if path.name == "state.json" and '"epoch": 2' in text:
            raise checks.Killed
        write_text(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(resume, "write_text", die_at_the_end_of_epoch_two)
        with pytest.raises(checks.Killed):
            trainer.train(make_task(), tmp_path / "cut")
    trainer.train(make_task(), tmp_path / "cut")
    assert_same_end(whole, tmp_path / "cut")


@pytest.mark.check
def test_the_latest_checkpoints_are_kept(tmp_path, small_steps):
    flags = {"model": "mlp", "model_options": "{widths: [8]}", "plan": "scratch"}
    trainer.train(make_task(keep_checkpoints=3, epochs=1, **flags), tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoint").glob("*.npz"))
    assert names == [f"epoch-{e:04}-step-{s:07}.npz" for e, s in ((0, 10), (0, 11), (1, 0))]


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    arrays = resume.variable_values(model.variables, "run")
    with pytest.raises(ValueError, match="another version"):
        resume.assign_values(model.variables, {"run/0": arrays["run/1"]}, "run")


def test_bfloat16_survives_a_checkpoint(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])
    state = resume.RunState(tmp_path)
    state.save(resume.variable_values(model.variables, "run"))
    kept = [np.array(v).tobytes() for v in model.variables]
    for variable in model.variables:
        variable.assign(variable + 1)
    resume.assign_values(model.variables, state.read(state.weights), "run")
    assert [np.array(v).tobytes() for v in model.variables] == kept


def command(out, **flags):
    flags = {**FLAGS, "batch_size": 8, "epochs": 2, "checkpoint_steps": 2, **flags}
    words = [word for key, value in flags.items() for word in (f"--{key.replace('_', '-')}", value)]
    return [sys.executable, "-m", "scripts", "train", "classification", "--out", out, *words]


def run(out, said=subprocess.DEVNULL, **flags):
    return subprocess.Popen(
        [str(word) for word in command(out, **flags)],
        stdout=subprocess.DEVNULL,
        stderr=said,
        text=True,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
    )


def steps_done(out):
    state = resume.RunState(out)
    return state.epoch, state.step


@pytest.mark.check
def test_ctrl_c_saves_a_checkpoint_and_prints_how_to_resume(tmp_path):
    flags = {"model": "mlp", "model_options": "{widths: [8]}", "plan": "scratch"}
    process = run(tmp_path, subprocess.PIPE, epochs=1000, checkpoint_steps=0, **flags)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint" / "state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
        if process.poll() is not None:
            pytest.fail(process.communicate()[1])
    process.send_signal(signal.SIGINT)  # in a later epoch
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command resumes after" in said
    epoch, _ = steps_done(tmp_path)
    assert epoch >= 1


@pytest.mark.slow
def test_a_process_killed_at_ten_random_moments_ends_with_the_same_weights(tmp_path):
    flags = {"model": "resnet20", "model_options": "{depths: [1, 1, 1]}"}
    flags |= {"train_split": "train[32:2080]"}
    assert run(tmp_path / "whole", **flags).wait() == 0
    draw, places = random.Random(0), []
    for _ in range(10):
        process = run(tmp_path / "cut", **flags)
        before, started = steps_done(tmp_path / "cut"), time.monotonic()
        while steps_done(tmp_path / "cut") == before and time.monotonic() - started < 120:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        assert process.poll() is None, "it was over before it could be killed"
        process.kill()
        process.wait()
        places.append(steps_done(tmp_path / "cut"))
    assert len(set(places)) == 10
    assert run(tmp_path / "cut", **flags).wait() == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")
