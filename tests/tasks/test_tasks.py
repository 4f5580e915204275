"""The contract of tasks: what every name in `tasks` must do.

Each task is trained on a few images.
"""

import argparse
import dataclasses
import json
import math
import re
import zipfile

import keras
import numpy as np
import pytest
import yaml

import tasks
from scripts import _flags
from tasks.classification import report as classification_report
from tasks.data import data_fingerprint
from tasks.distributed import strategies
from tasks.engine import callbacks, finetune, recipes, resume, trainer, training_run
from tests.support import checks
from tests.support.tiny_tasks import TINY, tiny
from zoo import model_files
from zoo.errors import UsageError

FURTHER_FILES = {"style_transfer": ("picture.png",)}  # in the run folder of a task
TIMES = {"seconds", "images_per_second"}


def figures(record):
    """Returns the figures of a report that a second run must repeat."""
    return {key: value for key, value in record["figures"].items() if key not in TIMES}


# Tasks that take long: `make check` or `--slow` runs for them what others show in `make test`.
LONG = ("captioning", "detection", "segmentation", "style_transfer")
QUICK = ("classification", "dqn")  # which train in a few seconds
MLP = {"model": "mlp", "model_options": "{widths: [16]}", "augment": "none"}


def each(*, check=(), slow=()):
    """Returns all tasks; the tests of one share a run, so they run in one process."""
    marks = {name: [pytest.mark.xdist_group(name)] for name in tasks.names()}
    for name in check:
        marks[name].append(pytest.mark.check)
    for name in slow:
        marks[name].append(pytest.mark.slow)
    return [pytest.param(name, marks=marks[name]) for name in marks]


