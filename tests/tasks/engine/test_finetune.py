"""Plans: which layers are trained in which stage, at which rate, and optimizer state."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib

import keras
import numpy as np
import pytest
import yaml
from PIL import Image

import tasks
import zoo
from tasks.distributed import strategies
from tasks.engine import finetune, optimize, plans, recipes, trainer, training_run
from tests.support import checks
from zoo import model_files
from zoo.errors import UsageError
from zoo.surgery import feature_stages

LEVELS = ("stage1", "stage2", "stage3", "stage4", "stage5")
FLAGS = {
    "model": "resnet20.cifar10",
    "train_split": "train[32:96]",
    "validation_split": "train[:32]",
    "test_split": "test[:32]",
    "batch_size": 16,
    "precision": "float32",
}


# A network that is quick to trace. Its weights are random, its statistics frozen.
SMALL = {"model": "resnet20", "model_options": "{depths: [1, 1, 1]}", "batch_norm": "frozen"}


def make_task(**flags):
    return tasks.get("classification")(**{**FLAGS, **flags})


def resolved(plan, epochs=8, **options):
    options = {"pretrained": True, "levels": LEVELS, **options}
    return plans.resolve_plan(plan, epochs=epochs, **options)


@pytest.mark.parametrize("epochs", range(1, 15))
@pytest.mark.parametrize("plan", ["auto", *plans.PRESETS])
def test_the_stages_of_every_plan_add_up_to_the_epochs(plan, epochs):
    found = resolved(plan, epochs)
    assert sum(stage.epochs for stage in found) == epochs
    assert all(stage.rate > 0 for stage in found)
    assert plan == "probe" or found[-1].learn == "all"


def test_by_default_the_head_is_trained_before_the_whole_network():
    assert [(stage.learn, stage.epochs) for stage in resolved("auto")] == [("head", 2), ("all", 6)]
    assert resolved("auto", 1)[0].learn == "all"
    assert [stage.learn for stage in resolved("auto", pretrained=False)] == ["all"]


@pytest.mark.parametrize(("steps", "passes"), [(1, 16), (31, 5), (100, 2), (125, 1), (10**6, 1)])
@pytest.mark.parametrize("plan", ["lpft", "gradual"])
def test_a_linear_head_is_trained_for_a_minimum_of_updates(plan, steps, passes):
    head, *rest = plans.stages_with_passes(resolved(plan, width=64), steps)
    assert (head.learn, head.epochs, head.passes) == ("head", 2, passes)
    assert {stage.passes for stage in rest} == {1}
    often = f" of {passes} passes each" * (passes > 1)
    assert f"{head}".startswith(f"train the head only for 2 epochs{often} at a learning rate of ")
    others = resolved(plan), resolved("probe", width=64), resolved("[{learn: head, epochs: 8}]")
    assert {stage.passes for found in others for stage in found} == {1}


def test_gradual_unfreezes_from_the_head_down():
    found = resolved("gradual", 12)
    assert [stage.learn for stage in found] == ["head", *LEVELS[:0:-1], "all"]
    assert found[0].rate > found[1].rate


def test_the_learning_rate_flag_is_the_rate_of_the_stage_that_trains_all_layers():
    assert [stage.rate for stage in resolved("full", rate=0.5)] == [0.5]
    assert [stage.rate for stage in resolved("probe", rate=0.5)] == [0.5]
    head, *_, last = resolved("gradual", rate=2e-4)
    assert [head.rate, last.rate] == pytest.approx([2e-3, 2e-4])


def test_the_rate_of_pretrained_weights_comes_from_their_spec():
    assert resolved("full", own=3e-3)[0].rate == 3e-3
    assert resolved("scratch", own=3e-3)[0].rate == plans.LEARNING_RATES["scratch"]


def test_a_wide_head_is_trained_at_a_lower_rate():
    rates = [resolved("probe", width=width)[0].rate for width in (64, 500, 2000, 0)]
    assert rates == pytest.approx([1e-2, 5e-3, 1.25e-3, 1e-3])
    assert zoo.builder.head_in_features("resnet50.imagenet") == 2048
    assert (
        zoo.builder.head_in_features("vgg16.imagenet") == 512
    )  # a fresh head has no hidden layers
    assert [stage.rate for stage in make_task(plan="probe").stages()] == [1e-2]  # of 64 features


def test_a_plan_is_the_same_in_yaml_in_a_file_and_as_a_list(tmp_path):
    text = "- {learn: head, epochs: 2, rate: 1e-3}\n- {learn: stage1, epochs: 6, decay: 0.5}\n"
    (tmp_path / "plan.yaml").write_text(text)
    one = make_task(plan=str(tmp_path / "plan.yaml"))
    assert one.stages() == make_task(plan=text).stages()
    assert [stage.rate for stage in one.stages()] == [1e-3, 1e-3]  # the second is of the weights
    again = recipes.task_from_recipe(recipes.recipe(one))
    assert again.stages() == one.stages()
    assert recipes.recipe(again) == recipes.recipe(one)
    assert [stage["learn"] for stage in recipes.recipe(one)["stages"]] == ["head", "stage1"]


def test_a_recipe_repeats_the_recorded_plan_unless_flags_change_it(tmp_path):
    from scripts import _flags

    kept = recipes.recipe(make_task(epochs=4, plan="full"))
    kept["stages"][0]["rate"] = 0.125  # as if the preset had had another rate then
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(kept))
    task = argparse.Namespace(recipe=str(tmp_path / "recipe.yaml"))
    assert [stage.rate for stage in _flags.task_from_args(None, task).stages()] == [0.125]
    task.epochs = 6
    (stage,) = _flags.task_from_args(None, task).stages()
    assert (stage.epochs, stage.rate) == (6, 1e-3)


def test_a_file_of_weights_is_recorded_by_its_digest(tmp_path):
    path = tmp_path / "mine.npz"
    zoo.weights.save(zoo.build("resnet20"), path)
    recipe = recipes.recipe(make_task(weights=str(path)))
    assert recipe["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert recipes.task_from_recipe(recipe) == make_task(weights=str(path))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("fulll", "no plan named 'fulll'; did you mean full"),
        ("[{learn: head, epochs: 3}]", "take 3 epochs, but --epochs is 8"),
        ("[{lern: head, epochs: 8}]", "did you mean learn"),
        ("[{learn: head, epochs: 8, rate: fast}]", "rate of a plan's stage must be a number"),
        ("[{learn: head, epochs: eight}]", "epochs of a plan's stage cannot be 'eight'"),
        ("[{learn: head, epochs: 8, rate: .inf}]", "rate of a plan's stage cannot be inf"),
        ("[{learn: head, epochs: 8, decay: .nan}]", "decay of a plan's stage cannot be nan"),
        ("[{learn: all, epochs: 8, batch_norm: thaw}]", "no policy of batch normalization"),
        ("[{learn: all, epochs: 8, decay: 2}]", "a decay over 0 and up to 1"),
        ("{learn: all}", "a plan in YAML is a list of stages"),
        ("missing.yaml", "the plan missing.yaml cannot be read"),
    ],
)
def test_wrong_plans_are_refused_with_the_reason(plan, message):
    with pytest.raises(UsageError, match=message):
        make_task(plan=plan).stages()


def test_an_unknown_stage_of_the_network_is_an_error_before_training(tmp_path):
    with pytest.raises(UsageError, match="stage9"):
        trainer.train(make_task(plan="[{learn: stage9, epochs: 8}]"), tmp_path)


def follow(plan, epochs, **flags):
    """Trains epoch by epoch; returns the weights before and after each epoch, and the run."""
    task = make_task(plan=plan, epochs=epochs, **SMALL, **flags)
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
    seen = [{v.path: np.array(v) for v in run.model.weights}]
    for epoch in range(epochs):
        prepared_stage = run.prepared_stage(epoch)
        prepared_stage.training_model.fit(
            prepared_stage.pipeline.epoch(epoch), shuffle=False, verbose=0
        )
        seen.append({v.path: np.array(v) for v in run.model.weights})
    return seen, run


def changed(before, after):
    return {name.split("/")[0] for name in before if (before[name] != after[name]).any()}


@pytest.mark.check
def test_each_stage_trains_the_layers_that_the_plan_names():
    plan = "[{learn: head, epochs: 1}, {learn: stage2, epochs: 1}, {learn: all, epochs: 1}]"
    (start, one, two, three), run = follow(plan, 3)
    assert changed(start, one) == {"logits"}
    last = {
        layer.name
        for layer in feature_stages.learnable(run.model, "stage2")
        if "conv" in layer.name
    }
    kernels = {name for name in last if name.endswith("_conv")}
    assert changed(one, two) == {"logits", *kernels}
    every = {layer.name for layer in run.model.layers if layer.name.endswith("_conv")}
    assert changed(two, three) == {"logits", *every}


@pytest.mark.check
def test_initial_weights_depend_on_the_seed_alone():
    # The first plan traces the network, which consumes random numbers.
    zoo.builder.head_in_features.cache_clear()
    runs = [
        training_run.TrainingRun(
            task := make_task(), task.load(), strategies.create_strategy("one")
        )
        for _ in "ab"
    ]
    for one, other in zip(runs[0].model.weights, runs[1].model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.check
def test_moments_survive_a_change_of_stage_and_start_at_zero_for_new_weights():
    plan = "[{learn: head, epochs: 1}, {learn: all, epochs: 1}]"
    task = make_task(plan=plan, epochs=2, **SMALL)
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
    prepared_stage = run.prepared_stage(0)
    prepared_stage.training_model.fit(prepared_stage.pipeline.epoch(0), shuffle=False, verbose=0)
    (head,) = run.optimizers[0].parts
    moments = [np.array(v) for v in head.variables]
    prepared_stage = run.prepared_stage(1)
    both = run.optimizers[1].parts
    assert head in both
    for variable, value in zip(head.variables, moments, strict=True):
        np.testing.assert_array_equal(variable, value)
    steps = prepared_stage.pipeline.steps
    assert sorted(int(part.iterations) for part in both) == [0, steps]
    prepared_stage.training_model.fit(prepared_stage.pipeline.epoch(1), shuffle=False, verbose=0)
    assert sorted(int(part.iterations) for part in both) == [steps, 2 * steps]


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("lion", marks=pytest.mark.check)])
@pytest.mark.check
def test_learning_rates_decay_from_layer_to_layer(optimizer):
    """With plain updates a step is the rate times the gradient, or times its sign."""
    keras.config.set_dtype_policy("float64")
    flags = {"optimizer": optimizer, "schedule": "constant", "learning_rate": 1e-4}
    flags |= {"batch_size": 64, "weight_decay": 0.0}  # one step in an epoch
    (start, full), _ = follow("full", 1, **flags)
    (_, slow), run = follow("[{learn: all, epochs: 1, decay: 0.5, rate: 1e-4}]", 1, **flags)
    depths = feature_stages.depths(run.model)
    assert sorted(set(depths.values())) == [0, 1, 2, 3]
    for name in (name for name in start if name.endswith("kernel")):
        whole, part = full[name] - start[name], slow[name] - start[name]
        factor = 0.5 ** depths[name.split("/")[0]]
        np.testing.assert_allclose(part, factor * whole, rtol=1e-6, atol=1e-12)


def test_gradients_of_all_groups_are_clipped_together():
    keras.utils.set_random_seed(0)
    from tasks.engine import param_groups

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    start = [np.array(v) for v in model.trainable_variables]
    gradients = [np.random.default_rng(0).normal(size=v.shape).astype("float32") for v in start]
    together = keras.optimizers.SGD(1.0, global_clipnorm=0.1)
    together.apply([keras.ops.convert_to_tensor(g) for g in gradients], model.trainable_variables)
    expected = [np.array(v) for v in model.trainable_variables]
    for variable, value in zip(model.trainable_variables, start, strict=True):
        variable.assign(value)
    halves = model.trainable_variables[:2], model.trainable_variables[2:]
    parted = param_groups.ParamGroupOptimizer(
        [(keras.optimizers.SGD(1.0), half) for half in halves], clip_norm=0.1
    )
    parted.apply([keras.ops.convert_to_tensor(g) for g in gradients], model.trainable_variables)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5)


@pytest.mark.parametrize(
    ("plan", "warmup", "rises"),
    [
        ("[{learn: head, epochs: 2}, {learn: all, epochs: 6}]", 1.0, [5, 5]),
        ("[{learn: head, epochs: 2, passes: 3}, {learn: all, epochs: 6}]", 1.0, [15, 5]),
        ("[{learn: head, epochs: 2}, {learn: all, epochs: 6}]", 2.0, [5, 10]),  # half of the first
        ("full", 3.0, [15]),
    ],
)
def test_each_stage_warms_up_for_the_given_epochs(plan, warmup, rises):
    task = make_task(plan=plan, epochs=8, warmup_epochs=warmup, schedule="constant", **SMALL)
    stages = task.stages_with_passes(5)
    model = task.build(task.load())
    head = optimize.inner_optimizers(task.optimizers(model, 5)[0])[0]
    values = head._learning_rate.values
    for stage, rise in zip(stages, rises, strict=True):
        part, values = np.split(values, [5 * stage.epochs * stage.passes])
        assert np.argmax(part) == rise
        np.testing.assert_allclose(part[:rise], part.max() * np.arange(rise) / rise, rtol=1e-6)
        assert (part[rise:] == part.max()).all()
    assert not len(values)


def test_help_states_that_schedules_and_warmup_are_of_stages():
    fields = {field.name: field.metadata["help"] for field in dataclasses.fields(make_task())}
    assert "of each stage of the plan" in fields["schedule"]
    assert "at most half of a stage of the plan" in fields["warmup_epochs"]


def test_small_data_sets_are_repeated_within_an_epoch_in_tasks_with_small_batches():
    for name in ("segmentation", "detection", "captioning"):
        task = tasks.get(name)(epochs=4, batch_size=8, plan="scratch")
        for steps, passes in ((1, 8), (3, 3), (8, 1), (100, 1)):
            assert [stage.passes for stage in task.stages_with_passes(steps)] == [passes]
    gan = tasks.get("gan")(epochs=4)
    assert [gan.stages_with_passes(steps)[0].passes for steps in (1, 3, 8)] == [8, 3, 1]
    assert [stage.passes for stage in make_task(plan="full").stages_with_passes(1)] == [1]


def test_clipping_with_accumulation_in_groups_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--clip-norm and --gradient-accumulation-steps together"):
        trainer.train(
            make_task(plan="gradual", clip_norm=1.0, gradient_accumulation_steps=2), tmp_path
        )


def test_batch_norm_statistics_are_recalibrated_on_the_target_data():
    """The statistics of the first layer are those of its inputs, computed by NumPy."""
    task = make_task(plan="full", **SMALL)
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
    pipeline = task.training(run.data)
    first = next(x for x in run.model.layers if isinstance(x, keras.layers.BatchNormalization))
    finetune.recalibrate(run.model, pipeline)
    below = keras.Model(run.model.input, first.input)
    seen = [below.predict_on_batch(images.numpy()) for images, _ in pipeline.epoch(0)]
    means = np.mean([maps.mean(axis=(0, 1, 2)) for maps in seen], axis=0)
    spreads = np.concatenate(seen).var(axis=(0, 1, 2), dtype="float64")  # of all images together
    np.testing.assert_allclose(first.moving_mean, means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first.moving_variance, spreads, rtol=1e-4)
    assert first.momentum == 0.9
    assert not first.trainable


@pytest.mark.check
def test_absorbing_frozen_batch_norm_does_not_change_training(
    monkeypatch,
):
    keras.config.set_dtype_policy("float64")
    flags = {"optimizer": "momentum", "learning_rate": 0.01}
    (start, absorbed), run = follow("full", 1, **flags)
    assert any(
        "absorbed" in type(layer).__name__.lower()
        for layer in run.prepared_stage(0).training_model.layers
    )
    monkeypatch.setattr(training_run.surgery, "absorb", lambda model: model)
    (_, plain), _ = follow("full", 1, **flags)
    assert changed(start, absorbed) == changed(start, plain)
    for name in start:
        moved = np.abs(plain[name] - start[name]).max()
        assert np.abs(absorbed[name] - plain[name]).max() <= 1e-9 * moved, name


def test_absorbing_frozen_batch_norm_does_not_change_regularisation(tmp_path):
    run = training_run.TrainingRun(
        make_task(plan="full", l2=0.1, **SMALL),
        make_task().load(),
        strategies.create_strategy("one"),
    )
    plain = float(sum(run.model.losses))
    assert float(sum(run.prepared_stage(0).training_model.losses)) == pytest.approx(plain, rel=1e-5)
    assert plain > 1


def test_feature_stages_are_those_of_the_spec():
    model = zoo.build("resnet20.cifar10", num_classes=3)
    assert list(feature_stages.stages(model)) == list(zoo.spec("resnet20").stages)


def frozen_and_off(tmp_path, plan, epochs=3, **flags):
    """Trains with and without cached features; returns the history and weights of both."""
    ends = []
    for mode in ("auto", "off"):
        task = make_task(plan=plan, epochs=epochs, features=mode, **SMALL, **flags)
        trainer.train(task, tmp_path / mode)
        ends.append((checks.history(tmp_path / mode), checks.weights(tmp_path / mode)))
    return ends


@pytest.fixture
def eager_features(monkeypatch, tmp_path):
    """Makes caching features pay off from the first image on, in a cache of its own."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tasks.inference.feature_cache.MIN_FLOPS_SAVED", 0)


@pytest.mark.parametrize("plan", ["probe", "[{learn: stage2, epochs: 3}]"])
@pytest.mark.check
def test_caching_the_features_of_frozen_layers_does_not_change_the_result(
    plan, tmp_path, eager_features
):
    (cached, one), (plain, other) = frozen_and_off(tmp_path, plan)
    assert list((tmp_path / "home" / "features").iterdir())
    for row, expected in zip(cached, plain, strict=True):
        for name in ("loss", "val_loss"):
            # Maps are kept in 16 bits, which AdamW feels a little.
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-2)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)


def test_each_epoch_uses_its_augmented_view(tmp_path, eager_features):
    flags = {"augment": "light", "cached_views": 2, "dropout": 0.0}
    task = make_task(plan="probe", epochs=4, **SMALL, **flags)
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
    train = run.prepared_stage(0).data.train
    assert [train.for_epoch(epoch) is train.versions[epoch % 2] for epoch in range(4)] == [True] * 4
    one, other = (np.asarray(version.pixels) for version in train.versions)
    assert one.shape == other.shape
    assert (one != other).any()
    below = keras.Model(run.model.input, run.model.get_layer("pool").output)
    (examples, _), _ = task.versions(run.data)
    images = examples.pixels[np.arange(len(examples))]
    np.testing.assert_allclose(below.predict(images, verbose=0), one, rtol=1e-3, atol=1e-4)