EACH = each(check=(*LONG, "gan", "sequence"))  # whose own tests train such runs
# Of GANs and style transfer, their own tests resume runs that were killed within an epoch.
EACH_INTERRUPTED = each(check=set(tasks.names()) - set(QUICK), slow=("gan", "style_transfer"))
SHORT = each(check=("gan", "dqn", "sequence"), slow=LONG)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns a function that trains a task once; it returns the report and the run folder."""
    done = {}

    def run(name):
        if name not in done:
            out = tmp_path_factory.mktemp(name) / "run"
            done[name] = trainer.train(tiny(name), out), out
        return done[name]

    return run


def test_every_task_has_a_tiny_version():
    assert sorted(TINY) == sorted(tasks.names())


@pytest.mark.parametrize("name", tasks.names())
def test_every_flag_has_help_and_a_default_of_a_plain_type(name):
    for field in dataclasses.fields(tasks.get(name)):
        assert field.metadata["help"], f"{name}.{field.name} has no help"
        assert isinstance(field.default, int | float | str)
        choices = field.metadata["choices"]
        assert not choices or field.default in choices


@pytest.mark.parametrize("name", tasks.names())
def test_the_help_of_patience_names_the_monitored_figure(name):
    task = tiny(name)
    (field,) = (field for field in dataclasses.fields(task) if field.name == "patience")
    column = task.monitor[0].removeprefix("-")
    names = {column, task.curves.get(column.removeprefix("val_"), column)}
    assert any(f"without a better {name}" in field.metadata["help"] for name in names) or (
        f"({column} of imbalanced classes)" in field.metadata["help"]
    )


@pytest.mark.parametrize("name", tasks.names())
def test_every_number_has_a_finite_range_and_values_outside_of_it_are_refused(name):
    make = tasks.get(name)
    numbers = [f for f in dataclasses.fields(make) if type(f.default) in (int, float)]
    assert len(numbers) > 10
    for field in numbers:
        low, high = field.metadata["low"], field.metadata["high"]
        assert -math.inf < low <= field.default <= high < math.inf, field.name
        wrong = {low - 1, high + 1, 10**23}
        if type(field.default) is float:
            wrong |= {math.nan, math.inf, -math.inf, 1e23}
        message = f"--{field.name.replace('_', '-')} must be from {low:.15g} to {high:.15g}, not "
        for value in wrong:
            with pytest.raises(UsageError, match=re.escape(message)):
                make(**{field.name: value})


@pytest.mark.parametrize(
    ("flags", "bounds"),
    [
        ({"learning_rate": math.inf}, "0 to 1000000"),
        ({"label_smoothing": 3.0}, "0 to 1"),
        ({"momentum": math.inf}, "0 to 1"),
        ({"ema_decay": 5.0}, "0 to 0.999999"),
        ({"l1": math.inf}, "0 to 1000000"),
        ({"patience": -1}, "0 to 1000000000"),
        ({"seed": 2**32}, "0 to 4294967295"),
        ({"gradient_accumulation_steps": 10**23}, "1 to 1000000000"),
        ({"dropout": 1.0}, "0 to 0.99"),
    ],
    ids=str,
)
def test_the_error_for_a_number_out_of_range_states_the_range(flags, bounds):
    with pytest.raises(UsageError, match=rf"must be from {bounds}, not"):
        tasks.get("classification")(**flags)


@pytest.mark.parametrize("name", EACH)
def test_a_run_leaves_the_files_and_figures_of_the_contract(name, whole):
    record, out = whole(name)
    assert json.loads((out / "report.json").read_text()) == record
    assert set(record) == {
        *("task", "flags", "figures", "times", "environment"),
        *("data", "data_licence", "title", "lead", "class_figures"),
    }
    assert record["figures"]["seconds"] == pytest.approx(sum(record["times"].values()))
    assert all(math.isfinite(value) for value in record["figures"].values())
    left = {path.name for path in out.iterdir()}
    assert left == {
        *("recipe.yaml", "report.json", "report.html", "history.csv", "model.keras"),
        "README.md",
        *("logs", "checkpoint"),
        *(("predictions",) if tasks.get(name).has_image_results else ()),
        *FURTHER_FILES.get(name, ()),
    }
    with zipfile.ZipFile(out / "model.keras") as archive:
        assert not json.loads(archive.read("config.json")).get("compile_config")
    assert len(checks.history(out)) == 2
    recipe = recipes.read_recipe(out / "recipe.yaml")
    resolved = recipe["resolved"]
    left = [
        key for key in ("precision", "jit_compile", "features", "strategy") if recipe[key] == "auto"
    ]
    left += ["image_bits"] if "image_bits" in recipe else []
    assert sorted(resolved) == sorted(left)
    again = recipes.task_from_recipe(recipe)
    assert recipes.recipe(again) == recipes.recipe(dataclasses.replace(tiny(name), **resolved))
    assert resume.check_folder(out, again)
    assert resume.check_folder(out, tiny(name))


WITH_SPLITS = [
    name
    for name in sorted(tasks.names())
    if "train_split" in {field.name for field in dataclasses.fields(tasks.get(name))}
]


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[pytest.mark.check] * (x in LONG)) for x in WITH_SPLITS],
)
def test_the_data_fingerprint_depends_on_the_content(name):
    found = [
        task.data_fingerprint(task.load())
        for task in (tiny(name), tiny(name), tiny(name, train_split="train[1:17]"))
    ]
    assert found[0] == found[1] == json.loads(json.dumps(found[0]))
    assert {"train", "validation", "test"} <= found[0]["splits"].keys()
    assert data_fingerprint.differences(found[0], found[2])[0].startswith("train had ")


def test_a_recipe_stores_what_auto_was_resolved_to_and_flags_override_it():
    task = tiny("classification", precision="auto")
    recipe = recipes.recipe(task)
    resolved = {
        "precision": "mixed_bfloat16",
        "jit_compile": "on",
        "features": "off",
        "strategy": "one",
    }
    again = recipes.task_from_recipe({**recipe, "resolved": resolved})
    assert {name: getattr(again, name) for name in resolved} == resolved
    flagged = recipes.task_from_recipe({**recipe, "resolved": resolved, "precision": "float32"})
    assert (flagged.precision, flagged.jit_compile) == ("float32", "on")


def test_flags_set_to_auto_override_a_recipe_too(tmp_path):
    recipe = recipes.recipe(tiny("classification", precision="auto"))
    path = tmp_path / "recipe.yaml"
    resolved = {"precision": "mixed_bfloat16", "strategy": "one", "image_bits": 12}
    path.write_text(yaml.safe_dump({**recipe, "resolved": resolved}))

    def resolved_flags(**given):
        found = _flags.task_from_args(None, argparse.Namespace(recipe=str(path), **given))
        return found.precision, found.strategy, found.image_bits

    assert resolved_flags() == ("mixed_bfloat16", "one", 12)
    assert resolved_flags(precision="auto") == ("auto", "one", 12)
    assert resolved_flags(strategy="auto", image_bits=0) == ("mixed_bfloat16", "auto", 0)
    assert resolved_flags(dataset="shapes") == ("mixed_bfloat16", "one", 0)


@pytest.mark.parametrize("name", EACH)
def test_a_finished_run_is_not_trained_again(name, whole):
    first, out = whole(name)
    before = (out / "model.keras").stat().st_mtime_ns
    assert trainer.train(tiny(name), out) == first
    assert (out / "model.keras").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", each(check=("dqn", "sequence"), slow=("gan", *LONG)))
def test_another_seed_gives_other_losses(name, tmp_path, whole, cut_short):
    _, out = whole(name)
    cut_short(tiny(name, seed=1), tmp_path)
    assert resume.RunState(tmp_path).history[0]["loss"] != checks.column(out, "loss")[0]


@pytest.mark.parametrize("name", EACH_INTERRUPTED)
def test_an_interrupted_and_resumed_run_ends_with_the_same_figures(
    name, tmp_path, whole, cut_short
):
    record, out = whole(name)
    assert cut_short(tiny(name), tmp_path / "cut") == [1]
    assert not (tmp_path / "cut/report.json").exists()

    again = trainer.train(tiny(name), tmp_path / "cut")
    assert figures(again) == figures(record)
    assert checks.column(tmp_path / "cut", "loss") == checks.column(out, "loss")


@pytest.mark.parametrize("name", SHORT)  # the others have such a test of their own
@pytest.mark.check
def test_two_replicas_report_figures_of_the_whole_split(name, tmp_path, two_devices):
    if keras.backend.backend() != "tensorflow":
        with pytest.raises(UsageError, match="needs KERAS_BACKEND=tensorflow; this is"):
            trainer.train(tiny(name, strategy="mirrored"), tmp_path / "r")
        return
    split = {"test_split": "test[:33]"} if "test_split" in TINY[name] else {}
    record = trainer.train(tiny(name, strategy="mirrored", epochs=1, **split), tmp_path / "r")
    assert all(math.isfinite(value) for value in record["figures"].values())
    if name == "classification":
        # Every one of the 33 images counts once: accuracy is a multiple of 1 / 33.
        assert (record["figures"]["accuracy"] * 33) % 1 == pytest.approx(0, abs=1e-9)


@pytest.mark.check
def test_classification_improves(tmp_path):
    task = tiny("classification", epochs=6, train_split="train[384:1900]", **MLP)
    assert trainer.train(task, tmp_path / "run")["figures"]["accuracy"] > 0.6


def test_another_run_in_the_folder_is_refused(tmp_path):
    resume.claim_folder(tmp_path / "run", tiny("classification"))
    # The first run has left nothing that could be lost.
    resume.claim_folder(tmp_path / "run", tiny("classification", seed=1))
    (tmp_path / "run" / "report.json").write_text("{}")
    resume.claim_folder(tmp_path / "run", tiny("classification", seed=1))
    with pytest.raises(UsageError, match=r"seed: 1 there, 0 requested.*another --out"):
        resume.claim_folder(tmp_path / "run", tiny("classification"))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not a run folder"):
        resume.claim_folder(tmp_path, tiny("classification"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.check
def test_the_best_epoch_is_kept(tmp_path, monkeypatch):
    """Epoch 1 of 3 is declared the best: the model saved must be that of a run of 1 epoch."""
    make = tasks.get("classification")
    monkeypatch.setattr(make, "better", lambda task, row, best: False)
    flags = {"schedule": "constant", **MLP}
    one = trainer.train(tiny("classification", epochs=1, **flags), tmp_path / "one")
    three = trainer.train(tiny("classification", epochs=3, **flags), tmp_path / "three")
    assert figures(three) == figures(one)


def test_patience_stops_early(tmp_path, monkeypatch):
    make = tasks.get("classification")
    monkeypatch.setattr(make, "better", lambda task, row, best: False)
    trainer.train(tiny("classification", epochs=9, patience=2, **MLP), tmp_path / "run")
    assert len(checks.history(tmp_path / "run")) == 3


def test_a_result_no_better_than_a_baseline_is_named_in_the_terminal_and_in_the_report(
    tmp_path, monkeypatch, capsys
):
    line = "the accuracy of 9.00% is no better than always predicting bag (10.00%)"
    monkeypatch.setattr(classification_report, "classification_warnings", lambda *args: [line])
    trainer.train(tiny("classification", epochs=1, **MLP), tmp_path / "run")
    assert f"warning: {line}\n" in capsys.readouterr().err
    assert line in (tmp_path / "run" / "report.html").read_text()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(UsageError, match="lower --learning-rate"):
        trainer.train(
            tiny("classification", optimizer="sgd", learning_rate=1e6, l2=40.0, **MLP),
            tmp_path / "run",
        )


def test_a_validation_figure_that_is_not_a_number_stops_the_run(tmp_path, monkeypatch):
    make = tasks.get("classification")
    monkeypatch.setattr(make, "validate", lambda *args: {"accuracy": math.nan})
    with pytest.raises(
        callbacks.DivergenceError, match=r"^val_accuracy is nan in epoch 1: .*lower"
    ):
        trainer.train(tiny("classification", **MLP), tmp_path / "run")
    assert not resume.RunState(tmp_path / "run").history


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_that_are_not_finite_stop_the_run(precision, tmp_path, monkeypatch):
    """The loss of the last step is that of the weights before it."""

    def spoil(task, model, *args):
        weight = model.trainable_variables[0]
        weight.assign(keras.ops.full(weight.shape, math.inf))
        return {}

    monkeypatch.setattr(tasks.get("classification"), "validate", spoil)
    with pytest.raises(
        callbacks.DivergenceError, match=r"the largest weight of .* is inf in epoch 1"
    ):
        trainer.train(tiny("classification", precision=precision, **MLP), tmp_path / "run")
    assert not resume.RunState(tmp_path / "run").history


def test_an_epoch_whose_figures_are_not_numbers_is_worse_than_any_other():
    chosen = tiny("classification")
    nothing = {"val_accuracy": math.nan, "val_loss": math.nan}
    found = {"val_accuracy": 0.1, "val_loss": 2.3}
    assert chosen.better(found, nothing)
    assert not chosen.better(nothing, found)
    assert not chosen.better(found, {**found, "val_accuracy": 0.2})


NORMALISED = {  # tasks with a network that has batch normalization, for `--ema-decay`
    "classification": {
        "model": "convnet",
        "model_options": "{depths: [1], widths: [4], head: pool, hidden: [], conv_dropout: 0.0}",
        "augment": "none",
    },
    "segmentation": {"augment": "none"},
    "detection": {"augment": "none"},
}


AVERAGED = [
    "classification",
    pytest.param("segmentation", marks=pytest.mark.check),
    pytest.param("detection", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", AVERAGED)
def test_averaged_weights_are_validated_with_batch_norm_statistics_of_their_own(name):
    """The first layer has the mean and variance of its inputs under the averaged weights."""
    flags = {"optimizer": "adamw", "learning_rate": 0.02, "schedule": "constant"}
    flags |= {"ema_decay": 0.9, "plan": "scratch"}
    task = tiny(name, **{**NORMALISED[name], **flags, "train_split": "train[:32]"}, batch_size=8)
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
    prepared_stage = run.prepared_stage(0)
    prepared_stage.training_model.fit(
        prepared_stage.pipeline.epoch(0), epochs=3, shuffle=False, verbose=0
    )
    norm = finetune.batch_norm_layers(run.model)[0]
    below = keras.Model(run.model.input, norm.input)
    own = checks.values(run.model)
    with run.ema_weights(0):
        batches = [batch for batch, _ in prepared_stage.pipeline.epoch(0)]
        images = [batch["image"] if isinstance(batch, dict) else batch for batch in batches]
        maps = np.concatenate([below.predict_on_batch(np.array(each)) for each in images])
        expected = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
        found = np.array(norm.moving_mean), np.array(norm.moving_variance)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    last = np.array(norm.moving_mean), np.array(norm.moving_variance)
    assert np.abs(np.subtract(last, expected)).max() > 0.01  # with which they were evaluated before
    for mine, again in zip(own, checks.values(run.model), strict=True):
        np.testing.assert_array_equal(again, mine)


@pytest.mark.check
def test_averaged_weights_are_saved_with_the_statistics_they_were_validated_with(tmp_path):
    flags = {**NORMALISED["classification"], "plan": "scratch", "ema_decay": 0.95, "epochs": 1}
    task = tiny("classification", **flags, learning_rate=0.02, schedule="constant")
    trainer.train(task, tmp_path / "run")
    model, about = model_files.load(tmp_path / "run/model.keras")
    again, *_ = task.evaluate(model, about, "train[256:384]")
    assert again["loss"] == pytest.approx(checks.column(tmp_path / "run", "val_loss")[0], rel=1e-4)
    norm = finetune.batch_norm_layers(model)[0]
    maps = keras.Model(model.input, norm.input).predict(task.load().train.pixels[:], verbose=0)
    expected = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
    np.testing.assert_allclose((norm.moving_mean, norm.moving_variance), expected, rtol=1e-3)


def test_batch_norm_is_frozen_in_pretrained_models_only():
    import zoo
    from tasks.engine import finetune, plans

    def trainable(plan, policy="auto"):
        model = zoo.build("resnet20", num_classes=3, depths=(1, 1, 1))
        pretrained = plan != "scratch"
        (stage,) = plans.resolve_plan(plan, epochs=1, pretrained=pretrained, batch_norm=policy)
        finetune.set_trainable(model, stage)
        return {w.path.split("/")[-1] for w in model.trainable_weights}, model

    assert trainable("scratch")[0] == {"kernel", "bias", "gamma", "beta"}
    assert trainable("full")[0] == {"kernel", "bias"}
    assert trainable("full", "update")[0] == {"kernel", "bias", "gamma", "beta"}
    _, model = trainable("probe")
    assert [layer.name for layer in model.layers if layer.trainable_weights] == ["logits"]

    _, model = trainable("full")
    before = [np.array(w) for layer in model.layers for w in layer.non_trainable_weights]
    model.compile("sgd", "mse")
    model.fit(np.full((4, 32, 32, 3), 200), np.ones((4, 3)), verbose=0)
    after = [np.array(w) for layer in model.layers for w in layer.non_trainable_weights]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