def test_features_are_not_cached_with_augmentation_and_without_a_number_of_views(eager_features):
    task = make_task(plan="probe", augment="light")
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
    assert run.prepared_stage(0).data is run.data


TWO_STAGES = "[{learn: head, epochs: 1}, {learn: stage2, epochs: 99}]"


@pytest.mark.parametrize(
    ("plan", "worthwhile", "meaning"),
    [
        ("full", True, "off"),  # no layer is frozen
        ("probe", True, "on"),
        ("probe", False, "off"),
        (TWO_STAGES, lambda *_, epochs, views: epochs > 50, "auto"),
    ],
)
@pytest.mark.check
def test_automatic_caching_of_features_is_resolved_for_the_recipe(
    plan, worthwhile, meaning, monkeypatch
):
    decide = worthwhile if callable(worthwhile) else lambda *_, **options: worthwhile
    monkeypatch.setattr("tasks.inference.feature_cache.is_worthwhile", decide)
    epochs = 100 if plan is TWO_STAGES else 2

    def cached_stages(features):
        task = make_task(plan=plan, epochs=epochs, features=features, **SMALL)
        run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
        cached = []
        for stage in run.stages:
            finetune.set_trainable(run.model, stage)
            cached.append([caches for _, caches in run._split_at_frozen(stage)])
        return run.features_setting(), cached

    found, cached = cached_stages("auto")
    assert found == meaning
    assert cached_stages(meaning) == (meaning, cached)
    if plan == "probe":  # also where it saves no time
        assert cached_stages("on") == ("on", [[True]])


@pytest.mark.check
@pytest.mark.parametrize("plan", [pytest.param("gradual", marks=pytest.mark.slow), "llrd"])
def test_plans_work_on_two_replicas(plan, tmp_path, two_devices):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("replicas need TensorFlow")
    flags = {"plan": plan, "epochs": 2, "optimizer": "momentum", "learning_rate": 1e-3, **SMALL}
    trainer.train(make_task(strategy="mirrored", **flags), tmp_path / "two")
    trainer.train(make_task(strategy="one", features="off", **flags), tmp_path / "one")
    two, one = (model_files.load(tmp_path / name / "model.keras")[0] for name in ("two", "one"))
    for a, b in zip(two.weights, one.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


NAMES = ("black", "grey", "white")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns the file of a model with another head, and its logits for an image."""
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    model = zoo.build("resnet20", num_classes=3)
    model.get_layer("logits").bias.assign([1.0, 2.0, 3.0])
    model_files.save(model, path, {"classes": list(NAMES)})
    return path, model(IMAGE)


IMAGE = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")


@pytest.mark.parametrize("name", ["resnet20", "resnet20.cifar10"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_head_for_the_same_classes_is_kept_in_their_order(trained, name, order, caplog):
    path, logits = trained
    classes = [NAMES[i] for i in order]
    with caplog.at_level("INFO", "zoo"):
        model = zoo.build(name, classes=classes, weights=str(path))
    head = model.get_layer("logits")
    assert np.array(head.bias).tolist() == [1 + i for i in order]
    log = " ".join(caplog.messages)
    assert "random initialization" not in log
    assert "kept the head" in log
    assert "no optimizer state" in log
    if name == "resnet20":  # with the pixels of the file's own architecture
        expected = np.array(logits)[:, list(order)]
        np.testing.assert_allclose(np.array(model(IMAGE)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet20", "resnet20.cifar10"])
def test_a_head_for_other_classes_is_fresh(trained, name):
    model = zoo.build(name, classes=["black", "grey", "red"], weights=str(trained[0]))
    assert not np.array(model.get_layer("logits").bias).any()


SMALL_NETWORKS = {  # options, and the layers whose shape depends on the number of classes
    "unet": ({"widths": (4, 8)}, {"logits"}),
    "faster_rcnn": (
        {"backbone": "lenet5", "levels": (2, 3), "channels": 8, "hidden": (8,)},
        {"roi_logits", "roi_boxes"},
    ),
    "retinanet": ({"backbone": "lenet5", "levels": (2, 3), "channels": 8}, {"class_answer"}),
}


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_segmenters_and_detectors_keep_the_layers_of_the_same_classes_only(name, tmp_path):
    options, of_classes = SMALL_NETWORKS[name]
    path = tmp_path / "trained.keras"
    keras.utils.set_random_seed(0)
    trained = zoo.build(name, input_shape=(64, 64, 3), num_classes=3, **options)
    model_files.save(trained, path, {"classes": list(NAMES)})

    def loaded(classes):
        model = zoo.build(
            name, input_shape=(64, 64, 3), classes=classes, weights=str(path), **options
        )
        return {
            layer.name
            for layer, own in zip(model.layers, trained.layers, strict=True)
            if not all(map(np.array_equal, layer.get_weights(), own.get_weights()))
        }

    assert not loaded(list(NAMES))
    assert loaded([*NAMES[:2], "another"]) == of_classes
    with pytest.raises(UsageError, match=f"in another order; .*: {', '.join(NAMES)}$"):
        loaded(list(NAMES[::-1]))


@pytest.mark.parametrize("classes", ["black", [1, 2], 5, {}, [None]])
def test_classes_are_a_list_of_names(classes):
    with pytest.raises(UsageError, match="classes of resnet20 must be a list of names"):
        zoo.build("resnet20", classes=classes)


def test_classes_must_be_as_many_as_their_number():
    with pytest.raises(UsageError, match="num_classes of them if that is passed too"):
        zoo.build("resnet20", classes=["a", "b"], num_classes=3)


def test_a_kept_head_is_not_trained_by_itself(trained, tmp_path):
    """`auto` trains all layers at once; an explicit plan is followed."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((32, 32, 3), "uint8")).save(tmp_path / name / "0.png")
    flags = {"model": "resnet20.cifar10", "dataset": str(tmp_path), "epochs": 4}
    own = tasks.get("classification")(**flags, weights=str(trained[0]))
    assert [stage.learn for stage in own.stages()] == ["all"]
    assert own.stages()[0].rate == tasks.get("classification")(**flags).stages()[-1].rate
    named = dataclasses.replace(own, plan="lpft")
    assert [stage.learn for stage in named.stages()] == ["head", "all"]
    (tmp_path / "white").rename(tmp_path / "red")
    renamed = dataclasses.replace(own)  # a task reads its data set once
    assert [stage.learn for stage in renamed.stages()] == ["head", "all"]
